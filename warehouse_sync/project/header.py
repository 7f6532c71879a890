"""The header of a model file: `{{ config(...) }}`, read, checked key by key and put together with the YAML's words.

Order, as in dbt: `models.config` (defaults) < header < `models.overrides.<model>`; `tags` add up and `meta` is merged
by key, every other key is replaced. A key set to null counts as not given. A default that cannot apply to a model
(a `lag` for one without a cursor) is left out; the same in the header or an override is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

from jinja2 import Undefined

from warehouse_sync.errors import ModelError
from warehouse_sync.project.names import nearest
from warehouse_sync.project.quantities import UnitError, parse_duration
from warehouse_sync.project.template import HeaderCall, HeaderRead, RenderContext, evaluate, header_call
from warehouse_sync.project.yaml.environment import Expanded
from warehouse_sync.project.yaml.settings import Source
from warehouse_sync.values import EventType, Model

_SHORT = re.compile(r"[\w .:%/+-]{1,30}")

DEFAULT_KEYS = {EventType.IDENTIFY_COMPANY: "company_id", EventType.IDENTIFY_USER: "user_id"}
"""What makes a profile the same profile next time, unless the header says otherwise."""


@dataclass(frozen=True)
class Header:
    """What `config()` was given, as plain values not yet checked, and where it stands."""

    values: Mapping[str, Any]
    call: HeaderCall

    def line(self, key: str) -> int:
        """The line of a keyword, or of the call when the keyword is not in it."""
        return self.call.lines.get(key, self.call.line)


@dataclass(frozen=True)
class HeaderFault:
    """One thing wrong with one key; `origin` is empty for the header, else the YAML key that holds it."""

    key: str
    message: str
    origin: str = ""

    def __str__(self) -> str:
        return f"{self.origin}.{self.key} {self.message}" if self.origin else f"config(): `{self.key}` {self.message}"


@dataclass(frozen=True)
class MergedHeader:
    """The keys of all levels, each value checked by itself, with the level that each comes from."""

    values: Mapping[str, Any] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)
    faults: tuple[HeaderFault, ...] = ()


def read_header(source: str, path: Path, context: RenderContext) -> Header:
    """Read `config()` by rendering the file up to it. It must say the same for a full and for an incremental read.

    Raises ModelError with the line: a Jinja error above or in the call, none or two calls, an undefined name.
    """
    call = header_call(source, path)
    full, incremental = (_record(source, path, mode, call) for mode in _both_modes(context))
    for key in full.keys() | incremental.keys():
        if full.get(key) != incremental.get(key):
            raise ModelError(
                f"config(): `{key}` depends on is_incremental()",
                path=path,
                line=call.lines.get(key, call.line),
                hint="the header is read once for all runs; use is_incremental() in the SQL only.",
            )
    return Header(full, call)


_DBT_KEYS = (
    "alias", "contract", "database", "grants", "incremental_strategy", "indexes", "materialized", "on_schema_change",
    "partition_by", "persist_docs", "post_hook", "pre_hook", "quoting", "schema", "transient",
)  # fmt: skip
"""What models of dbt have in their headers, and copies of them bring along."""


def check_level(raw: Mapping[str, Any], origin: str = "") -> tuple[dict[str, Any], list[HeaderFault]]:
    """The values of one level in the types of `Model`, and every fault; null values stay None."""
    values: dict[str, Any] = {}
    faults: list[HeaderFault] = []
    for key, value in raw.items():
        if key not in PARSERS:
            known = nearest(str(key), PARSERS) or f" (known: {', '.join(PARSERS)})"
            if key in _DBT_KEYS:
                known = ": it tells dbt what to build, and a model here is only read"
            faults.append(HeaderFault(str(key), f"is not a header key{known}", origin))
            continue
        try:
            values[key] = None if value is None else PARSERS[key](value)
        except ValueError as error:
            faults.append(HeaderFault(key, str(error), origin))
    return values, faults


def merge(levels: Sequence[tuple[str, Mapping[str, Any]]]) -> MergedHeader:
    """Put (origin, raw values) together, the later level over the earlier."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    faults: list[HeaderFault] = []
    for origin, raw in levels:
        level, wrong = check_level(raw, origin)
        faults += wrong
        for key, value in level.items():
            if key == "tags" and value is not None:
                values[key] = tuple(dict.fromkeys((*(values.get(key) or ()), *value)))
            elif key == "meta" and value is not None:
                values[key] = {**(values.get(key) or {}), **value}
            else:
                values[key] = value
            origins[key] = origin
    given = {key: value for key, value in values.items() if value is not None}
    return MergedHeader(given, origins, tuple(faults))


