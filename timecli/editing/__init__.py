"""What changes: the only formula, the delta that it gives, and the matrices that the delta edits.

Imports `text` and what stands before it.
"""
