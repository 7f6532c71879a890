"""`warehouse-sync`: the group of verbs, and the one place that turns every end into a message and an exit code.

    0   done                         1   started, and something did not succeed
                                     2   nothing could start, usage included

Verbs return their exit code (None: 0) or raise. Nothing ends in a traceback: what nobody expected is one line that
names the place, and the log file that holds the rest.
"""

from __future__ import annotations

import gc
import sys
from contextlib import suppress
from typing import Any, NoReturn

import click

from warehouse_sync import __version__
from warehouse_sync.cli import (
    dbt,
    debug,
    explain,
    history,
    models,
    rejects,
    retry,
    run,
    sandbox,
    start,
    state,
    status,
    unit,
)
from warehouse_sync.cli.options import foreign_options, shared
from warehouse_sync.cli.session import Session
from warehouse_sync.cli.streams import make_safe
from warehouse_sync.errors import DiskError, Interrupted, WarehouseSyncError

FOREIGN = {
    "build": "`run` sends what is new or changed; what the models read is built by dbt.",
    "sync": "`run` sends what is new or changed.",
    "list": "`ls` lists the models.",
}
"""Verbs that people look for -> what to use."""

RARELY = 50_000
"""Objects made before garbage is looked for: imports make many and no garbage, and looking costs a tenth of a start."""


class Cli(click.Group):
    """The verbs in the order in which people meet them, behind the border of errors."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of this table, not of the alphabet."""
        return list(self.commands)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words before the verb."""
        with foreign_options():
            return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb of that name. Raises UsageError."""
        if args[0] in FOREIGN:
            raise click.UsageError(f"No such command '{args[0]}'. {FOREIGN[args[0]]}", ctx)
        return super().resolve_command(ctx, args)

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        """Run the command line and exit."""
        gc.set_threshold(RARELY)
        make_safe()
        session = Session()
        try:
            code = _guarded(session, lambda: super(Cli, self).main(*args, **_ours(extra), obj=session))
        finally:
            session.close()
            with suppress(DiskError):  # said already, or not as bad as what ended the work
                sys.stdout.flush()
        sys.exit(code)


def _ours(extra: dict[str, Any]) -> dict[str, Any]:
    return {**extra, "prog_name": "warehouse-sync", "standalone_mode": False}


def _guarded(session: Session, work: Any) -> int:
    """The exit code of what was done, or of how it failed."""
    try:
        code = work()
        sys.stdout.flush()
    except click.UsageError as error:
        if session.flags.log_format == "json":
            session.console.event("usage", error.format_message(), level="error")
        else:
            error.show()
        return error.exit_code
    except WarehouseSyncError as error:
        session.console.failure(error)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        session.console.failure(Interrupted("interrupted"))
        return Interrupted.exit_code
    except Exception as error:  # the border: see crash
        from warehouse_sync.cli.crash import report_crash

        return report_crash(session, error)
    return int(code or 0)


@click.group(
    cls=Cli,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Exit codes: 0 done, 1 something did not succeed, 2 nothing could start. `VERB --help` says more.",
)
@click.version_option(__version__, "-V", "--version", message="%(prog)s %(version)s")
@shared("config", "select", "exclude", "vars", "output", "full_refresh", "fail_fast")
def cli() -> None:
    """Sync SQL models from your warehouse to Userpilot: only what is new or changed, each row once."""


for verb in (
    start.init,
    start.demo,
    debug.debug,
    models.ls,
    models.compile_,
    models.show,
    models.plan,
    dbt.validate,
    dbt.exposures,
    unit.unit,
    run.run,
    retry.retry,
    status.status,
    history.history,
    rejects.rejects,
    explain.explain,
    state.state,
    sandbox.sandbox,
    sandbox.schema,
):
    cli.add_command(verb)
