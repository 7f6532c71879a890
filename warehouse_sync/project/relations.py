"""Where `source()` and `ref()` find a table's name: what resolves them, and the names that the YAML itself gives."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from warehouse_sync.errors import ModelError
from warehouse_sync.project.names import nearest
from warehouse_sync.project.yaml.environment import unset_in

_SIMPLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*")


class Relations(Protocol):
    """Where `source()` and `ref()` find a table's name in the warehouse; a miss is a ModelError without a place."""

    def source(self, schema: str, table: str) -> str:
        """The table's name as SQL."""
        ...

    def ref(self, name: str, package: str | None, version: str | None = None) -> str:
        """The table's name as SQL; of a versioned model the latest one without `version`."""
        ...


@dataclass(frozen=True)
class YamlRelations:
    """`models.sources` and `models.refs` of the YAML.

    `sources`: schema -> a prefix ("raw.app"), or table -> full name; `refs`: name, or `package.name`, -> full name.
    """

    sources: Mapping[str, str | Mapping[str, str]] = field(default_factory=dict)
    refs: Mapping[str, str] = field(default_factory=dict)

    def source(self, schema: str, table: str) -> str:
        """The table's name as SQL; ModelError names the YAML key that is missing."""
        call = f"source('{schema}', '{table}')"
        if schema not in self.sources:
            raise ModelError(
                f"{call} is not known{nearest(schema, self.sources)}",
                hint=f"add it to the YAML under models.sources: {{{schema}: {{{table}: <schema>.{table}}}}}.",
            )
        tables = self.sources[schema]
        _refuse_unset(call, tables if isinstance(tables, str) else tables.get(table))
        hint = f"add it to the YAML under models.sources.{schema}: {{{table}: <schema>.{table}}}."
        if isinstance(tables, str):
            if _SIMPLE_NAME.fullmatch(table) is None:
                raise ModelError(f"{call} needs quoting: a prefix cannot give its name", hint=hint)
            return f"{tables}.{table}"
        if table not in tables:
            raise ModelError(f"{call} is not known{nearest(table, tables)}", hint=hint)
        return tables[table]

    def find_ref(self, name: str, package: str | None, version: str | None = None) -> str | None:
        """The table's name as SQL, of `package.name` before `name`; a version is part of the name: `name.v2`."""
        name = f"{name}.v{version}" if version else name
        for known in (f"{package}.{name}", name) if package else (name,):
            if known in self.refs:
                _refuse_unset(ref_call(name, package, None), self.refs[known])
                return self.refs[known]
        return None

    def ref(self, name: str, package: str | None, version: str | None = None) -> str:
        """As `find_ref`; ModelError names the YAML key that is missing."""
        found = self.find_ref(name, package, version)
        if found is not None:
            return found
        call = ref_call(name, package, version)
        key = f"{name}.v{version}" if version else name
        raise ModelError(
            f"{call} is not known{nearest(key, self.refs)}",
            hint=f"add it to the YAML under models.refs: {{{key}: <schema>.{name}}}.",
        )


def _refuse_unset(call: str, relation: str | None) -> None:
    for unset in unset_in(relation):
        raise ModelError(f"{call}: {unset.message}")


def ref_call(name: str, package: str | None, version: str | None) -> str:
    """The call as a model writes it: `ref('shop', 'dim_users', v=2)`."""
    words = [f"'{word}'" for word in (package, name) if word]
    if version:
        words.append(f"v={version}" if re.fullmatch(r"[0-9]+(\.[0-9]+)?", version) else f"v='{version}'")
    return f"ref({', '.join(words)})"


__all__ = ["Relations", "YamlRelations", "ref_call"]
