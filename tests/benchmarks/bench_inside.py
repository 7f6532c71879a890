"""What leaves the warehouse, and how long it takes, when 1 % of a table changed: compared here, and compared there.

    python tests/benchmarks/bench_inside.py                          1,000,000 users in PostgreSQL and in DuckDB
    python tests/benchmarks/bench_inside.py --rows 200000 --only postgres

Each round is a whole extraction of a model without a cursor: read, compare, seal. `local` keeps the snapshot in a file
of this machine, `warehouse` in a table beside the users. Deliveries are only recorded: no Import API is in the way.
Rows and bytes are those that come out of the warehouse (record batches of the driver; of DuckDB, which is the engine
too, the rows that are judged). PostgreSQL is started for this, on loopback, without syncing.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "warehouses")]

KEY = "'user_' || lpad(CAST(i AS VARCHAR), 9, '0')"
USERS = f"""
CREATE TABLE users AS SELECT
  {KEY} AS user_id, 'company_' || (i * 104729 % 20000) AS company_id,
  'person' || i || '@company' || (i * 104729 % 20000) || '.example' AS email,
  CASE i % 3 WHEN 0 THEN 'Basic' WHEN 1 THEN 'Pro' ELSE 'Premium' END AS plan,
  CAST(i * 7919 % 100000 / 100.0 AS DECIMAL(10, 2)) AS mrr, CAST(i % 50 AS INTEGER) AS seats,
  TIMESTAMP '2024-01-01' + CAST(i * 61 % 31536000 AS INTEGER) * INTERVAL '1 second' AS inserted_at
FROM """
CHANGE = "UPDATE users SET mrr = mrr + 1 WHERE CAST(substr(user_id, 6) AS INTEGER) % 100 = "
SERIES = {"duckdb": "range({rows}) AS t(i)", "postgres": "generate_series(CAST(0 AS BIGINT), {rows} - 1) AS t(i)"}


@dataclass
class Passed:
    """What came out of the warehouse."""

    rows: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Bed:
    """A warehouse with users in it. `size`: bytes of the snapshot's table, index included; 0: not known."""

    kind: str
    settings: Mapping[str, Any]
    execute: Callable[[str], None]
    size: Callable[[], int] = lambda: 0


@contextmanager
def duckdb_bed(folder: Path) -> Iterator[Bed]:
    import duckdb

    path = folder / "w.duckdb"

    def execute(statement: str) -> None:
        with duckdb.connect(str(path)) as connection:
            connection.execute(statement)

    yield Bed("duckdb", {"path": str(path)}, execute)


@contextmanager
def postgres_bed(folder: Path) -> Iterator[Bed]:
    import psycopg
    from servers import PASSWORD, postgres_server

    with postgres_server() as server:
        admin = {"host": "127.0.0.1", "port": server.port, "user": server.admin, "password": PASSWORD}

        def execute(statement: str) -> None:
            with psycopg.connect(**admin, dbname="postgres", autocommit=True) as connection:
                connection.execute(statement)

        def size() -> int:
            with psycopg.connect(**admin, dbname="postgres") as connection:
                query = "SELECT pg_total_relation_size('sync.\"sent.bench.users\"')"
                ((found,),) = connection.execute(query).fetchall()
                return int(found)

        yield Bed("postgres", admin | {"dbname": "postgres", "connect_timeout": 5}, execute, size)


BEDS = {"postgres": postgres_bed, "duckdb": duckdb_bed}


@contextmanager
def counted() -> Iterator[Passed]:
    """Counts what the driver hands over, and where there is none between, what is judged."""
    from warehouse_sync.changes.change_set import ChangeSet
    from warehouse_sync.warehouses import postgres_types

    passed, judge, hand_over = Passed(), ChangeSet.take, postgres_types.plain_batch

    def take(self: ChangeSet, batch: Any) -> Any:
        passed.rows += batch.num_rows
        return judge(self, batch)

    def plain_batch(batch: Any, schema: Any) -> Any:
        passed.bytes += batch.get_total_buffer_size()
        return hand_over(batch, schema)

    ChangeSet.take, postgres_types.plain_batch = take, plain_batch  # type: ignore[method-assign]
    try:
        yield passed
    finally:
        ChangeSet.take, postgres_types.plain_batch = judge, hand_over  # type: ignore[method-assign]


