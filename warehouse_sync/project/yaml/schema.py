"""The JSON Schema of the YAML file, for editors: pydantic's, made to accept what the file accepts."""

from __future__ import annotations

import ast
import inspect
from typing import Any

from pydantic import AliasChoices

from warehouse_sync.project.yaml import connections, settings

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_VARIABLE = {
    "type": "string",
    "pattern": r"\$\{[A-Za-z_]|\{\{\s*env_var\(",
    "description": "A variable of the environment: ${NAME}, ${NAME:-default} or {{ env_var('NAME', 'default') }}.",
}
_SNAPSHOT_RULES = [
    {
        "if": {"properties": {"where": {"const": "warehouse"}}, "required": ["where"]},
        "then": {"properties": {"schema": {"type": "string"}}, "required": ["schema"]},
    },
    {
        "if": {
            "properties": {"schema": {"type": "string", "not": {"$ref": "#/$defs/Variable"}}},
            "required": ["schema"],
        },
        "then": {"properties": {"where": {"not": {"const": "local"}}}, "required": ["where"]},
    },
]
"""What the keys of `snapshot` need of each other."""


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the file: every key with its sentence and default.

    A variable is allowed wherever a number, boolean, duration, size or word of a list is; a section may be empty.
    """
    schema = settings.Config.model_json_schema(by_alias=True, mode="validation")
    definitions = schema.pop("$defs")
    definitions["Config"] = schema
    sentences = _sentences()
    for name, definition in definitions.items():
        definition.pop("title", None)
        for key, subschema in definition.get("properties", {}).items():
            subschema.pop("title", None)
            subschema["description"] = sentences[name, key]
            _accept_variables(subschema)
            _accept_nothing(subschema)
        if name == "PostgresWarehouse":
            _accept_aliases(definition)
    for key, subschema in schema["properties"].items():
        if "$ref" in subschema and key not in schema["required"]:
            subschema["anyOf"] = [{"$ref": subschema.pop("$ref")}, {"type": "null"}]
    _accept_profile(schema["properties"]["warehouse"], definitions)
    definitions["Snapshot"]["allOf"] = _SNAPSHOT_RULES
    del definitions["Config"]
    definitions["Variable"] = _VARIABLE
    return {
        "$schema": _DIALECT,
        "title": "warehouse-sync",
        "description": "One pipeline of warehouse-sync: from one warehouse to one Userpilot account.",
        **{key: value for key, value in schema.items() if key != "description"},
        "$defs": definitions,
    }


def _accept_variables(subschema: dict[str, Any]) -> None:
    """Let `${NAME}` stand for everything but text, which it is already, and objects."""
    branches = subschema.get("anyOf", [subschema])
    typed = any(branch.get("type") in ("integer", "number", "boolean") or "enum" in branch or "pattern" in branch
                for branch in branches)  # fmt: skip
    if not typed:
        return
    if "anyOf" not in subschema:
        kept = {key: subschema.pop(key) for key in list(subschema) if key not in ("default", "description")}
        subschema["anyOf"] = [kept]
    subschema["anyOf"].append({"$ref": "#/$defs/Variable"})


def _accept_nothing(subschema: dict[str, Any]) -> None:
    """Let null stand for an empty mapping or list: all below the key may be commented out."""
    if subschema.get("default") not in ({}, []) or "type" not in subschema:
        return
    of_one = subschema.get("additionalProperties")
    if isinstance(of_one, dict) and of_one.get("type") == "object":
        subschema["additionalProperties"] = {"anyOf": [of_one, {"type": "null"}]}
    kept = {key: subschema.pop(key) for key in list(subschema) if key not in ("default", "description")}
    subschema["anyOf"] = [kept, {"type": "null"}]


def _accept_aliases(definition: dict[str, Any]) -> None:
    """dbt has two names for PostgreSQL's password and database; the loader takes either, the schema must too."""
    for field in connections.PostgresWarehouse.model_fields.values():
        if isinstance(field.validation_alias, AliasChoices):
            first, second = (str(alias) for alias in field.validation_alias.choices)
            definition["properties"][second] = definition["properties"][first]
            if first in definition["required"]:
                definition["required"].remove(first)
                definition["oneOf"] = [{"required": [first]}, {"required": [second]}]


def _accept_profile(warehouse: dict[str, Any], definitions: dict[str, Any]) -> None:
    """`warehouse: {dbt: …}`, which the loader turns into one of the types before anything else sees it."""
    inner = connections.DbtWarehouse.model_json_schema(by_alias=True, mode="validation")
    sentences = _sentences()
    for name, definition in (*inner.pop("$defs").items(), ("DbtWarehouse", inner)):
        definition.pop("title", None)
        for key, subschema in definition["properties"].items():
            subschema.pop("title", None)
            subschema["description"] = sentences[name, key]
        definitions[name] = definition
    choice = definitions["DbtWarehouse"]["properties"]["dbt"]
    choice["anyOf"] = [{"$ref": choice.pop("$ref")}, {"type": "null"}]
    warehouse["oneOf"].append({"$ref": "#/$defs/DbtWarehouse"})


def _sentences() -> dict[tuple[str, str], str]:
    """The string below each field of each section, by class and key. Read only when somebody asks: it costs 20 ms."""
    found: dict[tuple[str, str], str] = {}
    for section in (node for module in (connections, settings) for node in ast.parse(inspect.getsource(module)).body):
        if not isinstance(section, ast.ClassDef):
            continue
        for field, below in zip(section.body, section.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
            ):
                name = field.target.id
                found[section.name, "schema" if name == "schema_name" else name] = str(below.value.value)
    return found
