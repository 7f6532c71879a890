"""What goes wrong while a model is read, through whole runs: where it is, what it is, and what is never shown."""

from __future__ import annotations

import json
import logging
import traceback
from pathlib import Path
from typing import Any

import pytest
from beds import Bed

from warehouse_sync.errors import WarehouseError
from warehouse_sync.observe.reporter import Silent
from warehouse_sync.parts import policy_of
from warehouse_sync.project.config import load_config
from warehouse_sync.project.model import load_models, settings_from
from warehouse_sync.runs.results import RunReport
from warehouse_sync.runs.run import RunOptions, run
from warehouse_sync.userpilot.sandbox import Sandbox
from warehouse_sync.values import ModelStatus

HEADER = "{{ config(event='track', unique_key='_id',\n  tags=['a']) }}\n"
SECRET = "secretvalue"


class Notes(Silent):
    """Keeps everything that is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def event(self, code: str, message: str, *, level: str = "info", **data: Any) -> None:
        self.said.append(f"{level} {code} {message} {data}")


def attempt(bed: Bed, folder: Path, models: dict[str, str], reporter: Silent | None = None) -> RunReport:
    """One run of these models beside a good one, which has to come through whatever the others do."""
    (folder / "models").mkdir(exist_ok=True)
    moment = "'2025-01-01'" if bed.name == "sqlite" else "CAST('2025-01-01' AS DATE)"
    good = "{{ config(event='track', unique_key='_id') }}\n" + (
        f"SELECT 1 AS _id, 'u' AS user_id, 'e' AS event_name, {moment} AS inserted_at"
    )
    for name, sql in (models | {"zz_good": good}).items():
        (folder / "models" / f"{name}.sql").write_text(sql)
    with Sandbox(folder / "sandbox") as sandbox:
        document = {
            "name": "prod",
            "warehouse": {"type": bed.kind, **bed.settings},
            "userpilot": {"api_key": sandbox.api_key, "endpoint": sandbox.url},
            "models": {"path": str(folder / "models")},
            "state": {"url": f"sqlite:///{folder}/state.db", "dir": str(folder / "state")},
        }
        path = folder / "prod.yml"
        path.write_text(json.dumps(document))
        config = load_config(path, {})
        settings = settings_from(config, {})
        report = run(config, policy_of(config, {}), load_models(settings), RunOptions(), reporter or Silent())
    found = {result.model: result.status for result in report.results}
    assert found.pop("zz_good") is ModelStatus.SUCCESS
    assert set(found.values()) == {ModelStatus.ERROR}
    return report


def error_of(report: RunReport, model: str = "broken") -> str:
    return next(str(result.error) for result in report.results if result.model == model)


COLUMN = f"""{HEADER}{{% if is_incremental() %}}
-- a block that is left out moves every line below it
{{% endif %}}{{% for name in ['user_id', 'event_name'] -%}}
{{% endfor %}}
SELECT i AS _id,
  'u' AS user_id, -- nope
  nope AS event_name
