"""The row hash: what makes a row another one than the one that was sent; and every version of it that is still known.

A version is a definition, never changed once it was released: the same row would count as changed at the next run. A
new definition, or another text of the line or of a value, is a new version; the one before stays in the table, as an
expression that gives what that version gave. Rows whose stored hash is of an older version are compared by that
version, and get the new hash once they are found equal.

**Version 1.** Of models with a key: `unhex(md5(d || '[' || v1 || ',' || v2 || ... || ']'))`. The values are the JSON
texts of everything that is sent from a column, sorted by name (fields by theirs, properties by `metadata.<name>`, all
members of opened columns together under `metadata`, each after a comma), without `inserted_at`, the cursor column and
`ignore_changes`; what is left out of the line is empty between its commas. `d` is the first 16 hexadecimal digits of
the SHA-256 of the JSON array of those names (`json.dumps`). So a hash changes when a value, the set of properties or
`nulls` changes; `event_type` and the header's `source` are not part of it.

Of models without a key, in every version: `unhex(md5(line))` of the line as that version wrote it, time included.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from warehouse_sync.events.sql import Part, Text, concat


@dataclass(frozen=True)
class Sent:
    """What is sent of a row, as SQL expressions: the line with its own time, and the values by name.

    `values` is empty for a model without a key.
    """

    line: str
    values: Mapping[str, str]
    keyed: bool


def version_1(sent: Sent) -> str:
    """See the module."""
    if not sent.keyed:
        return f"unhex(md5({sent.line}))"
    names = sorted(sent.values)
    digest = hashlib.sha256(json.dumps(names).encode()).hexdigest()[:16]
    parts: list[Part] = [Text(digest + "[")]
    for i, name in enumerate(names):
        parts += [Text("," if i else ""), sent.values[name]]
    return f"unhex(md5({concat([*parts, Text(']')])}))"


ROW_HASHES: dict[int, Callable[[Sent], str]] = {1: version_1}
"""Version -> the expression of its hash; the greatest is the one that is written."""


def encoder_version() -> int:
    """The version of the hashes that this program writes."""
    return max(ROW_HASHES)


def row_hashes(sent: Sent) -> tuple[str, dict[int, str]]:
    """The expression of the hash that is written, and those of the older versions."""
    made = {version: make(sent) for version, make in ROW_HASHES.items()}
    return made.pop(encoder_version()), made


__all__ = ["ROW_HASHES", "Sent", "encoder_version", "row_hashes"]
