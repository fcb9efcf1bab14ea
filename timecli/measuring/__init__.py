"""What is proven: many edits in many settings against rivals, as tables and plots, and the search for strength or λ.

Imports `drawing` and what stands before it; it knows nothing of `shipping`.
"""
