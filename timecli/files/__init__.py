"""Files on disk: how they are read without trust, and written so that nothing is ever half there.

Imports `errors` and `shown`.
"""
