"""`ref()` and `source()` by dbt's manifest: `models.refs` and `models.sources` of the YAML win, name by name.

A relation is written as dbt's `relation_name` says: database, schema, alias, and quoting of the target that the
manifest was made for.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from warehouse_sync.errors import ModelError
from warehouse_sync.project.dbt.manifest import (
    ArtefactError,
    Manifest,
    Node,
    newer_model,
    read_manifest,
)
from warehouse_sync.project.dbt.project_file import Targets, restricts_access
from warehouse_sync.project.dbt.target import target_by_place, target_noted
from warehouse_sync.project.names import nearest
from warehouse_sync.project.relations import Relations, YamlRelations, ref_call

if TYPE_CHECKING:
    from warehouse_sync.project.yaml.settings import Config

log = logging.getLogger("warehouse_sync.dbt")

_ADAPTERS = {"redshift": "postgres"}
_HERE = ("duckdb", "postgres", "snowflake")


@dataclass(frozen=True)
class Artefacts:
    """Where dbt's files are, and what they have to be of.

    `folder` and `packages`: the project's, None when only its artefacts are here; `targets`: dbt's; `warehouse`: the
    YAML's warehouse type; `manifest_file`: read in place of the one in `folder_of_target`.
    """

    folder_of_target: Path
    folder: Path | None = None
    model_paths: tuple[Path, ...] = ()
    targets: Targets = field(default_factory=Targets)
    warehouse: str = ""
    manifest_file: Path | None = None
    packages: Path | None = None

    def restricts_access(self, package: str) -> bool:
        """True when a package, as far as it is here, lets others refer to its public models only."""
        return self.packages is not None and restricts_access(self.packages / package)

    def command(self, verb: str = "parse") -> str:
        """The dbt command that writes what is missing."""
        words = ["dbt", verb, *(["--project-dir", str(self.folder)] if self.folder else [])]
        return " ".join([*words, *(["--target", self.targets.wanted] if self.targets.wanted else [])])

    @property
    def manifest(self) -> Manifest:
        """The manifest, read once. Raises ArtefactError: missing, unknown, stale, or of another target or warehouse."""
        if isinstance(self._read, ArtefactError):
            raise self._read
        return self._read

    @cached_property
    def made_for(self) -> str:
        """The target that the manifest was made for, "" when that is not known. Raises ArtefactError."""
        return self._told(self.manifest)[0]

    def _told(self, manifest: Manifest) -> tuple[str, str]:
        """A manifest's target, "" when nothing tells it; and what a manifest of another target is said to be."""
        noted = target_noted(manifest)
        if noted:
            return noted, f"was made for target `{noted}`"
        placed = target_by_place(manifest, self.targets)
        if placed:
            return placed, f"has its models where target `{placed}` has them"
        default = "" if noted is None or self.targets.varies else self.targets.default
        return default, f"was made for target `{default}`, the profile's own"

    @property
    def doubt(self) -> str:
        """What is not known of the manifest and should be; "" when nothing is. Raises ArtefactError."""
        is_default = self.targets.wanted == self.targets.default and not self.targets.varies
        if is_default or self.made_for:
            return ""
        return (
            f"{self.manifest.path} does not say its target, and here it is `{self.targets.wanted}`: let"
            f" `{self.command('build')}` be the last command, or keep its run_results.json beside the manifest"
        )

    @cached_property
    def _read(self) -> Manifest | ArtefactError:
        try:
            return self._checked()
        except ArtefactError as error:
            return error

    def _checked(self) -> Manifest:
        path = self.manifest_file or self.folder_of_target / "manifest.json"
        manifest = read_manifest(path, self.command())
        self._check_target(manifest)
        newer = None if self.manifest_file else newer_model(manifest, self.model_paths, self.folder)
        if newer is not None:
            raise ArtefactError(
                f"{path} is older than {newer}, which has changed since",
                f"run `{self.command('build')}`, or `{self.command()}` if what it builds is in the warehouse already.",
            )
        return manifest

    def _check_target(self, manifest: Manifest) -> None:
        adapter = _ADAPTERS.get(manifest.adapter, manifest.adapter)
        if adapter in _HERE and self.warehouse in _HERE and adapter != self.warehouse:
            raise ArtefactError(
                f"{manifest.path} was made for {manifest.adapter}, and `warehouse` is {self.warehouse}",
                f"run `{self.command()}` with a target of this warehouse.",
            )
        wanted = self.targets.wanted
        # A file that is named by hand only tells columns.
        found, said = ("", "") if self.manifest_file else self._told(manifest)
        if wanted and found and found != wanted:
            other = f"`{self.command('build')}`, which notes its target"
            if target_noted(manifest):
                other = "keep a folder for each target (`dbt.target_path`)"
            raise ArtefactError(
                f"{manifest.path} {said}, and here it is `{wanted}`", f"run `{self.command()}`, or {other}."
            )


