"""The fields of a line: their expressions, and what has to be true of them (pages "Event Schema", "Row Validation").

`hostname` and `pathname` come out of `url` where a row has one, and all three are sent; the pathname of a bare host
is `/`. Ids, urls and required fields refuse NUL characters, and required ones NULL, '' and text of nothing but white
space, separators and control characters; all others are left out when NULL.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass

from warehouse_sync.errors import ModelError
from warehouse_sync.events.columns import Mapped
from warehouse_sync.events.faults import Faults
from warehouse_sync.events.reasons import Note, Reason
from warehouse_sync.events.schema import REQUIRED, SOURCES, WEB_CLIENT, WEB_CLIENT_REQUIRED, Field, Kind
from warehouse_sync.events.shapes import Column, Shape
from warehouse_sync.events.sql import Check, Part, Text, quote
from warehouse_sync.events.types import clean_json, has_nul, invalid_utf8, to_json
from warehouse_sync.values import EventType, Model

BLANK = r"[\s\p{Z}\p{C}]*"
_SCHEME = r"^[A-Za-z][A-Za-z0-9+.-]*://"
_HOST = r"[^/?#:@\[\]\\\s\p{Z}\p{C}]+"
_PATH = r"(/[^?#]*)?(?:[?#]|$)"
SIMPLE_URL = f"{_SCHEME}({_HOST}){_PATH}"
FULL_URL = rf"{_SCHEME}(?:[^/?#]*@)?(\[[0-9A-Fa-f:.]+\]|{_HOST})(?::[0-9]*)?{_PATH}"


@dataclass(frozen=True)
class FieldSql:
    """One field of the line: `text` is its bare value, `json` its JSON text; with `always` no good row lacks it."""

    field: Field
    text: str
    json: str
    always: bool
    column: str

    def parts(self) -> list[Part]:
        """The field with its name and a comma before it; nothing where the value is NULL."""
        key = f',"{self.field.name}":'
        if self.always:
            return [Text(key), self.json]
        return [f"CASE WHEN {self.text} IS NULL THEN '' ELSE {quote(key)} END", self.json]


@dataclass(frozen=True)
class Origin:
    """Where a field's text comes from, when it is missing, and which part of it nobody has checked yet."""

    text: str
    column: Column
    missing: str
    unchecked: str


@dataclass(frozen=True)
class Fields:
    """The fields of a line in its order, without `event_type`, `inserted_at` and `metadata`, and their checks."""

    parts: tuple[FieldSql, ...]
    checks: tuple[Check, ...]
    notes: tuple[Check, ...]


def is_blank(text: str) -> str:
    """True for NULL, '' and text of nothing visible; text that begins with visible ASCII is denied at once."""
    return f"{text} IS NULL OR (({text} < '!' OR {text} >= chr(127)) AND regexp_full_match({text}, {quote(BLANK)}))"


def build_fields(model: Model, mapped: Mapped, faults: Faults) -> Fields:
    """Every field but the time: text, JSON, checks. `faults` takes wrong types and required fields that are lacking."""
    texts = _texts(model, mapped, faults)
    for require in (_require, _require_source, _require_web):
        with faults.met():
            require(model, texts.keys() | faults.fields)
    required = REQUIRED[model.event] | (WEB_CLIENT_REQUIRED if _always_web(model, texts) else frozenset())
    parts: list[FieldSql] = []
    checks: list[Check] = []
    notes: list[Check] = []
    for field in mapped.kinds:
        if field.name not in texts:
            continue
        text, column = texts[field.name].text, texts[field.name].column
        unchecked = texts[field.name].unchecked
        strict = field.kind in {Kind.ID, Kind.URL} or field.name in required
        number = _is_number(column)
        plain = strict or number or not unchecked or field.name == "source"
        quoted = to_json(text) if plain else clean_json(text)
        json = text if field.kind is Kind.INTEGER else quoted
        always = field.name in required or field.name == "source"
        parts.append(FieldSql(field, text, json, always, column.name))
        if field.name in required and field.missing:
            checks.append(Check(field.missing, texts[field.name].missing, column.name))
        if unchecked:
            checks.append(Check(Reason.INVALID_UTF8, invalid_utf8(unchecked), column.name))
            flags, flag = (checks, Reason.NUL_CHARACTER) if strict else (notes, Note.NUL_REMOVED)
            flags.append(Check(flag, has_nul(unchecked), column.name))
    checks += _source_checks(model, texts)
    if "url" in texts:
        text, column = texts["url"].text, texts["url"].column
        checks.append(Check(Reason.URL_INVALID, f"{text} IS NOT NULL AND {_url_host(text)} = ''", column.name))
    if mapped.event_type is not None:
        with faults.met():
            text = _text_of(model, mapped.event_type, "event_type")
            mismatch = f"({text} = {quote(model.event.value)}) IS NOT TRUE"
            checks.append(Check(Reason.EVENT_TYPE_MISMATCH, mismatch, mapped.event_type.name))
    return Fields(tuple(parts), tuple(checks), tuple(notes))


