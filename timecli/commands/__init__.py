"""The commands. Each reads its arguments, calls one function after the other, and prints.

What a command needs is imported when it runs, so that `timecli --help` answers at once. Results go to stdout, progress
and errors to stderr.
"""
