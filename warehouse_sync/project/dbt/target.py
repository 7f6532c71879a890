"""Which of dbt's targets a manifest was made for.

The manifest does not say. run_results.json does when both files are of one invocation that was asked for a target;
`dbt ls`, `dbt parse` and `dbt source freshness` write the manifest alone. Then the schemas tell, where the profile's
targets differ in them; then the profile's own target, unless a variable decides about it: that may be another one now.
"""

from __future__ import annotations

from warehouse_sync.project.dbt.manifest import ArtefactError, Manifest, mapping, read_artefact
from warehouse_sync.project.dbt.project_file import Targets

_BUILT = ("model", "seed")


def target_noted(manifest: Manifest) -> str | None:
    """The target that the invocation which wrote the manifest was asked for (--target, DBT_TARGET).

    "" when it took the profile's own; None when run_results.json is of another invocation.
    """
    try:
        results = read_artefact(manifest.path.with_name("run_results.json"), "")
    except ArtefactError:
        return None
    same = manifest.invocation and mapping(results.get("metadata")).get("invocation_id") == manifest.invocation
    return str(mapping(results.get("args")).get("target") or "") if same else None


def target_by_place(manifest: Manifest, targets: Targets) -> str:
    """The one target of the profile whose schema is that of all models without a schema of their own; else "".

    A project's `generate_schema_name` may put models where no target is, or each elsewhere, and targets may share a
    schema: then nothing is known. Databases count only where the targets differ in them.
    """
    nodes = [node for node in manifest.nodes.values() if node.kind in _BUILT and not node.placed]
    found = {(node.database.casefold(), node.schema.casefold()) for node in nodes}
    if len(found) != 1 or targets.wanted not in targets.places:
        return ""
    ((database, schema),) = found
    differ = len({place[0].casefold() for place in targets.places.values()}) > 1
    here = [
        target
        for target, place in targets.places.items()
        if place[1].casefold() == schema and (not differ or place[0].casefold() == database)
    ]
    return "" if not here or (len(here) > 1 and targets.wanted in here) else here[0]


__all__ = ["target_by_place", "target_noted"]
