"""What came, beside what was expected: named values must be equal, the number of rows too, the order does not matter.

A name is a field of the event, `metadata.<property>`, or else a property. NULL is a value that is null or left out. A
field that holds text may be written as a number; two times are equal when they are the same moment.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, TypeVar

from warehouse_sync.observe.words import counted
from warehouse_sync.project.fixtures import Cell
from warehouse_sync.project.unit_tests import Refused
from warehouse_sync.project.yaml.document import DateText

METADATA = "metadata"
EMPTY = "''"

_Expected = TypeVar("_Expected")
_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Refusal:
    """A row that was refused: its key, None without one, and the codes of its reasons."""

    key: str | None
    reasons: tuple[str, ...]


def read_line(line: str) -> dict[str, Any]:
    """An event as it is sent, by field and by `metadata.<property>`; numbers keep their digits."""
    event: dict[str, Any] = json.loads(line, parse_float=Decimal)
    properties = event.pop(METADATA, {})
    return event | {f"{METADATA}.{name}": value for name, value in properties.items()}


def named(row: Mapping[str, Any], fields: Collection[str]) -> dict[str, Any]:
    """An expected row under the names of `read_line`."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        if name.casefold() == METADATA and isinstance(value, Mapping):
            found |= {f"{METADATA}.{inner}": item for inner, item in value.items()}
        elif name.casefold() in fields or name.casefold() == "event_type":
            found[name.casefold()] = value
        else:
            found[name if name.startswith(f"{METADATA}.") else f"{METADATA}.{name}"] = value
    return found


def differences(
    expected: Sequence[Mapping[str, Any]],
    events: Sequence[Mapping[str, Any]],
    refused: Sequence[Refused],
    refusals: Sequence[Refusal],
) -> list[str]:
    """The lines of a diff, `-` before what was expected and `+` before what came; none when all is as expected."""
    lines = []
    if len(expected) != len(events):
        lines.append(f"{counted(len(expected), 'event')} expected, {len(events)} came")
    pairs, lacking, extra = _pair(expected, events, _agreement)
    for wanted, found in pairs:
        wrong = [name for name, value in wanted.items() if not same(value, found.get(name), name)]
        if wrong:
            lines.append(f"event {_identity(found)}")
        for name in wrong:
            lines += [f"  - {name}: {_shown(wanted[name])}", f"  + {name}: {_came(found, name)}"]
    lines += [line for wanted in lacking for line in ("event is missing", *_listed("-", wanted))]
    lines += [line for found in extra for line in ("event was not expected", *_listed("+", found))]
    return lines + _refused_differences(refused, refusals)


def _refused_differences(refused: Sequence[Refused], refusals: Sequence[Refusal]) -> list[str]:
    def agreement(wanted: Refused, found: Refusal) -> tuple[bool, int]:
        key = wanted.key is None or wanted.key == found.key
        reasons = wanted.reasons == set(found.reasons)
        return key and reasons, 2 * (key and wanted.key is not None) + reasons

    lines = []
    pairs, lacking, extra = _pair(refused, refusals, agreement)
    for wanted, found in pairs:
        if not agreement(wanted, found)[0]:
            lines += [f"  - {_refusal(wanted.key, wanted.reasons)}", f"  + {_refusal(found.key, found.reasons)}"]
    lines += [f"  - {_refusal(wanted.key, wanted.reasons)}" for wanted in lacking]
    lines += [f"  + {_refusal(found.key, found.reasons)}" for found in extra]
    return ["refused rows", *lines] if lines else []


