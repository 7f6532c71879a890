"""pydantic's errors as problems in the user's words: where in the file, which key, what to do.

No value of a secret key, no value that a variable held, and none of pydantic's own words come out of here.
"""

from __future__ import annotations

import re
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from warehouse_sync.project.names import nearest
from warehouse_sync.project.yaml import traps
from warehouse_sync.project.yaml.document import Document, KeyPath, dotted
from warehouse_sync.project.yaml.environment import REFERENCE
from warehouse_sync.project.yaml.fields import TypeMistake
from warehouse_sync.project.yaml.layout import WAREHOUSES, keys_of, known_keys, section_at
from warehouse_sync.project.yaml.settings import SCHEMA_TAG, TABLES_TAG

# The parts of an error's location that are names of union members, not keys of the file.
_TAGS = {*WAREHOUSES, SCHEMA_TAG, TABLES_TAG}

_MAPPING = "a mapping (lines of `key: value`)"
_SELECTORS = "; unlike dbt's, a selection is a name and what --select takes: `nightly: 'tag:daily event:track'`"
_EXPECTED = {
    "string_type": "text",
    "is_instance_of": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": _MAPPING,
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
}
_READ_AS = {"bool": "true or false", "int": "a number", "float": "a number", "timestamp": "a date"}
_LIMITS = {
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be greater than {gt:g}",
    "less_than_equal": "must be at most {le}",
    "finite_number": "must be a finite number",
    "int_parsing_size": "is too large",
    "string_too_short": "is empty",
}

_REQUIRED = {
    ("name",): "give this pipeline a name, such as `name: prod`",
    ("warehouse",): "where do the rows come from? `warehouse: {type: duckdb, path: warehouse.duckdb}`",
    ("warehouse", "type"): f"one of {', '.join(WAREHOUSES)}",
    ("userpilot",): "it holds `api_key: ${USERPILOT_API_KEY}`",
    ("userpilot", "api_key"): "`api_key: ${USERPILOT_API_KEY}`",
}

# Keys of dbt's profiles that copying a target brings along, and that mean nothing to a sync.
_DBT_KEYS = {
    "threads": "a key of dbt: here it is `engine.threads`",
    **dict.fromkeys(
        ("retries", "retry_all", "retry_on_database_errors", "reuse_connections", "extensions", "settings", "plugins",
         "external_root", "module_paths", "keep_open", "config_options", "disable_transactions", "insecure_mode"),
        "a key of dbt that a sync does not use: leave it out",
    ),
}  # fmt: skip
_OTHER_TYPES = {
    "postgresql": "postgres",
    "redshift": "postgres",
    "motherduck": "duckdb",
    **dict.fromkeys(("bigquery", "databricks", "mysql", "trino", "clickhouse", "sqlserver", "sqlite"), "sqlalchemy"),
}


def complain(error: ValidationError, document: Document) -> None:
    """Add every error to the document's problems, unless its place has one already, or its variable is empty."""
    for details in error.errors(include_url=False, include_input=False):
        path = _path(details["loc"], document.value)
        if document.covers(path) or document.is_empty(path):
            continue
        if details["type"] == "missing":
            _missing(path, document)
        elif details["type"] == "extra_forbidden":
            document.report(path, _unknown(path, document), at_key=True)
        elif details["type"].startswith("union_tag"):
            _untyped(path, document, invalid=details["type"] == "union_tag_invalid")
        else:
            document.report(path, _wrong(details, path, document))


def _path(location: tuple[str | int, ...], value: Any) -> KeyPath:
    """The place in the file: pydantic puts the name of the union's member between the keys."""
    path: list[str | int] = []
    for part in location:
        if part in _TAGS and not (isinstance(value, dict) and part in value):
            continue
        path.append(part)
        inside = isinstance(value, dict) or (isinstance(value, list) and isinstance(part, int))
        value = (value.get(part) if isinstance(value, dict) else value[part]) if inside else None
    return tuple(path)


def _missing(path: KeyPath, document: Document) -> None:
    hint = _REQUIRED.get(tuple(str(part) for part in path), "")
    document.report(path, "required, but missing" + (f": {hint}" if hint else ""), at_key=True)


