"""`dbt: {require: success}`: who may run, by dbt's run_results.json and sources.json.

A model is held back when dbt says that something it is built from, however far above, went wrong: a node errored, was
skipped, failed a test, or is a source that is stale. What the last dbt command did not touch holds nobody back. A build
that did not end, and one of empty tables or of samples, hold back everybody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from warehouse_sync.errors import ModelError
from warehouse_sync.project.dbt.manifest import ArtefactError, Manifest, Node, mapping, read_artefact
from warehouse_sync.project.dbt.relations import Artefacts, DbtRelations, Recorder, Use
from warehouse_sync.project.model import BrokenModel, ModelSettings
from warehouse_sync.project.relations import Relations, YamlRelations
from warehouse_sync.project.template import evaluate
from warehouse_sync.values import Model

BUILDING = ("build", "run", "test", "seed", "snapshot", "retry", "clone")
"""dbt's commands whose results say something about tables; others (`compile`, `docs generate`) write the file too."""

_IN_PART = ("empty", "sample")
"""Flags of dbt: tables without rows, or with some of them."""

_WENT_WRONG = {
    "error": "errored",
    "runtime error": "errored",
    "fail": "failed",
    "skipped": "was skipped",
    "partial success": "was built in part",
}
_STALE = {"error": "is stale", "runtime error": "could not be checked for freshness"}
_TESTS = ("test", "unit_test")


def uses_of(model: Model, settings: ModelSettings) -> tuple[Use, ...]:
    """Every ref() and source() of a model, of its full and its incremental reading. Raises ModelError."""
    inner: Relations = settings.relations or YamlRelations(settings.sources, settings.refs)
    recorder = Recorder(inner)
    for incremental in (False, True):
        context = settings.context(incremental=incremental, cursor_from="NULL")
        evaluate(model.sql, model.path, replace(context, relations=recorder), lambda **_: "")
    return tuple(recorder.uses)


def held_back(require: str | None, settings: ModelSettings, models: Sequence[Model | BrokenModel]) -> dict[str, str]:
    """The models that have to wait for dbt: name -> why, with the dbt command to run. Empty unless `require` is set."""
    relations = settings.relations
    if require is None or not isinstance(relations, DbtRelations):
        return {}
    artefacts = relations.artefacts
    judged: _Judged | str | None = None
    found: dict[str, str] = {}
    for model in models:
        if isinstance(model, BrokenModel):
            continue
        try:
            uses = uses_of(model, settings)
        except ModelError:
            # Its own fault, which the run reports as an error.
            continue
        if not uses:
            continue
        if judged is None:
            judged = _judged(artefacts)
        why = judged if isinstance(judged, str) else _reason(artefacts, judged, uses)
        if why:
            found[model.name] = why
    return found


@dataclass(frozen=True)
class _Judged:
    """The manifest, and what went wrong with its nodes, and with its sources."""

    manifest: Manifest
    wrong: Mapping[str, str]
    stale: Mapping[str, str]


def _judged(artefacts: Artefacts) -> _Judged | str:
    """What dbt's files say; why they say nothing."""
    try:
        manifest = artefacts.manifest
        return _Judged(manifest, _trouble(artefacts, manifest), _stale(artefacts))
    except ArtefactError as error:
        return f"dbt: {error.message}; {error.hint.rstrip('.')}"


def _reason(artefacts: Artefacts, judged: _Judged, uses: tuple[Use, ...]) -> str:
    """Why a model with these uses has to wait, "" when it has not."""
    manifest, wrong, stale = judged.manifest, judged.wrong, judged.stale
    build = f"run `{artefacts.command('build')}`"
    own = {node.id: node for node in (use.node(manifest) for use in uses) if node is not None}
    for id_ in sorted(manifest.upstream(frozenset(own)), key=lambda id_: (id_ not in own, id_)):
        if id_ not in wrong and id_ not in stale:
            continue
        node = manifest.nodes.get(id_)
        label = node.label if node else id_
        below = "" if id_ in own else f", and {_below(manifest, own, id_)} is built from it"
        if id_ in wrong:
            return f"dbt: {label} {wrong[id_]}{below}; mend it and {build}"
        # Only this command looks at sources again.
        look = f"`{artefacts.command('source freshness')}`"
        return f"dbt: {label} {stale[id_]}{below}; load it, {f'{build} and {look}' if below else f'run {look}'}"
    return ""


