"""How fast rows become sealed batches, beside DuckDB's own JSON writer and polars' in the same run.

    python tests/benchmarks/bench_seal.py                 1,000,000 track rows, 3 rounds
    python tests/benchmarks/bench_seal.py --rows 5000000 --rounds 1

Every candidate runs in a process of its own, in turn, round after round; the ratios are those of each round, their
median is printed. Memory is the peak of the process. `seal` means: checked, encoded, cut into batches of 10,000 rows,
SHA-256, fsync, key files, recorded in the state store. `keyed` adds a key hash and a row hash for every row.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

COLUMNS = (
    "user_id, company_id, event_name, hostname, pathname, country_code, screen_width, screen_height, operating_system,"
    " browser, browser_language, device_type, inserted_at, amount, seats, plan, score, id AS _id"
)
ROWS = """
CREATE TABLE events AS SELECT
  'user_' || (i * 7919 % 50000) AS user_id, 'company_' || (i * 104729 % 2000) AS company_id,
  ['report_exported', 'invoice_paid', 'seat_added', 'login', 'dashboard_opened'][1 + i * 31 % 5] AS event_name,
  'app.example.com' AS hostname, '/projects/' || (i * 6151 % 5000) || '/view' AS pathname,
  ['US', 'DE', 'FR', 'GB', 'JO'][1 + i * 17 % 5] AS country_code,
  1280 + (i % 5 * 160)::INT AS screen_width, 720 + (i % 4 * 90)::INT AS screen_height,
  ['Mac', 'Windows', 'Linux'][1 + i % 3] AS operating_system,
  ['Chrome', 'Firefox', 'Safari'][1 + i * 13 % 3] AS browser,
  'en-US' AS browser_language, 'Desktop' AS device_type,
  TIMESTAMP '2024-01-01' + to_microseconds(i * 12345678 % 63072000000000) AS inserted_at,
  (i * 7919 % 100000 / 100)::DECIMAL(10, 2) AS amount, (i % 7)::INT AS seats,
  ['Basic', 'Pro', 'Premium'][1 + i % 3] AS plan, (i * 31 % 1000) / 3.0 AS score, i AS id
FROM range({rows}) AS t(i)
"""
CANDIDATES = ("copy", "polars", "duckdb plain", "duckdb keyed", "arrow plain", "arrow keyed")
GOALS = {"duckdb plain": 0.6, "duckdb keyed": 0.75, "arrow plain": 1.0, "arrow keyed": 1.0}


class ArrowWarehouse:
    """A warehouse of plain Arrow columns: record batches from a file, as a driver would stream them."""

    dialect, folds_upper = "duckdb", False

    def __init__(self, path, engine):
        self.path, self.engine = path, engine

    def label(self, model):
        """Nothing to label."""

    def quote(self, name):
        from warehouse_sync.warehouses.base import name_literal

        return name_literal(name)

    def describe(self, sql):
        return self._reader().schema

    def open(self, sql):
        from warehouse_sync.warehouses.base import Source

        connection = self.engine.connect()
        connection.register("arrow_rows", self._reader())
        return Source(connection, "arrow_rows", streams=True)

    def now(self):
        return datetime.now(UTC)

    def _reader(self):
        import pyarrow as pa

        file = pa.ipc.open_file(pa.OSFile(str(self.path)))
        batches = (file.get_batch(n) for n in range(file.num_record_batches))
        return pa.RecordBatchReader.from_batches(file.schema, batches)


def make(folder: Path, rows: int) -> None:
    """The warehouse, as a DuckDB file and as an Arrow file of the model's columns."""
    import duckdb
    import pyarrow as pa

    with duckdb.connect(str(folder / "w.duckdb")) as connection:
        connection.execute(ROWS.format(rows=rows))
        reader = connection.sql(f"SELECT {COLUMNS} FROM events").to_arrow_reader(20_480)
        with pa.OSFile(str(folder / "w.arrow"), "wb") as sink, pa.ipc.new_file(sink, reader.schema) as writer:
            for batch in reader:
                writer.write_batch(batch)


