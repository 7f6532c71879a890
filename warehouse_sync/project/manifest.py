"""What models were at one time, as a file to compare with later: `manifest.json`, in dbt's shape.

metadata   tool, version, generated_at, pipeline
nodes      sync.<pipeline>.<model>: name, event, tags, checksum {name, checksum}

The checksum is that of the model's file and its header after the YAML's defaults and overrides, not of what it renders
to: another source, target or variable is no change of the model.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from warehouse_sync.errors import UsageError
from warehouse_sync.project.model import BrokenModel
from warehouse_sync.project.render import fingerprint
from warehouse_sync.values import Model

TOOL = "warehouse-sync"
FILE = "manifest.json"
RESULTS = "run_results.json"


def manifest(pipeline: str, models: Iterable[Model | BrokenModel], version: str, now: datetime) -> dict[str, Any]:
    """The document; a model that cannot be read has no checksum, so that it counts as modified."""
    return {
        "metadata": {
            "tool": TOOL,
            "version": version,
            "generated_at": now.isoformat().replace("+00:00", "Z"),
            "pipeline": pipeline,
        },
        "nodes": {
            f"sync.{pipeline}.{model.name}": {
                "name": model.name,
                "event": model.event,
                "tags": list(model.tags),
                "checksum": {"name": "sha256", "checksum": checksum(model)},
            }
            for model in models
        },
    }


def checksum(model: Model | BrokenModel) -> str | None:
    """SHA-256 (hex) of the file and the header; None for a model that cannot be read."""
    return fingerprint(model.sql, model, {}) if isinstance(model, Model) else None


def carried_over(document: Mapping[str, Any], folder: Path, settled: Iterable[str]) -> dict[str, Any]:
    """The document with the nodes of `settled` models as they are, and all others as they were in the folder's."""
    fresh = {name: node for name, node in document["nodes"].items() if node["name"] in set(settled)}
    try:
        before = _nodes(folder)
    except UsageError:  # none yet, or damaged: it is made again
        before = {}
    kept = {name: node for name, node in before.items() if name in document["nodes"]}
    return {**document, "nodes": dict(sorted({**kept, **fresh}.items()))}


def checksums(folder: Path) -> dict[str, str | None]:
    """Checksum by model, of the folder's manifest. Raises UsageError when it is not there or cannot be read."""
    nodes = _nodes(folder).values()
    return {str(node["name"]): node["checksum"]["checksum"] for node in nodes}


def statuses(folder: Path) -> dict[str, str]:
    """How each model ended, by name, of the folder's run_results.json. Raises UsageError as above."""
    results = _read(folder / RESULTS, "results", list)
    if not all(isinstance(row, dict) and {"unique_id", "status"} <= row.keys() for row in results):
        raise _unreadable(folder / RESULTS)
    return {str(row["unique_id"]).split(".", 2)[-1]: str(row["status"]) for row in results}


def _nodes(folder: Path) -> dict[str, dict[str, Any]]:
    nodes: dict[str, dict[str, Any]] = _read(folder / FILE, "nodes", dict)
    if not all(_is_node(node) for node in nodes.values()):
        raise _unreadable(folder / FILE)
    return nodes


def _is_node(node: Any) -> bool:
    return isinstance(node, dict) and "name" in node and "checksum" in (node.get("checksum") or ())


def _read(path: Path, key: str, kind: type) -> Any:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        found, metadata = document[key], document["metadata"]
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise _unreadable(path) from None
    # dbt's files have these names and this shape too.
    if not isinstance(found, kind) or not isinstance(metadata, dict) or metadata.get("tool") != TOOL:
        raise _unreadable(path)
    return found


def _unreadable(path: Path) -> UsageError:
    return UsageError(f"{path} cannot be read", hint="it is no file that warehouse-sync wrote, or it is damaged.")


__all__ = ["FILE", "RESULTS", "carried_over", "checksum", "checksums", "manifest", "statuses"]
