"""The question before something that cannot be taken back easily."""

from __future__ import annotations

import sys

import click

from warehouse_sync.cli.session import is_terminal
from warehouse_sync.errors import UsageError


def confirmed() -> bool:
    """Whether the person agrees. Raises UsageError where there is none."""
    if not is_terminal(sys.stdin):
        raise UsageError("nothing is done: nobody is there to ask", hint="say --yes to go on without a question.")
    agreed = click.confirm("Go on?", err=True)
    if not agreed:
        click.echo("nothing is done", err=True)
    return agreed
