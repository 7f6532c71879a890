"""Rows as the sandbox checks them, and Elixir's way to print one.

Rules: the pages Event Schema [ES] and Row Validation [RV]. One failure shape is documented, for a missing field; the
others are written after it. No page says what becomes of bad JSON; the sandbox refuses what strict readers refuse:
NaN, keys given twice, halves of surrogate pairs, bytes that are not UTF-8.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

SOURCES = frozenset(
    {"web-client", "backend-http", "backend-hubspot", "backend-salesforce", "backend-segment", "backend-http-import"}
)  # [RV]
REQUIRED: dict[str, tuple[str, ...]] = {  # [ES]; `metadata` defaults to {} [RV]
    "identify_user": ("user_id", "source", "inserted_at"),
    "identify_company": ("company_id", "source", "inserted_at"),
    "page_view": ("user_id", "hostname", "pathname", "source", "inserted_at"),
    "track": ("user_id", "event_name", "source", "inserted_at"),
}
WEB_CLIENT = ("hostname", "pathname", "user_agent")  # [RV]
FROM_URL = frozenset({"hostname", "pathname"})  # `url` gives both [RV]

INSPECT_LIMIT = 50  # entries of a collection, as Elixir's inspect/2 prints by default
INSPECT_PRINTABLE = 4096  # characters of a text


class Checked(NamedTuple):
    """A file's verdict: how many rows, and why the first bad one is bad ('' when all are good)."""

    rows: int
    reason: str = ""


def check_file(path: Path, file_name: str) -> Checked:
    """Check an uploaded file; the first bad row fails it all, as on page "Import API"."""
    if file_name.lower().endswith(".csv"):
        return Checked(0, "This sandbox reads NDJSON only, not CSV")
    rows = 0
    for line in lines(path):
        rows += 1
        reason = check_line(line)
        if reason:
            return Checked(0, reason)
    return Checked(rows, "" if rows else "The file holds no rows")


def lines(path: Path) -> Iterator[bytes]:
    """The lines of a file as they are, without their newline."""
    with path.open("rb") as file:
        for line in file:
            yield line.removesuffix(b"\n")


def check_line(line: bytes) -> str:
    """Why a line is refused, '' for a good one."""
    try:
        row = _DECODER.decode(line.decode("utf-8"))
        if b"\\u" in line:
            json.dumps(row, ensure_ascii=False).encode("utf-8")  # half of a surrogate pair is no text
        if not isinstance(row, dict):
            return "A row is not a JSON object"
        problem = check_row(row)
        return f"{problem} in the row: {inspect(row)}" if problem else ""
    except (ValueError, RecursionError):
        return "Invalid JSON in the file"


def check_row(row: Mapping[str, Any]) -> str:
    """What is wrong with a row, '' when nothing is."""
    event = row.get("event_type")
    if not isinstance(event, str) or event not in REQUIRED:
        return "Unknown value of field `event_type` provided"
    fields = REQUIRED[event]
    if event != "identify_company" and row.get("source") == "web-client":
        fields += WEB_CLIENT
    for name in fields:
        value = row.get(name)
        if value in (None, "") and not (name in FROM_URL and row.get("url")):
            return f"Required field `{name}` not provided"
        if value is not None and not isinstance(value, str):
            return f"Field `{name}` is not a string"
    if row["source"] not in SOURCES:
        return "Unknown value of field `source` provided"
    if not isinstance(row.get("metadata", {}), dict):
        return "Field `metadata` is not an object"
    try:
        datetime.fromisoformat(row["inserted_at"])
    except ValueError:
        return "Field `inserted_at` is not an ISO 8601 time"
    return ""


def find_row(path: Path, key: str) -> tuple[int, dict[str, Any]] | None:
    """The first row whose user_id or company_id is `key`, with its number from 0."""
    for number, line in enumerate(lines(path)):
        row = json.loads(line)
        if key in (row.get("user_id"), row.get("company_id")):
            return number, row
    return None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        raise ValueError("a key twice in one object")
    return row


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


# -- Elixir's inspect/2 --------------------------------------------------------------------------------------------

_CONTROLS = {
    "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", "\b": "\\b", "\f": "\\f", "\x1b": "\\e", "\x7f": "\\d",
    "\a": "\\a", '"': '\\"', "\\": "\\\\", "#{": "\\#{", "\ufeff": "\\uFEFF",
}  # fmt: skip
_ESCAPED = re.compile(r'["\\\n\r\t\v\x08\f\x1b\x7f\x07\ufeff]|#\{')
_UNPRINTABLE = re.compile(r"[\x00-\x06\x0e-\x1a\x1c-\x1f\x80-\x9f]")


def inspect(value: Any) -> str:
    """A JSON value as Elixir prints it: keys sorted, long collections and texts cut with `...`."""
    if value is None or isinstance(value, bool):
        return {None: "nil", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return _inspect_text(value)
    if isinstance(value, float):
        mantissa, _, exponent = repr(value).partition("e")
        return f"{mantissa if '.' in mantissa else mantissa + '.0'}e{int(exponent)}" if exponent else mantissa
    if isinstance(value, dict):
        entries = [f"{inspect(key)} => {inspect(value[key])}" for key in sorted(value)[:INSPECT_LIMIT]]
        return f"%{{{', '.join(entries + _rest(value))}}}"
    if isinstance(value, list):
        if value and all(isinstance(item, int) and (32 <= item < 127 or 7 <= item <= 13) for item in value):
            return "~c" + _inspect_text("".join(map(chr, value)))
        return f"[{', '.join([inspect(item) for item in value[:INSPECT_LIMIT]] + _rest(value))}]"
    return str(value)


def _rest(items: dict[str, Any] | list[Any] | bytes) -> list[str]:
    return ["..."] if len(items) > INSPECT_LIMIT else []


def _inspect_text(text: str) -> str:
    if _UNPRINTABLE.search(text):
        content = text.encode("utf-8", "surrogatepass")
        return f"<<{', '.join([str(byte) for byte in content[:INSPECT_LIMIT]] + _rest(content))}>>"
    shown = _ESCAPED.sub(lambda match: _CONTROLS[match.group()], text[:INSPECT_PRINTABLE])
    return f'"{shown}"' + (" <> ..." if len(text) > INSPECT_PRINTABLE else "")


__all__ = ["Checked", "check_file", "check_line", "check_row", "find_row", "inspect", "lines"]
