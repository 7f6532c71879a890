"""The console, the log file, run results: what people and machines see."""

from __future__ import annotations

import ast
import io
import json
import logging
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from warehouse_sync import errors
from warehouse_sync.cli import output
from warehouse_sync.errors import ConfigError, LeaseHeld, ModelError, Problem, WarehouseSyncError
from warehouse_sync.observe.codes import CODES
from warehouse_sync.observe.console import ERROR_CODES, Console, Look, code_of
from warehouse_sync.observe.logfile import LogFile
from warehouse_sync.observe.reporter import Reporter, Silent
from warehouse_sync.observe.results import Invocation, run_results, write_results
from warehouse_sync.observe.scrub import Scrubber

if TYPE_CHECKING:
    from harness import Project

    from warehouse_sync.userpilot.sandbox import Sandbox

PACKAGE = Path(__file__).parent.parent.parent / "warehouse_sync"
NOON = datetime(2026, 11, 1, 12, 0, 0, 123456, UTC)


class Ticks:
    """A monotonic clock that moves when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def console(stream: io.StringIO | None = None, ticks: Ticks | None = None, secrets: str = "", **look: bool) -> Console:
    return Console(
        Look(**look), stream or io.StringIO(), Scrubber(secrets.split()), clock=lambda: NOON, ticks=ticks or Ticks()
    )


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


# Codes


def texts_of(path: Path) -> tuple[set[str], set[str]]:
    """The codes that a module says, and all its string literals."""
    said: set[str] = set()
    literals: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            literals.add(node.value)
        if isinstance(node, ast.Call) and node.args:
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            first = node.args[0]
            if name in ("event", "say", "_say") and isinstance(first, ast.Constant) and "_" in str(first.value):
                said.add(str(first.value))
    return said, literals


def test_every_code_is_documented_and_used() -> None:
    found = [texts_of(path) for path in PACKAGE.rglob("*.py") if path.name != "codes.py"]
    assert set().union(*(said for said, _ in found)) | set(ERROR_CODES.values()) <= set(CODES)
    assert set(CODES) <= set().union(*(literals for _, literals in found))


def test_codes_have_a_sentence() -> None:
    for code, sentence in CODES.items():
        assert code.isidentifier()
        assert sentence.endswith(".")


def test_every_error_has_a_code() -> None:
    known = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, WarehouseSyncError)]
    assert len(known) > 15
    for kind in known:
        assert code_of(kind.__new__(kind)) in CODES

    class Special(LeaseHeld):
        """Of a room's own."""

    assert code_of(Special("x")) == "lease_held"


# Lines


def test_text_lines(stream: io.StringIO) -> None:
    shown = console(stream)
    shown.event("job_accepted", "accepted")
    shown.event("job_lost", "lost", level="warn")
    shown.event("job_failed", "failed\nhow", level="error")
    shown.event("model_result", "1 of 1 ERROR users", level="error")
    shown.event("log", "unseen", level="debug")
    clock = NOON.astimezone().strftime("%H:%M:%S")
    assert stream.getvalue().splitlines() == [
        f"{clock}  accepted", f"{clock}  WARN lost", f"{clock}  ERROR failed", "          how",
        f"{clock}  1 of 1 ERROR users",
    ]  # fmt: skip


def test_json_lines(stream: io.StringIO) -> None:
    shown = console(stream, json=True)
    shown.event("run_started", "begins", run=7)
    shown.event("job_lost", "lost", level="warn", job="j", path=Path("p"), many=(1, None))
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first["run"] == second["run"] == 7
    assert second == {
        "ts": "2026-11-01T12:00:00.123456Z", "level": "warn", "code": "job_lost", "msg": "lost", "run": 7,
        "data": {"job": "j", "path": "p", "many": [1, None]},
    }  # fmt: skip
    shown.block("a table")
    assert len(stream.getvalue().splitlines()) == 2


def test_levels(stream: io.StringIO) -> None:
    quiet = console(stream, quiet=True, debug=True)
    quiet.event("job_lost", "lost", level="warn")
    quiet.block("a table")
    quiet.progress("users", 1, 2, "rows")
    assert stream.getvalue() == ""
    quiet.event("job_failed", "failed", level="error")
    assert "ERROR failed" in stream.getvalue()
    console(stream, debug=True).event("log", "seen", level="debug")
    assert "seen" in stream.getvalue()