@dataclass(frozen=True)
class DbtRelations:
    """Names of `yaml` first, then of dbt's manifest. Messages are ModelErrors without a place, as `Relations` wants."""

    artefacts: Artefacts
    yaml: YamlRelations = field(default_factory=YamlRelations)

    def source(self, schema: str, table: str) -> str:
        """The table's name as SQL."""
        if schema in self.yaml.sources:
            return self.yaml.source(schema, table)
        return relation(find_source(self._manifest, schema, table), f"source('{schema}', '{table}')")

    def ref(self, name: str, package: str | None, version: str | None = None) -> str:
        """The table's name as SQL."""
        written = self.yaml.find_ref(name, package, version)
        if written is not None:
            return written
        return relation(find_model(self._manifest, name, package, version), ref_call(name, package, version))

    @cached_property
    def _manifest(self) -> Manifest:
        """Read when a name is first asked for; what is not known of it is a warning then."""
        try:
            manifest = self.artefacts.manifest
        except ArtefactError as error:
            raise ModelError(f"dbt: {error.message}", hint=error.hint) from None
        if self.artefacts.doubt:
            log.warning("%s", self.artefacts.doubt)
        return manifest


def artefacts_of(config: Config, manifest_file: Path | None = None) -> Artefacts | None:
    """dbt's files as the YAML names them; None without dbt. `manifest_file` is read in place of the YAML's."""
    project, given = config.dbt_project, config.dbt.target_path
    if given is None and project is not None:
        given = project.target
    if given is None and manifest_file is None:
        return None
    return Artefacts(
        folder_of_target=given or Path(),
        folder=project.folder if project else None,
        model_paths=project.model_paths if project else (),
        targets=config.dbt_targets,
        warehouse=config.warehouse.type,
        manifest_file=manifest_file,
        packages=project.packages if project else None,
    )


def relations_of(config: Config, manifest_file: Path | None = None) -> DbtRelations | None:
    """What resolves ref() and source(): the YAML's own names, then dbt's; None without dbt."""
    artefacts = artefacts_of(config, manifest_file)
    names = YamlRelations(config.models.sources, config.models.refs)
    return None if artefacts is None else DbtRelations(artefacts, names)


def relation(node: Node, call: str) -> str:
    """The node's name as SQL. Raises ModelError for one that has no table."""
    if node.materialized == "ephemeral":
        raise ModelError(
            f"{call} is ephemeral in dbt: it has no table to read",
            hint="make it a view or a table in dbt, or copy its SQL into a CTE of this model.",
        )
    if node.relation is None:
        raise ModelError(
            f"{call} has no `relation_name` in dbt's manifest", hint="run `dbt parse` with a newer version of dbt."
        )
    return node.relation


def find_model(manifest: Manifest, name: str, package: str | None, version: str | None) -> Node:
    """The model, seed or snapshot that `ref()` means; without a version the latest. Raises ModelError."""
    call = ref_call(name, package, version)
    found = _nearest(manifest, [node for node in manifest.models(name) if package in (None, node.package)])
    packages = sorted({node.package for node in found})
    if len(packages) > 1:
        raise ModelError(
            f"{call} is in more than one dbt package: {', '.join(packages)}",
            hint=f"name the package: ref('{packages[0]}', '{name}').",
        )
    if not found:
        raise _unknown_model(manifest, name, package, call)
    chosen = [node for node in found if node.version == (version or node.latest)]
    if not chosen:
        known = ", ".join(sorted(node.version for node in found if node.version)) or "none: leave `v` out"
        raise ModelError(f"{call} has no such version in dbt", hint=f"its versions: {known}.")
    return chosen[0]


