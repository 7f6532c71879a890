"""How a run ended: lines and a table for people, events for machines, run_results.json."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from warehouse_sync import __version__
from warehouse_sync.cli.output import WIDE, print_json, table, terminal_width
from warehouse_sync.cli.session import Session
from warehouse_sync.errors import WarehouseSyncError
from warehouse_sync.observe.words import counted
from warehouse_sync.values import ModelStatus, utc_now

if TYPE_CHECKING:
    from warehouse_sync.runs.results import ModelResult, RunReport

COLUMNS = (
    "read", "added", "changed", "unchanged", "duplicate", "suppressed", "invalid", "delivered", "rejected", "waiting",
)  # fmt: skip
"""Always shown, in the order of the two sums; the other counts only where there is one."""
MORE_COLUMNS = ("future", "removed", "retimed", "repaired")
ALWAYS = ("read", "delivered")

_WORDS = {ModelStatus.SUCCESS: "OK"}


def kept_args(session: Session, verb: str, own: Mapping[str, Any]) -> Any:
    """What the state store and run_results.json keep of the command line: durations in seconds, no secrets."""
    flags = session.flags
    args: dict[str, Any] = {"which": verb, "config": str(session.config.file)}
    args |= {"select": flags.select, "exclude": flags.exclude, "vars": flags.vars}
    args |= {name: value.total_seconds() if isinstance(value, timedelta) else value for name, value in own.items()}
    return session.console.scrubber.value(args)


def conclude(session: Session, report: RunReport, args: Mapping[str, Any]) -> int:
    """Say how the run ended and write run_results.json. Returns the exit code."""
    console = session.console
    for result in report.results:
        say_warnings(session, result.model, result.warnings, result.notes)
    width = terminal_width() if console.look.terminal else WIDE
    console.block("\n" + counts_table(report.results, width) + "\n")
    for place, result in enumerate(report.results, start=1):
        _say_result(session, result, f"{place} of {len(report.results)}", report.stopped)
    if report.stopped is not None:
        console.event("run_stopped", str(report.stopped), level="error")
    open_rejects = _say_rejects(session, report.results)
    code = report.exit_code if save(session, report, args) else 1
    log = console.log_path
    by_status = Counter(result.status for result in report.results)
    counts = " ".join(f"{status.name}={by_status[status]}" for status in ModelStatus)
    console.event(
        "run_done",
        f"Done in {report.seconds:.2f}s. {counts} TOTAL={len(report.results)}"
        + (f"\nThe log has more: {log}" if code and log else ""),
        level="error" if code else "info",
        seconds=round(report.seconds, 3),
        open_rejects=open_rejects,
        statuses={str(status): by_status[status] for status in ModelStatus},
        log=log,
    )
    return code


def counts_table(results: Sequence[ModelResult], width: int = WIDE) -> str:
    """One line a model: how it ended, and what became of its rows; without columns of zeros where room is short."""
    used = {name for name in (*COLUMNS, *MORE_COLUMNS) if any(getattr(result.counts, name) for result in results)}
    names = [*COLUMNS, *(name for name in MORE_COLUMNS if name in used)]

    def drawn(names: Sequence[str]) -> str:
        rows = [(result.model, result.status, *(getattr(result.counts, name) for name in names)) for result in results]
        return table(("model", "status", *names), rows)

    whole = drawn(names)
    if max(map(len, whole.splitlines())) <= width:
        return whole
    return drawn([name for name in names if name in used or name in ALWAYS])


def say_warnings(session: Session, model: str, warnings: Sequence[str], notes: Mapping[str, int]) -> None:
    """What somebody should know of a model: sentences, and notes with their number of rows."""
    from warehouse_sync.events.reasons import Note

    sentences = {note.code: note.sentence for note in Note}
    for warning in dict.fromkeys(warnings):
        session.console.event("model_warning", f"{model}: {warning}", level="warn", model=model, warning=warning)
    for code, rows in notes.items():
        text = f"{model}: {sentences.get(code, code)} ({counted(rows, 'row')})"
        session.console.event("model_note", text, level="warn", model=model, note=code, rows=rows)


def _say_result(session: Session, result: ModelResult, place: str, stopped: WarehouseSyncError | None) -> None:
    """How one model ended; what ended the whole run is said after all of them."""
    word = _WORDS.get(result.status, result.status.name)
    said = result.message if stopped is None else result.message.removesuffix(f": {stopped.message}")
    text = f"{place} {word} {result.model}: {said}"
    error = None if result.error is stopped else result.error
    if error is None and result.status is not ModelStatus.SKIPPED:
        text += f" in {result.seconds:.2f}s"
    elif error is not None:
        text += "\n" + _what_to_do(error, said)
    session.console.event(
        "model_result",
        text.rstrip(),
        # Whatever makes the exit code is read with `-q` too.
        level="info" if result.status is ModelStatus.SUCCESS else "error",
        model=result.model,
        status=result.status,
        seconds=round(result.seconds, 3),
        **result.counts.as_dict(),
    )


def _what_to_do(error: WarehouseSyncError, said: str) -> str:
    """The parts of an error that the line above does not say: place and hint."""
    rest = str(error).replace(error.message, "", 1) if said == error.message else str(error)
    return "\n".join(line.strip().rstrip(":") for line in rest.splitlines() if line.strip(" :"))


def _say_rejects(session: Session, results: Sequence[ModelResult]) -> dict[str, int]:
    """Refused rows that are open, whoever refused them and whenever; a store that is gone by now changes no ending."""
    are_new = any(result.new_rejects for result in results if result.status is not ModelStatus.SUCCESS)
    try:
        with session.store() as store:
            counts = store.reject_counts(session.config.name)
    except WarehouseSyncError as error:
        session.console.event("state", f"refused rows cannot be counted: {error.message}", level="warn")
        return {}
    if counts:
        shown = ", ".join(f"{model}: {count:,}" for model, count in sorted(counts.items()))
        session.console.event(
            "rejects_open",
            f"{counted(sum(counts.values()), 'refused row is')} open ({shown}): `warehouse-sync rejects` shows why",
            level="error" if are_new else "warn",
            models=counts,
        )
    return counts


def save(session: Session, report: RunReport, args: Mapping[str, Any]) -> bool:
    """Write run_results.json, and print it for `--output json`; False when it cannot be written."""
    from warehouse_sync.observe.results import Invocation, run_results

    config, console = session.config, session.console
    invocation = Invocation(session.id, report.run_id, config.name, __version__, args, os.environ)
    rows = [result.row(config.name) for result in report.results]
    document = run_results(invocation, rows, report.seconds, utc_now())
    written = _written(session, report, document, whole=not any(args.get(key) for key in ("limit", "from", "to")))
    if session.prints_json:
        print_json(console.scrubber.value(document))
    return written


def _written(session: Session, report: RunReport, document: Mapping[str, Any], *, whole: bool) -> bool:
    """Whether run_results.json, and after a whole run manifest.json, could be written; says so where not."""
    from warehouse_sync.observe.results import write_results
    from warehouse_sync.project.manifest import FILE

    config, console = session.config, session.console
    try:
        write_results(config.home, document, console.scrubber)
        if whole:
            write_results(config.home, _manifest(session, report), console.scrubber, FILE)
    except OSError as error:
        console.event(
            "results_unwritten",
            f"run_results.json or {FILE} in {config.home} cannot be written: {os.strerror(error.errno or 0)}",
            level="error",
        )
        return False
    return True


def _manifest(session: Session, report: RunReport) -> dict[str, Any]:
    """What models were when they last settled: `state:modified` is what changed since."""
    from warehouse_sync.project.manifest import carried_over, manifest

    config = session.config
    settled = [row.model for row in report.results if row.status in (ModelStatus.SUCCESS, ModelStatus.PARTIAL)]
    return carried_over(manifest(config.name, session.models, __version__, utc_now()), config.home, settled)


__all__ = ["conclude", "counts_table", "save", "say_warnings"]