def test_secrets_are_scrubbed_everywhere(stream: io.StringIO, tmp_path: Path) -> None:
    (tmp_path / "id").touch()
    for look in ({}, {"json": True}):
        shown = console(stream, secrets="s3cret s3cret-longer", **look)
        shown.log = LogFile(tmp_path, started=NOON, keep=timedelta(1))
        shown.event("job_lost", "key s3cret-longer", level="warn", url="https://s3cret@host", nested={"a": ["s3cret"]})
        shown.block("s3cret")
        shown.failure(ModelError("s3cret", path=Path("models/s3cret.sql"), line=3, hint="s3cret"))
        shown.close()
    everything = stream.getvalue() + (tmp_path / "logs" / "2026-11-01.log").read_text()
    assert "s3cret" not in everything
    assert "longer" not in everything
    assert "*****" in everything


def test_secrets_with_quotes_are_scrubbed_from_json(stream: io.StringIO) -> None:
    shown = Console(Look(json=True), stream, Scrubber(['qu"ote\\é', ""]), clock=lambda: NOON)
    shown.event("job_lost", 'a qu"ote\\é', why='qu"ote\\é')
    assert "ote" not in stream.getvalue()


def test_failures(stream: io.StringIO) -> None:
    shown = console(stream, json=True)
    shown.failure(ConfigError([Problem(Path("a.yml"), 3, 1, "name", "is missing")], hint="do"))
    shown.failure(ModelError("odd", path=Path("m.sql"), line=4))
    shown.failure(LeaseHeld("held"))
    first, second, third = map(json.loads, stream.getvalue().splitlines())
    assert first["code"] == "config"
    assert first["data"]["problems"] == [
        {"path": "a.yml", "line": 3, "column": 1, "key": "name", "message": "is missing"}
    ]
    assert first["data"]["hint"] == "do"
    assert (second["code"], second["data"]) == ("model", {"path": "m.sql", "line": 4})
    assert (third["code"], third["data"]) == ("lease_held", {})


@pytest.mark.parametrize("error", [BrokenPipeError, ValueError])
def test_a_stream_that_is_gone_ends_nothing(error: type[Exception]) -> None:
    class Gone(io.StringIO):
        tries = 0

        def write(self, _: str) -> int:
            self.tries += 1
            raise error

    gone = Gone()
    shown = console(gone)
    shown.event("job_accepted", "one")
    shown.event("job_accepted", "two")
    assert gone.tries == 1


def test_python_logging_is_taken_along(stream: io.StringIO) -> None:
    logger = logging.getLogger("warehouse_sync.somewhere")
    with console(stream):
        logger.debug("unseen")
        logger.warning("a %s", "warning")
    with console(stream, debug=True):
        logger.debug("seen")
        logger.error("an error")
    logger.error("after the end")
    lines = [line.split("  ", 1)[1] for line in stream.getvalue().splitlines()]
    assert lines == [
        "WARN warehouse_sync.somewhere: a warning", "warehouse_sync.somewhere: seen",
        "ERROR warehouse_sync.somewhere: an error",
    ]  # fmt: skip
    assert logging.getLogger("warehouse_sync").level == logging.NOTSET


# How a run ended


@pytest.mark.parametrize("verb", ["run", "retry"])
def test_quiet_says_what_makes_the_exit_code(project: Project, verb: str) -> None:
    """A `partial` model too, and where there is more to read."""
    project.execute("INSERT INTO users VALUES ('', 'x', '2025-01-08')")
    if verb == "retry":
        good = (project.folder / "models_sql" / "users.sql").read_text()
        project.write_model("users", "select 1")
        project.cli.here("run").check(1)
        project.write_model("users", good)
    err = project.cli.here(verb, "-q").check(1).err
    assert "PARTIAL users: 1 row refused" in err
    assert "ERROR 1 refused row is open (users: 1): `warehouse-sync rejects` shows why" in err
    (log,) = (project.home / "logs").iterdir()
    assert err.count(f"The log has more: {log}\n") == 1
    assert "events" not in err, "all is well with them"


def test_quiet_says_what_was_skipped(project: Project) -> None:
    project.write_model("aaa", "{{ config(event='identify_company') }}\nselect 1 as company_id from nowhere")
    err = project.cli.here("run", "-q", "-x").check(1).err
    assert "2 of 3 SKIPPED events: not tried" in err
    assert "3 of 3 SKIPPED users: not tried" in err


def test_quiet_machines_hear_it_too(project: Project) -> None:
    project.execute("INSERT INTO users VALUES ('', 'x', '2025-01-08')")
    events = project.cli.here("run", "-q", "--log-format", "json").check(1).events
    assert [event["code"] for event in events] == ["model_result", "rejects_open", "run_done"]
    assert {event["level"] for event in events} == {"error"}
    (log,) = (project.home / "logs").iterdir()
    assert events[-1]["data"]["log"] == str(log)


