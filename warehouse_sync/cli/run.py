"""`run`: the main job."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from warehouse_sync.cli.options import Duration, Verb, WholeNumber, shared
from warehouse_sync.cli.session import Session

if TYPE_CHECKING:
    from warehouse_sync.runs.run import RunOptions

EPILOG = "Exit codes: 0 all models ended `success`; 1 at least one did not, or the run stopped; 2 nothing could start."


@click.command(cls=Verb, short_help="Send what is new or changed.", epilog=EPILOG)
@shared("config", "select", "exclude", "vars", "output", "full_refresh", "fail_fast")
@click.option(
    "--limit", type=WholeNumber(min=1), metavar="N", help="Send the first N rows of each model; no cursor moves."
)
@click.option(
    "--time-limit", type=Duration(), metavar="TIME", help="Begin nothing after this long; the next run goes on."
)
@click.option("--wait", type=Duration(), metavar="TIME", help="Wait this long for another run to end.")
@click.option(
    "--if-locked",
    type=click.Choice(["fail", "skip"]),
    default="fail",
    show_default=True,
    help="When another run is at work: end with 1, or with 0.",
)
@click.option("--from", "start", metavar="VALUE", help="Backfill: read from this value of the cursor on, it included.")
@click.option("--to", "end", metavar="VALUE", help="Backfill: read up to this value, it not included; no cursor moves.")
@click.pass_obj
def run(session: Session, /, if_locked: str, **options: Any) -> int:
    """Extract what is new or changed, deliver it, and follow every job to its end."""
    from warehouse_sync.cli.report import conclude
    from warehouse_sync.errors import LeaseHeld
    from warehouse_sync.runs import run as runs

    config, policy, chosen = session.config, session.policy, session.selected()
    if not chosen:
        return 0
    session.keep_log()
    asked = _options(session, **options)
    try:
        report = runs.run(config, policy, chosen, asked, session.console)
    except LeaseHeld as error:
        if if_locked == "fail":
            raise
        session.console.event("run_skipped", f"nothing done: {error.message}")
        return 0
    return conclude(session, report, asked.args)


def _options(
    session: Session,
    *,
    limit: int | None,
    time_limit: timedelta | None,
    wait: timedelta | None,
    start: str | None,
    end: str | None,
) -> RunOptions:
    """The command line as values."""
    from warehouse_sync.cli.report import kept_args
    from warehouse_sync.runs.run import RunOptions

    full_refresh, fail_fast = session.flags.full_refresh, session.flags.fail_fast
    own = {
        "full_refresh": full_refresh,
        "fail_fast": fail_fast,
        "limit": limit,
        "time_limit": time_limit,
        "wait": wait,
        "from": start,
        "to": end,
    }
    kept = kept_args(session, "run", own)
    enabled = frozenset(model.name for model in session.models if model.enabled)
    return RunOptions(full_refresh, fail_fast, limit, time_limit, wait, start, end, enabled, kept)