def build(
    name: str, path: Path, sql: str, header: Header, merged: MergedHeader, *, source: str, defaults: str
) -> Model:
    """The checked Model. `defaults` is the origin of the YAML's defaults, `source` the YAML's `userpilot.source`.

    Raises one ModelError with every fault of the header, each with its line.
    """
    faults = list(merged.faults)
    values = dict(merged.values)
    if "event" not in values and not any(fault.key == "event" for fault in faults):
        faults.append(HeaderFault("event", f"is missing: one of {', '.join(EventType)}"))
    if not faults:
        _derive(values, source)
        for key, message in list(_misfits(values)):
            if merged.origins.get(key) == defaults:
                del values[key]
            else:
                faults.append(HeaderFault(key, message, merged.origins.get(key, "")))
        faults += [HeaderFault(key, message) for key, message in _lacking(values)]
    if faults:
        raise _as_error(faults, path, header)
    return Model(name=name, path=path, sql=sql, **values)


def _both_modes(context: RenderContext) -> Iterator[RenderContext]:
    for incremental in (False, True):
        yield replace(context, incremental=incremental, cursor_from="NULL")


def _record(source: str, path: Path, context: RenderContext, call: HeaderCall) -> dict[str, Any]:
    recorded: dict[str, Any] = {}

    def config(**keys: Any) -> str:
        # Generators run here, inside of the rendering, where their faults get a line.
        recorded.update({key: _plain(value, key, call) for key, value in keys.items()})
        raise HeaderRead

    with suppress(HeaderRead):
        evaluate(source, path, context, config)
    return recorded


def _plain(value: Any, key: str, call: HeaderCall) -> Any:
    """The value, lists for every kind of sequence. ModelError for undefined names and for what no YAML could hold."""
    if isinstance(value, Undefined):
        raise ModelError(
            f"config(): `{key}` holds `{value._undefined_name}`, which is undefined",
            line=call.lines.get(key, 0),
            hint="text stands in quotes; values of the YAML come from var('…').",
        )
    if value is None or isinstance(value, str | bool | int | float | date | timedelta):
        return value
    if isinstance(value, Mapping):
        return {_plain(name, key, call): _plain(item, key, call) for name, item in value.items()}
    if isinstance(value, Iterable):
        return [_plain(item, key, call) for item in value]
    raise ModelError(
        f"config(): `{key}` holds something that is neither text, number, list nor mapping", line=call.line
    )


def _as_error(faults: Sequence[HeaderFault], path: Path, header: Header) -> ModelError:
    """All faults in one error, in the order of their lines; the first line is the error's own."""
    placed = sorted((header.call.line if f.origin else header.line(f.key), str(f)) for f in faults)
    first, *rest = placed
    message = "\n".join([first[1], *(f"  line {line}: {text}" for line, text in rest)])
    return ModelError(message, path=path, line=first[0])


# Values, key by key. Each parser takes a plain value that is not None and raises ValueError with a predicate.


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be text, not {_kind(value)}")
    return value


def _name(value: Any) -> str:
    if not _text(value).strip():
        raise ValueError("must not be empty")
    return str(value)


def _names(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"must be a name or a list of names, not {_kind(value)}")
    names = tuple(_name(item) for item in value)
    _refuse_twins(names, "names")
    return names


def _key_names(value: Any) -> tuple[str, ...]:
    names = _names(value)
    if not names:
        raise ValueError("must name at least one column")
    return names


def _tags(value: Any) -> tuple[str, ...]:
    tags = _names(value)
    for tag in tags:
        if any(character.isspace() or character == "," for character in tag):
            raise ValueError("must hold no blanks and commas: --select could not name such a tag")
    return tags


def _flag(value: Any) -> bool:
    # env_var() gives text only.
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {_kind(value)}")
    return value


