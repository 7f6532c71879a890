"""Small pieces of SQL text that the other modules of this folder share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from warehouse_sync.events.reasons import Flag


@dataclass(frozen=True)
class Text:
    """Constant text inside a `concat`; an SQL expression there is a plain `str`."""

    text: str


Part = Text | str


_LONGEST_CHAIN = 50


def ident(name: str) -> str:
    """A quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def quote(text: str) -> str:
    """A string literal."""
    return "'" + text.replace("'", "''") + "'"


def json_key(name: str) -> str:
    """A property's name as JSON text; not ASCII-escaped, since lines are UTF-8."""
    return json.dumps(name, ensure_ascii=False)


def concat(parts: Iterable[Part]) -> str:
    """`concat(...)` with neighbouring constants merged into one argument, which is what makes it fast."""
    merged: list[Part] = []
    for part in parts:
        last = merged[-1] if merged else None
        if isinstance(part, Text) and isinstance(last, Text):
            merged[-1] = Text(last.text + part.text)
        else:
            merged.append(part)
    args = [quote(part.text) if isinstance(part, Text) else part for part in merged]
    return f"concat({', '.join(args)})" if args else "''"


def any_of(predicates: Sequence[str]) -> str:
    """True when one of them is; NULL counts as false where the result stands in a CASE.

    A long chain is cut into cases: DuckDB's optimizer takes the square of its length (2,500 columns: a minute).
    """
    if len(predicates) > _LONGEST_CHAIN:
        groups = (predicates[at : at + _LONGEST_CHAIN] for at in range(0, len(predicates), _LONGEST_CHAIN))
        return f"CASE {' '.join(f'WHEN {any_of(group)} THEN true' for group in groups)} ELSE false END"
    return " OR ".join(f"({predicate})" for predicate in predicates) if predicates else "false"


@dataclass(frozen=True)
class Check:
    """A predicate over one row, true where `flag` applies, and the columns it is about.

    `gate`: a cheaper predicate that is true whenever this one is, or '' when the gate of another check covers it; None
    when the predicate is its own gate.
    """

    flag: Flag
    predicate: str
    column: str
    gate: str | None = None


def bits(checks: Sequence[Check]) -> str:
    """One BIGINT with the bit of every check that holds.

    The gates are asked first: they are cheap to deny, and nearly every row denies them all.
    """
    if not checks:
        return "0::BIGINT"
    merged: dict[int, list[str]] = {}
    for check in checks:
        merged.setdefault(check.flag.bit, []).append(check.predicate)
    gates = [check.predicate if check.gate is None else check.gate for check in checks]
    gate = any_of(list(dict.fromkeys(gate for gate in gates if gate)))
    total = " + ".join(f"CASE WHEN {any_of(those)} THEN {bit} ELSE 0 END" for bit, those in sorted(merged.items()))
    return f"(CASE WHEN {gate} THEN {total} ELSE 0 END)::BIGINT"
