"""`retry`: once more what the last run left behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from warehouse_sync.cli.ask import confirmed
from warehouse_sync.cli.options import Duration, Verb, shared
from warehouse_sync.cli.session import Session
from warehouse_sync.observe.words import counted

if TYPE_CHECKING:
    from warehouse_sync.delivery import Decision
    from warehouse_sync.project.model import BrokenModel
    from warehouse_sync.runs.retry import LastRun, Plan
    from warehouse_sync.runs.run import RunOptions
    from warehouse_sync.values import Model

EPILOG = "Exit codes: as those of `run`; 0 when there is nothing to do again."


@click.command(cls=Verb, short_help="Once more what the last run left behind.", epilog=EPILOG)
@shared("config", "select", "exclude", "vars", "output", "fail_fast")
@click.option("--resend", is_flag=True, help="Held batches: send them again.")
@click.option("--settle", is_flag=True, help="Held batches: take them as arrived.")
@click.option("--refused", is_flag=True, help="Rows that Userpilot refused go again as they are, mended or not.")
@click.option(
    "--whole-windows",
    is_flag=True,
    help="Models without a key: read the window of a refused row again, and send it all.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--time-limit", type=Duration(), metavar="TIME", help="Begin nothing after this long; the next run goes on."
)
@click.option("--wait", type=Duration(), metavar="TIME", help="Wait this long for another run to end.")
@click.pass_obj
def retry(session: Session, /, resend: bool, settle: bool, yes: bool, **options: Any) -> int:
    """Read the models again that did not succeed in the last run, and the refused rows of all of them.

    Rows that are mended in the warehouse are sent; the others stay refused. Held batches wait for --resend or --settle.
    """
    from warehouse_sync.cli.report import conclude
    from warehouse_sync.runs import run as runs

    if resend and settle:
        raise click.UsageError("--resend or --settle, not both.")
    config = session.config
    last = _last_run(session)
    chosen = session.selected()
    plan = _plan(session, chosen, last, options)
    decision = _decision(plan, resend=resend, settle=settle)
    again = [model for model in chosen if model.name in plan.requests or (decision and model.name in decision.models)]
    _explain(session, plan, decision, _sent_again(session, chosen, plan))
    if not again:
        session.console.event("nothing_to_retry", "nothing to do again")
        return 0
    if (decision or plan.repeats) and not (yes or confirmed(session)):
        return 1
    session.keep_log()
    asked = _options(session, plan, decision, resend=resend, settle=settle, **options)
    report = runs.run(config, session.policy, again, asked, session.console)
    return conclude(session, report, asked.args)


def _last_run(session: Session) -> LastRun | None:
    """The last run; its `--vars` hold again, unless others are given."""
    from warehouse_sync.errors import UsageError
    from warehouse_sync.observe.scrub import MASK
    from warehouse_sync.runs.retry import last_run

    pipeline = session.config.name
    with session.store() as store:
        last = last_run(store, pipeline) if store.pipeline(pipeline) else None
    before = None if last is None else last.args.get("vars")
    if before is not None and session.flags.vars is None:
        if MASK in before:
            raise UsageError(
                "the last run had a secret in `--vars`, which is kept nowhere", hint="give `--vars` to `retry` again."
            )
        session.flags.vars = before
    return last


def _plan(
    session: Session, chosen: Sequence[Model | BrokenModel], last: LastRun | None, options: dict[str, Any]
) -> Plan:
    from warehouse_sync.runs.retry import make_plan

    with session.store() as store:
        return make_plan(
            store,
            session.config.name,
            chosen,
            last,
            refused=options["refused"],
            whole_windows=options["whole_windows"],
        )


def _sent_again(session: Session, chosen: Sequence[Model | BrokenModel], plan: Plan) -> dict[str, int | None]:
    from warehouse_sync.runs.retry import sent_again

    with session.store() as store:
        return sent_again(session.config, session.policy, store, chosen, plan)


def _decision(plan: Plan, *, resend: bool, settle: bool) -> Decision | None:
    from warehouse_sync.delivery import Decision

    if not (resend or settle) or not plan.held:
        return None
    names = frozenset(name for held in plan.held for name in held.rows)
    return Decision(frozenset(held.job.id for held in plan.held), names, arrived=settle)


def _explain(session: Session, plan: Plan, decision: Decision | None, repeats: Mapping[str, int | None]) -> None:
    """What is about to happen, model by model, and what it may do at Userpilot. `repeats`: model -> events that go a
    second time, None where nobody can tell how many."""
    say = session.console.event
    for model, reasons in plan.why.items():
        say("retry_model", f"{model}: {'; '.join(reasons)}", model=model)
    for sentence in plan.left:
        say("retry_left", sentence, level="warn")
    for model, rows in repeats.items():
        number = "the events of these windows" if rows is None else f"about {counted(rows, 'event')}"
        say("retry_repeats", f"{model}: sends {number} a second time", level="warn", model=model, rows=rows)
    for held in plan.held:
        what = ", ".join(f"{counted(rows, 'row')} of {name}" for name, rows in held.rows.items())
        say("retry_held", f"held since {held.job.intended_at:%Y-%m-%d %H:%M} UTC with job {held.job.filename}: {what}")
        say("retry_held_why", f"  {held.job.reason}")
        if decision is None:
            say("retry_undecided", "  --resend sends them again, --settle takes them as arrived", level="warn")
        elif decision.arrived:
            say("retry_settles", "  taken as arrived: what did not arrive is never sent", level="warn")
        elif held.events:
            twice = f"  they go again: events of {', '.join(held.events)} that did arrive count twice"
            say("retry_resends", twice, level="warn")
        else:
            say("retry_resends", "  they go again: profiles that did arrive are only overwritten")


def _options(
    session: Session,
    plan: Plan,
    decision: Decision | None,
    *,
    resend: bool,
    settle: bool,
    refused: bool,
    whole_windows: bool,
    time_limit: timedelta | None,
    wait: timedelta | None,
) -> RunOptions:
    """The command line as values."""
    from warehouse_sync.cli.report import kept_args
    from warehouse_sync.runs.run import RunOptions

    own = {
        "resend": resend,
        "settle": settle,
        "refused": refused,
        "whole_windows": whole_windows,
        "fail_fast": session.flags.fail_fast,
        "time_limit": time_limit,
        "wait": wait,
    }
    return RunOptions(
        fail_fast=session.flags.fail_fast,
        time_limit=time_limit,
        wait=wait,
        enabled=frozenset(model.name for model in session.models if model.enabled),
        args=kept_args(session, "retry", own),
        requests=plan.requests,
        decision=decision,
        verb="retry",
    )