def _nearest(manifest: Manifest, found: list[Node]) -> list[Node]:
    """As in dbt, a name of the project itself hides that of a package."""
    return [node for node in found if node.package == manifest.project] or found


def find_source(manifest: Manifest, schema: str, table: str) -> Node:
    """The source's table. Raises ModelError."""
    call = f"source('{schema}', '{table}')"
    found = _nearest(manifest, manifest.sources(schema, table))
    if len(found) > 1:
        packages = ", ".join(sorted(node.package for node in found))
        raise ModelError(
            f"{call} is in more than one dbt package: {packages}",
            hint=f"say which in the YAML under models.sources: {{{schema}: {{{table}: <schema>.{table}}}}}.",
        )
    if found:
        return found[0]
    if any((node.source, node.name) == (schema, table) for node in manifest.disabled):
        raise ModelError(f"{call} is disabled in dbt", hint="enable it there (`enabled: true`).")
    known = [f"{node.source}.{node.name}" for node in manifest.nodes.values() if node.source]
    raise ModelError(
        f"{call} is not known to dbt{nearest(f'{schema}.{table}', known)}", hint=_not_known(manifest, "models.sources")
    )


def _unknown_model(manifest: Manifest, name: str, package: str | None, call: str) -> ModelError:
    off = [node for node in manifest.disabled if node.name == name and package in (None, node.package)]
    if off:
        return ModelError(f"{call} is disabled in dbt: nothing builds it", hint="enable it there (`enabled: true`).")
    known = {node.name for node in manifest.nodes.values() if node.relation and not node.source}
    elsewhere = sorted({node.package for node in manifest.models(name)})
    where = f" (there is one in {', '.join(elsewhere)})" if elsewhere else nearest(name, known)
    return ModelError(f"{call} is not known to dbt{where}", hint=_not_known(manifest, "models.refs"))


def _not_known(manifest: Manifest, key: str) -> str:
    made = manifest.generated_at.strftime("%Y-%m-%d %H:%M UTC")
    return f"its manifest is of {made}: run `dbt parse` if it is newer, or name the table in the YAML under {key}."


@dataclass(frozen=True)
class Use:
    """One `ref()` or `source()` that a model makes.

    `names`: (package or "", name, version or "") or (source, table).
    """

    kind: str
    names: tuple[str, ...]

    @property
    def call(self) -> str:
        """As a model, or an exposure, writes it."""
        if self.kind == "source":
            return f"source('{self.names[0]}', '{self.names[1]}')"
        package, name, version = self.names
        return ref_call(name, package or None, version or None)

    def node(self, manifest: Manifest) -> Node | None:
        """What it is in dbt; None when dbt does not know it, as of a name that only the YAML has."""
        try:
            if self.kind == "source":
                return find_source(manifest, self.names[0], self.names[1])
            package, name, version = self.names
            return find_model(manifest, name, package or None, version or None)
        except ModelError:
            return None


class Recorder:
    """Relations that remember what was asked of them; the answers are those of `inner`."""

    def __init__(self, inner: Relations) -> None:
        self._inner = inner
        self.uses: dict[Use, str] = {}

    def source(self, schema: str, table: str) -> str:
        """The table's name as SQL."""
        found = self._inner.source(schema, table)
        self.uses[Use("source", (schema, table))] = found
        return found

    def ref(self, name: str, package: str | None, version: str | None = None) -> str:
        """The table's name as SQL."""
        found = self._inner.ref(name, package, version)
        self.uses[Use("ref", (package or "", name, version or ""))] = found
        return found


__all__ = [
    "Artefacts",
    "DbtRelations",
    "Recorder",
    "Use",
    "artefacts_of",
    "find_model",
    "find_source",
    "relation",
    "relations_of",
]
