"""For any rows: every line is strict JSON for two parsers, says what the row says, and both sources give it."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import duckdb
import orjson
import pyarrow as pa
from events_harness import build, rows_of
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from warehouse_sync.events.reasons import Note, decode

LEFT_OUT = object()
CONNECTION = duckdb.connect()
BLANK = {"Zs", "Zl", "Zp", "Cc", "Cf", "Co"}


class Number(str):
    """A JSON number as the text it is."""

    __slots__ = ()


def strict(line: str) -> Any:
    """Parses with both parsers: no NaN, no duplicate keys, numbers as text."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(items)) == len(items), "duplicate keys"
        return dict(items)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    orjson.loads(line)
    return json.loads(line, object_pairs_hook=pairs, parse_constant=refuse, parse_int=Number, parse_float=Number)


def numbers_as_text(text_: str) -> Any:
    """Parses as most readers do: of equal keys the last."""
    return json.loads(text_, parse_int=Number, parse_float=Number)


@dataclass(frozen=True)
class Kind:
    """A type: how Arrow names it, what its values are, and whether JSON says the same as a value."""

    arrow: pa.DataType
    values: st.SearchStrategy[Any]
    says: Callable[[Any, Any], bool]
    nested: bool = False


def exact(expected: Callable[[Any], str]) -> Callable[[Any, Any], bool]:
    return lambda value, found: isinstance(found, Number) and found == expected(value)


def text(expected: Callable[[Any], str]) -> Callable[[Any, Any], bool]:
    return lambda value, found: type(found) is str and found == expected(value)


def same_float(width: int) -> Callable[[Any, Any], bool]:
    def says(value: float, found: Any) -> bool:
        if not math.isfinite(value):
            return found is None
        number = float(found)
        return isinstance(found, Number) and (
            number == value or (width == 32 and pa.scalar(number, pa.float32()).as_py() == value)
        )

    return says


def clock(value: dt.time) -> str:
    shown = value.isoformat(timespec="microseconds").rstrip("0").rstrip(".")
    return (
        shown
        if "." in value.isoformat(timespec="microseconds").rstrip("0") and not shown.endswith(":")
        else value.isoformat(timespec="seconds")
    )


def decimals(precision: int, scale: int) -> Kind:
    limit = 10**precision - 1
    values = st.integers(-limit, limit).map(lambda n: decimal.Decimal(n).scaleb(-scale, decimal.Context(prec=50)))
    return Kind(pa.decimal128(precision, scale), values, exact(lambda v: f"{v:.{scale}f}"))