def seal(folder: Path, source: str, keyed: bool, connection: dict[str, object] | None = None) -> float:
    """Seconds from a model to its recorded batches; like its peers', without the imports.

    `source`: `arrow` or a kind of warehouse, with `connection` as its keys: the DuckDB file of the folder without.
    """
    import pyarrow.parquet  # noqa: F401
    import sqlglot.dialects.duckdb  # noqa: F401

    from warehouse_sync.context import RunContext
    from warehouse_sync.extraction.extract import extract
    from warehouse_sync.extraction.guard import Guard
    from warehouse_sync.extraction.request import Policy, Request
    from warehouse_sync.observe.reporter import Silent
    from warehouse_sync.outbox import BatchLimits, Outbox
    from warehouse_sync.project.model import ModelSettings, load_models
    from warehouse_sync.project.quantities import Allowance
    from warehouse_sync.state.store import open_store
    from warehouse_sync.warehouses.base import Engine, open_warehouse

    home = folder / "home"
    models = folder / "models"
    models.mkdir()
    # Without a cursor: what a first run looks at before it reads is no part of this.
    header = "event='track', " + ("unique_key='_id'" if keyed else "always=True")
    (models / "events.sql").write_text(f"{{{{ config({header}) }}}}\nSELECT {COLUMNS} FROM events\n")
    settings = ModelSettings(path=models)
    (model,) = load_models(settings)
    engine = Engine(os.environ.get("LIM", "512MB"), None, folder / "spill")
    with open_store(f"sqlite:///{folder / 'state.db'}") as store:
        store.register_pipeline("bench", "id")
        run_id = store.begin_run("bench", "run", {}, "0")
        context = RunContext("bench", home, run_id, store, Outbox(home), engine, Silent())
        policy = Policy(settings, BatchLimits(10_000, 40_000_000), 1_000_000, Guard(Allowance(share=0.5)))
        began = time.perf_counter()
        if source == "arrow":
            warehouse = ArrowWarehouse(folder / "w.arrow", engine)
        else:
            warehouse = open_warehouse(source, connection or {"path": str(folder / "w.duckdb")}, engine)
        extract(context, model, warehouse, policy, Request())
        return time.perf_counter() - began


def copy(folder: Path) -> float:
    """Seconds of DuckDB's own writer for rows of the same shape, in one file."""
    import duckdb

    with duckdb.connect(str(folder / "w.duckdb"), read_only=True) as connection:
        began = time.perf_counter()
        connection.execute(
            "COPY (SELECT * EXCLUDE (id, amount, seats, plan, score),"
            " struct_pack(amount, seats, plan, score) AS metadata"
            f" FROM events) TO '{folder / 'copy.ndjson'}' (FORMAT json)"
        )
        return time.perf_counter() - began


def polars(folder: Path) -> float:
    """Seconds of polars' bare write of rows that are already in memory."""
    import polars as pl

    frame = pl.read_ipc(folder / "w.arrow")
    began = time.perf_counter()
    frame.write_ndjson(folder / "polars.ndjson")
    return time.perf_counter() - began


def one(name: str, folder: Path) -> None:
    """Run one candidate and print its figures as JSON."""
    if name in ("copy", "polars"):
        seconds = {"copy": copy, "polars": polars}[name](folder)
    else:
        source, kind = name.split()
        seconds = seal(folder, source, kind == "keyed")
    status = Path("/proc/self/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024  # ru_maxrss would inherit the parent's
    print(json.dumps({"seconds": seconds, "cpu": sum(os.times()[:2]), "peak_mb": peak}))


def measure(name: str, data: Path) -> dict[str, float]:
    """One candidate in a process and a folder of its own."""
    with tempfile.TemporaryDirectory(dir=data.parent) as work:
        for file in data.iterdir():
            os.link(file, Path(work) / file.name)
        out = subprocess.run(
            [sys.executable, __file__, "--one", name, "--folder", work], check=True, stdout=subprocess.PIPE, text=True
        )
        os.sync()
        return json.loads(out.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", choices=CANDIDATES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one(arguments.one, arguments.folder)
        return
    base = Path(tempfile.mkdtemp(prefix="bench-seal-"))
    try:
        data = base / "data"
        data.mkdir()
        make(data, arguments.rows)
        rounds = [{name: measure(name, data) for name in CANDIDATES} for _ in range(arguments.rounds)]
    finally:
        shutil.rmtree(base)
    print(f"{arguments.rows:,} track rows, {arguments.rounds} rounds, {os.cpu_count()} cores; medians")
    print(f"{'':14}{'seconds':>9}{'cpu':>7}{'/ copy':>8}{'/ polars':>10}{'goal':>7}{'peak MB':>9}")
    for name in CANDIDATES:

        def of(figure: str, name: str = name) -> float:
            return median(result[name][figure] for result in rounds)

        def ratio(peer: str, name: str = name) -> float:
            return median(result[name]["seconds"] / result[peer]["seconds"] for result in rounds)

        goal = f"{GOALS[name]:.2f}" if name in GOALS else ""
        print(
            f"{name:14}{of('seconds'):9.2f}{of('cpu'):7.2f}{ratio('copy'):8.2f}{ratio('polars'):10.2f}{goal:>7}"
            f"{of('peak_mb'):9.0f}"
        )


if __name__ == "__main__":
    main()