def _pair(
    expected: Sequence[_Expected], found: Sequence[_Found], agreement: Callable[[_Expected, _Found], tuple[bool, int]]
) -> tuple[list[tuple[_Expected, _Found]], list[_Expected], list[_Found]]:
    """Each expected row with one that came: as many that agree as possible, then those that are most alike."""
    fits = [[place for place, one in enumerate(found) if agreement(wanted, one)[0]] for wanted in expected]
    owner: dict[int, int] = {}

    def settle(row: int, tried: set[int]) -> bool:
        """Find a place for the row, moving others aside where they have another one."""
        for place in fits[row]:
            if place in tried:
                continue
            tried.add(place)
            if place not in owner or settle(owner[place], tried):
                owner[place] = row
                return True
        return False

    for row in range(len(expected)):
        settle(row, set())
    pairs = {row: place for place, row in owner.items()}
    rows = [row for row in range(len(expected)) if row not in pairs]
    places = [place for place in range(len(found)) if place not in owner]
    alike = sorted((-agreement(expected[row], found[place])[1], row, place) for row in rows for place in places)
    for score, row, place in alike:
        if score and row not in pairs and place not in pairs.values():
            pairs[row] = place
    lacking = [expected[row] for row in rows if row not in pairs]
    extra = [found[place] for place in places if place not in pairs.values()]
    return [(expected[row], found[place]) for row, place in sorted(pairs.items())], lacking, extra


def _agreement(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> tuple[bool, int]:
    """Whether all named values are equal, and how many are, an id counting for more than the rest."""
    equal = [name for name, value in wanted.items() if same(value, found.get(name), name)]
    score = sum(10 if name in ("user_id", "company_id") else 1 for name in equal)
    return len(equal) == len(wanted), score


def same(wanted: Any, found: Any, name: str = "") -> bool:
    """True when a value that came is what was written; `name` tells a field, whose text may be written as a number.

    A cell of CSV has no type: like dbt it takes that of what came.
    """
    if isinstance(wanted, Cell):
        return same(wanted.value, found, name) or (isinstance(found, str) and wanted.text == found)
    if wanted is None or found is None:
        return wanted is found
    if isinstance(wanted, bool) or isinstance(found, bool):
        return wanted is found
    if isinstance(wanted, dict | list):
        return _same_nested(wanted, found)
    if isinstance(wanted, int | float | Decimal):
        if isinstance(found, str):
            return bool(name) and not name.startswith(METADATA) and str(wanted) == found
        return isinstance(found, int | float | Decimal) and Decimal(str(wanted)) == Decimal(str(found))
    if isinstance(wanted, DateText | datetime | date):
        text = wanted.text if isinstance(wanted, DateText) else wanted.isoformat()
        return isinstance(found, str) and (text == found or _same_moment(text, found))
    return bool(wanted == found) or (name == "inserted_at" and _same_moment(str(wanted), str(found)))


def _same_nested(wanted: dict[str, Any] | list[Any], found: Any) -> bool:
    """A nested value may have been sent as JSON text (`nested: json`)."""
    if isinstance(found, str):
        try:
            found = json.loads(found, parse_float=Decimal)
        except ValueError:
            return False
    if isinstance(wanted, list):
        return isinstance(found, list) and len(wanted) == len(found) and all(map(same, wanted, found))
    return isinstance(found, dict) and wanted.keys() == found.keys() and all(same(wanted[k], found[k]) for k in wanted)


def _same_moment(wanted: str, found: str) -> bool:
    try:
        one, other = datetime.fromisoformat(wanted), datetime.fromisoformat(found)
    except ValueError:
        return False
    # Both with a zone, or both without: a naive time equals no aware one.
    return one == other


# Words


def _identity(event: Mapping[str, Any]) -> str:
    ids = [name for name in ("company_id", "user_id", "event_name", "inserted_at") if name in event]
    return " ".join(f"{name}={event[name]}" for name in ids)


def _listed(sign: str, row: Mapping[str, Any]) -> list[str]:
    return [f"  {sign} {name}: {_shown(value)}" for name, value in row.items()]


def _came(found: Mapping[str, Any], name: str) -> str:
    if name in found:
        return _shown(found[name])
    near = [other for other in found if other.casefold() == name.casefold()]
    return f"(left out; there is {near[0]})" if near else "(left out)"


def _shown(value: Any) -> str:
    if isinstance(value, Cell):
        return _shown(value.value)
    if isinstance(value, DateText):
        return value.text
    if isinstance(value, Decimal):
        return str(value)
    return json.dumps(value, ensure_ascii=False, default=str)


def _refusal(key: str | None, reasons: Collection[str]) -> str:
    return f"{'' if key is None else f'key {key or EMPTY}: '}{', '.join(sorted(reasons))}"
