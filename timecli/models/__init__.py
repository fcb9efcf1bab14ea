"""Checkpoints: which tensors of which files are the cross-attention and the text encoder, under whatever names.

Imports `manifests` and what stands before it.
"""
