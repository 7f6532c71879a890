"""A text cursor has the order of its bytes, whatever collation its column has: no row is skipped or read for ever."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from beds import Bed

from warehouse_sync.observe.reporter import Silent
from warehouse_sync.parts import policy_of
from warehouse_sync.project.config import load_config
from warehouse_sync.project.model import load_models, settings_from
from warehouse_sync.runs.run import RunOptions, run
from warehouse_sync.userpilot.sandbox import Sandbox

TYPES = {
    "postgres_bed": 'TEXT COLLATE "und-x-icu"',
    "mariadb_bed": "VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
    "sqlite_bed": "TEXT COLLATE NOCASE",
}
MODEL = """\
{{ config(event='track', cursor='_c', begin='all') }}
select u as user_id, 'x' as event_name, at_ as inserted_at, c as _c from e
"""
VALUES = ("A", "Z", "a", "a ", "b", "Ä", "😀")
"""In the order of their UTF-8 bytes; most collations have another."""


@pytest.mark.parametrize(
    "bed_name", [pytest.param(n, marks=pytest.mark.slow) if n != "postgres_bed" else n for n in TYPES]
)
def test_rows_in_the_order_of_bytes(bed_name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    bed: Bed = request.getfixturevalue(bed_name)
    bed.execute(f"CREATE TABLE e (u VARCHAR(9), at_ VARCHAR(30), c {TYPES[bed_name]})")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "m.sql").write_text(MODEL)
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in bed.settings.items()}
    with Sandbox(tmp_path / "sandbox") as sandbox:
        (tmp_path / "prod.yml").write_text(
            json.dumps(
                {
                    "name": "prod",
                    "warehouse": {"type": bed.kind, **settings},
                    "userpilot": {"api_key": sandbox.api_key, "endpoint": sandbox.url},
                    "models": {"path": str(tmp_path / "models")},
                    "state": {"url": f"sqlite:///{tmp_path}/state.db", "dir": str(tmp_path / "state")},
                }
            )
        )
        config = load_config(tmp_path / "prod.yml", {})
        for number, value in enumerate(VALUES):
            bed.execute(f"INSERT INTO e VALUES ('u{number}', '2025-01-01T00:00:00', '{value}')")
            for added in (1, 0):
                models = load_models(settings_from(config, {}))
                (result,) = run(config, policy_of(config, {}), models, RunOptions(), Silent()).results
                assert (str(result.status), result.counts.added) == ("success", added), (value, result.message)
        sent = [json.loads(line)["user_id"] for line in sandbox.imported()]
    assert sent == [f"u{number}" for number in range(len(VALUES))]
