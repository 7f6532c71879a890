"""`test`: unit tests of models, on the embedded DuckDB."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from warehouse_sync.cli.options import Verb, shared
from warehouse_sync.cli.output import print_json
from warehouse_sync.cli.session import Session

if TYPE_CHECKING:
    from warehouse_sync.model_tests.check import Outcome

EPILOG = "Exit codes: 0 all tests passed; 1 at least one did not; 2 nothing could start."

_WORDS = {"pass": "PASS", "fail": "FAIL", "error": "ERROR", "skip": "SKIP"}
_LEVELS = {"fail": "error", "error": "error", "skip": "warn"}


@click.command("test", cls=Verb, short_help="Unit-test models on DuckDB, without a warehouse.", epilog=EPILOG)
@shared("config", "select", "exclude", "vars", "output", "fail_fast")
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write JUnit XML too.")
@click.pass_obj
def unit(session: Session, junit: Path | None) -> int:
    """Run the unit tests in models_sql/tests/*.yml on the embedded DuckDB: no warehouse, no API, no API key.

    A test gives rows for source() and ref(), and says which events the model makes of them, or why rows are refused.
    SQL of another warehouse is translated.
    """
    from warehouse_sync.model_tests.check import checker
    from warehouse_sync.parts import dialect_of, engine_of
    from warehouse_sync.project.unit_tests import load_unit_tests

    session.asks_nobody()
    config, policy = session.config, session.policy
    chosen = {model.name: model for model in session.selected()}
    tests = load_unit_tests(config.models.path, [model.name for model in session.models])
    mine = [test for test in tests if test.model in chosen]
    outcomes: list[Outcome] = []
    if not mine:
        session.console.event("no_tests", f"no unit test of these models in {config.models.path}/tests", level="warn")
    with checker(policy, dialect_of(config), engine_of(config, spill=False)) as run:
        for test in mine:
            outcomes.append(run.check(test, chosen[test.model]))
            _say(session, outcomes[-1], len(outcomes), len(mine))
            if session.flags.fail_fast and outcomes[-1].status in ("fail", "error"):
                break
    if junit is not None:
        _write(junit, config.name, outcomes)
    return _conclude(session, outcomes, len(mine))


def _say(session: Session, outcome: Outcome, place: int, total: int) -> None:
    test = outcome.test
    word = _WORDS[outcome.status]
    text = f"{place} of {total} {word} {test.id}"
    if outcome.status == "pass":
        text += f" in {outcome.seconds:.2f}s"
    elif outcome.status == "skip":
        text += f": {outcome.message}"
    else:
        text += f"  {test.path}:{test.line}\n{outcome.message}"
    if session.prints_json:
        print_json(_as_json(outcome))
    for warning in outcome.warnings:
        said = f"{test.id}: {warning}  {test.path}:{test.line}"
        session.console.event("model_warning", said, level="warn", model=test.model, test=test.id)
    session.console.event(
        "test_result",
        text,
        level=_LEVELS.get(outcome.status, "info"),
        test=test.id,
        status=outcome.status,
        seconds=round(outcome.seconds, 3),
    )


def _as_json(outcome: Outcome) -> dict[str, Any]:
    test = outcome.test
    return {
        "name": test.name,
        "model": test.model,
        "path": str(test.path),
        "line": test.line,
        "status": outcome.status,
        "message": outcome.message,
        "warnings": list(outcome.warnings),
        "execution_time": round(outcome.seconds, 3),
    }


def _conclude(session: Session, outcomes: Sequence[Outcome], total: int) -> int:
    by_status = Counter(str(outcome.status) for outcome in outcomes)
    counts = " ".join(f"{word}={by_status[status]}" for status, word in _WORDS.items())
    session.console.event("tests_done", f"Done. {counts} TOTAL={total}", statuses=dict(by_status))
    return int(bool(by_status["fail"] or by_status["error"]))


def _write(path: Path, pipeline: str, outcomes: Sequence[Outcome]) -> None:
    from warehouse_sync.errors import DiskError
    from warehouse_sync.model_tests.junit import junit_xml

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(junit_xml(pipeline, outcomes))
    except OSError as error:
        raise DiskError(f"{path} cannot be written: {error.strerror}", hint="name another file: --junit") from None
