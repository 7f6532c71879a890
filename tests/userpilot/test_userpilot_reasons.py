"""The reader of failure texts: against what Elixir prints, against its own renderer, and cut or broken anywhere."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warehouse_sync.userpilot.reasons import MAX_DEPTH, MAX_MESSAGE, FailureText, Opaque, parse_reason
from warehouse_sync.userpilot.sandbox_rows import inspect

DOCUMENTED = (
    'Required field `user_id` not provided in the row: %{"event_name" => "", "event_type" => "identify_user", '
    '"metadata" => %{"avg_resolution_time" => "2h", "tickets_created" => "15"}}'
)
ELIXIR = json.loads((Path(__file__).parent / "elixir_inspect.json").read_text(encoding="utf-8"))


def read(printed: str) -> Any:
    """One value, read as the only value of a row."""
    reason = parse_reason(f'%{{"v" => {printed}}}')
    assert reason.row is not None, printed
    assert not reason.truncated
    return reason.row["v"]


def test_the_documented_example() -> None:
    assert parse_reason(DOCUMENTED) == FailureText(
        "Required field `user_id` not provided in the row",
        {
            "event_name": "",
            "event_type": "identify_user",
            "metadata": {"avg_resolution_time": "2h", "tickets_created": "15"},
        },
    )


def test_repr_shows_no_row() -> None:
    assert "2h" not in repr(parse_reason(DOCUMENTED))


def printable_as_charlist(value: Any) -> Any:
    """A JSON list of printable codes is printed as a charlist: the text cannot tell the two apart."""
    if isinstance(value, dict):
        return {key: printable_as_charlist(item) for key, item in value.items()}
    if (
        isinstance(value, list)
        and value
        and all(type(item) is int and (32 <= item < 127 or item == 10) for item in value)
    ):
        return "".join(map(chr, value))
    return [printable_as_charlist(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("pair", ELIXIR, ids=[str(number) for number in range(len(ELIXIR))])
def test_what_elixir_prints(pair: dict[str, Any]) -> None:
    """Pairs printed by Elixir 1.14's `inspect/1`: read back equal, and printed alike by the sandbox."""
    assert (parse_reason(f"x: {pair['printed']}").row or {}) == printable_as_charlist(pair["value"])
    if "'" not in pair["printed"]:  # since 1.15 charlists are ~c"…", which is how the sandbox prints them
        assert inspect(pair["value"]) == pair["printed"]


@pytest.mark.parametrize(
    ("printed", "value"),
    [
        (
            r'"a \"b\" \\ \n\t\r \a\b\d\e\f\v\s\0 \#{x} \x41 \x{1F600} \u00e9 \u{1F600} \q"',
            'a "b" \\ \n\t\r \a\b\x7f\x1b\f\v \0 #{x} A 😀 é 😀 q',
        ),
        ("'it\\'s'", "it's"),
        ('~c"it\'s \\"x\\""', 'it\'s "x"'),
        ("~c'abc'", "abc"),
        ("[]", []),
        ('[1, "b", [nil]]', [1, "b", [None]]),
        ('[a: 1, "b c": %{d: :ok}]', [("a", 1), ("b c", {"d": "ok"})]),
        ('{:error, "x", 1.5}', ("error", "x", 1.5)),
        ("{}", ()),
        (":ok", "ok"),
        (':"with space"', "with space"),
        (":ok?", "ok?"),
        (":+", "+"),
        (":<<>>", "<<>>"),
        ("Foo.Bar", "Foo.Bar"),
        ("true", True),
        ("false", False),
        ("nil", None),
        ("1_000_000", 1_000_000),
        ("-12", -12),
        ("0x1F", 31),
        ("0b101", 5),
        ("0o17", 15),
        ("-0x1F", -31),
        ("1.0e10", 1.0e10),
        ("-1.5e-3", -1.5e-3),
        ("<<104, 195, 169, 0>>", "hé\0"),
        ("<<>>", ""),
        ("%{}", {}),
        ("%Foo.Bar{a: 1, b: nil}", {"a": 1, "b": None}),
        ('%{"a" => 1, :b => nil, c: true, 1 => 2}', {"a": 1, "b": None, "c": True, "1": 2}),
        ('%{\n  "a" =>\n    [1,\n 2],\n}', {"a": [1, 2]}),
    ],
)
def test_values(printed: str, value: Any) -> None:
    found = read(printed)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "printed",
    [
        "#DateTime<2024-01-01 00:00:00.000000+01:00 CET Europe/Berlin>",
        "#PID<0.96.0>",
        '#Ecto.Changeset<action: nil, changes: %{"a" => "}>"}, data: #User<>, valid?: true>',
        "#Function<0.96076872 in file:/tmp/a.exs>",
        "~U[2024-01-01 00:00:00Z]",
        "~r/a}b/i",
        '~D"2024-01-01"',
        'Decimal.new("1.0")',
        "MapSet.new([1, {2, %{}}])",
        'Date.new!(2024, ")", 1)',
        "<<255, 254>>",
        "<<1::size(3)>>",
        "<<300>>",
        "<<1.5>>",
        "9" * 5000,
        "1.0e999",
        "0x_",
    ],
)
def test_values_that_json_does_not_have(printed: str) -> None:
    found = read(printed.removesuffix("i") if printed.startswith("~r") else printed)
    assert isinstance(found, Opaque)


