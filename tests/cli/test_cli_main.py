"""The border of the command line: help, usage, what is not built yet, faults of the program, streams that close."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from harness import COMMAND, CommandLine

import warehouse_sync
from warehouse_sync import __version__
from warehouse_sync.cli.main import cli
from warehouse_sync.cli.options import spread
from warehouse_sync.cli.state import state

if TYPE_CHECKING:
    from harness import Project

VERBS = [
    "init", "demo", "debug", "ls", "compile", "show", "plan", "validate", "exposures", "test", "run", "retry", "status",
    "history", "rejects", "explain", "state", "sandbox", "schema",
]  # fmt: skip


def test_help_lists_the_verbs_in_the_order_in_which_people_meet_them(cli: CommandLine) -> None:
    out = cli("--help").check().out
    assert re.findall(r"^  ([a-z]+)  ", out.partition("Commands:")[2], flags=re.MULTILINE) == VERBS
    assert "Exit codes" in out


@pytest.mark.parametrize("verb", [*VERBS, "state show", "state reset"])
def test_every_verb_has_help(cli: CommandLine, verb: str) -> None:
    out = cli.here(*verb.split(), "-h").check().out
    assert out.startswith(f"Usage: warehouse-sync {verb}")


def test_short_help_is_never_cut() -> None:
    for verb in (*cli.commands.values(), *state.commands.values()):
        assert not verb.get_short_help_str(limit=70).endswith("..."), verb.name


def commands_in_messages() -> list[str]:
    """What messages name as a command in full, with a word for everything that is filled in."""
    found = set()
    for path in sorted(Path(warehouse_sync.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            parts = [node] if isinstance(node, ast.Constant) else node.values if isinstance(node, ast.JoinedStr) else []
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in parts)
            found |= set(re.findall(r"`warehouse-sync ([^`]+)`", text))
    return sorted(found)


@pytest.mark.parametrize("words", commands_in_messages())
def test_a_command_that_a_message_names_is_one(words: str) -> None:
    if "…" in words:
        return
    first, *rest = words.split()
    command: click.Command = cli.commands[first]
    if isinstance(command, click.Group):
        command, rest = command.commands[rest[0]], rest[1:]
    context = command.make_context(first, rest)
    if command is state.commands["reset"]:
        assert (context.params["model"] is None) is context.params["everything"]


def test_version(cli: CommandLine) -> None:
    assert cli("--version").check().out == f"warehouse-sync {__version__}\n"


def test_start_is_quick(cli: CommandLine) -> None:
    def seconds() -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "warehouse_sync", "--help"], check=True, capture_output=True)
        return time.perf_counter() - began

    assert min(seconds() for _ in range(5)) < 0.5, "0.1 s on a quiet machine"


def test_no_verb_shows_the_help(cli: CommandLine) -> None:
    assert "Commands:" in cli.here().check(2).err


def test_unknown_verb(cli: CommandLine) -> None:
    assert "No such command 'rum'" in cli.here("rum").check(2).err
    assert "No such command" in cli.here("state", "rest").check(2).err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("run users events", "models are chosen with --select: `run --select users events`."),
        ("ls users", "models are chosen with --select: `ls --select users`."),
        ("run -m users", "No such option '-m'. Models are chosen with -s, or --select."),
        ("-m users run", "No such option '-m'. Models are chosen with -s, or --select."),
        ("plan --models users", "No such option '--models'. Models are chosen with -s, or --select."),
        ("run --target prod", "with dbt, `warehouse.dbt.target` or DBT_TARGET says which."),
        ("-t prod run", "A target is a YAML file of its own: -c configs/prod.yml"),
        ("build", "No such command 'build'. `run` sends what is new or changed"),
        ("list", "No such command 'list'. `ls` lists the models."),
        ("run --limit ten", "'ten' is not a valid whole number."),
        ("show --limit ten", "'ten' is not a valid whole number."),
        ("rejects --limit ten", "'ten' is not a valid whole number."),
        ("history --limit ten", "'ten' is not a valid whole number."),
        ("sandbox --port ten", "'ten' is not a valid whole number."),
        ("history users", "Got unexpected extra argument (users)"),
        ("history --select users", "No such option '--select'."),
    ],
)
def test_words_of_other_tools(cli: CommandLine, words: str, said: str) -> None:
    err = cli.here(*words.split()).check(2).err
    assert said in err
    assert "Did you mean" not in err


def test_options_before_a_verb_that_does_not_take_them(cli: CommandLine) -> None:
    err = cli.here("-s", "users", "schema").check(2).err
    assert "`schema` has no option --select." in err


@pytest.mark.parametrize("words", ["-f -x {} -s users", "{} -f -x -s users"])
def test_what_a_run_does_stands_before_or_after_the_verb(project: Project, words: str) -> None:
    project.cli.here("run").check()
    project.cli.here(*words.format("run").split()).check()
    results = project.results()
    assert (results["args"]["full_refresh"], results["args"]["fail_fast"]) == (True, True)
    assert [result["delivered"] for result in results["results"]] == [3]
    assert "has no option --full-refresh" in project.cli.here("-f", "retry").check(2).err


def test_usage_errors_as_json(cli: CommandLine) -> None:
    (event,) = cli.here("--log-format", "json", "history", "--limit", "x").check(2).events
    assert (event["level"], event["code"]) == ("error", "usage")
    assert "--limit" in event["msg"]


@pytest.mark.parametrize(
    ("words", "read"),
    [
        ("-s a b", "--select a --select b"),
        ("--select a b -x --exclude c d", "--select a --select b -x --exclude c --exclude d"),
        ("-s", "-s"),
        ("-s -x", "-s -x"),
        ("--limit 5 -s a", "--limit 5 --select a"),
        ("-s a -- b", "--select a -- b"),
        ("--select=a b", "--select=a b"),
    ],
)
def test_select_takes_several_words(words: str, read: str) -> None:
    assert spread(words.split()) == read.split()


def test_a_path_that_is_not_utf8(project: Project) -> None:
    odd = project.config.with_name("caf\udce9.yml")
    odd.write_text(project.config.read_text())
    assert "is not UTF-8" in project.cli.here("ls", "-c", str(odd)).check(2).err


def test_a_project_in_a_folder_above_is_named(project: Project) -> None:
    cli = CommandLine(project.folder / "models_sql")
    assert f"there is one in {project.folder}: go there" in cli.here("ls").check(2).err


# Faults of the program itself


def test_a_fault_is_one_line_without_values(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("the row of u1")

    monkeypatch.setattr("warehouse_sync.runs.run.extract", fail)
    result = project.cli.here("run").check(1)
    assert re.search(r"ERROR internal error: ZeroDivisionError at warehouse_sync/runs/run\.py:\d+", result.err)
    assert "the row of u1" not in result.err
    (log,) = (project.home / "logs").iterdir()
    assert f"The log has more, without values: {log}" in result.err
    crash = next(event for event in map(json.loads, log.read_text().splitlines()) if event["code"] == "internal_error")
    assert any("_extract_one" in frame for frame in crash["data"]["trace"])
    assert "the row of u1" not in log.read_text()


def test_a_fault_without_a_log(cli: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail() -> None:
        raise ZeroDivisionError("a value")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("warehouse_sync.project.config.json_schema", fail)
    result = cli.here("schema").check(1)
    (log,) = tmp_path.glob("warehouse-sync-*.log")
    assert str(log) in result.err
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert "ZeroDivisionError at warehouse_sync/cli/project_files.py" in log.read_text()
    assert "a value" not in log.read_text() + result.err


def test_a_fault_where_nothing_can_be_written(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr("tempfile.mkstemp", fail)
    monkeypatch.setattr("warehouse_sync.project.config.json_schema", fail)
    assert "There is no folder for a log that has more." in cli.here("schema").check(1).err


def test_a_library_that_cannot_be_loaded_is_no_fault_of_ours(project: Project) -> None:
    broken = project.folder / "broken" / "duckdb"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('failed to map segment from shared object')")
    path = os.pathsep.join([str(broken.parent), project.cli.variables({})["PYTHONPATH"]])
    result = project.cli("run", PYTHONPATH=path).check(1)
    assert "A library cannot be loaded: it is not installed as it should be" in result.err
    assert "fault of warehouse-sync" not in result.err
    (log,) = (project.home / "logs").iterdir()
    assert "broken/duckdb/__init__.py" in log.read_text()


def test_a_fault_far_from_here(cli: CommandLine) -> None:
    from warehouse_sync.cli.crash import describe

    assert describe(KeyError("x")) == "internal error: KeyError at an unknown place"


def test_ctrl_c(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("warehouse_sync.project.model.load_models", interrupt)
    assert "ERROR interrupted" in project.cli.here("ls").check(1).err


# Streams that close


@contextmanager
def nobody() -> Iterator[int]:
    """A pipe whose reader has left."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


