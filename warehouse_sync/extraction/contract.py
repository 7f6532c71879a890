"""What a model was when rows of it were sent must still be so, or they would be compared with the wrong ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from warehouse_sync.errors import ModelError
from warehouse_sync.events.encode import Encoding
from warehouse_sync.extraction.statement import cursor_name
from warehouse_sync.state.rows import ModelState
from warehouse_sync.values import CursorKind, CursorValue, Model
from warehouse_sync.warehouses.base import UNTOLD

if TYPE_CHECKING:
    import pyarrow as pa


def check_known(model: Model, known: ModelState | None) -> None:
    """What the state remembers must still be what the header says, or rows would be compared with the wrong ones."""
    if known is None:
        return
    if known.event is not model.event:
        raise _restart(model, f"this model was `{known.event}` and is now `{model.event}`")
    if known.unique_key != model.unique_key:
        was, now = ", ".join(known.unique_key) or "none", ", ".join(model.unique_key) or "none"
        raise _restart(model, f"`unique_key` was {was} and is now {now}")
    if known.cursor_column is not None and known.cursor_column != model.cursor:
        raise _restart(
            model, f"`cursor` was `{known.cursor_column}` and is now {f'`{model.cursor}`' if model.cursor else 'none'}"
        )


def check_contract(model: Model, sent: Mapping[str, str], encoding: Encoding, drift: str) -> list[str]:
    """What was sent once (property -> type) does not vanish or change type unnoticed; gives the news, or ModelError."""
    if not sent or drift == "allow":
        return []
    now = {item.name: item.type for item in encoding.properties}
    gone = [name for name in sent if name not in now and name not in model.dropped]
    changed = [name for name, old in sent.items() if now.get(name, old) != old and name not in model.dropped]
    retyped = [f"{name} ({sent[name]} -> {now[name]})" for name in changed]
    fresh = [name for name in now if name not in sent]
    trouble = [f"no longer sent: {', '.join(gone)}"] if gone else []
    trouble += [f"changed type: {', '.join(retyped)}"] if retyped else []
    if trouble and drift == "error":
        raise ModelError(
            f"properties {'; '.join(trouble)}",
            path=model.path,
            hint="Userpilot keeps old values and types. Bring them back, list those that may go or change in the header"
            " (`dropped=[...]`), or set `models.drift: warn`.",
        )
    return trouble + ([f"new properties: {', '.join(fresh)}"] if fresh else [])


def as_known(encoding: Encoding, schema: pa.Schema, known: ModelState | None) -> Encoding:
    """The encoding, properties of columns without a single value having the type that they were last sent with."""
    was: Mapping[str, Any] = known.properties if known else {}
    untold = _untold(schema)
    properties = [
        replace(one, type=was.get(one.name, one.type)) if one.column in untold else one for one in encoding.properties
    ]
    return replace(encoding, properties=tuple(properties))


def half_sent_error(model: Model, known: ModelState | None) -> ModelError:
    """Without a key, the delivered rows of a window that was sent in part are told apart by their line as it was."""
    return ModelError(
        "this model changed while a part of what it reads next was delivered: without a `unique_key` nobody can tell"
        " which of its rows those are",
        path=model.path,
        hint="put it back, run, and change it then; or let all of them be sent"
        + (" from a value of the cursor on" if known and known.cursor else "")
        + f", what was delivered a second time: `warehouse-sync state reset {model.name}"
        + (" --cursor VALUE`." if known and known.cursor else "`."),
    )


def other_kind(model: Model, schema: pa.Schema, since: CursorValue, kind: CursorKind | None) -> ModelError:
    """The same of a model that is read; a column without any value may be of whatever kind it was."""
    if kind is not None and cursor_name(model, schema) in _untold(schema):
        return ModelError(
            f"the cursor `{model.cursor}` has no value in any row, so of what kind it is cannot be told",
            path=model.path,
            hint="is the source empty, or being loaded? Nothing was read; run again when there are rows.",
        )
    return cursor_kinds(model, since.kind, kind)


def cursor_kinds(model: Model, was: CursorKind | None, now: CursorKind | None) -> ModelError:
    """The cursor is of another kind than the state knows."""
    return _restart(model, f"the cursor `{model.cursor}` was of kind {was} and is now of kind {now}")


def _restart(model: Model, what: str) -> ModelError:
    return ModelError(
        what,
        path=model.path,
        hint=f"put it back, or start this model over with `warehouse-sync state reset {model.name}`.",
    )


def cannot_compare(model: Model, known: ModelState | None) -> bool:
    """True when rows of that model may have been sent, and nobody can tell which."""
    return known is not None and not model.event.is_identify and not model.unique_key


def _untold(schema: pa.Schema) -> set[str]:
    return {field.name for field in schema if UNTOLD in (field.metadata or {})}
