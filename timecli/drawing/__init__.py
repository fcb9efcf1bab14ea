"""What is seen: pictures before and after an edit, a judge that looks at them, and the report.

Imports `editing` and what stands before it; it knows nothing of `shipping`.
"""