def run_with(project: Project, *words: str, script: str = "", **streams: int) -> subprocess.CompletedProcess[str]:
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    line = ["sh", "-c", script] if script else [*COMMAND, *words]
    return subprocess.run(
        line, cwd=project.folder, env=project.cli.variables({}), text=True, timeout=60, check=False,
        **both,
    )  # fmt: skip


@pytest.mark.parametrize("words", ["schema", "--help", "run --output json"])
def test_a_reader_that_leaves_early_is_no_fault(project: Project, words: str) -> None:
    with nobody() as pipe:
        run = run_with(project, *words.split(), "-q", stdout=pipe)
    assert (run.returncode, run.stderr) == (0, "")
    if words.startswith("run"):
        assert {result["status"] for result in project.results()["results"]} == {"success"}


def test_a_reader_that_leaves_early_hides_no_failure(project: Project) -> None:
    project.write_model("broken", "select 1")
    with nobody() as pipe:
        assert run_with(project, "ls", stdout=pipe).returncode == 1


@pytest.mark.parametrize("words", ["run --output json", "--nope"])
def test_streams_that_are_closed(project: Project, words: str) -> None:
    script = f"{' '.join(map(shlex.quote, COMMAND))} {words} <&- >&- 2>&-"
    run = run_with(project, script=script)
    assert run.returncode == (2 if words == "--nope" else 0)