FROM bystander"""
TABLE = f"{HEADER}SELECT 1 AS _id, 'u' AS user_id,\n 'e' AS event_name, NULL AS inserted_at\nFROM\n  nosuch"


@pytest.mark.parametrize(("sql", "line", "name"), [(COLUMN, 9, "nope"), (TABLE, 6, "nosuch")])
def test_what_is_missing_is_shown_in_the_file(bed: Bed, tmp_path: Path, sql: str, line: int, name: str) -> None:
    said = error_of(attempt(bed, tmp_path, {"broken": sql}))
    assert f"models/broken.sql:{line}: " in said
    assert name in said.casefold()


def test_a_failing_row_shows_the_file_and_no_value(bed: Bed, tmp_path: Path, capfd, caplog) -> None:
    if not bed.failing:
        pytest.skip("no cast of this database fails")
    caplog.set_level(logging.INFO)
    reporter = Notes()
    inner = bed.failing
    sql = f"{HEADER}SELECT x AS _id, 'u' AS user_id, 'e' AS event_name, NULL AS inserted_at FROM (\n{inner}\n) AS f"
    said = error_of(attempt(bed, tmp_path, {"broken": sql}, reporter))
    assert "models/broken.sql: " in said
    shown = [said, *reporter.said, caplog.text, *capfd.readouterr()]
    kept = [path.read_bytes().decode(errors="replace") for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert not [text for text in shown + kept if SECRET in text]


@pytest.mark.parametrize("name", ["postgres", "mariadb"])
def test_what_may_not_be_read_is_said_with_the_file(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    bed: Bed = request.getfixturevalue(f"{name}_bed")
    other = {"postgres": _only_log_in, "mariadb": _no_grants}[name](bed)
    try:
        said = error_of(attempt(other, tmp_path, {"broken": TABLE.replace("nosuch", "bystander")}))
    finally:
        bed.execute("DROP OWNED BY stranger" if name == "postgres" else "SELECT 1", "DROP USER IF EXISTS stranger")
    assert "models/broken.sql" in said
    assert "denied" in said
    assert "bystander" in said


def _only_log_in(bed: Bed) -> Bed:
    bed.execute("DROP ROLE IF EXISTS stranger", "CREATE ROLE stranger LOGIN PASSWORD 'x'")
    return _changed(bed, user="stranger", password="x")


def _no_grants(bed: Bed) -> Bed:
    bed.execute("CREATE OR REPLACE USER stranger IDENTIFIED BY 'x'", "CREATE TABLE other (i INTEGER)")
    bed.execute("GRANT SELECT ON app.other TO stranger")
    port = bed.extra["server"].port
    return _changed(bed, url=f"mysql+pymysql://stranger:x@127.0.0.1:{port}/app")


def _changed(bed: Bed, **changed: Any) -> Bed:
    return Bed(
        bed.kind, bed.name, {**bed.settings, **changed}, bed.execute, bed.wide_rows, bed.failing, bed.table_columns
    )


def test_the_servers_time_limits(mariadb_bed: Bed, postgres_bed: Bed, tmp_path: Path) -> None:
    slow = f"{HEADER}SELECT 1 AS _id, 'u' AS user_id, 'e' AS event_name, NULL AS inserted_at FROM ("
    postgres_bed.execute(f"ALTER DATABASE {postgres_bed.settings['dbname']} SET statement_timeout = 500")
    sleeping = {"postgres": "SELECT pg_sleep(20)::text AS x) AS s", "mariadb": "SELECT sleep(20) AS x) AS s"}
    mariadb_bed.execute("ALTER USER reader WITH MAX_STATEMENT_TIME 0.5")
    for bed, what in ((postgres_bed, "`statement_timeout`"), (mariadb_bed, "`max_statement_time`")):
        folder = tmp_path / bed.name
        folder.mkdir()
        outer = slow.replace("'e' AS", "CONCAT('e', x) AS")
        said = error_of(attempt(bed, folder, {"broken": outer + sleeping[bed.name]}))
        assert what in said
        assert "models/broken.sql: " in said


def test_a_time_limit_of_the_yaml(postgres_bed: Bed, tmp_path: Path) -> None:
    limited = _changed(postgres_bed, statement_timeout="1s")
    sql = f"{HEADER}SELECT 1 AS _id, 'u' AS user_id, 'e' || pg_sleep(20) AS event_name, NULL AS inserted_at"
    said = error_of(attempt(limited, tmp_path, {"broken": sql}))
    assert "models/broken.sql: " in said
    assert "stopped the query at `statement_timeout`, 0:00:01" in said
    assert "raise `warehouse.statement_timeout`" in said


WRONG = "wrongsecret"


@pytest.mark.parametrize("name", ["postgres", "mariadb", pytest.param("snowflake", marks=pytest.mark.slow)])
def test_no_secret_of_a_login_is_shown(name: str, request: pytest.FixtureRequest, caplog, capfd) -> None:
    bed: Bed = request.getfixturevalue(f"{name}_bed")
    caplog.set_level(logging.INFO)
    changed = {"password": WRONG}
    if name == "mariadb":
        changed = {"url": str(bed.settings["url"]).replace("correct%20horse", WRONG)}
    if name == "snowflake":
        changed = {"password": WRONG, "token": "wrongtoken", "host": "nowhere.invalid"}
    with pytest.raises(WarehouseError) as caught:
        bed.open(**changed)
    shown = ["".join(traceback.format_exception(caught.value)), repr(caught.value), caplog.text, *capfd.readouterr()]
    assert not [text for text in shown if WRONG in text or "wrongtoken" in text]
