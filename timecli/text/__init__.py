"""What the words mean: tokens, text states, and the tokens of a source paired with those of its destination.

Imports `models` and what stands before it.
"""