def extraction(bed: Bed, folder: Path, schema: str | None) -> tuple[Callable[[], float], Callable[[], float]]:
    """One extraction, and one merge of what it sealed; seconds."""
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
    from warehouse_sync.warehouses.snapshot_tables import SnapshotSchema

    models = folder / "models"
    models.mkdir(parents=True)
    (models / "users.sql").write_text("{{ config(event='identify_user') }}\nSELECT * FROM users\n")
    settings = ModelSettings(path=models)
    (model,) = load_models(settings)
    policy = Policy(settings, BatchLimits(10_000, 40_000_000), 1_000_000, Guard(Allowance(share=0.5)))
    engine = Engine("512MB", None, folder / "spill")
    snapshot_schema = None if schema is None else SnapshotSchema(bed.kind, bed.settings, engine, schema)
    # It stays open until the process ends.
    store = open_store(f"sqlite:///{folder / 'state.db'}").__enter__()
    store.register_pipeline("bench", "id")
    destination = store.claim_destination("bench", "http://127.0.0.1", None, "key").id
    run_id = store.begin_run("bench", "run", {}, "0")
    context = RunContext(
        "bench",
        folder / "home",
        run_id,
        store,
        Outbox(folder / "home"),
        engine,
        Silent(),
        snapshot_schema=snapshot_schema,
    )

    def read() -> float:
        began = time.perf_counter()
        warehouse = open_warehouse(bed.kind, bed.settings, engine)
        extract(context, model, warehouse, policy, Request())
        warehouse.close()
        return time.perf_counter() - began

    def merge() -> float:
        sealed = [batch.id for batch in store.batches("bench", states=[BatchState.SEALED])]
        if sealed:
            job = store.intend(NewJob(run_id, "bench", destination, sealed, sha256="0" * 64, rows=1, bytes=1))
            name = f"imports:jobs:{job.id}"
            store.accept(job.id, remote_id=name, links=None, remote_status="queued", request_id=None)
            store.complete(job.id, answer={}, total_rows=None)
        began = time.perf_counter()
        for batch in merge_delivered(context, model):
            context.outbox.remove(batch.name)
        return time.perf_counter() - began

    return read, merge


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3, help="rounds of 1 %% changes; the median is printed")
    parser.add_argument("--only", choices=BEDS)
    arguments = parser.parse_args()
    for kind, opened in BEDS.items():
        if arguments.only in (None, kind):
            folder = Path(tempfile.mkdtemp(prefix="bench-inside-"))
            with opened(folder) as bed:
                bed.execute(USERS + SERIES[kind].format(rows=arguments.rows))
                measure(bed, folder, arguments.rows, arguments.rounds)
            shutil.rmtree(folder)


def measure(bed: Bed, folder: Path, rows: int, rounds: int) -> None:
    """Both ways, side by side, over the same changes."""
    ways = {"local": extraction(bed, folder / "local", None), "warehouse": extraction(bed, folder / "inside", "sync")}
    print(f"{bed.kind}, {rows:,} users, 1 % changed     seconds   / local      rows out     bytes out    merge s")
    for _, merge in ways.values():
        merge()
    firsts = {}
    for name, (read, merge) in ways.items():
        with counted() as passed:
            firsts[name] = (read(), passed, merge())
    for name, (seconds, passed, merged) in firsts.items():
        report(f"first, {name}", seconds, firsts["local"][0], passed, merged)
    size = bed.size() / rows
    taken: dict[str, list[tuple[float, Passed, float]]] = {name: [] for name in ways}
    for number in range(rounds):
        bed.execute(f"{CHANGE}{number}")
        for name, (read, merge) in ways.items():
            with counted() as passed:
                taken[name].append((read(), passed, merge()))
    middle = {name: sorted(rounds_taken, key=lambda one: one[0])[rounds // 2] for name, rounds_taken in taken.items()}
    for name, (seconds, passed, merged) in middle.items():
        report(f"again, {name}", seconds, middle["local"][0], passed, merged)
    if size:
        print(f"  snapshot table and its index: {size:.0f} bytes a key")


def report(what: str, seconds: float, local: float, passed: Passed, merged: float) -> None:
    told = f"{passed.bytes:,}" if passed.bytes else "-"
    print(
        f"  {what:<34} {seconds:11.2f} {seconds / local:9.2f} {passed.rows:13,} {told:>13} {merged:10.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
