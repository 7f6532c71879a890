"""A pipeline whose warehouse is a real PostgreSQL, and the same histories on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from acceptance_pipeline import Pipeline
from servers import PASSWORD, Server
from test_histories import Case, History, Kind, at_literal

from warehouse_sync.userpilot.sandbox import Sandbox

TYPES = {"VARCHAR": 'TEXT COLLATE "C"', "DECIMAL(20,0)": "NUMERIC(20,0)"}
COLUMNS = "k TEXT, v INTEGER, note INTEGER, c {cursor}, happened TIMESTAMP, bad BOOLEAN"


class PostgresPipeline(Pipeline):
    """A database of its own; `schema` holds the snapshots, None: they lie in state.dir."""

    def __init__(
        self, folder: Path, sandbox: Sandbox, server: Server, dbname: str, schema: str | None = "sync", **login: str
    ) -> None:
        self.server, self.dbname, self.schema = server, dbname, schema
        self.login = {"user": server.admin, "password": PASSWORD} | login
        super().__init__(folder, sandbox)

    def configure(self, more: str = "") -> None:
        place = {"type": "postgres", "host": "127.0.0.1", "port": self.server.port, "dbname": self.dbname, **self.login}
        inside = f"snapshot: {{where: warehouse, schema: {self.schema}}}\n" if self.schema else ""
        (self.folder / "configs").mkdir(exist_ok=True)
        (self.folder / "configs" / "prod.yml").write_text(
            f"name: prod\nwarehouse: {json.dumps(place)}\n"
            f"userpilot: {{api_key: {self.sandbox.api_key}, endpoint: '{self.sandbox.url}'}}\n{inside}{more}",
            encoding="utf-8",
        )

    def sql(self, *statements: str) -> None:
        self.ask(*statements)

    def ask(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements as the owner of the database; the rows of the last one."""
        import psycopg

        admin = {"host": "127.0.0.1", "port": self.server.port, "user": self.server.admin, "password": PASSWORD}
        with psycopg.connect(**admin, dbname=self.dbname, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []


class PostgresHistory(History):
    """A history whose table lies in PostgreSQL."""

    def _load(self) -> None:
        kind = Kind(TYPES.get(self.kind.type, self.kind.type), self.kind.lag)
        rows = [
            f"('{row.key}', {row.value}, {row.note}, {self.kind.literal(row.cursor)}, {at_literal(row.at)}, {row.bad})"
            for row in self.table
        ]
        self.pipeline.sql(
            "DROP TABLE IF EXISTS t",
            f"CREATE TABLE t ({COLUMNS.format(cursor=kind.type)})",
            *([f"INSERT INTO t VALUES {', '.join(rows)}"] if rows else []),
        )


def kinds_of_postgres(cases: list[Case]) -> list[Case]:
    """The cases whose cursor PostgreSQL has: it knows no nanoseconds."""
    return [case for case in cases if case.kind != "nanoseconds"]
