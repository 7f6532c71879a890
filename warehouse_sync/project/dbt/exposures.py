"""Models as dbt exposures, so that dbt's lineage ends where the rows go.

One exposure a model. `owner` and `url` come from the model's `meta` (or `models.config.meta` of the YAML for all of
them); tags and the rest of `meta` go below `config`, where dbt 1.10 and newer want them and older ones do not look. No
time and no path of this machine is in it, so the same models give the same text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from warehouse_sync.errors import ModelError
from warehouse_sync.project.dbt.gate import uses_of
from warehouse_sync.project.dbt.manifest import ArtefactError, Manifest, Node
from warehouse_sync.project.dbt.relations import Artefacts
from warehouse_sync.project.model import ModelSettings
from warehouse_sync.values import Model

URL = "https://run.userpilot.io"
HEADING = "# Written by `warehouse-sync exposures`, and written anew by it: change the models instead.\n"

_OURS = ("owner", "url")
_CONFIG_SINCE = (1, 10)
# dbt renders the texts of its YAML with Jinja.
_JINJA = re.compile(r"\{[{%#]")


@dataclass(frozen=True)
class Exposure:
    """One model's exposure, as YAML has it. `left_out`: what it depends on and dbt would not let it say, with why."""

    model: str
    entry: dict[str, Any]
    left_out: Mapping[str, str] = field(default_factory=dict)


def exposures(pipeline: str, models: Sequence[Model], settings: ModelSettings, artefacts: Artefacts) -> list[Exposure]:
    """The exposures of these models, in their order. Raises ModelError for one whose tables dbt does not have."""
    found = [_exposure(pipeline, model, settings, artefacts) for model in models]
    seen: dict[str, int] = {}
    for entry in (exposure.entry for exposure in found):
        name = entry["name"]
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            entry["name"] = f"{name}_{seen[name]}"
    return found


def as_yaml(entries: Sequence[Mapping[str, Any]]) -> str:
    """A file for a dbt project's model folder."""
    document = {"version": 2, "exposures": list(entries)}
    return HEADING + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)


def _exposure(pipeline: str, model: Model, settings: ModelSettings, artefacts: Artefacts) -> Exposure:
    try:
        manifest = artefacts.manifest
    except ArtefactError as error:
        raise ModelError(f"dbt: {error.message}", path=model.path, hint=error.hint) from None
    nodes = {use.call: node for use in uses_of(model, settings) if (node := use.node(manifest)) is not None}
    left_out = {call: why for call in sorted(nodes) if (why := _why_not(nodes[call], manifest, artefacts))}
    said = model.description or f"Rows of {model.event} that warehouse-sync sends to Userpilot."
    own = {"pipeline": pipeline, "model": model.name, "event": str(model.event)}
    meta = {key: value for key, value in model.meta.items() if key not in _OURS}
    about = {"tags": _plain(list(model.tags)), "meta": _plain(meta | {"warehouse_sync": own})}
    is_old = (0, 0) < manifest.dbt < _CONFIG_SINCE
    entry = {
        "name": re.sub(r"\W", "_", f"{pipeline}_{model.name}", flags=re.ASCII),
        "label": _plain(f"Userpilot: {model.name}"),
        "type": "application",
        "url": _plain(model.meta.get("url") or URL),
        "description": _plain(said),
        "depends_on": sorted(nodes.keys() - left_out.keys()),
        "owner": _owner(pipeline, model.meta.get("owner")),
        **(about if is_old else {"config": about}),
    }
    return Exposure(model.name, entry, left_out)


def _why_not(node: Node, manifest: Manifest, artefacts: Artefacts) -> str:
    """Why dbt takes an exposure of that node for an error of the whole project, "" when it does not.

    An exposure is in no group, and it is the project's: docs.getdbt.com/docs/mesh/govern/model-access.
    """
    if node.access == "private":
        return "is private"
    is_foreign = node.package != manifest.project
    if node.access == "protected" and is_foreign and artefacts.restricts_access(node.package):
        return f"is protected, and its package {node.package} has `restrict-access: true`"
    return ""


def _owner(pipeline: str, given: Any) -> dict[str, Any]:
    """dbt wants a name or an e-mail address."""
    if isinstance(given, Mapping) and (given.get("name") or given.get("email")):
        return {str(key): _plain(value) for key, value in given.items()}
    if isinstance(given, str) and given.strip():
        return {"email" if "@" in given else "name": _plain(given)}
    return {"name": f"warehouse-sync {pipeline}"}


def _plain(value: Any) -> Any:
    """The value as YAML holds it, no text of it read as Jinja by dbt."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return _JINJA.sub(lambda match: "{{ '" + match[0] + "' }}", str(value))


__all__ = ["HEADING", "URL", "Exposure", "as_yaml", "exposures"]
