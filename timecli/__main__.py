"""`python -m timecli`."""

from timecli.cli import main

main()
