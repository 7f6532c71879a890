"""What comparing with a snapshot costs beside reading and encoding the same rows without one.

    python tests/benchmarks/bench_compare.py                  5,000,000 users, 1 % changed
    python tests/benchmarks/bench_compare.py --keys 500000 --rounds 20

`first` reads and seals every row, with nothing to compare with; `again` reads every row, compares, and seals what
changed; `merge` takes the deliveries into the snapshot. Deliveries are only recorded: no server is in the way.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

USERS = """
CREATE TABLE users AS SELECT
  'user_' || lpad(i::VARCHAR, 8, '0') AS user_id, 'company_' || (i * 104729 % 20000) AS company_id,
  'person' || i || '@company' || (i * 104729 % 20000) || '.example' AS email,
  ['Basic', 'Pro', 'Premium'][1 + i % 3] AS plan, (i * 7919 % 100000 / 100)::DECIMAL(10, 2) AS mrr,
  (i % 50)::INT AS seats,
  TIMESTAMP '2024-01-01' + to_seconds(i * 61 % 31536000) AS inserted_at
FROM range({keys}) AS t(i)
"""


def main() -> None:
    import duckdb

    from warehouse_sync.context import RunContext
    from warehouse_sync.extraction.extract import extract
    from warehouse_sync.extraction.guard import Guard
    from warehouse_sync.extraction.request import Policy, Request
    from warehouse_sync.merge import merge_delivered
    from warehouse_sync.observe.reporter import Silent
    from warehouse_sync.outbox import BatchLimits, Outbox
    from warehouse_sync.project.model import ModelSettings, load_models
    from warehouse_sync.project.quantities import Allowance
    from warehouse_sync.state.lifecycle import BatchState
    from warehouse_sync.state.rows import NewJob
    from warehouse_sync.state.store import open_store
    from warehouse_sync.warehouses.base import Engine, open_warehouse

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=2, help="rounds of 1 % changes")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-compare-"))
    warehouse_file = folder / "w.duckdb"
    with duckdb.connect(str(warehouse_file)) as connection:
        connection.execute(USERS.format(keys=arguments.keys))
    (folder / "models").mkdir()
    (folder / "models" / "users.sql").write_text("{{ config(event='identify_user') }}\nSELECT * FROM users\n")
    settings = ModelSettings(path=folder / "models")
    (model,) = load_models(settings)
    policy = Policy(settings, BatchLimits(10_000, 40_000_000), 1_000_000, Guard(Allowance(share=0.5)))
    engine = Engine("512MB", None, folder / "spill")
    with open_store(f"sqlite:///{folder / 'state.db'}") as store:
        store.register_pipeline("bench", "id")
        destination = store.claim_destination("bench", "http://127.0.0.1", None, "key").id
        run_id = store.begin_run("bench", "run", {}, "0")
        context = RunContext("bench", folder / "home", run_id, store, Outbox(folder / "home"), engine, Silent())

        def extraction() -> tuple[float, int]:
            began = time.perf_counter()
            warehouse = open_warehouse("duckdb", {"path": str(warehouse_file)}, engine)
            counts = extract(context, model, warehouse, policy, Request()).counts
            warehouse.close()
            return time.perf_counter() - began, counts.added + counts.changed

        def merge() -> float:
            sealed = store.batches("bench", states=[BatchState.SEALED])
            if sealed:
                job = store.intend(
                    NewJob(run_id, "bench", destination, [b.id for b in sealed], sha256="0" * 64, rows=1, bytes=1)
                )
                store.accept(
                    job.id, remote_id=f"imports:jobs:{job.id}", links=None, remote_status="queued", request_id=None
                )
                store.complete(job.id, answer={}, total_rows=None)
            began = time.perf_counter()
            for batch in merge_delivered(context, model):
                context.outbox.remove(batch.name)
            return time.perf_counter() - began

        first, sent = extraction()
        print(f"first   {first:7.2f} s   {sent:,} rows sealed")
        print(f"merge   {merge():7.2f} s")
        for number in range(arguments.rounds):
            with duckdb.connect(str(warehouse_file)) as connection:
                connection.execute(
                    f"UPDATE users SET mrr = mrr + 1 WHERE substr(user_id, 6)::BIGINT % 100 = {number % 100}"
                )
            again, sent = extraction()
            print(f"again   {again:7.2f} s   {sent:,} rows sealed   {again / first:.2f} of `first` (goal: at most 2.0)")
            print(f"merge   {merge():7.2f} s")
        size = context.snapshot_path("users").stat().st_size / arguments.keys
        print(f"snapshot {size:6.1f} bytes a key (goal: at most {80 + 2 * 13})")
        peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) // 1024
        print(f"memory  {peak:7,} MB peak, making the warehouse included (goal: at most {512 + 300})")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
