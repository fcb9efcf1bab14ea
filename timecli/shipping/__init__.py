"""What leaves the house: edited models with their provenance, adapters, and how two models differ.

Imports `editing` and what stands before it.
"""
