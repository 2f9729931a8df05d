"""`python -m bnfold_cli` is `bnfold`."""

from bnfold_cli.app import main

main()
