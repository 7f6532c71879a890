"""What tests of every room work with: the command line, a project on disk, a clean environment."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
SECONDS = 60
"""A command that takes longer hangs."""

OURS = ("WAREHOUSE_SYNC_", "USERPILOT_", "DBT_")
FOREIGN = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TERM", "TZ", "PYTHONUNBUFFERED", "motherduck_token")
KEPT = ("WAREHOUSE_SYNC_TEST_",)


def is_foreign(name: str) -> bool:
    """True for a variable that could change what a test sees."""
    return (name.startswith(OURS) and not name.startswith(KEPT)) or name in FOREIGN


@dataclass(frozen=True)
class Result:
    """How a command ended: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """stdout as one JSON object a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def events(self) -> list[dict[str, Any]]:
        """stderr as one JSON object a line (`--log-format json`)."""
        return [json.loads(line) for line in self.err.splitlines()]

    def event(self, code: str) -> dict[str, Any]:
        """The only event with this code."""
        (found,) = [event for event in self.events if event["code"] == code]
        return found

    def check(self, code: int = 0) -> Result:
        """This result, if it has that exit code and shows no traceback."""
        assert self.code == code, f"exit code {self.code}\n{self.out}\n{self.err}"
        assert "Traceback" not in self.err + self.out
        return self


@dataclass
class CommandLine:
    """Runs `warehouse-sync …` in a folder, with an environment of its own.

    Called, it is the real command in a process of its own; `here` runs the same in this process, which is faster.
    """

    folder: Path
    environ: dict[str, str] = field(default_factory=dict)

    def __call__(self, *words: str, stdin: str = "", **environ: str) -> Result:
        """The real command."""
        run = subprocess.run(
            [*COMMAND, *words], cwd=self.folder, env=self.variables(environ), input=stdin, capture_output=True,
            text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        return Result(run.returncode, run.stdout, run.stderr)

    @contextmanager
    def start(self, *words: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
        """The real command, at work beside the test; killed at the end, unless it is over by then."""
        with subprocess.Popen(
            [*COMMAND, *words], cwd=self.folder, env=self.variables(environ), text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            try:
                yield process
            finally:
                process.kill()

    def here(self, *words: str, **environ: str) -> Result:
        """The same code path in this process, through click's own entry."""
        from warehouse_sync.cli.main import cli

        out, err = io.StringIO(), io.StringIO()
        code: Any = 0
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.chdir(self.folder)
            for name, value in (self.environ | environ).items():
                patch.setenv(name, value)
            try:
                cli.main(list(words))
            except SystemExit as end:
                code = end.code
        return Result(int(code or 0), out.getvalue(), err.getvalue())

    def variables(self, more: Mapping[str, str]) -> dict[str, str]:
        """The environment of a command."""
        clean = {name: value for name, value in os.environ.items() if not is_foreign(name)}
        path = os.pathsep.join([str(ROOT), *filter(None, [clean.get("PYTHONPATH")])])
        return clean | {"PYTHONPATH": path} | self.environ | more


COMMAND = [sys.executable, "-m", "warehouse_sync"]
"""How to start the command line."""


@dataclass
class Project:
    """A project on disk: `configs/prod.yml`, `models_sql/`, `warehouse.duckdb`, and its command line."""

    folder: Path
    cli: CommandLine
    endpoint: str = "http://127.0.0.1:9"
    api_key: str = "sandbox-key"
    name: str = "prod"

    @property
    def config(self) -> Path:
        """The YAML file."""
        return self.folder / "configs" / "prod.yml"

    @property
    def warehouse(self) -> Path:
        """The DuckDB file."""
        return self.folder / "warehouse.duckdb"

    @property
    def home(self) -> Path:
        """What the pipeline keeps on disk."""
        return self.folder / ".warehouse_sync" / self.name

    def write_config(self, more: str = "", **userpilot: str) -> Path:
        """Write the YAML; `more` is appended (dedented)."""
        self.config.parent.mkdir(exist_ok=True)
        lines = {"api_key": self.api_key, "endpoint": self.endpoint} | userpilot
        text = f"name: {self.name}\nwarehouse: {{type: duckdb, path: ../warehouse.duckdb}}\nuserpilot:\n"
        text += "".join(f"  {key}: {value}\n" for key, value in lines.items())
        self.config.write_text(text + textwrap.dedent(more), encoding="utf-8")
        return self.config

    def write_model(self, name: str, sql: str) -> Path:
        """Write a model file (dedented)."""
        path = self.folder / "models_sql" / f"{name}.sql"
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(sql), encoding="utf-8")
        return path

    def execute(self, *statements: str) -> None:
        """Change the warehouse."""
        import duckdb

        with duckdb.connect(str(self.warehouse)) as connection:
            for statement in statements:
                connection.execute(statement)

    def results(self) -> dict[str, Any]:
        """run_results.json."""
        found: dict[str, Any] = json.loads((self.home / "run_results.json").read_text())
        return found