def test_refused_rows_that_may_be_are_no_error(project: Project) -> None:
    """`invalid.error_above` says so; those that stand since an earlier run are none either."""
    project.write_config("invalid: {error_above: 1}\n")
    project.execute("INSERT INTO users VALUES ('', 'x', '2025-01-08')")
    for verb in ("run", "run"):
        assert project.cli.here(verb, "-q").check().err == ""
    events = project.cli.here("run", "--log-format", "json").check().events
    assert {event["level"] for event in events if event["code"] in ("model_result", "run_done")} == {"info"}
    assert {event["level"] for event in events if event["code"] == "rejects_open"} == {"warn"}


def test_what_ended_a_run_is_said_once(project: Project, sandbox: Sandbox) -> None:
    sandbox.job_seconds = 60
    err = project.cli.here("run", "--time-limit", "1s").check(1).err
    assert err.count("the time limit of 0:00:01 is over") == 1
    assert err.count("the next run goes on with them") == 1
    assert "the time limit" in project.results()["results"][0]["message"]


# Progress


@pytest.mark.parametrize("as_json", [False, True])
def test_progress_without_a_terminal_is_a_line_every_ten_seconds(stream: io.StringIO, as_json: bool) -> None:
    ticks = Ticks()
    shown = console(stream, ticks, json=as_json)
    for second in range(31):
        ticks.now = second
        shown.progress("users", second * 1000, 50_000, "rows")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    if as_json:
        assert json.loads(lines[0])["data"] == {"task": "users", "done": 10_000, "total": 50_000, "unit": "rows"}
    else:
        assert lines[0].endswith("  users: 10,000 of 50,000 rows")


@pytest.mark.parametrize("data", [{"model": "users"}, {"job": "any"}])
def test_progress_begins_anew_after_an_event_about_its_task(stream: io.StringIO, data: dict[str, Any]) -> None:
    ticks = Ticks()
    shown = console(stream, ticks)
    shown.progress("users", 1, None, "rows")
    ticks.now = 9
    shown.event("model_extracted", "done", **data)
    ticks.now = 11
    shown.progress("users", 1, None, "rows")
    assert len(stream.getvalue().splitlines()) == 1


def test_bars_on_a_terminal(stream: io.StringIO) -> None:
    shown = console(stream, terminal=True, colour=True)
    shown.event("job_accepted", "before any bar")
    shown.event("job_lost", "warned", level="warn")
    shown.progress("users", 10, None, "rows")
    shown.progress("users", 20, None, "rows")
    shown.progress("job-1", 5, 10, "rows")
    shown.event("model_extracted", "users done", model="users")
    shown.event("model_extracted", "others done", model="others")
    shown.event("job_failed", "[bold]failed[/bold]", level="error", job="job-1")
    shown.progress("users", 30, None, "rows")
    shown.block("a table")
    shown.close()
    text = stream.getvalue()
    assert "\x1b[33m" in text
    assert "users done" in text
    assert "[bold]failed[/bold]" in text, "no markup"
    assert text.rstrip().endswith("a table")
    assert "20 rows" in text or "30 rows" in text


def test_no_colour(stream: io.StringIO) -> None:
    shown = console(stream, terminal=True)
    shown.event("job_lost", "lost", level="warn")
    assert "\x1b" not in stream.getvalue()


def test_silent_is_a_reporter() -> None:
    reporter: Reporter = Silent()
    reporter.event("job_lost", "lost")
    reporter.progress("users", 1, None, "rows")


# The log file


def test_log_waits_for_its_home(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "home", started=NOON, keep=timedelta(30))
    log.write("one")
    assert not log.is_written
    assert not log.path.parent.exists()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "id").touch()
    log.write("two")
    assert log.is_written
    assert log.path.read_text() == "one\ntwo\n"
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600
    log.close()
    log.close()
    again = LogFile(tmp_path / "home", started=NOON, keep=timedelta(30))
    again.write("three \udcff")
    again.close()
    assert log.path.read_text() == "one\ntwo\nthree \\udcff\n"


def test_log_that_cannot_be_written_costs_only_the_log(tmp_path: Path) -> None:
    (tmp_path / "id").touch()
    (tmp_path / "logs").touch()
    log = LogFile(tmp_path, started=NOON, keep=timedelta(30))
    log.write("one")
    log.write("two")
    assert not log.is_written
    log.close()


def test_log_keeps_debug_for_those_who_ask(tmp_path: Path) -> None:
    (tmp_path / "id").touch()
    for debug in (False, True):
        shown = console(debug=debug)
        assert not shown.to_log_file("internal_error", "no file", "error")
        shown.log = LogFile(tmp_path, started=NOON, keep=timedelta(30))
        shown.event("log", f"debug {debug}", level="debug")
        assert shown.to_log_file("internal_error", "kept", "error", trace=["a"])
        shown.close()
    lines = [json.loads(line) for line in (tmp_path / "logs" / "2026-11-01.log").read_text().splitlines()]
    assert [line["msg"] for line in lines] == ["kept", "debug True", "kept"]


