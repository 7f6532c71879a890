"""Queries that somebody breaks off: from a thread beside them, and by a signal to the whole program."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from beds import Bed
from harness import ROOT
from servers import session_parameters

from warehouse_sync.errors import ConnectionLost, WarehouseError
from warehouse_sync.userpilot.sandbox import Sandbox

SLOW = {
    "duckdb": "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range % 7 = b.range % 11",
    "postgres": "SELECT pg_sleep(60)::text",
    "mariadb": "SELECT count(*) FROM seq_1_to_1000000 a, seq_1_to_1000000 b WHERE a.seq % 7 = b.seq % 11",
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n",
    "snowflake": "SELECT SYSTEM$WAIT(60)",
}


def test_a_query_is_broken_off_from_another_thread(bed: Bed) -> None:
    warehouse, over = bed.open(), threading.Event()
    warehouse.interrupt()
    # It is done beside this thread, so that a query begun at once might still be met.
    time.sleep(0.5)
    assert int(warehouse.scalar("SELECT 1")) == 1

    def insist() -> None:
        # As the thread that watches for signals: the first try may come before the query begins.
        while not over.wait(0.3):
            warehouse.interrupt()

    watcher = threading.Thread(target=insist)
    watcher.start()
    began = time.monotonic()
    try:
        with pytest.raises(WarehouseError) as caught:
            warehouse.scalar(SLOW[bed.name])
    finally:
        over.set()
        watcher.join()
    assert time.monotonic() - began < 10
    assert not isinstance(caught.value, ConnectionLost)
    time.sleep(0.5)
    assert int(warehouse.scalar("SELECT 1")) == 1
    warehouse.close()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_cancels_what_snowflake_runs(
    snowflake_bed: Bed, sandbox: Sandbox, tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "models_sql").mkdir()
    (tmp_path / "models_sql" / "users.sql").write_text(
        "{{ config(event='identify_user') }} SELECT 'u1' AS user_id, SYSTEM$WAIT(60) AS n"
    )
    config = {
        "name": "p",
        "warehouse": {"type": "snowflake", **snowflake_bed.settings},
        "userpilot": {"api_key": sandbox.api_key, "endpoint": sandbox.url},
        "models": {"path": "models_sql"},
        "state": {"url": "sqlite:///state/state.db", "dir": "state"},
    }
    (tmp_path / "config.yml").write_text(json.dumps(config))
    port = int(snowflake_bed.settings["port"])
    before = session_parameters(port).get("cancelled", [])
    with (tmp_path / "said").open("wb") as out:
        child = subprocess.Popen(
            [sys.executable, "-m", "warehouse_sync", "run", "-c", "config.yml", "--log-format", "json"],
            cwd=tmp_path, stdout=out, stderr=out, env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        limit = time.monotonic() + 60
        while session_parameters(port).get("waiting", 0) == 0:
            assert child.poll() is None, (tmp_path / "said").read_text()
            assert time.monotonic() < limit
            time.sleep(0.1)
        began = time.monotonic()
        child.send_signal(number)
        code = child.wait(60)
    said = (tmp_path / "said").read_text()
    assert time.monotonic() - began < 5
    assert code == 1, said
    assert f"stopped by {number.name}" in said
    assert '"run_done"' in said, "the end is recorded"
    assert "Traceback" not in said
    after = session_parameters(port)
    assert after["waiting"] == 0, "the warehouse does not go on with it"
    assert len(after.get("cancelled", [])) > len(before) or after["aborted"]
