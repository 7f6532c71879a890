"""docker/scheduler.py: what a crontab means, and that signals reach everything that a line started."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from zoneinfo import ZoneInfo

import pytest
from harness import ROOT

SCRIPT = ROOT / "docker/scheduler.py"
NOON = datetime(2025, 3, 29, 12, 0, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def scheduler() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docker_scheduler", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def started(crontab: Path, text: str, **environ: str) -> subprocess.Popen[str]:
    crontab.write_text(text)
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(crontab)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={"PATH": os.environ["PATH"], **environ},
    )  # fmt: skip


def lines_until(process: subprocess.Popen[str], text: str) -> str:
    """Everything up to the line that holds the text."""
    assert process.stdout is not None
    seen = ""
    while text not in seen:
        line = process.stdout.readline()
        assert line, f"ended without {text!r}:\n{seen}"
        seen += line
    return seen


# The crontab


@pytest.mark.parametrize(
    ("line", "command", "due"),
    [
        ("*/15 * * * * warehouse-sync run", "warehouse-sync run", "2025-03-29T12:15:00+00:00"),
        ("0 3 * * MON-FRI  a && b | c", "a && b | c", "2025-03-31T03:00:00+00:00"),
        ("*/10 * * * * * a", "a", "2025-03-29T12:00:40+00:00"),
        ("@hourly a", "a", "2025-03-29T13:00:00+00:00"),
        ("0 0 1 1 * a  b", "a  b", "2026-01-01T00:00:00+00:00"),
    ],
)
def test_a_line(scheduler: ModuleType, line: str, command: str, due: str) -> None:
    (found,) = scheduler.read(f"# a comment\n\n{line}\n", NOON)
    assert (found.number, found.command, found.due.isoformat()) == (3, command, due)


def test_variables_hold_for_the_lines_below(scheduler: ModuleType) -> None:
    first, second = scheduler.read('@daily a\nTARGET = "prod"\nMODE=x\n@daily b\n', NOON)
    assert (first.variables, second.variables) == ({}, {"TARGET": "prod", "MODE": "x"})


def test_the_hour_that_a_zone_skips(scheduler: ModuleType) -> None:
    """Debian cron's rule: a job of that hour runs right after it."""
    now = datetime(2025, 3, 30, 0, 0, tzinfo=ZoneInfo("Europe/Dublin"))
    (line,) = scheduler.read("30 1 * * * a", now)
    assert line.due.isoformat() == "2025-03-30T02:00:00+01:00"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no line says when to run what"),
        ("# nothing\nA=b\n", "no line says when to run what"),
        ("* * * *\n", "line 1: `* * * * …` is no cron expression"),
        ("* * * * *\n", "line 1: `* * * * * …` is no cron expression"),
        ("61 * * * * a\n@never b\n* * * * * c\n", "line 1: `61 * * * * …` is no cron expression"),
        ("61 * * * * a\n@never b\n* * * * * c\n", "line 2: @never is none of @yearly"),
        ("0 0 30 2 * a\n", "line 1: `0 0 30 2 * …` is no cron expression"),
    ],
)
def test_a_crontab_that_is_none(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "crontab"
    path.write_text(text)
    done = subprocess.run([sys.executable, str(SCRIPT), str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "environ", "said"),
    [
        ([], {}, "usage: schedule"),
        (["--chekc"], {}, "usage: schedule"),
        (["/nowhere"], {}, "No such file"),
        ([str(ROOT / "docker/crontab")], {"TZ": "Mars/Olympus"}, "no time zone"),
    ],
)
def test_bad_usage(words: list[str], environ: dict[str, str], said: str) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=False, env=environ
    )
    assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (2, True, False), done.stderr


def test_the_shipped_crontab_is_one() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--check", str(ROOT / "docker/crontab")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "warehouse-sync run --if-locked skip" in done.stdout


# Signals, and what is run


def test_runs_says_so_and_ends_at_once_when_idle(tmp_path: Path) -> None:
    with started(tmp_path / "crontab", "TOLD=yes\n* * * * * * echo told $TOLD; exit 3\n") as process:
        seen = lines_until(process, "is over")
        process.send_signal(signal.SIGTERM)
        rest = process.communicate(timeout=10)[0]
    assert process.returncode == 0
    assert "line 2 starts: echo told $TOLD; exit 3" in seen
    assert "\ntold yes\n" in seen
    assert "line 2 is over: exit code 3" in seen
    assert "stopped" in rest


def test_a_line_at_work_is_passed_over(tmp_path: Path) -> None:
    with started(tmp_path / "crontab", "* * * * * * exec sleep 30\n") as process:
        seen = lines_until(process, "passed over")
        process.send_signal(signal.SIGTERM)
        rest = process.communicate(timeout=10)[0]
    assert seen.count("line 1 starts") == 1
    assert "line 1 is over: ended by SIGTERM" in rest
    assert process.returncode == 0


CLOCK = """\
import datetime, os

class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(days=0 if os.path.exists(os.environ["PUT_RIGHT"]) else 400)

datetime.datetime = Clock
"""


def test_a_clock_that_is_set_back_stops_nothing(tmp_path: Path) -> None:
    """A machine may start with a clock that is ahead, until the time server is asked."""
    (tmp_path / "sitecustomize.py").write_text(CLOCK)
    put_right = tmp_path / "put right"
    environ = {"PYTHONPATH": str(tmp_path), "PUT_RIGHT": str(put_right)}
    with started(tmp_path / "crontab", "* * * * * * echo told\n", **environ) as process:
        lines_until(process, "is over")
        put_right.touch()
        lines_until(process, "the clock was set back")
        lines_until(process, "line 1 starts")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)
    assert process.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_what_a_shell_started_and_is_waited_for(tmp_path: Path, number: signal.Signals) -> None:
    """The shell dies of the signal at once; the program that it waited for takes its time to end well."""
    patient = tmp_path / "patient.py"
    patient.write_text(
        "import signal, sys, time\n"
        "def end(*_):\n    time.sleep(1)\n    print('ended well', flush=True)\n    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('at work', flush=True)\ntime.sleep(60)\n"
    )
    with started(tmp_path / "crontab", f"* * * * * * {sys.executable} {patient}; echo never\n") as process:
        lines_until(process, "at work")
        begun = time.monotonic()
        process.send_signal(number)
        rest = process.communicate(timeout=20)[0]
    assert process.returncode == 0
    assert rest.index("ended well") < rest.index("stopped")
    assert time.monotonic() - begun < 10
    assert "never" not in rest
