"""What tests of every room work with: the command line, a project on disk, a clean environment."""

from __future__ import annotations

import atexit
import functools
import io
import json
import os
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from sqlalchemy import Connection, Engine

ROOT = Path(__file__).parent.parent
SECONDS = 60
"""A command that takes longer hangs."""

OURS = ("WAREHOUSE_SYNC_", "USERPILOT_", "DBT_")
FOREIGN = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TERM", "TZ", "PYTHONUNBUFFERED", "motherduck_token")
KEPT = ("WAREHOUSE_SYNC_TEST_",)


def is_foreign(name: str) -> bool:
    """True for a variable that could change what a test sees."""
    return (name.startswith(OURS) and not name.startswith(KEPT)) or name in FOREIGN


@functools.cache
def _duckdb() -> DuckDBPyConnection:
    import duckdb

    atexit.register(_duckdb.cache_clear)
    return duckdb.connect()


def duckdb_session() -> DuckDBPyConnection:
    """A session in this process's one DuckDB: to make a database costs more than most tests do in it."""
    return _duckdb().cursor()


@contextmanager
def duckdb_file(path: Path) -> Iterator[DuckDBPyConnection]:
    """A session whose database is that file, made if it is missing; at the end the file is whole and closed."""
    with duckdb_session() as outside:
        place = str(path).replace("'", "''")
        outside.execute(f"ATTACH '{place}' AS warehouse")
        try:
            with outside.cursor() as inside:
                inside.execute("USE warehouse")
                yield inside
        finally:
            outside.execute("DETACH warehouse")


def share_statements(patch: pytest.MonkeyPatch) -> None:
    """Let the SQLite state stores of this process share what SQLAlchemy has compiled.

    A command opens one store. Tests open thousands, and each would compile the same hundred statements anew.
    """
    from warehouse_sync.state import database

    make = database.create_engine
    first = make("sqlite://")
    first.connect().close()

    def create_engine(*words: Any, **options: Any) -> Engine:
        engine = make(*words, **options)
        if engine.dialect.name == "sqlite":
            engine.dialect, engine._compiled_cache = first.dialect, first._compiled_cache
        return engine

    patch.setattr(database, "create_engine", create_engine)


def layout_of_a_store(path: Path) -> list[str]:
    """What the migrations make of an empty SQLite file, as SQL."""
    from warehouse_sync.state.store import open_store

    open_store(f"sqlite:///{path}").close()
    with closing(sqlite3.connect(path)) as store:
        return [line for line in store.iterdump() if line not in ("BEGIN TRANSACTION;", "COMMIT;")]


def make_stores_from(layout: Sequence[str], patch: pytest.MonkeyPatch) -> None:
    """Let a new SQLite store be made of this SQL: what the migrations do is proven in `tests/state`."""
    from warehouse_sync.state import database

    migrate = database._migrate

    def make(connection: Connection, where: str) -> None:
        if connection.dialect.name != "sqlite" or database._revision(connection, where) is not None:
            migrate(connection, where)
            return
        for statement in layout:
            connection.exec_driver_sql(statement)

    patch.setattr(database, "_migrate", make)


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

    def __call__(self, *words: str, stdin: str = "", bound: bool = False, **environ: str) -> Result:
        """The real command; `bound`: by the rights of files, root too."""
        run = subprocess.run(
            [*(BOUND if bound else ()), *COMMAND, *words], cwd=self.folder, env=self.variables(environ),
            input=stdin, capture_output=True, text=True, timeout=SECONDS, check=False,
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
BOUND = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
"""Before a command: without the capabilities that let root read and write everything."""


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
        with duckdb_file(self.warehouse) as connection:
            for statement in statements:
                connection.execute(statement)

    def results(self) -> dict[str, Any]:
        """run_results.json."""
        found: dict[str, Any] = json.loads((self.home / "run_results.json").read_text())
        return found
