"""JSON that comes as text: checked, taken apart and spliced without reading a single number.

DuckDB's own JSON functions read numbers as doubles (12345678901234567890.10 would not survive), and its `json_valid`
lets NaN, Infinity and trailing commas pass. So what is spliced into a line is cut out of the text by regular
expressions, which is exact because of what is asked first:

* a flat object is a regular language: one expression says that it is well-formed *and* flat (`FAST`);
* anything else has to satisfy `json_valid`, hold only strict tokens (`TOKENS`) and be nested at most 12 levels deep;
  then braces balance, and an expression for balanced text of 12 levels cuts the members out of an object (`MEMBER`).

Strings in here are strict: no control characters, no half of a surrogate pair; numbers with an
exponent stay below 1.79e308, which is what a reader's double can hold. Members are
`STRUCT(k VARCHAR, v VARCHAR)`: the decoded key, and the JSON text of the value.

Expressions that take the text apart may only see valid UTF-8; `guarded` puts them behind the test.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from warehouse_sync.events.sql import quote

MAX_DEPTH = 12
WS = r"[ \t\r\n]*"
_HEX = "[0-9a-fA-F]"
_PLAIN = r'[^"\\\x00-\x1f]'
_ESCAPE = r'\\["\\/bfnrt]'
_PAIR = rf"\\u[dD][89abAB]{_HEX}{{2}}\\u[dD][c-fC-F]{_HEX}{{2}}"
_UNIT = rf"\\u(?:[0-9abcefABCEF]{_HEX}{{3}}|[dD][0-7]{_HEX}{{2}})"
_LOW_UNIT = f"0[1-9a-fA-F]{_HEX}{{2}}|00[1-9a-fA-F]{_HEX}|000[1-9a-fA-F]"
_UNIT_NOT_NUL = rf"\\u(?:[1-9abcefABCEF]{_HEX}{{3}}|[dD][0-7]{_HEX}{{2}}|{_LOW_UNIT})"
STRING = f'"(?:{_PLAIN}|{_ESCAPE}|{_PAIR}|{_UNIT})*"'
STRING_NOT_NUL = f'"(?:{_PLAIN}|{_ESCAPE}|{_PAIR}|{_UNIT_NOT_NUL})*"'
KEY = r'"[^"\\\x00-\x1f]*"'
_ONE_DIGIT = (
    r"-?[0-9](?:\.[0-9]+)?[eE]\+?(?:[12][0-9]{2}|30[0-7])|-?1(?:\.(?:[0-6][0-9]*|7(?:[0-8][0-9]*)?))?[eE]\+?308"
)
# The first alternative that matches is taken, so that the one with the longer exponent has to stand first.
NUMBER = rf"(?:{_ONE_DIGIT}|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE](?:\+?0*[0-9]{{1,2}}|-[0-9]+))?)"
_WORD = "true|false|null"
SCALAR = f"(?:{STRING_NOT_NUL}|{NUMBER}|{_WORD})"
_FAST_MEMBER = f"{KEY}{WS}:{WS}{SCALAR}{WS}"
FAST = rf"\{{{WS}{_FAST_MEMBER}(?:,{WS}{_FAST_MEMBER})*\}}"
_ANY_MEMBER = f"{STRING}{WS}:{WS}(?:{STRING}|{NUMBER}|{_WORD}){WS}"
FLAT = rf"{WS}\{{{WS}(?:{_ANY_MEMBER}(?:,{WS}{_ANY_MEMBER})*)?\}}{WS}"
_TOKEN = rf"{STRING}|{NUMBER}|{_WORD}"
_BETWEEN = rf"(?:[ \t\r\n{{}}\[\]:]|,{WS}[{{\[])"
TOKENS = f"{_BETWEEN}*(?:(?:{_TOKEN})(?:(?:{_BETWEEN}+|{_BETWEEN}*,{WS})(?:{_TOKEN}))*{_BETWEEN}*)?"
_LOOSE_STRING = r'"(?:[^"\\]|\\.)*"'


def _balanced(depth: int) -> str:
    """One array or object of at most `depth` levels, in text that is known to be JSON."""
    inside = ""
    for _ in range(depth):
        inside = rf'[\[{{](?:[^\[\]{{}}"]|{_LOOSE_STRING}{"|" + inside if inside else ""})*[\]}}]'
    return inside


_NESTED = _balanced(MAX_DEPTH - 1)
SHALLOW = rf'[^\[\]{{}}"]*|{WS}{_LOOSE_STRING}{WS}|{WS}{_balanced(MAX_DEPTH)}{WS}'
MEMBER = rf'{_LOOSE_STRING}{WS}:{WS}(?:{_LOOSE_STRING}|{_NESTED}|[^\[\]{{}}",\s]+)'
KEY_OF_MEMBER = f"^{_LOOSE_STRING}"
BEFORE_VALUE = f"^{_LOOSE_STRING}{WS}:{WS}"
NO_MEMBERS = "[]::STRUCT(k VARCHAR, v VARCHAR)[]"

_NO_NAN = rf'(?:[^"NI-]|-[0-9]|{_LOOSE_STRING})*'
_NOT_NUL_ESCAPE = r"(?:[^\\]|\\[^u]|\\u(?:[^0]|0(?:[^0]|0(?:[^0]|0[^0]))))*"


def guarded(text: str, expression: str) -> str:
    """The expression where the text is valid UTF-8, else NULL."""
    return f"CASE WHEN to_json({text})::varchar <> '' THEN {expression} END"


def is_json(text: str) -> str:
    """True for strict JSON text; false for bytes that are not UTF-8."""
    return f"(json_valid({text}) AND regexp_full_match({text}, {quote(TOKENS)}))"


def is_null(text: str) -> str:
    """True for the JSON value null."""
    return f"regexp_full_match({text}, {quote(f'{WS}null{WS}')})"


def is_nan(text: str) -> str:
    """True for the numbers that JSON has not, as VARIANT prints them."""
    return f"{text} IN ('NaN', 'Infinity', '-Infinity')"


def holds_nan(text: str) -> str:
    """True for text of a VARIANT with such a number anywhere in it."""
    return f"(({_names_nan(text)}) AND {without_nan(text)} <> {text})"


def without_nan(text: str) -> str:
    """Text of a VARIANT with null for the numbers that JSON has not; inside of strings their names stay."""
    # With one at the very end there is no rest, in which the search would begin anew in the middle of a string.
    replaced = f"regexp_replace({text} || 'NaN', {quote(f'({_NO_NAN})(?:NaN|-?Infinity)')}, '\\1null', 'g')"
    return f"CASE WHEN {_names_nan(text)} THEN {guarded(text, f'left({replaced}, -4)')} ELSE {text} END"


def _names_nan(text: str) -> str:
    return f"contains({text}, 'NaN') OR contains({text}, 'Infinity')"


def starts_with(text: str, brackets: str) -> str:
    """True when the first character that is not white space is one of `brackets`."""
    return f"regexp_matches({text}, {quote(f'^{WS}[{re.escape(brackets)}]')})"


def is_flat(text: str) -> str:
    """True for a strict JSON object without nested values."""
    return f"regexp_full_match({text}, {quote(FLAT)})"


def trimmed(text: str) -> str:
    """JSON text without the white space around it."""
    return f"trim({text}, ' ' || chr(9) || chr(10) || chr(13))"


def is_object(text: str) -> str:
    """True for a strict JSON object that can be taken apart."""
    return f"({starts_with(text, '{')} AND {is_json(text)} AND {is_shallow(text)})"


def is_shallow(text: str) -> str:
    """True for JSON text of at most `MAX_DEPTH` levels."""
    return f"regexp_full_match({text}, {quote(SHALLOW)})"


def escapes_nul(text: str) -> str:
    """True when JSON text holds the escape of a NUL character."""
    return f"(contains({text}, '\\u0000') AND {clean(text)} <> {text})"


def clean(text: str) -> str:
    r"""JSON text without escapes of NUL: `\u0000` goes where its backslash is not itself escaped."""
    pattern = rf"({_NOT_NUL_ESCAPE})\\u0000"
    cleaned = f"regexp_replace({text} || '\\u0000', {quote(pattern)}, '\\1', 'g')"
    return f"CASE WHEN contains({text}, '\\u0000') THEN {cleaned} ELSE {text} END"


def scalar_or_string(text: str, as_string: str) -> str:
    """A JSON column under `nested: json`: scalars as they are, null and NaN as NULL, else a JSON string of the text."""
    cleaned = clean(text)
    scalar = f"regexp_full_match({cleaned}, {quote(WS + SCALAR + WS)})"
    nothing = f"{is_null(text)} OR {is_nan(text)}"
    value = f"CASE WHEN {nothing} THEN NULL WHEN {scalar} THEN {trimmed(cleaned)} ELSE {as_string} END"
    nested = f"starts_with({text}, '{{') OR starts_with({text}, '[')"
    return f"CASE WHEN {nested} THEN {as_string} ELSE {guarded(text, value)} END"


def has_nul(text: str, raw_nul: str) -> str:
    """True when a NUL was removed from a JSON column: a character of the text, or an escape in a scalar string."""
    return f"{raw_nul} OR {guarded(text, f'({starts_with(text, chr(34))} AND {escapes_nul(text)})')}"


def members(text: str, prefix: str = "''") -> str:
    """The members of an object, keys decoded and put behind the SQL text `prefix`; values as they stand in the text."""
    one = '"warehouse_sync.p"'
    key = f"json_extract_string(regexp_extract({one}, {quote(KEY_OF_MEMBER)})::json, '$')"
    value = f"substr({one}, length(regexp_extract({one}, {quote(BEFORE_VALUE)})) + 1)"
    member = f"{{'k': concat({prefix}, {key}), 'v': {value}}}"
    return f"list_transform(regexp_extract_all({text}, {quote(MEMBER)}), lambda {one}: {member})"


def flattened(list_sql: str) -> str:
    """Members with objects taken apart into `a.b`, level by level; arrays stay."""
    acc, turn, one = '"warehouse_sync.a"', '"warehouse_sync.t"', '"warehouse_sync.m"'
    inner = members(f"{one}.v", f"{one}.k, '.'")
    opened = f"CASE WHEN starts_with({one}.v, '{{') AND {is_shallow(f'{one}.v')} THEN {inner} ELSE [{one}] END"
    step = f"flatten(list_transform({acc}, lambda {one}: {opened}))"
    turns = f"list_concat([{list_sql}], list_transform(range({MAX_DEPTH}), lambda {turn}: {NO_MEMBERS}))"
    return f"list_reduce({turns}, lambda {acc}, {turn}: {step})"


def joined(list_sql: str, taken: Sequence[str]) -> str:
    """Members as JSON text, each with a comma before it: without the names in `taken`, and of equal names the last."""
    all_, keys, one, i = (f'"warehouse_sync.{name}"' for name in ("l", "k", "m", "i"))
    names = f"[{', '.join(quote(name) for name in taken)}]::VARCHAR[]"
    fresh = f"NOT list_contains({keys}[{i} + 1:], {one}.k)"
    if taken:
        fresh += f" AND NOT list_contains({names}, {one}.k)"
    value = f"CASE WHEN {one}.v[1] IN ('{{', '[') THEN to_json({one}.v)::varchar ELSE {one}.v END"
    member = f"concat(',', to_json({one}.k)::varchar, ':', {value})"
    keys_of = f"list_transform({all_}, lambda {one}: {one}.k)"
    kept = f"list_transform([{keys_of}], lambda {keys}: list_filter({all_}, lambda {one}, {i}: {fresh}))[1]"
    text = f"array_to_string(list_transform({kept}, lambda {one}: {member}), '')"
    return f"list_transform([{list_sql}], lambda {all_}: {text})[1]"


def is_fast(text: str) -> str:
    """True for a flat object, not empty, whose keys and strings need no work."""
    return f"regexp_full_match({text}, {quote(FAST)})"


def can_splice(text: str, *, unique: bool) -> str:
    """True when an object's inside can be spliced as text; `unique`: its type guarantees that keys are distinct.

    `is_fast` stands first and outside of any condition, so that DuckDB can share it with the checks of the row.
    """
    distinct = "true" if unique else f"len(list_distinct(json_keys({text}))) = len(json_keys({text}))"
    return f"CASE WHEN {is_fast(text)} THEN {guarded(text, distinct)} END"


def spliced(text: str, taken: Sequence[str]) -> str:
    """The members of an object that `can_splice`, each with a comma before it, on one line, without names in `taken`.

    The keys of such an object hold no escapes, and a quote inside a string is escaped, so `"name":` can only be a key.
    """
    cut = f"concat(',', substr({text}, 2, length({text}) - 2))"
    broken = f"contains({text}, chr(10)) OR contains({text}, chr(13))"
    cut = f"CASE WHEN {broken} THEN replace(replace({cut}, chr(10), ' '), chr(13), ' ') ELSE {cut} END"
    if not taken:
        return cut
    key = '"(?:' + "|".join(re.escape(name) for name in taken) + f')"{WS}:'
    kept = f"regexp_replace({cut}, {quote(f',{WS}{key}{WS}{SCALAR}{WS}')}, '', 'g')"
    return f"CASE WHEN regexp_matches({text}, {quote(key)}) THEN {kept} ELSE {cut} END"