def test_no_room_for_the_data(project: Project) -> None:
    with Path("/dev/full").open("w") as full:
        for words in ("schema", "run --output json"):
            run = run_with(project, *words.split(), "-q", stdout=full.fileno())
            assert run.returncode == 1
            assert run.stderr.count("\n") == 1
            assert "ERROR stdout cannot be written: No space left on device" in run.stderr
    assert {result["status"] for result in project.results()["results"]} == {"success"}


def test_nobody_reads_the_messages(project: Project) -> None:
    with nobody() as pipe:
        run = run_with(project, "run", stderr=pipe)
    assert run.returncode == 0, "the run goes on"
    assert {result["status"] for result in project.results()["results"]} == {"success"}
    with nobody() as pipe:
        assert run_with(project, "run", "--nope", stderr=pipe).returncode == 2


def test_data_is_utf8_whatever_the_locale(project: Project) -> None:
    project.execute("UPDATE users SET plan = 'größer, 東京' WHERE id = 'u1'")
    out = project.cli("show", "-s", "users", "--limit", "1", PYTHONIOENCODING="ascii", LC_ALL="C").check().out
    assert json.loads(out)["metadata"]["plan"] == "größer, 東京"


def test_python_dash_m(monkeypatch: pytest.MonkeyPatch) -> None:
    import runpy

    monkeypatch.setattr(sys, "argv", ["warehouse-sync", "--version"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module("warehouse_sync", run_name="__main__")
    assert end.value.code == 0
