"""What a person types. Each command reads its arguments, calls one function after the other, and prints.

What it needs is imported when it runs, so that `timecli --help` answers at once. Results go to stdout, progress and
errors to stderr. Imports every other room.
"""
