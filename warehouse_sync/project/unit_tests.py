"""Unit tests of models as dbt writes them: `models_sql/**/tests/*.yml`, read into frozen values.

    unit_tests:
      - name: a_renamed_column            # required, once per model
        model: users                      # required
        description: what it shows
        now: 2025-04-01 12:00:00          # the clock of the run, UTC; else this machine's
        vars: {since: 2025}               # also dbt's overrides.vars
        given:
          - input: source('app', 'users') # or ref('dim_users'), ref('dim_users', v=2)
            rows: [{id: u1, mrr: 34.70}]  # format: dict (the default), csv or sql; or fixture: NAME
            types: {mrr: 'decimal(9, 2)'} # where the values alone do not say it
        overrides:
          macros: {is_incremental: true, cursor_from: 2025-03-01 00:00:00}
          env_vars: {REGION: eu}
        expect:
          rows: [{user_id: u1, MRR: 34.70}]
          refused: [{key: u2, reasons: [company_id_missing]}]

A value without quotes has YAML's type: a number with a point is a decimal, a date or time is one; quoted it is text. In
csv, a column is what all of its cells look like.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import yaml

from warehouse_sync.errors import ConfigError, Problem
from warehouse_sync.project.fixtures import CsvReader, FixtureError, csv_cells, csv_rows, find_fixture
from warehouse_sync.project.names import nearest
from warehouse_sync.project.relations import ref_call
from warehouse_sync.project.yaml.document import FAULT, DateText, Document, KeyPath, read_document
from warehouse_sync.project.yaml.fields import plain

FOLDER = "tests"

Format = Literal["dict", "csv", "sql"]
FORMATS: tuple[Format, ...] = ("dict", "csv", "sql")

_TOP = ("unit_tests", "version")
_TEST = ("name", "model", "description", "config", "now", "vars", "given", "overrides", "expect")
_CONFIG = ("enabled", "tags", "meta")
_GIVEN = ("input", "rows", "format", "fixture", "types")
_OVERRIDES = ("vars", "macros", "env_vars")
_MACROS = ("is_incremental", "cursor_from")
_EXPECT = ("rows", "refused", "format", "fixture")
_REFUSED = ("key", "reasons")

_INPUT = re.compile(r"(ref|source)\(\s*(.*?)\s*\)", re.DOTALL)
_QUOTED = re.compile(r"""\s*(['"])([^'"]+)\1\s*""")
_VERSION = re.compile(r"""\s*(?:v|version)\s*=\s*(['"]?)([\w.]+)\1\s*""")
_DECIMAL = re.compile(r"[-+]?[0-9]+\.[0-9]+")


@dataclass(frozen=True)
class Rows:
    """Rows as they are written: one mapping a row, or the text of a query in the warehouse's SQL."""

    rows: tuple[Mapping[str, Any], ...] = ()
    sql: str | None = None


@dataclass(frozen=True)
class Input:
    """What rows stand in for: `ref` with a name, or a package and a name; `source` with a schema and a table.

    `version`: the one of a `ref` that is meant, "" for any.
    """

    kind: Literal["ref", "source"]
    names: tuple[str, ...]
    version: str = ""

    def __str__(self) -> str:
        if self.kind == "ref":
            package = self.names[0] if len(self.names) > 1 else None
            return ref_call(self.names[-1], package, self.version or None)
        return f"source({', '.join(repr(name) for name in self.names)})"


@dataclass(frozen=True)
class Given:
    """The rows of one input; `types` names columns' types in the warehouse's SQL; `line` is that of `input`."""

    input: Input
    rows: Rows
    types: Mapping[str, str] = field(default_factory=dict)
    line: int = 0


@dataclass(frozen=True)
class Refused:
    """A row that must be refused: its key (None: whatever it is) and the codes of all its reasons."""

    key: str | None
    reasons: frozenset[str]


@dataclass(frozen=True)
class UnitTest:
    """One test of one model. `since`: what cursor_from() gives, None for a full read; `now` is aware, in UTC."""

    name: str
    model: str
    path: Path
    line: int
    given: tuple[Given, ...]
    expected: Rows
    refused: tuple[Refused, ...] = ()
    description: str = ""
    enabled: bool = True
    tags: tuple[str, ...] = ()
    now: datetime | None = None
    since: str | None = None
    vars: Mapping[str, Any] = field(default_factory=dict)
    env_vars: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """`model::name`, as dbt prints it."""
        return f"{self.model}::{self.name}"


def load_unit_tests(folder: Path, models: Sequence[str]) -> list[UnitTest]:
    """Every test in the `tests` folders below `folder`, by file and place.

    Raises ConfigError with every problem of every file: keys, values, fixtures, names of models.
    """
    found: list[UnitTest] = []
    problems: list[Problem] = []
    for path in _files(folder):
        try:
            document = read_document(path, None, lambda _path: "plain")
        except ConfigError as error:
            problems += error.problems
            continue
        if document.value is not FAULT:
            found += _File(document, path, models).tests()
        problems += document.problems
    if problems:
        raise ConfigError(problems)
    return found


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        folders = path.relative_to(folder).parts[:-1]
        hidden = path.name.startswith((".", "_")) or any(part.startswith(".") for part in folders)
        if FOLDER in folders and path.suffix.lower() in (".yml", ".yaml") and not hidden and path.is_file():
            yield path


class _File:
    """One file's tests; what is wrong goes into the document's problems, and a test with a problem is left out."""

    def __init__(self, document: Document, path: Path, models: Sequence[str]) -> None:
        self.document = document
        self.path = path
        self.models = models

    def tests(self) -> list[UnitTest]:
        top = self.mapping(self.document.value, (), _TOP, required=("unit_tests",))
        items = self.items(top.get("unit_tests"), ("unit_tests",))
        tests = [test for place, item in items if (test := self.test(item, place)) is not None]
        seen: dict[str, int] = {}
        for test in tests:
            if test.id in seen:
                self.report(("unit_tests",), f"`{test.id}` stands twice, in lines {seen[test.id]} and {test.line}")
            seen[test.id] = test.line
        return tests

    def test(self, raw: Any, place: KeyPath) -> UnitTest | None:
        before = len(self.document.problems)
        keys = self.mapping(raw, place, _TEST, required=("name", "model", "given", "expect"))
        overrides = self.mapping(keys.get("overrides") or {}, (*place, "overrides"), _OVERRIDES)
        expect = self.mapping(keys.get("expect") or {}, (*place, "expect"), _EXPECT)
        config = self.mapping(keys.get("config") or {}, (*place, "config"), _CONFIG)
        model = self.text(keys.get("model"), (*place, "model"))
        if model and model not in self.models:
            self.report((*place, "model"), f"there is no such model{nearest(model, self.models)}")
        given = [
            one
            for where, item in self.items(keys.get("given"), (*place, "given"))
            if (one := self.given(item, where)) is not None
        ]
        self.check_inputs(given, (*place, "given"))
        tags = config.get("tags", [])
        test = UnitTest(
            name=self.text(keys.get("name"), (*place, "name")),
            model=model,
            path=self.path,
            line=self.document.key_place(place)[0],
            given=tuple(given),
            expected=self.expected(expect, (*place, "expect")),
            refused=tuple(self.refused(expect.get("refused"), (*place, "expect", "refused"))),
            description=str(keys.get("description") or ""),
            enabled=self.flag(config.get("enabled", True), (*place, "config", "enabled")),
            tags=tuple(map(str, tags if isinstance(tags, list) else [tags])),
            now=self.now(keys.get("now"), (*place, "now")),
            since=self.since(overrides, (*place, "overrides", "macros")),
            vars={
                **plain(self.free(keys.get("vars"), (*place, "vars"))),
                **plain(self.free(overrides.get("vars"), (*place, "overrides", "vars"))),
            },
            env_vars={
                name: str(value)
                for name, value in self.free(overrides.get("env_vars"), (*place, "overrides", "env_vars")).items()
            },
        )
        return test if len(self.document.problems) == before else None

    # Parts of a test

    def given(self, raw: Any, place: KeyPath) -> Given | None:
        keys = self.mapping(raw, place, _GIVEN, required=("input",))
        if "input" not in keys:
            return None
        text = self.text(keys["input"], (*place, "input"))
        types = {name: str(kind) for name, kind in self.free(keys.get("types"), (*place, "types")).items()}
        rows = self.rows(keys, place)
        self.check_types(types, rows, (*place, "types"))
        input_ = _input(text)
        if input_ is None:
            known = "ref('name'), ref('package', 'name') (with v=2 for one version) or source('schema', 'table')"
            self.report((*place, "input"), f"must be {known}")
            return None
        line, _ = self.document.value_place((*place, "input"))
        return Given(input_, rows, types, line)

    def check_inputs(self, given: Sequence[Given], place: KeyPath) -> None:
        """The rows of the second one would silently replace those of the first."""
        lines: dict[Input, int] = {}
        for one in given:
            if one.input in lines:
                self.report(place, f"{one.input} stands twice, in lines {lines[one.input]} and {one.line}", at_key=True)
            lines[one.input] = one.line

    def check_types(self, types: Mapping[str, str], rows: Rows, place: KeyPath) -> None:
        """The type of a column that is not there would say nothing. A table without rows has none to be judged by."""
        columns = dict.fromkeys(name for row in rows.rows for name in row)
        there = {name.casefold() for name in columns}
        for name in types:
            if rows.sql is not None:
                self.report((*place, name), "does not go with a query: let that cast the column", at_key=True)
            elif there and name.casefold() not in there:
                message = f"the rows have no such column{nearest(name, columns)}"
                self.report((*place, name), message, at_key=True)

    def rows(self, keys: Mapping[str, Any], place: KeyPath, read: CsvReader = csv_rows) -> Rows:
        """`rows` or `fixture`, in their format; `read` is what becomes of CSV."""
        format_ = keys.get("format", "dict")
        if format_ not in FORMATS:
            self.report((*place, "format"), f"must be {', '.join(FORMATS)}")
            return Rows()
        if ("rows" in keys) is ("fixture" in keys):
            self.report(place, "needs `rows` or `fixture`, one of them", at_key=True)
            return Rows()
        try:
            if "fixture" in keys:
                return self.fixture(self.text(keys["fixture"], (*place, "fixture")), keys.get("format"), read)
            if format_ == "dict":
                return Rows(tuple(self.row(item, where) for where, item in self.items(keys["rows"], (*place, "rows"))))
            text = self.text(keys["rows"], (*place, "rows"))
            return Rows(sql=text) if format_ == "sql" else Rows(read(text))
        except FixtureError as error:
            self.report((*place, "fixture" if "fixture" in keys else "rows"), str(error))
            return Rows()

    def fixture(self, name: str, format_: str | None, read: CsvReader) -> Rows:
        path, text = find_fixture(self.path.parent, name, format_)
        return Rows(sql=text) if path.suffix.lower() == ".sql" else Rows(read(text))

    def row(self, raw: Any, place: KeyPath) -> dict[str, Any]:
        return {name: self.value(cell, (*place, name)) for name, cell in self.free(raw, place).items()}

    def value(self, raw: Any, place: KeyPath) -> Any:
        """A cell; a number with a point keeps the digits that are written."""
        if isinstance(raw, float):
            node = self.document.nodes.get(place)
            written = node.value if isinstance(node, yaml.ScalarNode) else ""
            return Decimal(written) if _DECIMAL.fullmatch(written) else raw
        if isinstance(raw, dict):
            return {name: self.value(item, (*place, name)) for name, item in raw.items()}
        if isinstance(raw, list):
            return [self.value(item, (*place, number)) for number, item in enumerate(raw)]
        return raw

    def expected(self, expect: Mapping[str, Any], place: KeyPath) -> Rows:
        if "rows" not in expect and "fixture" not in expect:
            if "refused" not in expect:
                self.report(place, "needs `rows`, `fixture` or `refused`", at_key=True)
            return Rows()
        return self.rows(expect, place, csv_cells)

    def refused(self, raw: Any, place: KeyPath) -> Iterator[Refused]:
        for where, item in self.items(raw, place):
            keys = self.mapping(item, where, _REFUSED, required=("reasons",))
            reasons = keys.get("reasons")
            codes = [reasons] if isinstance(reasons, str) else reasons if isinstance(reasons, list) else []
            if not codes:
                self.report((*where, "reasons"), "must be the code of a reason, or a list of them")
            key = keys.get("key")
            yield Refused(None if key is None else _as_text(key), frozenset(map(str, codes)))

    def now(self, raw: Any, place: KeyPath) -> datetime | None:
        if raw is None:
            return None
        try:
            moment = datetime.fromisoformat(_as_text(raw))
        except ValueError:
            self.report(place, "must be a date or a time such as 2025-04-01 12:00:00")
            return None
        return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)

    def since(self, overrides: Mapping[str, Any], place: KeyPath) -> str | None:
        """What `overrides.macros` says; dbt's way to test the incremental branch."""
        macros = self.mapping(overrides.get("macros") or {}, place, _MACROS)
        incremental, start = macros.get("is_incremental", False), macros.get("cursor_from")
        if not isinstance(incremental, bool):
            self.report((*place, "is_incremental"), "must be true or false")
        elif incremental is not (start is not None):
            missing = "cursor_from" if incremental else "is_incremental: true"
            self.report(place, f"needs `{missing}` beside it", at_key=True)
        return None if start is None else _as_text(start)

    # Shapes

    def report(self, place: KeyPath, message: str, *, at_key: bool = False) -> None:
        if not self.document.covers(place):
            self.document.report(place, message, at_key=at_key)

    def mapping(self, raw: Any, place: KeyPath, known: Sequence[str], required: Sequence[str] = ()) -> dict[str, Any]:
        if not isinstance(raw, dict):
            self.report(place, "must be a mapping: lines of `key: value`")
            return {}
        for key in raw:
            if key not in known:
                self.report((*place, key), f"unknown key{nearest(key, known)}; known: {', '.join(known)}", at_key=True)
        for key in required:
            if key not in raw:
                self.report((*place, key), "required, but missing")
        return raw

    def items(self, raw: Any, place: KeyPath) -> list[tuple[KeyPath, Any]]:
        """The members of a list, each with its place; nothing behind the key is an empty list."""
        if raw is not None and not isinstance(raw, list):
            self.report(place, "must be a list: lines that begin with `- `")
            return []
        return [((*place, number), item) for number, item in enumerate(raw or [])]

    def free(self, raw: Any, place: KeyPath) -> dict[str, Any]:
        if raw is not None and not isinstance(raw, dict):
            self.report(place, "must be a mapping of names to values")
            return {}
        return raw or {}

    def flag(self, raw: Any, place: KeyPath) -> bool:
        """True or false, which may be text as in a model's header."""
        if isinstance(raw, str) and raw.strip().lower() in ("true", "false"):
            return raw.strip().lower() == "true"
        if not isinstance(raw, bool):
            self.report(place, "must be true or false")
        return raw is True

    def text(self, raw: Any, place: KeyPath) -> str:
        if raw is not None and (not isinstance(raw, str) or not raw.strip()):
            self.report(place, "must be text")
            return ""
        return raw or ""


def _input(text: str) -> Input | None:
    """What an `input` names; None for what is no call of ref() or source()."""
    match = _INPUT.fullmatch(text.strip())
    parts = match[2].split(",") if match else []
    is_source = match is not None and match[1] == "source"
    version = _VERSION.fullmatch(parts[-1]) if parts and not is_source else None
    names = [_QUOTED.fullmatch(part) for part in (parts[:-1] if version else parts)]
    if not all(names) or len(names) not in ((2,) if is_source else (1, 2)):
        return None
    found = tuple(name[2] for name in names if name)
    return Input("source" if is_source else "ref", found, version[2] if version else "")


def _as_text(value: Any) -> str:
    return value.text if isinstance(value, DateText) else str(value)


__all__ = ["FOLDER", "Given", "Input", "Refused", "Rows", "UnitTest", "load_unit_tests"]
