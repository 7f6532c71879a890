"""`run_results.json`: how the last run ended, in dbt's shape.

metadata      tool, version, generated_at, invocation_id, run, pipeline, env
args          the command line
elapsed_time  seconds
results[]     unique_id (sync.<pipeline>.<model>), status, execution_time, message, counts
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from warehouse_sync.durable import whole_file
from warehouse_sync.observe.scrub import Scrubber

FILE = "run_results.json"
ENV_PREFIXES = ("WAREHOUSE_SYNC_ENV_", "DBT_ENV_CUSTOM_ENV_")
"""Variables that a scheduler may set to find its run again; they are copied into `metadata.env`, without the prefix."""


@dataclass(frozen=True)
class Invocation:
    """Who ran, as what: id (unique), number of the run in the state store, pipeline, program version, arguments."""

    id: str
    run: int
    pipeline: str
    version: str
    args: Mapping[str, Any]
    environ: Mapping[str, str]


def run_results(
    invocation: Invocation, results: Sequence[Mapping[str, Any]], seconds: float, now: datetime
) -> dict[str, Any]:
    """The document; `now` is when it is written."""
    return {
        "metadata": {
            "tool": "warehouse-sync",
            "version": invocation.version,
            "generated_at": now.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "invocation_id": invocation.id,
            "run": invocation.run,
            "pipeline": invocation.pipeline,
            "env": custom_variables(invocation.environ),
        },
        "args": dict(invocation.args),
        "elapsed_time": round(seconds, 3),
        "results": [dict(result) for result in results],
    }


def custom_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that are meant for the results, by their name without prefix."""
    return {
        name.removeprefix(prefix): value
        for prefix in ENV_PREFIXES
        for name, value in sorted(environ.items())
        if name.startswith(prefix) and name != prefix
    }


def write_results(folder: Path, document: Mapping[str, Any], scrubber: Scrubber, name: str = FILE) -> Path:
    """Put the document into the folder as a whole, readable by its owner only. Raises OSError."""
    text = json.dumps(scrubber.value(document), indent=2, ensure_ascii=False)
    with whole_file(folder / name) as file:
        file.write(f"{text}\n".encode())
    return folder / name
