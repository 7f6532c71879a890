"""One DuckDB file, one model, one sandbox, and runs in this process."""

from __future__ import annotations

from pathlib import Path

from harness import duckdb_file

from warehouse_sync.observe.reporter import Silent
from warehouse_sync.parts import policy_of
from warehouse_sync.project.config import load_config
from warehouse_sync.project.model import load_models, settings_from
from warehouse_sync.runs.run import RunOptions, run
from warehouse_sync.state.store import open_store
from warehouse_sync.userpilot.sandbox import Sandbox

ROWS = """
CREATE TABLE events AS
SELECT 'u' || i AS user_id, 'e' AS event_name, TIMESTAMP '2026-01-01' + to_hours(i::INT * 7) AS ts, i AS n
FROM range(100) AS t(i)
UNION ALL SELECT 'late' || i, 'e', TIMESTAMP '2026-06-01', 1000 + i FROM range(5) AS t(i)
"""
SELECT = "select user_id, event_name, ts as inserted_at, n from events"


class Place:
    """One model over a table of events with a long gap in it."""

    def __init__(self, folder: Path, sandbox: Sandbox) -> None:
        self.folder, self.sandbox = folder, sandbox
        self.sql(ROWS)
        (folder / "models").mkdir()
        (folder / "c.yml").write_text(
            f"name: p\nwarehouse: {{type: duckdb, path: w.duckdb}}\n"
            f"userpilot: {{api_key: sandbox-key, endpoint: '{sandbox.url}'}}\n"
            "models: {path: models}\nstate: {url: 'sqlite:///s.db', dir: s}\n"
        )

    def sql(self, text: str) -> None:
        with duckdb_file(self.folder / "w.duckdb") as connection:
            connection.execute(text)

    def model(self, header: str) -> None:
        (self.folder / "models" / "events.sql").write_text(f"{{{{ config(event='track', {header}) }}}}\n{SELECT}\n")

    def run(self, **options):
        config = load_config(self.folder / "c.yml", {})
        models = load_models(settings_from(config, {}))
        return run(config, policy_of(config, {}), models, RunOptions(**options), Silent())

    def windows(self) -> int:
        with open_store(f"sqlite:///{self.folder / 's.db'}") as store:
            return len(store.windows("p"))

    def cursor(self) -> str:
        with open_store(f"sqlite:///{self.folder / 's.db'}") as store:
            return store.model_state("p", "events").cursor.text
