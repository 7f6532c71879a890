"""Refused rows, found again in the warehouse: by their keys, or within the bounds of the window that met them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from warehouse_sync.changes.window import order
from warehouse_sync.values import CursorKind, CursorValue, Model
from warehouse_sync.warehouses.base import Warehouse, cursor_literal

if TYPE_CHECKING:
    import pyarrow as pa


_COLUMN = "warehouse_sync_key"


@dataclass(frozen=True)
class Recall:
    """What is read again of a model: rows with these `keys` (as the state has them), or everything between two values
    of the cursor, both included.

    `low` is where the windows that met the rows began; None: where the header's `begin` says, or `before_begin`, as a
    backfill may. A key is looked for from the earlier one of `low` and `begin` on. `high` None: open.
    `rejects`: the ids of those that this is about; `refused`: rows that Userpilot refused go as they are, too.
    """

    rejects: tuple[int, ...] = ()
    keys: tuple[str, ...] = ()
    low: CursorValue | None = None
    high: CursorValue | None = None
    refused: bool = False
    before_begin: bool = False

    def since(self, begin: CursorValue | None) -> CursorValue | None:
        """The least cursor that is read; None: from the beginning on. `begin`: what the header says, None for `all`."""
        if self.low is None:
            return None if self.before_begin else begin
        if not self.keys:
            return self.low
        return None if begin is None else min(begin, self.low, key=order)


def key_test(model: Model, schema: pa.Schema, keys: Sequence[str], warehouse: Warehouse) -> str:
    """A condition on the model's columns that every row with one of these keys fulfils; '' where there is none.

    Other rows may fulfil it too: of a key of several columns each column is tested by itself, and only columns whose
    text is the same in every database are.
    """
    from sqlglot import exp

    names = {field.name.casefold(): field for field in schema}
    tests = []
    for place, name in enumerate(model.unique_key):
        field = names.get(name.casefold())
        if field is None or not _is_plain(field.type):
            continue
        words = {_words(key, len(model.unique_key))[place] for key in keys}
        # A CHAR(n) loses its blanks when it becomes text.
        texts = sorted(words | {word.rstrip(" ") for word in words})
        literals = ", ".join(cursor_literal(CursorValue(CursorKind.STRING, text), warehouse.dialect) for text in texts)
        as_text = exp.cast(exp.column(_COLUMN), "text").sql(dialect=warehouse.dialect or None)
        tests.append(f"{as_text.replace(_COLUMN, warehouse.quote(field.name))} IN ({literals})")
    return " AND ".join(tests)


def _is_plain(kind: pa.DataType) -> bool:
    """True for texts and whole numbers."""
    import pyarrow.types as t

    inner = kind.value_type if t.is_dictionary(kind) else kind
    whole = t.is_integer(inner) or (t.is_decimal(inner) and inner.scale == 0)
    return bool(whole or t.is_string(inner) or t.is_large_string(inner))


def _words(key: str, columns: int) -> list[str]:
    """The key's columns as texts: one column is the text itself, several are a JSON array."""
    return [key] if columns == 1 else [str(word) for word in json.loads(key, parse_int=str, parse_float=str)]


__all__ = ["Recall", "key_test"]
