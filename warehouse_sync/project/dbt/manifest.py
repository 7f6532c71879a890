"""dbt's manifest.json: which models, seeds, snapshots and sources there are, and where each lies in the warehouse.

Schemas v9 to v12 (dbt 1.5 to 1.11 and 2.0) and Fusion's v20 have what is read here in the same places
(docs.getdbt.com/reference/artifacts/manifest-json). Of each node only that is kept.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from warehouse_sync.project.dbt.ignore import ignored

VERSIONS = (9, 10, 11, 12, 20)
"""Versions of the manifest that are read; 20 is Fusion's name for 12."""

_REFABLE = ("model", "seed", "snapshot")
_MODEL_FILES = (".sql", ".py")


class ArtefactError(Exception):
    """One of dbt's files is missing, unreadable or of another time. `hint` names the dbt command to run."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True)
class Node:
    """A model, seed, snapshot, source or test. `relation` is its name as SQL, quoted as dbt would, None without one.

    `columns`: documented name -> data type, "" where dbt knows none; `attached`: the node that a test belongs to;
    `placed`: it names a schema or database of its own; `contract`: dbt builds just the columns that are documented;
    `access`: private, protected or public, "" for what is no model.
    """

    id: str
    kind: str
    name: str
    package: str
    relation: str | None = None
    source: str = ""
    version: str = ""
    latest: str = ""
    materialized: str = ""
    depends_on: tuple[str, ...] = ()
    attached: str = ""
    file: str = ""
    checksum: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    database: str = ""
    schema: str = ""
    placed: bool = False
    contract: bool = False
    access: str = ""

    @property
    def label(self) -> str:
        """The node as a person names it: `model dim_users`, `source app.users`."""
        name = f"{self.source}.{self.name}" if self.source else self.name
        return f"{self.kind} {name}" + (f" v{self.version}" if self.version else "")


@dataclass(frozen=True)
class Manifest:
    """One manifest.json. `generated_at` is aware; `nodes` holds tests too; `disabled` those that dbt leaves out.

    `dbt`: the version that wrote it, (1, 10); (0, 0) when it does not say.
    """

    path: Path
    version: int
    project: str
    adapter: str
    invocation: str
    generated_at: datetime
    nodes: Mapping[str, Node]
    disabled: tuple[Node, ...]
    dbt: tuple[int, int] = (0, 0)

    def models(self, name: str) -> list[Node]:
        """What `ref()` can mean by that name: models (all their versions), seeds and snapshots of every package."""
        return [node for node in self.nodes.values() if node.kind in _REFABLE and node.name == name]

    def sources(self, source: str, table: str) -> list[Node]:
        """What `source()` can mean."""
        return [node for node in self.nodes.values() if node.source == source and node.name == table]

    def upstream(self, ids: frozenset[str]) -> frozenset[str]:
        """Those nodes, and everything that they are built from."""
        found: set[str] = set()
        todo = list(ids)
        while todo:
            current = todo.pop()
            if current not in found:
                found.add(current)
                todo += self.nodes[current].depends_on if current in self.nodes else ()
        return frozenset(found)


def read_manifest(path: Path, command: str) -> Manifest:
    """Read a manifest.json; `command` is the dbt command that writes one, for messages.

    Raises ArtefactError: missing, not JSON, or of a version that is not known here.
    """
    document = read_artefact(path, command)
    metadata = mapping(document.get("metadata"))
    schema = str(metadata.get("dbt_schema_version", ""))
    found = re.search(r"/manifest/v(\d+)(?:\.json|/)", schema)
    if found is None:
        raise ArtefactError(f"{path} is no manifest of dbt", f"write it with `{command}`.")
    version = int(found[1])
    if version not in VERSIONS:
        known = f"v{VERSIONS[0]} to v{VERSIONS[-2]} (dbt 1.5 and newer) and Fusion's v{VERSIONS[-1]}"
        raise ArtefactError(
            f"{path} is of manifest version v{version}, and known are {known}",
            f"write it again with another version of dbt: `{command}`"
            + (", or take a newer warehouse-sync." if version > VERSIONS[0] else "."),
        )
    kept = {node.id: node for node in _nodes(document)}
    return Manifest(
        path=path,
        version=version,
        project=str(metadata.get("project_name") or ""),
        adapter=str(metadata.get("adapter_type") or ""),
        invocation=str(metadata.get("invocation_id") or ""),
        generated_at=moment(metadata.get("generated_at")) or datetime.fromtimestamp(path.stat().st_mtime, UTC),
        nodes=kept,
        disabled=tuple(_disabled(document)),
        dbt=_version(metadata.get("dbt_version")),
    )


def _version(text: Any) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", str(text))
    return (int(found[1]), int(found[2])) if found else (0, 0)


def newer_model(manifest: Manifest, folders: tuple[Path, ...], project: Path | None = None) -> Path | None:
    """The newest model file that was written after the manifest, with other content than the manifest knows of it.

    What the .dbtignore in `project` names is no model file.
    """
    passed_over = ignored(project)
    known = {node.file: node.checksum for node in (*manifest.nodes.values(), *manifest.disabled)}
    stale: list[tuple[float, Path]] = []
    for folder in folders:
        for path in folder.rglob("*"):
            if path.suffix.lower() not in _MODEL_FILES or not path.is_file() or passed_over(path):
                continue
            written = path.stat().st_mtime
            # A fresh checkout makes every file new; only another content makes the manifest old.
            if written > manifest.generated_at.timestamp() and not _same(path, known):
                stale.append((written, path))
    return max(stale)[1] if stale else None


def _same(path: Path, known: Mapping[str, str]) -> bool:
    """True when dbt took its checksum of this content; it strips the text first, of Unicode's blanks too."""
    checksums = {checksum for file, checksum in known.items() if file and path.as_posix().endswith(f"/{file}")}
    data = path.read_bytes()
    stripped = data.decode(errors="surrogateescape").strip().encode(errors="surrogateescape")
    return any(hashlib.sha256(content).hexdigest() in checksums for content in (stripped, data))