def _one_of(*allowed: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if not isinstance(value, str) or value not in allowed:
            close = nearest(value, allowed) if isinstance(value, str) else ""
            raise ValueError(f"must be one of {', '.join(allowed)}, not {_kind(value)}{close}")
        return value

    return parse


def _event(value: Any) -> EventType:
    return EventType(_one_of(*EventType)(value))


def _distance(value: Any) -> timedelta | int:
    """A whole number (integer cursors) or a duration (dates and timestamps)."""
    if isinstance(value, str) and not value.strip().isdecimal():
        try:
            return parse_duration(value)
        except UnitError as error:
            raise ValueError(f"holds {_kind(value)}, which {error}") from None
    if isinstance(value, bool) or not isinstance(value, int | str | timedelta):
        raise ValueError(f"must be a duration such as 15m or 7 days, or a whole number, not {_kind(value)}")
    if isinstance(value, timedelta):
        return value
    distance = int(value)
    if distance < 0:
        raise ValueError("must not be negative")
    return distance


def _slice(value: Any) -> timedelta | int:
    distance = _distance(value)
    if not distance:
        raise ValueError("must be greater than zero")
    return distance


def _begin(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(
            f"must be 'all', 'now' or a value of the cursor, as text or a whole number, not {_kind(value)}"
        )
    text = str(value).strip()
    if not text or not text.isprintable():
        raise ValueError("must be 'all', 'now' or a value of the cursor, and not empty")
    return text.lower() if text.lower() in ("all", "now") else text


def _rename(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(item, str) for pair in value.items() for item in pair):
        raise ValueError("must give each column a name: {'old': 'new'}")
    for column, final in value.items():
        if not column.strip() or not final.strip() or final == "metadata.":
            raise ValueError("must not hold an empty name")
    _refuse_twins(value, "columns")
    _refuse_twins(value.values(), "final names")
    return dict(value)


def _meta(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"must be a mapping, not {_kind(value)}")
    return value


def _refuse_twins(names: Iterable[str], what: str) -> None:
    """Warehouses compare names without case, so two that differ in nothing else are one."""
    seen: set[str] = set()
    for name in names:
        if name.casefold() in seen:
            raise ValueError(f"holds two equal {what}: {name}")
        seen.add(name.casefold())


def _kind(value: Any) -> str:
    """What a value is, in the user's words: a short text as it is written, unless a variable of the YAML held it."""
    if isinstance(value, str) and _SHORT.fullmatch(value) and not isinstance(value, Expanded):
        return f"`{value}`"
    kinds = {bool: "a boolean", int: "a number", float: "a number", dict: "a mapping", list: "a list"}
    kinds |= {str: "text", Expanded: "the value of a variable"}
    return kinds.get(type(value), "this kind of value")


PARSERS: dict[str, Callable[[Any], Any]] = {
    "event": _event,
    "unique_key": _key_names,
    "cursor": _name,
    "lag": _distance,
    "begin": _begin,
    "slice": _slice,
    "null_cursor": _one_of("reject", "skip", "include"),
    "always": _flag,
    "full_refresh": _flag,
    "nulls": _one_of("send", "omit"),
    "nested": _one_of("json", "flatten", "error"),
    "context": _flag,
    "source": _one_of(*get_args(Source)),
    "rename": _rename,
    "exclude_columns": _names,
    "ignore_changes": _names,
    "on_removed": _one_of("ignore", "report"),
    "dropped": _names,
    "partial": _flag,
    "enabled": _flag,
    "tags": _tags,
    "description": _text,
    "meta": _meta,
}
"""Every header key (design: "The model file"), with what reads its value."""


def _derive(values: dict[str, Any], source: str) -> None:
    """Fill in the defaults that depend on the event type or on other keys."""
    event: EventType = values["event"]
    values.setdefault("source", source)
    values.setdefault("full_refresh", event.is_identify)
    values.setdefault("nulls", "send" if event.is_identify else "omit")
    if event.is_identify:
        # `unique_key` holds the warehouse's names, so a column renamed to the field stands for it.
        final = DEFAULT_KEYS[event]
        renamed = (column for column, name in values.get("rename", {}).items() if name.casefold() == final)
        values.setdefault("unique_key", (next(renamed, final),))
        if "cursor" in values:
            values.setdefault("begin", "all")


def _misfits(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Keys whose value says nothing, or something wrong, for this event type, cursor and unique_key."""
    event: EventType = values["event"]
    cursor, keyed = "cursor" in values, "unique_key" in values
    for key in ("lag", "begin", "slice", "null_cursor"):
        if key in values and not cursor:
            yield key, "needs a `cursor`: without one every run reads all rows"
    if cursor and values.get("lag") and not keyed:
        yield "lag", f"must be 0 for {event} without `unique_key`: rows read again could not be told from new ones"
    if cursor and values.get("null_cursor") == "include" and not keyed:
        yield "null_cursor", "can be include only with a `unique_key`: such rows are read by every run"
    if values.get("context") and event is not EventType.IDENTIFY_USER:
        yield "context", f"is for identify_user only, not for {event}"
    if values.get("partial") and not event.is_identify:
        yield "partial", f"is for identify_user and identify_company, not for {event}"
    if values.get("on_removed") == "report" and not event.is_identify:
        yield "on_removed", f"can be report only for identify_user and identify_company, not for {event}"
    elif values.get("on_removed") == "report" and cursor:
        yield "on_removed", "can be report only without a `cursor`: with one, no run sees all rows"


def _lacking(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Keys that must be given and are not."""
    event: EventType = values["event"]
    if event.is_identify:
        return
    if "cursor" in values and "begin" not in values:
        yield (
            "begin",
            f"is required for {event} with a `cursor`, since events cannot be taken back: "
            "'all', 'now', or the first value of the cursor to send",
        )
    if "cursor" not in values and "unique_key" not in values and not values.get("always"):
        yield (
            "cursor",
            f"is missing: {event} needs a `cursor`, a `unique_key`, or always=true; "
            "without them every run would send every row again",
        )


__all__ = [
    "DEFAULT_KEYS",
    "PARSERS",
    "Header",
    "HeaderFault",
    "MergedHeader",
    "build",
    "check_level",
    "merge",
    "read_header",
]
