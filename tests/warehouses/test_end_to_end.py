"""The same rows in DuckDB, PostgreSQL, MariaDB, SQLite and Snowflake: a run sends the same lines.

Differences that stay, because the database has no other way to say it: SQLite has no times (they are text, sent as they
are) and no decimals; MariaDB's booleans are integers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from beds import Bed

from warehouse_sync.observe.reporter import Silent
from warehouse_sync.parts import policy_of
from warehouse_sync.project.config import load_config
from warehouse_sync.project.model import load_models, settings_from
from warehouse_sync.runs.results import RunReport
from warehouse_sync.runs.run import RunOptions, run
from warehouse_sync.userpilot.sandbox import Sandbox
from warehouse_sync.values import ModelStatus

USERS = """\
{{ config(event='identify_user', cursor='_changed', lag='0s' if var('times', true) else none) }}
select id as user_id, plan, seats, price, score, signed_up, active, changed as inserted_at, changed as _changed
from users {% if is_incremental() %} where changed >= {{ cursor_from() }} {% endif %}
"""
EVENTS = """\
{{ config(event='track', unique_key='_id', cursor='_id', begin='all') }}
select id as _id, user_id, name as event_name, changed as inserted_at, amount from events
"""

COLUMNS = {
    "duckdb": ("VARCHAR", "TIMESTAMP", "DECIMAL(10, 2)", "DOUBLE", "BOOLEAN", "DATE"),
    "postgres": ("TEXT", "TIMESTAMP", "NUMERIC(10, 2)", "FLOAT8", "BOOLEAN", "DATE"),
    "mariadb": ("VARCHAR(40)", "DATETIME(6)", "DECIMAL(10, 2)", "DOUBLE", "BOOLEAN", "DATE"),
    "sqlite": ("TEXT", "TEXT", "TEXT", "REAL", "INTEGER", "TEXT"),
    "snowflake": ("VARCHAR", "TIMESTAMP_NTZ", "NUMBER(10, 2)", "FLOAT", "BOOLEAN", "DATE"),
}
USER_ROWS = (
    "('u1', 'free', 3, '2025-01-01 10:00:00.000001', '34.70', 0.1, true, '2024-12-31')",
    "('ü2', 'pro \"x\"', NULL, '2025-01-02 10:00:00.000000', '0.05', 1.5, false, NULL)",
    "('u3', NULL, 7, '2025-01-03 10:00:00.500000', NULL, NULL, NULL, '2024-02-29')",
)


def load(bed: Bed) -> None:
    text, moment, money, double, truth, day = COLUMNS[bed.name]
    bed.execute(
        f"CREATE TABLE users (id {text}, plan {text}, seats INTEGER, changed {moment}, price {money}, score {double},"
        f" active {truth}, signed_up {day})",
        *(f"INSERT INTO users VALUES {row}" for row in USER_ROWS),
        f"CREATE TABLE events (id INTEGER, user_id {text}, name {text}, changed {moment}, amount {money})",
        *(
            f"INSERT INTO events VALUES ({i}, 'u{i % 3}', 'opened', '2025-02-01 00:00:{i:02}.000000', '{i}.50')"
            for i in range(1, 21)
        ),
    )


def sync(bed: Bed, folder: Path, sandbox: Sandbox, reporter: Any = None) -> RunReport:
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in bed.settings.items()}
    document: Mapping[str, Any] = {
        "name": "prod",
        "warehouse": {"type": bed.kind, **settings},
        "userpilot": {"api_key": sandbox.api_key, "endpoint": sandbox.url},
        "models": {"path": str(folder / "models")},
        "state": {"url": f"sqlite:///{folder}/state.db", "dir": str(folder / "state")},
    }
    (folder / "models").mkdir(exist_ok=True)
    (folder / "models" / "users.sql").write_text(USERS.replace("lag='0s' if var('times', true) else none", _lag(bed)))
    (folder / "models" / "events.sql").write_text(EVENTS)
    path = folder / "prod.yml"
    path.write_text(json.dumps(document))
    config = load_config(path, {})
    models = load_models(settings_from(config, {}))
    return run(config, policy_of(config, {}), models, RunOptions(), reporter or Silent())


def _lag(bed: Bed) -> str:
    """Text cursors have no lag."""
    return "lag=0" if bed.name == "sqlite" else "lag='1 hour'"


def good(report: RunReport) -> dict[str, dict[str, int]]:
    for result in report.results:
        assert result.status is ModelStatus.SUCCESS, f"{result.model}: {result.message} {result.error}"
    return {result.model: {k: v for k, v in result.counts.as_dict().items() if v} for result in report.results}


EXPECTED_USER = (
    '{"event_type":"identify_user","source":"backend-http-import","user_id":"u1",'
    '"inserted_at":"2025-01-01T10:00:00.000001","metadata":{"plan":"free","seats":3,"price":34.70,"score":0.1,'
    '"signed_up":"2024-12-31","active":true}}'
)


def expected(bed: Bed, lines: Sequence[str]) -> list[str]:
    """The lines of DuckDB as this database says them."""
    changed = list(lines)
    if bed.name in ("mariadb", "sqlite"):
        changed = [
            line.replace('"active":true', '"active":1').replace('"active":false', '"active":0') for line in changed
        ]
    if bed.name == "sqlite":
        for digits in ("34.70", "0.05", *(f"{i}.50" for i in range(1, 21))):
            for name in ("price", "amount"):
                changed = [line.replace(f'"{name}":{digits}}}', f'"{name}":"{digits}"}}') for line in changed]
                changed = [line.replace(f'"{name}":{digits},', f'"{name}":"{digits}",') for line in changed]
    return changed


def test_the_same_rows_give_the_same_lines(bed: Bed, duckdb_bed: Bed, tmp_path: Path) -> None:
    lines: dict[str, list[str]] = {}
    for place, each in (("reference", duckdb_bed), ("tested", bed)):
        if place == "reference" or each is not duckdb_bed:
            load(each)
        folder = tmp_path / place
        folder.mkdir()
        with Sandbox(folder / "sandbox") as sandbox:
            assert good(sync(each, folder, sandbox))["users"]["delivered"] == 3
            lines[place] = sorted(sandbox.imported())
            again = good(sync(each, folder, sandbox))
            assert "delivered" not in again["users"]
            assert len(sandbox.imported()) == 23
    assert len(lines["reference"]) == 23
    assert lines["tested"] == sorted(expected(bed, lines["reference"]))


def test_only_what_changed_goes_again(bed: Bed, tmp_path: Path) -> None:
    load(bed)
    with Sandbox(tmp_path / "sandbox") as sandbox:
        good(sync(bed, tmp_path, sandbox))
        bed.execute(
            "UPDATE users SET plan = 'gone', changed = '2025-01-05 10:00:00.000000' WHERE id = 'u1'",
            "INSERT INTO events VALUES (21, 'u1', 'closed', '2025-02-02 00:00:00.000000', '1.00')",
        )
        counts = good(sync(bed, tmp_path, sandbox))
        assert counts["users"]["changed"] == counts["users"]["delivered"] == 1
        assert counts["events"]["added"] == counts["events"]["delivered"] == 1
        assert '"plan":"gone"' in sandbox.imported()[-2] + sandbox.imported()[-1]


class Mends(Silent):
    """Counts lost connections, and mends the view that kills its reader after so many of them."""

    def __init__(self, bed: Bed, after: int) -> None:
        self.bed, self.after, self.lost = bed, after, 0

    def event(self, code: str, message: str, *, level: str = "info", **data: Any) -> None:
        if code != "warehouse_lost":
            return
        self.lost += 1
        if self.lost == self.after:
            self.bed.execute("CREATE OR REPLACE VIEW users AS SELECT * FROM stored")


@pytest.mark.parametrize(("after", "status"), [(2, ModelStatus.SUCCESS), (3, ModelStatus.ERROR)])
def test_a_window_is_read_again_twice(
    postgres_bed: Bed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int, status: ModelStatus
) -> None:
    monkeypatch.setattr("warehouse_sync.runs.run.FIRST_PAUSE", 0.0)
    load(postgres_bed)
    postgres_bed.execute(
        "ALTER TABLE users RENAME TO stored",
        "CREATE VIEW users AS SELECT * FROM stored WHERE pg_terminate_backend(pg_backend_pid())",
    )
    reporter = Mends(postgres_bed, after)
    with Sandbox(tmp_path / "sandbox") as sandbox:
        report = sync(postgres_bed, tmp_path, sandbox, reporter)
    found = {result.model: result for result in report.results}
    assert found["users"].status is status
    assert found["events"].status is ModelStatus.SUCCESS
    assert reporter.lost == 2
    if status is ModelStatus.ERROR:
        assert "was lost" in found["users"].message