def _below(manifest: Manifest, own: Mapping[str, Node], id_: str) -> str:
    return next(own[start].label for start in sorted(own) if id_ in manifest.upstream(frozenset({start})))


def _trouble(artefacts: Artefacts, manifest: Manifest) -> dict[str, str]:
    """What went wrong, by node. Raises ArtefactError when there is nothing to judge by."""
    path = artefacts.folder_of_target / "run_results.json"
    results = read_artefact(path, artefacts.command("build"))
    build = f"run `{artefacts.command('build')}`"
    args = mapping(results.get("args"))
    command = str(args.get("which") or "build")
    if command not in BUILDING:
        raise ArtefactError(f"{path} is of `dbt {command}`, which builds nothing", f"{build}.")
    part = next((flag for flag in _IN_PART if args.get(flag)), None)
    if part is not None:
        raise ArtefactError(f"{path} is of `dbt {command} --{part}`, which builds only a part", f"{build}.")
    if _is_unfinished(manifest, results, path):
        folder = path.with_name("run")
        raise ArtefactError(
            f"{path} is older than what dbt wrote into {folder}: its last build was ended, or goes on",
            f"{build}, and wait for its end.",
        )
    wrong: dict[str, str] = {}
    for id_, status in _statuses(results).items():
        node = manifest.nodes.get(id_)
        kind = node.kind if node else id_.partition(".")[0]
        if kind in _TESTS:
            # A skipped test says nothing by itself: what it was skipped for has a result of its own.
            if node is not None and status in _WENT_WRONG and status != "skipped":
                name = node.name or id_
                wrong |= dict.fromkeys([node.attached] if node.attached else node.depends_on, f"failed the test {name}")
        elif status in _WENT_WRONG:
            wrong[id_] = _WENT_WRONG[status]
    return wrong


def _is_unfinished(manifest: Manifest, results: Mapping[str, object], path: Path) -> bool:
    """True when a build after that of these results, which are at `path`, did not come to its end.

    dbt writes manifest.json first, then into target/run node by node, and run_results.json last. Of files that were
    copied without their times, the results are newer than the time that stands in the manifest: they tell nothing.
    """
    if manifest.invocation == str(mapping(results.get("metadata")).get("invocation_id") or ""):
        return False
    try:
        written = path.stat().st_mtime
        if written >= manifest.generated_at.timestamp():
            return False
        return any(file.stat().st_mtime > written for file in path.with_name("run").rglob("*") if file.is_file())
    except FileNotFoundError:
        # Somebody is at work there.
        return True


def _stale(artefacts: Artefacts) -> dict[str, str]:
    """What is wrong with sources, by node; nothing when dbt never looked. Raises ArtefactError."""
    path = artefacts.folder_of_target / "sources.json"
    if not path.exists():
        return {}
    freshness = read_artefact(path, artefacts.command("source freshness"))
    return {id_: _STALE[status] for id_, status in _statuses(freshness).items() if status in _STALE}


def _statuses(document: Mapping[str, object]) -> dict[str, str]:
    """Status by node, in lower case: Fusion writes `Error`."""
    results = document.get("results")
    entries = [mapping(entry) for entry in results] if isinstance(results, list) else []
    return {str(entry.get("unique_id")): str(entry.get("status")).casefold() for entry in entries}


__all__ = ["BUILDING", "held_back", "uses_of"]