NASTY = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    [
        '"',
        "\\",
        "\\u0000",
        "a\x00b",
        "\x00",
        "\u2028",
        "\r\n",
        '{"a":NaN}',
        "null",
        "😀",
        "x" * 3000,
        " ",
        "\ud7ff",
        "\x7f",
        "%Y",
        "'",
    ]
)
MOMENTS = st.datetimes(dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59, 999999))
SCALARS = [
    Kind(pa.int8(), st.integers(-(2**7), 2**7 - 1), exact(str)),
    Kind(pa.int64(), st.integers(-(2**63), 2**63 - 1), exact(str)),
    Kind(pa.uint64(), st.integers(0, 2**64 - 1), exact(str)),
    *(decimals(p, s) for p, s in [(4, 4), (9, 2), (18, 0), (18, 18), (38, 0), (38, 2), (38, 12), (38, 20), (38, 38)]),
    Kind(pa.float64(), st.floats(), same_float(64)),
    Kind(pa.float32(), st.floats(width=32), same_float(32)),
    Kind(pa.bool_(), st.booleans(), lambda v, found: found is v),
    Kind(pa.string(), NASTY, text(lambda v: v.replace("\x00", ""))),
    Kind(pa.large_string(), NASTY, text(lambda v: v.replace("\x00", ""))),
    Kind(pa.dictionary(pa.int32(), pa.string()), NASTY, text(lambda v: v.replace("\x00", ""))),
    Kind(pa.date32(), st.dates(), text(lambda v: v.isoformat())),
    Kind(pa.timestamp("us"), MOMENTS, text(lambda v: v.isoformat(timespec="microseconds"))),
    Kind(
        pa.timestamp("ms"),
        MOMENTS.map(lambda v: v.replace(microsecond=0)),
        text(lambda v: v.isoformat(timespec="microseconds")),
    ),
    Kind(
        pa.timestamp("us", tz="Asia/Tokyo"),
        MOMENTS.map(lambda v: v.replace(tzinfo=dt.UTC)),
        text(lambda v: v.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"),
    ),
    Kind(pa.time64("us"), st.times(), text(clock)),
]


def inside(kind: Kind) -> Callable[[Any, Any], bool]:
    """How a value is compared that stands inside another."""
    return lambda value, found: found is None if value is None else kind.says(value, found)


def list_of(kind: Kind) -> Kind:
    def says(value: list[Any], found: Any) -> bool:
        return len(value) == len(found) and all(map(inside(kind), value, found))

    return Kind(pa.list_(kind.arrow), st.lists(kind.values | st.none(), max_size=3), says, nested=True)


def struct_of(kinds: list[Kind]) -> Kind:
    names = ['a"b', "ü", "c\\"][: len(kinds)]

    def says(value: dict[str, Any], found: Any) -> bool:
        return list(found) == names and all(
            inside(kind)(value[name], found[name]) for name, kind in zip(names, kinds, strict=True)
        )

    values = st.fixed_dictionaries({name: kind.values | st.none() for name, kind in zip(names, kinds, strict=True)})
    arrow = pa.struct([pa.field(name, kind.arrow) for name, kind in zip(names, kinds, strict=True)])
    return Kind(arrow, values, says, nested=True)


def map_of(kind: Kind) -> Kind:
    keys = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=5)

    def says(value: list[tuple[str, Any]], found: Any) -> bool:
        return [key for key, _ in value] == list(found) and all(inside(kind)(item, found[key]) for key, item in value)

    values = st.dictionaries(keys, kind.values | st.none(), max_size=3).map(lambda items: list(items.items()))
    return Kind(pa.map_(pa.string(), kind.arrow), values, says, nested=True)


def as_property(kind: Kind) -> Callable[[Any, Any], bool]:
    """How a property is compared: nested values are JSON strings, once."""
    if not kind.nested:
        return kind.says
    return lambda value, found: type(found) is str and kind.says(value, strict(found))


