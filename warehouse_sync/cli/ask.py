"""The question before something that cannot be taken back easily."""

from __future__ import annotations

import sys

import click

from warehouse_sync.cli.session import is_terminal


def confirmed() -> bool:
    """Whether the person agrees; a usage error where there is none."""
    if not is_terminal(sys.stdin):
        raise click.UsageError("nobody is there to ask: say --yes.")
    return click.confirm("Go on?", err=True)
