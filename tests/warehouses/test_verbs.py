"""The verbs that look, on warehouses that stream: before the first sync, and after it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from beds import Bed
from harness import CommandLine

from warehouse_sync.userpilot.sandbox import Sandbox

USERS = (
    "{{ config(event='identify_user', cursor='_changed') }}\n"
    "select id as user_id, name, changed as inserted_at, changed as _changed from users"
)


@pytest.fixture
def verbs(bed: Bed, tmp_path: Path, sandbox: Sandbox) -> CommandLine:
    types = {"snowflake": ("VARCHAR", "TIMESTAMP_NTZ"), "mariadb": ("TEXT", "DATETIME(6)")}
    text, moment = types.get(bed.name, ("TEXT", "TIMESTAMP"))
    bed.execute(
        f"CREATE TABLE users (id {text}, name {text}, changed {moment})",
        "INSERT INTO users VALUES ('u1', 'Ada', '2025-01-01 10:00:00')",
        "INSERT INTO users VALUES ('u2', NULL, '2025-01-02 10:00:00')",
        "INSERT INTO users VALUES ('', 'nobody', '2025-01-02 10:00:00')",
    )
    (tmp_path / "models_sql").mkdir()
    (tmp_path / "models_sql" / "users.sql").write_text(USERS)
    config = {
        "name": "p",
        "warehouse": {"type": bed.kind, **bed.settings},
        "userpilot": {"api_key": sandbox.api_key, "endpoint": sandbox.url},
        "models": {"path": "models_sql"},
        "state": {"url": "sqlite:///state/state.db", "dir": "state"},
        "invalid": {"error_above": 1},
    }
    (tmp_path / "warehouse_sync.yml").write_text(json.dumps(config))
    return CommandLine(tmp_path)


@pytest.mark.parametrize(
    "bed",
    ["postgres", *(pytest.param(name, marks=pytest.mark.slow) for name in ("mariadb", "snowflake"))],
    indirect=True,
)
def test_what_a_run_would_do_is_what_it_does(verbs: CommandLine, sandbox: Sandbox) -> None:
    verbs.here("debug").check()
    assert "Ada" in verbs.here("show", "-s", "users").check().out
    (plan,) = verbs.here("plan", "--output", "json").check().lines
    assert {key: plan["counts"][key] for key in ("read", "added", "invalid")} == {"read": 3, "added": 2, "invalid": 1}
    assert plan["columns"][1]["null_share"] == pytest.approx(1 / 3)
    verbs.here("run").check()
    assert len(sandbox.imported()) == 2
    (plan,) = verbs.here("plan", "--output", "json").check().lines
    assert plan["counts"]["added"] == 0
    assert "delivered" in verbs.here("explain", "users", "u1").check().out
    verbs.here("status").check()
    verbs.here("retry").check()
    assert len(sandbox.imported()) == 2
