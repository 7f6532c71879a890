"""The recipes of the README are run, as far as it is cheap: against a real project and a sandbox, in its own words."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from harness import ROOT, SECONDS, CommandLine, Result

if TYPE_CHECKING:
    from harness import Project

README = (ROOT / "README.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    found = re.search(rf"^(##+) {title}\n(.*?)(?=^##)", README, flags=re.DOTALL | re.MULTILINE)
    assert found, title
    return found[2]


def block(title: str, language: str) -> str:
    (text,) = re.findall(rf"^```{language}\n(.*?)^```$", section(title), flags=re.DOTALL | re.MULTILINE)
    return str(text)


@pytest.fixture
def installed(project: Project) -> Path:
    """The project, with `warehouse-sync` in `.venv/bin` and its config under the name that the recipes use."""
    shim = project.folder / ".venv" / "bin" / "warehouse-sync"
    shim.parent.mkdir(parents=True)
    shim.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m warehouse_sync "$@"\n')
    shim.chmod(0o755)
    project.config.rename(project.config.with_name("duckdb.yml"))
    return project.folder


def shell(line: str, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    path = f"{folder / '.venv' / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin"
    return subprocess.run(
        ["sh", "-ec", line], cwd=folder, env={"PATH": path, **environ}, capture_output=True, text=True,
        timeout=SECONDS, check=False,
    )  # fmt: skip


def run_here(line: str, folder: Path) -> Result:
    """A command line of one `warehouse-sync`, in this process."""
    program, *words = shlex.split(line)
    assert program == "warehouse-sync"
    return CommandLine(folder).here(*words)


def test_cron(project: Project, installed: Path, imported: Callable[[], Sequence[Any]]) -> None:
    (line,) = block("Cron", "text").splitlines()
    times, command = re.fullmatch(r"((?:\S+ ){4}\S+)  (.*)", line).groups()  # type: ignore[union-attr]
    assert len(times.split()) == 5
    assert "%" not in command, "cron makes a newline of it"
    config = installed / "configs" / "duckdb.yml"
    config.write_text(config.read_text().replace("sandbox-key", "${USERPILOT_API_KEY}"))
    (installed / ".env").write_text("export USERPILOT_API_KEY=sandbox-key\n")
    done = shell(command.replace("/srv/my-sync", str(installed)), installed)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), "nothing to mail"
    assert len(imported()) == 7
    project.write_model("users", "select 1")
    failed = shell(command.replace("/srv/my-sync", str(installed)), installed)
    assert failed.returncode == 1
    assert "ERROR" in failed.stderr


def test_github_actions(project: Project, installed: Path, imported: Callable[[], Sequence[Any]]) -> None:
    """Two jobs on two empty disks; what is cached is carried over, the state store stands elsewhere."""
    workflow = yaml.safe_load(block("GitHub Actions", "yml"))
    assert workflow[True]["schedule"], "YAML reads the key `on` as true; GitHub does not"
    sync = workflow["jobs"]["sync"]
    config = installed / "configs" / "duckdb.yml"
    config.write_text(config.read_text() + f"state: {{url: 'sqlite:///{installed}/elsewhere.db'}}\n")
    cached: Path | None = None

    def job(name: str) -> Result:
        nonlocal cached
        disk = installed.parent / f"{installed.name}-{name}"
        shutil.copytree(installed, disk, ignore=shutil.ignore_patterns(".warehouse_sync", "sandbox", "elsewhere.db*"))
        for step in sync["steps"]:
            path = disk / step.get("with", {}).get("path", "")
            if step.get("uses", "").startswith("actions/cache/restore") and cached is not None:
                shutil.copytree(cached, path)
            elif step.get("uses", "").startswith("actions/cache/save"):
                cached = path
            elif step.get("run", "").startswith("warehouse-sync"):
                done = run_here(step["run"], disk)
        return done

    job("first").check()
    assert len(imported()) == 7
    first, cached = cached, None
    job("lost").check(2)
    cached = first
    project.execute("UPDATE users SET plan = 'x', changed = '2025-02-01' WHERE id = 'u1'")
    job("second").check()
    assert len(imported()) == 8, "what changed, and nothing twice"
    cached = first
    assert job("old").code in (1, 2)
    assert len(imported()) == 8, "nor after an older cache"


def test_github_actions_for_pull_requests(cli: CommandLine, tmp_path: Path) -> None:
    test = yaml.safe_load(block("GitHub Actions", "yml"))["jobs"]["test"]
    (command,) = [step["run"] for step in test["steps"] if step.get("run", "").startswith("warehouse-sync")]
    for folder in ("configs", "models_sql"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    config = tmp_path / "configs" / "duckdb.yml"
    config.write_text(config.read_text().replace("sqlite:///../.warehouse_sync/state.db", "${STATE_URL}"))
    assert "env" not in test, "the variables of the job `sync` are not set here"
    for environ in ({}, {"USERPILOT_API_KEY": "", "STATE_URL": ""}):  # a fork gets its secrets empty
        cli.here(*command.split()[1:], "-c", "configs/duckdb.yml", **environ).check()
        assert (tmp_path / "unit-tests.xml").read_bytes().startswith(b"<?xml")
    assert "the variable `STATE_URL` is not set" in cli.here("run", "-c", "configs/duckdb.yml").check(2).err


def test_airflow_command(project: Project, installed: Path, imported: Callable[[], Sequence[Any]]) -> None:
    """The DAG is read with stand-ins for Airflow's two names, and its command is run."""
    made: list[dict[str, Any]] = []

    class Dag:
        def __init__(self, name: str, **settings: Any) -> None:
            made.append(settings)

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

    names = {
        "airflow.providers.standard.operators.bash": {"BashOperator": lambda **settings: made.append(settings)},
        "airflow.sdk": {"DAG": Dag},
    }
    execute(block("Airflow", "python"), names)
    dag, task = made
    assert dag["max_active_runs"] == 1
    assert task["cwd"] == "/srv/my-sync"
    run_here(task["bash_command"], installed).check()
    assert len(imported()) == 7