def read_artefact(path: Path, command: str) -> dict[str, Any]:
    """One of dbt's JSON files. Raises ArtefactError."""
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ArtefactError(f"{path} does not exist", f"write it with `{command}`.") from None
    except OSError as error:
        raise ArtefactError(f"{path} cannot be read: {error.strerror}", f"write it with `{command}`.") from None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise ArtefactError(f"{path} is not JSON, or was cut off", f"write it again with `{command}`.")
    return document


def mapping(value: Any) -> dict[str, Any]:
    """The value, if it is a JSON object; else an empty one."""
    return value if isinstance(value, dict) else {}


def _nodes(document: Mapping[str, Any]) -> Iterator[Node]:
    for section in ("nodes", "sources", "unit_tests"):
        for id_, raw in mapping(document.get(section)).items():
            yield _node(id_, mapping(raw))


def _disabled(document: Mapping[str, Any]) -> Iterator[Node]:
    for id_, versions in mapping(document.get("disabled")).items():
        for raw in versions if isinstance(versions, list) else [versions]:
            yield _node(id_, mapping(raw))


def _node(id_: str, raw: Mapping[str, Any]) -> Node:
    def text(key: str, inside: Mapping[str, Any] = raw) -> str:
        value = inside.get(key)
        return "" if value is None else str(value)

    config = mapping(raw.get("config"))
    kind = text("resource_type") or id_.partition(".")[0]
    above = mapping(raw.get("depends_on")).get("nodes")
    columns = {
        str(column.get("name") or name): str(column.get("data_type") or "")
        for name, column in mapping(raw.get("columns")).items()
        if isinstance(column, dict)
    }
    return Node(
        id=id_,
        kind=kind,
        name=text("name"),
        package=text("package_name"),
        relation=text("relation_name") or None,
        source=text("source_name") if kind == "source" else "",
        version=text("version"),
        latest=text("latest_version"),
        materialized=text("materialized", config),
        depends_on=tuple(map(str, above)) if isinstance(above, list) else (),
        attached=text("attached_node"),
        file=text("original_file_path").replace("\\", "/"),
        checksum=text("checksum", mapping(raw.get("checksum"))),
        columns=columns,
        database=text("database"),
        schema=text("schema"),
        placed=bool(text("schema", config) or text("database", config)),
        contract=mapping(config.get("contract")).get("enforced") is True,
        access=_access({text("access"), text("access", config)}) if kind == "model" else "",
    )


def _access(said: set[str]) -> str:
    return next((access for access in ("private", "public") if access in said), "protected")


def moment(value: Any) -> datetime | None:
    """One of dbt's times, aware; None for what is none."""
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


__all__ = [
    "VERSIONS",
    "ArtefactError",
    "Manifest",
    "Node",
    "mapping",
    "moment",
    "newer_model",
    "read_artefact",
    "read_manifest",
]