NO_DICTIONARY = [kind for kind in SCALARS if not pa.types.is_dictionary(kind.arrow)]
KINDS = st.recursive(
    st.sampled_from(NO_DICTIONARY),
    lambda inner: inner.map(list_of) | st.lists(inner, min_size=1, max_size=3).map(struct_of) | inner.map(map_of),
    max_leaves=4,
) | st.sampled_from(SCALARS)
NAMES = st.lists(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6).filter(
        lambda name: name[0] != "_" and name.strip()
    ),
    max_size=5,
    unique_by=str.casefold,
).map(
    lambda names: [
        name
        for name in names
        if name.casefold() not in {"user_id", "company_id", "inserted_at", "metadata", "event_type"}
    ]
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[dict[str, Kind], list[dict[str, Any]]]:
    columns = {name: draw(KINDS) for name in draw(NAMES)}
    rows = draw(
        st.lists(st.fixed_dictionaries({name: kind.values | st.none() for name, kind in columns.items()}), max_size=4)
    )
    ids = draw(st.lists(NASTY | st.none(), min_size=len(rows), max_size=len(rows)))
    return columns, [{"user_id": user, **row} for user, row in zip(ids, rows, strict=True)]


def blank(user: str | None) -> bool:
    import unicodedata

    return user is None or all(c in " \t\n\r\f\v" or unicodedata.category(c) in BLANK for c in user)


@given(table=tables(), nulls=st.sampled_from(["send", "omit"]))
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_rows(table: tuple[dict[str, Kind], list[dict[str, Any]]], nulls: str) -> None:
    columns, rows = table
    schema = pa.schema([("user_id", pa.string()), *((name, kind.arrow) for name, kind in columns.items())])
    arrow_rows = pa.Table.from_pylist(rows, schema=schema)
    CONNECTION.register("arrow_rows", arrow_rows)
    CONNECTION.execute("CREATE OR REPLACE TABLE native_rows AS SELECT * FROM arrow_rows")
    encoding = build({"event": "identify_user", "nulls": nulls}, schema)
    found = rows_of(CONNECTION, encoding, "arrow_rows")
    assert found == rows_of(CONNECTION, encoding, "native_rows")
    assert len(found) == len(rows)
    for row, result in zip(rows, found, strict=True):
        user = row["user_id"]
        reasons = {reason.code for reason in decode(result["reasons"])}
        assert ("user_id_missing" in reasons) == blank(user)
        assert ("nul_character" in reasons) == (user is not None and "\x00" in user)
        assert reasons <= {"user_id_missing", "nul_character"}
        if reasons:
            continue
        line = result["line"]
        assert line.endswith("}\n")
        assert "\n" not in line[:-1]
        event = strict(line)
        metadata = event.pop("metadata")
        assert event == {
            "event_type": "identify_user",
            "source": "backend-http-import",
            "user_id": user,
            "inserted_at": "2026-06-01T12:00:00.000000",
        }
        for name, kind in columns.items():
            value, sent = row[name], metadata.pop(name, LEFT_OUT)
            if value is None or (isinstance(value, float) and not math.isfinite(value)):
                assert sent is (LEFT_OUT if nulls == "omit" else None)
            else:
                assert as_property(kind)(value, sent), (kind.arrow, value, sent)
        assert metadata == {}
        if any(isinstance(row[name], float) and not math.isfinite(row[name]) for name in columns):
            assert result["notes"] & Note.NAN_TO_NULL.bit


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-1.78e308, 1.78e308) | NASTY,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NASTY, inner, max_size=3),
    max_leaves=8,
)


def written(value: Any) -> st.SearchStrategy[str]:
    """JSON text of a value, in one of the ways people write it."""
    return st.builds(
        lambda indent, ascii_, before: before + json.dumps(value, indent=indent, ensure_ascii=ascii_) + before,
        st.sampled_from([None, 0, 2]),
        st.booleans(),
        st.sampled_from(["", " ", "\n", "\t\r\n"]),
    )