@pytest.mark.parametrize("stubborn", [False, True])
def test_old_logs_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stubborn: bool) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError

    (tmp_path / "id").touch()
    (tmp_path / "logs").mkdir()
    for name in ("2026-10-01.log", "2026-10-25.log", "other.log"):
        (tmp_path / "logs" / name).touch()
    if stubborn:
        monkeypatch.setattr(Path, "unlink", refuse)
    log = LogFile(tmp_path, started=NOON, keep=timedelta(7))
    log.write("one")
    log.close()
    kept = {path.name for path in (tmp_path / "logs").iterdir()}
    assert kept == {"2026-10-25.log", "other.log", "2026-11-01.log"} | ({"2026-10-01.log"} if stubborn else set())


def test_a_clock_that_is_wrong_for_one_run_takes_no_logs_away(tmp_path: Path) -> None:
    (tmp_path / "id").touch()
    for started in (NOON, NOON.replace(year=2099), NOON + timedelta(1)):
        log = LogFile(tmp_path, started=started, keep=timedelta(7))
        log.write("one")
        log.close()
    kept = {path.name for path in (tmp_path / "logs").iterdir()}
    assert kept == {"2026-11-01.log", "2099-11-01.log", "2026-11-02.log"}


# Results


@pytest.fixture
def document() -> dict[str, Any]:
    invocation = Invocation("i", 3, "prod", "0.1", {"select": ["a"]}, {"DBT_ENV_CUSTOM_ENV_CI": "42", "HOME": "/"})
    return run_results(invocation, [{"unique_id": "sync.prod.a"}], 1.23456, NOON)


def test_results(document: dict[str, Any]) -> None:
    assert document == {
        "metadata": {
            "tool": "warehouse-sync", "version": "0.1", "generated_at": "2026-11-01T12:00:00.123456Z",
            "invocation_id": "i", "run": 3, "pipeline": "prod", "env": {"CI": "42"},
        },
        "args": {"select": ["a"]},
        "elapsed_time": 1.235,
        "results": [{"unique_id": "sync.prod.a"}],
    }  # fmt: skip


def test_results_replace_the_earlier_ones_as_a_whole(
    document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_results(tmp_path, document, Scrubber(["42"]))
    assert json.loads(path.read_text())["metadata"]["env"] == {"CI": "*****"}
    before = path.read_text()

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_results(tmp_path, document | {"args": {}}, Scrubber())
    assert path.read_text() == before
    assert [file.name for file in tmp_path.iterdir()] == ["run_results.json"]


# Tables


def test_tables() -> None:
    shown = output.table(("key", "rows"), [("a\nb", 1000), ("[x]", None)], title="T")
    assert shown.splitlines() == ["T", "key    rows", "───────────", "a\\nb  1,000", "[x]"]
    assert output.table(("a", "b"), []).splitlines()[0] == "a  b"


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (16, ["key  because", "────────────────", "u1   no longer", "     there"]),
        (11, ["key      u1", "because  no longer there"]),
    ],
)
def test_tables_where_room_is_short(width: int, lines: list[str]) -> None:
    """Folded between words; a line for each column where that does not help."""
    rows = [("u1", "no longer there", None)]
    assert output.table(("key", "because", ""), rows, width=width).splitlines() == lines


def test_a_terminal_folds_wide_tables(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(output, "is_terminal", lambda _: True)
    monkeypatch.setenv("COLUMNS", "20")
    output.print_table(("key",), [("word " * 10,)])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 20


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""), (True, "yes"), (False, "no"), (1234, "1,234"), (NOON, "2026-11-01 12:00:00"), (("a", 1), "a, 1"),
        ("\x1b[31m", "\\x1b[31m"), ("a\u2028b\u202e\ufeff", "a\\u2028b\\u202e\\ufeff"),
    ],
)  # fmt: skip
def test_cells(value: Any, text: str) -> None:
    assert output.cell(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, None), (0, "0%"), (0.001, "<1%"), (0.5, "50%"), (0.999, "99%"), (1, "100%")]
)
def test_shares(value: float | None, text: str | None) -> None:
    assert output.share(value) == text


def test_json_values(capsys: pytest.CaptureFixture[str]) -> None:
    from types import MappingProxyType

    output.print_json({"at": NOON, "path": Path("p"), "map": MappingProxyType({"a": 1})})
    assert json.loads(capsys.readouterr().out) == {
        "at": "2026-11-01T12:00:00.123456Z", "path": "p", "map": {"a": 1},
    }  # fmt: skip