def test_opaque_keeps_the_text() -> None:
    assert read("#PID<0.96.0>") == "#PID<0.96.0>"


@pytest.mark.parametrize(
    ("printed", "row"),
    [
        ('%{"a" => 1, ...}', {"a": 1}),
        ("%{...}", None),
        ('%{"a" => [1, ...], "b" => 2}', {"b": 2}),
        ('%{"a" => {1, [2, ...]}, "b" => 2}', {"b": 2}),
        ('%{"a" => [b: ...], "b" => 2}', {"b": 2}),
        ('%{"a" => %{"x" => 1, ...}, "b" => 2}', {"a": {"x": 1}, "b": 2}),
        ('%{"a" => "abc" <> ..., "b" => 2}', {"b": 2}),
        ('%{"a" => \'abc\' ++ ..., "b" => 2}', {"b": 2}),
        ('%{"a" => ~c"abc" ++ ..., "b" => 2}', {"b": 2}),
        ('%{"a" => <<1, 2, ...>>, "b" => 2}', {"b": 2}),
        ('%{"a" => ..., "b" => 2}', {"b": 2}),
        ('%{"a" => 1, "b" => 2', {"a": 1}),
        ('%{"a" => 1, "b', {"a": 1}),
        ('%{"a" => 1, "b\\', {"a": 1}),
        ('%{"a" => 1, "b" =', {"a": 1}),
        ('%{"a" => 1, "b" => [%{"c" => 1}, %{"d"', {"a": 1}),
        ('%{"a" => 1, "b" => %{"c" => 1, "d', {"a": 1, "b": {"c": 1}}),
        ('%{"a" => 1, "b" => %{"c" => 1}', {"a": 1, "b": {"c": 1}}),
        ('%{"a" => 1, "b" => #PID<0.1', {"a": 1}),
        ('%{"a" => 1, "b" => #pid', {"a": 1}),
        ('%{"a" => 1, "b" => Decimal.new("1', {"a": 1}),
        ('%{"a" => 1, "b" => ~U[20', {"a": 1}),
        ('%{"a" => 1, "b" => ~U', {"a": 1}),
        ('%{"a" => 1, "b" => <<1, ', {"a": 1}),
        ('%{"a" => 1, "b" => :', {"a": 1}),
        ('%{"a" => 1, "b" => %', {"a": 1, "b": {}}),
        ('%{"a" => 1, "b" => _', {"a": 1}),
        ('%{"a" => 1, "b" => 1..10}', {"a": 1}),
        ('%{"a" => 1, "b" => "\\u{110000}", "c" => 1}', {"a": 1}),
        ('%{"a" => 1, "b" => "x" <> y}', {"a": 1}),
        ('%{"a" => 1 "b" => 2}', None),
        ("%{", None),
        ("%{]", None),
    ],
)
def test_cut_and_elided_rows(printed: str, row: dict[str, Any] | None) -> None:
    reason = parse_reason(f"Bad row: {printed}")
    assert reason.row == row
    assert reason.truncated
    assert reason.message == "Bad row"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ""),
        ("Nothing to see", "Nothing to see"),
        ('Doesn\'t fit \'ada@example.com\', "secret" or "a\\"b', 'Doesn\'t fit "…", "…" or "…"'),
        ('Row %{"a" => 1} is bad, see %{"b" => 2}', "Row … is bad, see"),
        ('{"user_id": "ada"} is bad', ""),
        ("Rows [1, 2] are bad", "Rows"),
        ("a\nb\x1b[31m\tc", "a b"),
        ("x" * 10_000, "x" * MAX_MESSAGE),
    ],
)
def test_messages_hold_no_values(text: str, message: str) -> None:
    assert parse_reason(text).message == message


def test_depth_is_limited() -> None:
    maps = '%{"a" => ' * 10_000
    lists = '%{"a" => 1, "b" => ' + "[" * 10_000
    reason = parse_reason(maps)
    depth, row = 0, reason.row
    while row:
        depth, row = depth + 1, row.get("a")
    assert depth <= MAX_DEPTH + 1
    assert parse_reason(lists).row == {"a": 1}
    assert parse_reason('%{"a" => 1, ' + "{" * 10_000).row == {"a": 1}


