"""Which keys the YAML file has, where they stand, and what they hold: asked of the classes in `settings`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, get_args

from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo

from warehouse_sync.project.yaml.connections import (
    Attach,
    DuckDBWarehouse,
    PostgresWarehouse,
    ProfileChoice,
    Section,
    SnowflakeWarehouse,
    SqlAlchemyWarehouse,
)
from warehouse_sync.project.yaml.document import KeyPath, Kind
from warehouse_sync.project.yaml.settings import Config

WAREHOUSES: dict[str, type[Section]] = {
    "duckdb": DuckDBWarehouse,
    "snowflake": SnowflakeWarehouse,
    "postgres": PostgresWarehouse,
    "sqlalchemy": SqlAlchemyWarehouse,
}

# Not secret, but no message needs to show where a key file is.
_HIDDEN = {"private_key_path"}


def keys_of(section: type[Section]) -> dict[str, FieldInfo]:
    """The keys of a section as the file writes them, aliases too."""
    found: dict[str, FieldInfo] = {}
    for name, field in section.model_fields.items():
        if isinstance(field.validation_alias, AliasChoices):
            found.update((str(alias), field) for alias in field.validation_alias.choices)
        else:
            found[field.alias or name] = field
    return found


def section_at(path: KeyPath, warehouse_type: str | None) -> type[Section] | None:
    """The class whose keys stand below `path`; None where keys are free, or nothing stands."""
    names = [part for part in path if isinstance(part, str)]
    if not names:
        return Config
    if names[0] == "warehouse":
        if names[1:] in (["attach"], ["dbt"]):
            return Attach if names[1] == "attach" else ProfileChoice
        return WAREHOUSES.get(warehouse_type or "") if len(names) == 1 else None
    field = Config.model_fields.get(names[0])
    kind = field.annotation if field and len(names) == 1 else None
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


@cache
def known_keys() -> dict[tuple[str, ...], Kind]:
    """Every key of every section and warehouse type, without list positions, and what it holds."""
    return dict(_walk(Config, ()))


def kind_of(path: KeyPath) -> Kind:
    """What the key at `path` holds; `free` for keys that are not known."""
    return known_keys().get(tuple(part for part in path if isinstance(part, str)), "free")


def _walk(section: type[Section], above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Kind]]:
    for key, field in keys_of(section).items():
        path = (*above, key)
        classes = {part for part in _parts(field.annotation) if isinstance(part, type)}
        secret = SecretStr in classes or key in _HIDDEN
        yield path, "secret" if secret else "free" if dict in classes else "plain"
        for part in classes:
            if issubclass(part, Section):
                yield from _walk(part, path)


def _parts(annotation: Any) -> Iterator[Any]:
    """The classes inside an annotation: `tuple[Attach, ...] | None` holds `tuple` and `Attach`."""
    inner = get_args(annotation)
    if not inner:
        yield annotation
        return
    yield getattr(annotation, "__origin__", None)
    for part in inner:
        yield from _parts(part)
