"""`python -m addax` is the command line."""

from addax.cli import main

main()