@pytest.mark.parametrize(
    "text",
    [
        "%{" * 100_000,
        '%{"a" => #X<' + '"\\' * 100_000,
        '%{"a" => X.new(' + '\\"' * 100_000,
        '%{"a" => ' + "1" * 200_000,
        '%{"a" => ' + "1" * 200_000 + "}",
        "%" + "A." * 100_000,
        "%A" * 100_000,
        '%{"a" => "' + "\\" * 200_001,
        '%{"a" => [' + "1, " * 20_000,
        "%{" + "a: 1, " * 20_000,
        '"\\' * 100_000,
        "'" * 200_000,
        '%{"a" => ' + "<<1, " * 20_000,
        '%{"a" => ~U' + "a" * 200_000,
    ],
)
def test_time_is_linear(text: str) -> None:
    began = time.perf_counter()
    parse_reason(text)
    assert time.perf_counter() - began < 5  # a quadratic reader takes minutes


# -- generated rows ------------------------------------------------------------------------------------------------

LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",)))
)  # fmt: skip
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
ROWS = st.dictionaries(st.text(st.characters(exclude_categories=("Cs",)), max_size=8), VALUES, min_size=1, max_size=6)


def render(value: Any, dice: random.Random) -> str:
    """A value as some Elixir prints it: the forms are chosen by dice."""
    space = dice.choice(["", " ", "\n  "])
    if isinstance(value, dict):
        entries = [f"{space}{render_key(key, dice)}{render(item, dice)}" for key, item in value.items()]
        return f"%{dice.choice(['', 'Foo.Bar'])}{{{','.join(entries)}{space}}}"
    if isinstance(value, list):
        return f"[{space}{f',{space}'.join(render(item, dice) for item in value)}{space}]"
    if isinstance(value, str):
        return render_text(value, dice)
    if isinstance(value, bool) or value is None:
        return {None: "nil", True: "true", False: "false"}[value]
    if isinstance(value, int) and dice.random() < 0.3:
        return f"{value:_}"
    return inspect(value)


def render_key(key: str, dice: random.Random) -> str:
    if key.isascii() and key.isalpha() and key not in ("nil", "true", "false"):
        return dice.choice([f'"{key}" => ', f":{key} => ", f"{key}: "])
    return dice.choice([f"{render_text(key, dice)} => ", f'"{escape(key, dice, chr(34))}": '])


def render_text(text: str, dice: random.Random) -> str:
    form = dice.randrange(4)
    if form == 0:
        return f"<<{', '.join(str(byte) for byte in text.encode())}>>"
    if form == 1:
        return f"'{escape(text, dice, chr(39))}'"
    return f'{dice.choice(["", "~c"])}"{escape(text, dice, chr(34))}"'


def escape(text: str, dice: random.Random, quote: str) -> str:
    named = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\\": "\\\\", quote: "\\" + quote, "\0": "\\0"}
    out = []
    for letter in text:
        if letter in named:
            out.append(named[letter])
        elif dice.random() < 0.2:
            out.append(dice.choice([f"\\x{{{ord(letter):X}}}", f"\\u{{{ord(letter):x}}}"]))
        else:
            out.append(letter)
    return "".join(out).replace("#{", "\\#{")


@given(ROWS, st.integers(0, 2**32))
@settings(deadline=None)
def test_rendered_rows_are_read_back(row: dict[str, Any], seed: int) -> None:
    reason = parse_reason("Required field `x` not provided in the row: " + render(row, random.Random(seed)))
    assert reason == FailureText("Required field `x` not provided in the row", row)


def is_part(shown: Any, whole: Any) -> bool:
    """True when `shown` holds nothing that `whole` does not."""
    if isinstance(shown, dict) and isinstance(whole, dict):
        return all(key in whole and is_part(value, whole[key]) for key, value in shown.items())
    return bool(shown == whole and type(shown) is type(whole))


@given(ROWS, st.integers(0, 2**32), st.floats(0, 1))
@settings(deadline=None)
def test_a_cut_row_shows_nothing_that_is_not_in_it(row: dict[str, Any], seed: int, share: float) -> None:
    printed = render(row, random.Random(seed))
    reason = parse_reason("bad: " + printed[: int(share * len(printed))])
    assert is_part(reason.row or {}, row)


@given(st.text(st.sampled_from('%{}[]()<>"\'\\#~:=>,. \n_-+1e0xabN"')) | st.text())
@settings(deadline=None, max_examples=300)
def test_nothing_is_ever_raised(text: str) -> None:
    assert len(parse_reason(text).message) <= MAX_MESSAGE
    parse_reason("%{" + text)
    parse_reason('%{"a" => ' + text)
