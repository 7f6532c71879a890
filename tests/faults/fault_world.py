"""A small pipeline with a real warehouse, a real state store and a sandbox over a socket, and what must arrive."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

from warehouse_sync.delivery import Timing
from warehouse_sync.observe.reporter import Silent
from warehouse_sync.parts import policy_of
from warehouse_sync.project.config import load_config
from warehouse_sync.project.model import load_models, settings_from
from warehouse_sync.runs import run as runs
from warehouse_sync.state.lifecycle import BatchState, JobState
from warehouse_sync.state.store import open_store
from warehouse_sync.userpilot.client import Client
from warehouse_sync.userpilot.sandbox import Sandbox

MODELS = {
    "companies": """\
        {{ config(event='identify_company') }}
        select company_id, name, v, seen as inserted_at from companies
        """,
    "users": """\
        {{ config(event='identify_user', cursor='_seen') }}
        select user_id, company_id, v, seen as inserted_at, seen as _seen from users
        """,
    "clicks": """\
        {{ config(event='track', cursor='_seen', begin='all') }}
        select user_id, 'clicked' as event_name, v, seen as inserted_at, seen as _seen from clicks
        """,
    "orders": """\
        {{ config(event='track', unique_key='order_id', cursor='_seen', begin='all') }}
        select user_id, 'ordered' as event_name, order_id, v, seen as inserted_at, seen as _seen from orders
        """,
}
WHO = {"companies": "company_id", "users": "user_id", "clicks": "user_id", "orders": "user_id"}


class World:
    """`add` and `change` move the warehouse, `run` syncs it, `check` compares both ends."""

    def __init__(self, folder: Path, sandbox: Sandbox, endpoint: str | None = None, **delivery: str) -> None:
        self.folder = folder
        self.sandbox = sandbox
        self.endpoint = endpoint or sandbox.url
        self.delivery = {"grace": "1s", "busy_timeout": "20s", "job_timeout": "20s"} | delivery
        self.moment = 0
        self.accepted_before: Counter[str] = Counter()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "models_sql").mkdir(exist_ok=True)
        for name, sql in MODELS.items():
            (folder / "models_sql" / f"{name}.sql").write_text(textwrap.dedent(sql))
        self.write_config()
        if (folder / "w.duckdb").exists():
            self.moment = 1
            return
        self.execute(
            "CREATE TABLE companies (company_id VARCHAR, name VARCHAR, v BIGINT, seen TIMESTAMP)",
            "CREATE TABLE users (user_id VARCHAR, company_id VARCHAR, v BIGINT, seen TIMESTAMP)",
            "CREATE TABLE clicks (user_id VARCHAR, v BIGINT, seen TIMESTAMP)",
            "CREATE TABLE orders (order_id BIGINT, user_id VARCHAR, v BIGINT, seen TIMESTAMP)",
        )

    # The warehouse

    def write_config(self, more: str = "") -> None:
        waits = ", ".join(f"{name}: {value}" for name, value in self.delivery.items())
        (self.folder / "config.yml").write_text(
            f"name: p\nwarehouse: {{type: duckdb, path: w.duckdb}}\n"
            f"userpilot: {{api_key: {self.sandbox.api_key}, endpoint: '{self.endpoint}'}}\n"
            "models: {path: models_sql}\n"
            "state: {url: 'sqlite:///state/state.db', dir: state}\n"
            "batch: {max_rows: 8}\njob: {max_rows: 16}\nretention: {delivered: 7 days}\nengine: {threads: 1}\n"
            f"delivery: {{{waits}}}\n{more}"
        )

    def execute(self, *statements: str) -> None:
        from harness import duckdb_file

        with duckdb_file(self.folder / "w.duckdb") as connection:
            for statement in statements:
                connection.execute(statement)

    def add(self, rows: int = 10) -> World:
        """New rows in every table, later than all before."""
        self.moment += 1
        start = f"TIMESTAMP '2025-01-01' + INTERVAL {self.moment} HOUR + i * INTERVAL 1 SECOND"
        tag = f"'{self.moment}-' || i"
        few, some = max(1, rows // 5), max(1, rows // 2)
        self.execute(
            f"INSERT INTO companies SELECT 'c' || {tag}, 'n', {self.moment}, {start} FROM range({few}) t(i)",
            f"INSERT INTO users SELECT 'u' || {tag}, 'c1', {self.moment}, {start} FROM range({rows}) t(i)",
            f"INSERT INTO clicks SELECT 'u' || {tag}, {self.moment}, {start} FROM range({rows}) t(i)",
            f"INSERT INTO orders SELECT {self.moment} * 100000 + i, 'u' || {tag}, 1, {start} FROM range({some}) t(i)",
        )
        return self

    def change(self) -> None:
        """Half of the users and companies change."""
        self.moment += 1
        at = f"TIMESTAMP '2025-01-01' + INTERVAL {self.moment} HOUR"
        for table, key in (("users", "user_id"), ("companies", "company_id")):
            self.execute(
                f"UPDATE {table} SET v = {self.moment}, seen = {at} WHERE hash({key} || {self.moment}) % 2 = 0"
            )

    def rows(self, *tables: str) -> Counter[str]:
        """The warehouse's rows, in the words of `said`."""
        from harness import duckdb_file

        found: Counter[str] = Counter()
        with duckdb_file(self.folder / "w.duckdb") as connection:
            for table in tables or MODELS:
                query = f"SELECT {WHO[table]}, v, strftime(seen, '%Y-%m-%dT%H:%M:%S.%f') FROM {table}"
                found.update(f"{table} {' '.join(map(str, row))}" for row in connection.execute(query).fetchall())
        return found

    # Runs

    def config(self) -> Any:
        return load_config(self.folder / "config.yml", {})

    def run(self, **options: Any) -> runs.RunReport:
        """One real run in this process."""
        config = self.config()
        reporter = options.pop("reporter", Silent())
        models = load_models(settings_from(config, {}))
        return runs.run(config, policy_of(config, {}), models, runs.RunOptions(**options), reporter)

    def clean_run(self) -> runs.RunReport:
        """A run that must end well."""
        report = self.run()
        told = [(result.model, result.status, result.message) for result in report.results]
        assert report.exit_code == 0, (report.stopped, told)
        return report

    # What arrived

    def imported(self) -> Counter[str]:
        """Rows at the sandbox, in the words of `said`."""
        return Counter(said(json.loads(line)) for line in self.sandbox.imported())

    def accepted(self) -> Counter[str]:
        """Lines of every delivered batch (`retention.delivered` keeps their files)."""
        found = Counter(self.accepted_before)
        with open_store(f"sqlite:///{self.folder}/state/state.db", read_only=True) as store:
            for batch in store.batches("p", states=[BatchState.DELIVERED]):
                found.update((self.folder / "state/p/outbox" / f"{batch.name}.ndjson").read_text().splitlines())
        return found

    def jobs(self, *states: JobState) -> list[Any]:
        with open_store(f"sqlite:///{self.folder}/state/state.db", read_only=True) as store:
            return store.jobs("p", states=states or None)

    def check(self) -> None:
        """Imported is what was accepted, once each; events are the warehouse's, profiles end as they are there."""
        lines = Counter(self.sandbox.imported())
        assert lines == self.accepted(), "imported and accepted differ"
        imported = self.imported()
        assert +imported & self.rows("clicks", "orders") == self.rows("clicks", "orders")
        assert sum(n for row, n in imported.items() if row.startswith(("clicks", "orders"))) == sum(
            self.rows("clicks", "orders").values()
        )
        assert self.latest() == set(self.rows("users", "companies"))

    def check_equal(self) -> None:
        """Every row of the warehouse was imported, once."""
        assert self.imported() == self.rows()

    def latest(self) -> set[str]:
        """The newest version of every imported profile."""
        newest: dict[tuple[str, str], tuple[str, str]] = {}
        for line in self.sandbox.imported():
            words = said(json.loads(line))
            table, who, _, at = words.split()
            if table in ("users", "companies"):
                newest[table, who] = max(newest.get((table, who), ("", "")), (at, words))
        return {words for _, words in newest.values()}


def said(row: dict[str, Any]) -> str:
    """A row that was sent as `table who v at`."""
    table = {"identify_user": "users", "identify_company": "companies"}.get(row["event_type"])
    table = table or {"clicked": "clicks", "ordered": "orders"}[row["event_name"]]
    return f"{table} {row[WHO[table]]} {row['metadata']['v']} {row['inserted_at']}"


def quick(monkeypatch: Any, read_timeout: float = 1.0) -> None:
    """Short pauses and timeouts for runs in this process."""

    def client(config: Any) -> Client:
        key = config.userpilot.api_key.get_secret_value()
        return Client(config.userpilot.endpoint, key, user_agent="t", read_timeout=read_timeout, connect_timeout=2)

    monkeypatch.setattr(runs, "client_of", client)
    monkeypatch.setattr(runs, "Timing", quick_timing)


def quick_timing(*waits: Any) -> Timing:
    return Timing(*waits[:2], grace=waits[2] / 5, max_splits=waits[3], pause=0.01)


__all__ = ["MODELS", "World", "quick", "quick_timing", "said"]
