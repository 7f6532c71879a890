"""`python -m warehouse_sync`: the command line."""

from warehouse_sync.cli.main import main

main()
