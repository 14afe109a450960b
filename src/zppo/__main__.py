"""`python -m zppo` is `zppo`."""

from zppo.cli import main

main()
