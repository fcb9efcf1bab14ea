"""What is asked: manifests in TOML, the kinds of values that they and other records take, TIMED's tables.

Imports `files` and what stands before it.
"""