def _texts(model: Model, mapped: Mapped, faults: Faults) -> dict[str, Origin]:
    """Where every field's text comes from; hostname and pathname out of url where there is one."""
    texts: dict[str, Origin] = {}
    for field in mapped.kinds:
        column = mapped.fields.get(field.name)
        if column is None or field.kind is Kind.TIME:
            continue
        with faults.met(field.name):
            text = _integer_of(model, column) if field.kind is Kind.INTEGER else _text_of(model, column, field.name)
            if _is_number(column):
                texts[field.name] = Origin(text, column, f"{text} IS NULL", "")
            else:
                texts[field.name] = Origin(text, column, is_blank(text), text)
    if "url" in texts:
        url, column = texts["url"].text, texts["url"].column
        for name, derived in (("hostname", _url_host(url)), ("pathname", _url_path(url))):
            own = texts.get(name)
            if own is None:
                texts[name] = Origin(derived, column, f"{url} IS NULL", "")
            else:
                text = f"coalesce({derived}, {own.text})"
                texts[name] = Origin(text, column, f"{url} IS NULL AND ({own.missing})", own.unchecked)
    return texts


def _is_number(column: Column) -> bool:
    """True when the text of a value can only be digits."""
    return column.shape in {Shape.INTEGER, Shape.DECIMAL}


def _text_of(model: Model, column: Column, field: str) -> str:
    """The text of an id or text field: text, UUID, enum, integers, decimals without a fraction."""
    allowed = {Shape.TEXT, Shape.INTEGER, Shape.NULL}
    if column.shape in allowed or (column.shape is Shape.DECIMAL and _scale(column) == 0):
        return f"{column.sql}::varchar"
    raise ModelError(
        f"column {column.name!r} is {column.type_name}, and {field} has to be text, UUID, enum or a whole number",
        path=model.path,
        hint=f"Cast it to text in the query, or rename: {{{column.name}: metadata.{field}}} to send it as a property.",
    )


def _integer_of(model: Model, column: Column) -> str:
    if column.shape in {Shape.INTEGER, Shape.NULL} or (column.shape is Shape.DECIMAL and _scale(column) == 0):
        return f"{column.sql}::varchar"
    raise ModelError(
        f"column {column.name!r} is {column.type_name}, and has to be a whole number",
        path=model.path,
        hint="Cast it to INTEGER in the query.",
    )


def _scale(column: Column) -> int:
    if column.native == "NUMERIC":  # text of any digits: a fraction may come
        return 1
    return int(getattr(column.type, "scale", getattr(getattr(column.type, "value_type", None), "scale", 0)))


def _require(model: Model, there: Set[str]) -> None:
    """ModelError when the query returns no column for a field that every row needs."""
    lacking = sorted((REQUIRED[model.event] - {"inserted_at"}) - there)
    if lacking:
        also = " (or url, which gives both)" if "hostname" in lacking or "pathname" in lacking else ""
        raise ModelError(
            f"{model.event.value} needs {' and '.join(lacking)}{also}, which the query does not return",
            path=model.path,
            hint=f"Select it under that name, or rename: {{your_column: {lacking[0]}}}.",
        )


def _require_source(model: Model, _there: Set[str]) -> None:
    if model.source not in SOURCES:
        raise ModelError(
            f"source {model.source!r} is unknown", path=model.path, hint="Allowed are " + ", ".join(SOURCES) + "."
        )


def _require_web(model: Model, there: Set[str]) -> None:
    lacking = sorted(WEB_CLIENT_REQUIRED - there) if _always_web(model, there) else []
    if lacking:
        raise ModelError(
            f"source web-client needs {', '.join(lacking)}, which the query does not return",
            path=model.path,
            hint="Return hostname, pathname (or url) and user_agent (identify_user: with context: true), or use another"
            " source (backend-http-import is the one for imports).",
        )


def _always_web(model: Model, texts: Collection[str]) -> bool:
    """True when every row is a web-client's. Of companies nothing but id, source, time and metadata is read."""
    return model.source == WEB_CLIENT and "source" not in texts and model.event is not EventType.IDENTIFY_COMPANY


def _source_checks(model: Model, texts: Mapping[str, Origin]) -> list[Check]:
    """The allowed values of a `source` column, and what a web-client's rows need besides."""
    if "source" not in texts:
        return []
    source, column = texts["source"].text, texts["source"].column
    allowed = ", ".join(quote(value) for value in SOURCES)
    checks = [Check(Reason.UNKNOWN_SOURCE, f"({source} IN ({allowed})) IS NOT TRUE", column.name)]
    needed = {
        "hostname": Reason.HOSTNAME_MISSING,
        "pathname": Reason.PATHNAME_MISSING,
        "user_agent": Reason.USER_AGENT_MISSING,
    }
    for name, reason in needed.items():
        lacking = texts[name].missing if name in texts else "true"
        about = texts[name].column.name if name in texts else column.name
        checks.append(Check(reason, f"{source} = {quote(WEB_CLIENT)} AND ({lacking})", about))
    return checks


def _url_host(url: str) -> str:
    """The host of a URL: NULL without one, '' when the URL has none.

    The simple form is tried first, being much cheaper, and outside of any condition, so that DuckDB does it once.
    """
    simple, full = _parts(url, SIMPLE_URL), _parts(url, FULL_URL)
    return f"CASE WHEN {simple}.h <> '' THEN {simple}.h WHEN {url} IS NOT NULL THEN {full}.h END"


def _url_path(url: str) -> str:
    """The path of a URL, '/' where it has none; NULL without a URL."""
    simple, full = _parts(url, SIMPLE_URL), _parts(url, FULL_URL)
    path = f"CASE WHEN {simple}.h <> '' THEN {simple}.p WHEN {url} IS NOT NULL THEN {full}.p END"
    return f"CASE {path} WHEN '' THEN '/' ELSE {path} END"


def _parts(url: str, pattern: str) -> str:
    return f"regexp_extract({url}, {quote(pattern)}, ['h', 'p'])"
