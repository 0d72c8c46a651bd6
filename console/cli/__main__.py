"""`python -m console.cli` is the `stillhouse` command."""

from console.cli import main

main()