def _untyped(path: KeyPath, document: Document, *, invalid: bool) -> None:
    """`warehouse` that is no mapping, without a type, or with one that does not exist."""
    inner = (*path, "type")
    if not isinstance(document.nodes.get(path), yaml.MappingNode):
        document.report(path, _mistyped(path, document, _MAPPING))
    elif not invalid:
        _missing(inner, document)
    elif not document.covers(inner) and not document.is_empty(inner):
        types = ", ".join(WAREHOUSES)
        written = str(document.value["warehouse"]["type"])
        near = f" (nearest: {_OTHER_TYPES[written]})" if written in _OTHER_TYPES else nearest(written, WAREHOUSES)
        document.report(inner, f"{_subject(inner, document)} must be one of {types}{near}")


def _unknown(path: KeyPath, document: Document) -> str:
    key = str(path[-1])
    kind = warehouse_type(document.value)
    section = section_at(path[:-1], kind)
    known = keys_of(section) if section else {}
    if key in known:
        other = next(name for name, field in known.items() if field is known[key] and name != key)
        return f"means the same as `{other}`, which is there too: remove one"
    if path[0] == "warehouse" and key in _DBT_KEYS:
        return _DBT_KEYS[key]
    plain = key.replace("-", "_")
    near = nearest(plain, known)
    if near:
        return f"unknown key{near}"
    if path[0] == "warehouse" and len(path) == 2:
        owners = [name for name, owner in WAREHOUSES.items() if plain in keys_of(owner)]
        if owners:
            return f"unknown key for type {kind}: it is one of {' and '.join(owners)}"
    elsewhere = [".".join(place) for place in known_keys() if place[-1] == plain and place[0] != "warehouse"]
    if elsewhere:
        return f"unknown key (nearest: {' or '.join(elsewhere)})"
    return f"unknown key; {dotted(path[:-1]) or 'this file'} can hold: {', '.join(known)}"


def warehouse_type(value: Any) -> str | None:
    """The text of `warehouse.type`, if there is one."""
    section = value.get("warehouse") if isinstance(value, dict) else None
    kind = section.get("type") if isinstance(section, dict) else None
    return str(kind) if isinstance(kind, str) else None


def _wrong(details: ErrorDetails, path: KeyPath, document: Document) -> str:
    kind = details["type"]
    context = details.get("ctx", {})
    subject = _subject(path, document)
    if kind == "value_error":
        cause = context["error"]
        if isinstance(cause, TypeMistake):
            return _mistyped(path, document, str(cause))
        return f"{subject} {cause}"
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", context["expected"]) or [context["expected"]]
        node = document.nodes.get(path)
        if not isinstance(node, yaml.ScalarNode) or not node.tag.endswith(":str"):
            return _mistyped(path, document, f"one of {', '.join(choices)}" if len(choices) > 1 else choices[0])
        more = ", without quotes" if node.value in choices else nearest(node.value, choices)
        return f"{subject} must be {'one of ' if len(choices) > 1 else ''}{', '.join(choices)}{more}"
    if kind in _LIMITS:
        return f"{subject} {_LIMITS[kind].format(**context)}"
    return _mistyped(path, document, _EXPECTED.get(kind, "another value"))


def _subject(path: KeyPath, document: Document) -> str:
    """What a message speaks of: the scalar as written, or the variable that it came from."""
    written = document.written(path)
    return f"the value of {written}" if REFERENCE.search(written) else written


def _mistyped(path: KeyPath, document: Document, expected: str) -> str:
    """A value of another type than its key's, with what YAML made of it."""
    node = document.nodes.get(path)
    form = _SELECTORS if path[0] == "selectors" else ""
    if isinstance(node, yaml.MappingNode):
        return f"must be {expected}, not a mapping{form}"
    if not isinstance(node, yaml.ScalarNode):
        return f"must be {expected}, not a list{form}"
    kind = node.tag.rpartition(":")[2]
    if kind == "null":
        return f"must be {expected}, not null" if node.value else f"has no value: must be {expected}"
    wants_text = expected == "text" or expected.startswith("one of ")
    if kind in _READ_AS and wants_text:
        read_as = traps.truth(node.value) if kind == "bool" else _READ_AS[kind]
        reads = f"YAML reads {document.written(path)} as {read_as}"
        return f"{reads}: quote it" if expected == "text" else f"{reads}; must be {expected}"
    if expected == _MAPPING and kind == "str":
        return f"must be {expected}, not text; {traps.SPACE_AFTER_COLON}"
    quoted = node.style in ("'", '"') and not REFERENCE.search(node.value) and re.fullmatch(r"[\w.+-]+", node.value)
    return f"{_subject(path, document)} must be {expected}" + (", without quotes" if quoted else "")