def without_nul(value: Any) -> Any:
    """A JSON value as it is sent: no NUL characters; of keys that become equal, the last."""
    if isinstance(value, dict):
        return {without_nul(key): without_nul(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_nul(item) for item in value]
    return value.replace("\x00", "") if type(value) is str else value


def flattened(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        name = f"{prefix}{key}"
        flat |= flattened(item, f"{name}.") if isinstance(item, dict) else {name: item}
    return flat


@given(
    written_rows=st.lists(st.dictionaries(NASTY, JSON_VALUES, max_size=4).flatmap(written), max_size=4),
    nested=st.sampled_from(["json", "flatten"]),
    plan=st.booleans(),
)
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_metadata(written_rows: list[str], nested: str, plan: bool) -> None:
    columns: dict[str, pa.Array] = {
        "user_id": pa.array(["u"] * len(written_rows), pa.string()),
        "metadata": pa.array(written_rows, pa.string()),
    }
    if plan:
        columns["x"] = pa.array(["known"] * len(written_rows), pa.string())
    table = pa.table(columns)
    CONNECTION.register("arrow_rows", table)
    for text_, row in zip(
        written_rows,
        rows_of(CONNECTION, build({"event": "identify_user", "nested": nested}, table.schema), "arrow_rows"),
        strict=True,
    ):
        assert row["reasons"] == 0, text_
        value = numbers_as_text(text_)
        # The last of equal names is meant as they are sent: {"": {"": 1}, "\0": 2} holds "." and "".
        expected = without_nul(flattened(value) if nested == "flatten" else value)
        if plan:
            expected["x"] = "known"
        found = strict(row["line"])["metadata"]
        assert found.keys() == expected.keys(), text_
        for name, item in expected.items():
            assert (numbers_as_text(found[name]) if isinstance(item, (dict, list)) else found[name]) == item


ODD_NUMBERS = [
    "0", "-0", "7", "-1.70", "0.05", "12345678901234567890.10", "1e5", "1E+0", "3.4e-7", "1e-400", "0e99", "1e+007",
    "1e99", "1e100", "-1e100", "2.5E+150", "9.99e307", "1.7e308", "-1.78E308", "1e+200",
]  # fmt: skip
ODD_TEXTS = ['"seats":1', ',"plan":2,', "1e100", "\\", '\\"', "\n", "ü😀", "", "{", "]"]
SHARED = ["seats", "plan", "a.b", 'q"', "ü", "x(y"]


def any_json(random: Random, depth: int, *, unique: bool) -> str:
    """JSON text with blanks where there may be some; an object at depth 0."""

    def blank() -> str:
        return random.choice(["", "", "", " ", "\n", "\t"])

    if depth and (depth > 3 or random.random() < 0.8):
        string = json.dumps(random.choice(ODD_TEXTS), ensure_ascii=random.random() < 0.5)
        return random.choice([random.choice(ODD_NUMBERS), string, random.choice(["true", "false", "null"])])
    values = [blank() + any_json(random, depth + 1, unique=unique) + blank() for _ in range(random.randint(0, 4))]
    if depth and random.random() < 0.5:
        return "[" + ",".join(values) + "]"
    keys = random.sample([*SHARED, *SHARED, *ODD_TEXTS], len(values))
    if unique:
        keys = list(dict.fromkeys(keys))
    named = [blank() + json.dumps(key, ensure_ascii=random.random() < 0.2) + blank() for key in keys]
    return "{" + ",".join(map(":".join, zip(named, values, strict=False))) + "}"


@given(seed=st.integers(), nested=st.sampled_from(["json", "flatten"]))
@settings(max_examples=4, deadline=None, phases=[Phase.generate])
def test_columns_of_the_same_names_take_nothing_from_their_neighbours(seed: int, nested: str) -> None:
    random = Random(seed)
    taken = random.sample(SHARED, 2)
    objects = [any_json(random, 0, unique=nested == "flatten") for _ in range(500)]
    known = {name: pa.array([7] * len(objects)) for name in taken}
    table = pa.table({"user_id": pa.array(["u"] * len(objects)), "metadata": pa.array(objects), **known})
    CONNECTION.register("arrow_rows", table)
    encoding = build({"event": "identify_user", "nested": nested}, table.schema)
    for text_, row in zip(objects, rows_of(CONNECTION, encoding, "arrow_rows"), strict=True):
        assert row["reasons"] == 0, text_
        value = numbers_as_text(text_)
        expected = (flattened(value) if nested == "flatten" else value) | dict.fromkeys(taken, Number("7"))
        found = strict(row["line"])["metadata"]
        assert found.keys() == expected.keys(), text_
        for name, item in expected.items():
            assert (numbers_as_text(found[name]) if isinstance(item, (dict, list)) else found[name]) == item, text_


PIECES = list('{}[]:,"\\ \n\x00ué1.0-+eE')
PIECES += ['"a"', "true", "false", "null", "NaN", "nul", "\\u00e9", "\\ud83d", "\\ude00", '{"a":', "1e999"]


@given(texts=st.lists(st.lists(st.sampled_from(PIECES), max_size=10).map("".join), min_size=1, max_size=20))
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_is_json_is_what_strict_parsers_take(texts: list[str]) -> None:
    table = pa.table({"user_id": pa.array(["u"] * len(texts)), "metadata": pa.array(texts)})
    CONNECTION.register("arrow_rows", table)
    rows = rows_of(CONNECTION, build({"event": "identify_user"}, table.schema), "arrow_rows")
    for text_, row in zip(texts, rows, strict=True):
        reasons = [reason.code for reason in decode(row["reasons"])]
        try:
            value = orjson.loads(text_)
        except orjson.JSONDecodeError:
            assert reasons == ["metadata_malformed"], text_
            continue
        if value is None or isinstance(value, dict):
            assert reasons == [], text_
            strict(row["line"])
        else:
            assert reasons == ["metadata_not_object"], text_
