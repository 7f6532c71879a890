"""The question before something that cannot be taken back easily."""

from __future__ import annotations

import sys

import click

from warehouse_sync.cli.session import Session, is_terminal
from warehouse_sync.errors import UsageError


def confirmed(session: Session, told: str = "") -> bool:
    """Whether the person agrees; `told`: what --quiet did not show of it. Raises UsageError where there is nobody."""
    if not is_terminal(sys.stdin):
        raise UsageError("nothing is done: nobody is there to ask", hint="say --yes to go on without a question.")
    agreed = click.confirm(f"{told}\nGo on?" if told and session.flags.quiet else "Go on?", err=True)
    if not agreed:
        session.console.event("nothing_done", "nothing is done")
    return agreed