def test_dagster_asset(project: Project, installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The asset is called with stand-ins for Dagster's names: its metadata are those of run_results.json."""

    class Failure(Exception):
        def __init__(self, description: str, metadata: dict[str, Any]) -> None:
            super().__init__(description)
            self.metadata = metadata

    dagster = {
        "asset": lambda **_: lambda function: function,
        "RetryPolicy": lambda **_: None,
        "AssetExecutionContext": object,
        "MaterializeResult": lambda metadata: metadata,
        "Failure": Failure,
    }
    monkeypatch.setenv("PATH", f"{installed / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}")
    recipe = block("Dagster", "python").replace("/srv/my-sync", str(installed))
    asset = execute(recipe, {"dagster": dagster})["userpilot"]
    found = asset(None)
    assert found == {
        "sync.prod.events": "success: 4 rows delivered", "sync.prod.users": "success: 3 rows delivered",
        "delivered": 7, "rejected": 0,
    }  # fmt: skip
    project.write_model("users", "select 1")
    with pytest.raises(Failure, match="exit code 1") as caught:
        asset(None)
    assert caught.value.metadata["sync.prod.users"].startswith("error: ")
    (installed / "configs" / "duckdb.yml").write_text("name: prod\n")
    with pytest.raises(Failure, match="exit code 2") as caught:
        asset(None)
    assert caught.value.metadata == {"delivered": 0, "rejected": 0}


def execute(text: str, modules: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Run a recipe's Python with these modules in place of what is not installed here."""
    with pytest.MonkeyPatch.context() as patch:
        for name, members in modules.items():
            module = types.ModuleType(name)
            module.__dict__.update(members)
            for place in range(1, name.count(".") + 1):
                above = ".".join(name.split(".")[:place])
                patch.setitem(sys.modules, above, sys.modules.get(above) or types.ModuleType(above))
            patch.setitem(sys.modules, name, module)
        namespace: dict[str, Any] = {"__name__": "recipe"}
        exec(compile(text, "README.md", "exec", dont_inherit=True), namespace)
    return namespace


@pytest.mark.parametrize("shell_name", ["bash", "zsh", "fish"])
def test_shell_completion(cli: CommandLine, shell_name: str) -> None:
    assert f"_WAREHOUSE_SYNC_COMPLETE={shell_name}_source warehouse-sync" in section("Shell completion")
    done = cli(_WAREHOUSE_SYNC_COMPLETE=f"{shell_name}_source")
    assert "_WAREHOUSE_SYNC_COMPLETE=" in done.out
    words = {"COMP_WORDS": "warehouse-sync sta", "COMP_CWORD": "1" if shell_name != "fish" else "sta"}
    offered = cli(_WAREHOUSE_SYNC_COMPLETE=f"{shell_name}_complete", **words).out
    assert "status" in offered


def test_unit_tests_of_the_readme(cli: CommandLine, tmp_path: Path) -> None:
    (model,) = re.findall(r"^```sql\n(.*?)^```$", section("Writing a model"), flags=re.DOTALL | re.MULTILINE)
    text = block("Testing models", "yml")
    for path, content in {
        "configs/prod.yml": "name: prod\nwarehouse: {type: duckdb, path: w.duckdb}\nuserpilot: {api_key: x}\n",
        "models_sql/users.sql": model,
        "models_sql/tests/users.yml": text,
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
    cli.here("test").check()
    changed = text.replace("plan: pro}\n      refused", "plan: free}\n      refused")
    (tmp_path / "models_sql" / "tests" / "users.yml").write_text(changed)
    shown = block("Testing models", "text").splitlines()
    said = cli.here("test").check(1).err
    assert [line[10:] for line in said.splitlines()][1:4] == shown[1:4]
