"""What the YAML says of models, judged with the rest of it: header keys, whose they are, and named selections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from warehouse_sync.project import places
from warehouse_sync.project.header import check_level
from warehouse_sync.project.model import model_names
from warehouse_sync.project.names import nearest
from warehouse_sync.project.select import unreadable
from warehouse_sync.project.yaml.document import FAULT, KeyPath
from warehouse_sync.project.yaml.environment import Expanded, unset_in
from warehouse_sync.project.yaml.fields import Context, plain
from warehouse_sync.project.yaml.settings import Models


def rules(raw: Mapping[str, Any], context: Context) -> Iterator[tuple[KeyPath, str]]:
    """Places and messages. Sections that are no mappings, and values without their variables, are passed over."""
    models = _mapping(raw.get("models"))
    overrides = _mapping(models.get("overrides"))
    yield from _header_keys(("models", "config"), _mapping(models.get("config")))
    for name, level in overrides.items():
        yield from _header_keys(("models", "overrides", name), _mapping(level))
    if overrides:
        yield from _names(overrides, models, context)
    known = {name: text for name, text in _mapping(raw.get("selectors")).items() if isinstance(text, str) and text}
    for name, message in unreadable(known):
        yield ("selectors", name), message


def _header_keys(above: tuple[str, ...], level: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    known = {key: value for key, value in level.items() if value is not FAULT and not any(unset_in(value))}
    # What a variable held is not shown.
    given = {key: value if isinstance(value, Expanded) else plain(value) for key, value in known.items()}
    for fault in check_level(given)[1]:
        yield (*above, fault.key), fault.message


def _names(overrides: Mapping[str, Any], models: Mapping[str, Any], context: Context) -> Iterator[tuple[KeyPath, str]]:
    """Overrides for models that are not there; where their folder is not there, that is what is said, by others."""
    written = models.get("path", Models.model_fields["path"].default)
    if not _is_text(written):
        return
    names = model_names(places.resolve(written, context.folder, context.home))
    for name in overrides if names else ():
        if name not in names:
            yield ("models", "overrides", name), f"there is no such model{nearest(name, names)}"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and not any(unset_in(value))


__all__ = ["rules"]
