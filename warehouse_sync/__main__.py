"""`python -m warehouse_sync`, and the console script: the command line."""

import sys


def main() -> None:
    """Run the command line and exit."""
    try:
        from warehouse_sync.cli.main import cli

        cli.main()
    except KeyboardInterrupt:
        # While the modules are loaded; from then on the verbs see to it.
        sys.exit(1)


if __name__ == "__main__":
    main()
