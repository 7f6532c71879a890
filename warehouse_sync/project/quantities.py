"""Durations (`15m`), sizes (`40MB`) and allowances (`50%` or a number of rows) as users write them.

Error messages are predicates ("is not a duration: …"): the caller names the subject, because only the caller knows
whether the value may be shown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

LONGEST = timedelta(days=36_525)
LARGEST = 2**63 - 1

# In the order in which a duration is written. The first spelling is the one we write.
_DURATION_UNITS: tuple[tuple[int, tuple[str, ...]], ...] = (
    (86_400_000_000 * 7, ("w", "week", "weeks")),
    (86_400_000_000, ("d", "day", "days")),
    (3_600_000_000, ("h", "hr", "hrs", "hour", "hours")),
    (60_000_000, ("m", "min", "mins", "minute", "minutes")),
    (1_000_000, ("s", "sec", "secs", "second", "seconds")),
    (1_000, ("ms", "millisecond", "milliseconds")),
    (1, ("us", "microsecond", "microseconds")),
)
_MICROSECONDS = {spelling: micros for micros, spellings in _DURATION_UNITS for spelling in spellings}

_SIZE_UNITS: tuple[tuple[str, int], ...] = (
    ("TB", 10**12),
    ("GB", 10**9),
    ("MB", 10**6),
    ("KB", 10**3),
    ("TiB", 2**40),
    ("GiB", 2**30),
    ("MiB", 2**20),
    ("KiB", 2**10),
    ("B", 1),
)
_BYTES = {name.lower(): size for name, size in _SIZE_UNITS}

_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_DURATION_PART = rf"({_NUMBER})\s*([A-Za-z]+)"
# Patterns of the JSON Schema, whose dialect has no flags: upper case is spelled out. Longest units first.
_UNIT_WORDS = "|".join(
    "".join(f"[{letter.upper()}{letter}]" for letter in unit) for unit in sorted(_MICROSECONDS, key=len, reverse=True)
)
_DURATION = rf"{_NUMBER}\s*(?:{_UNIT_WORDS})(?:\s*{_NUMBER}\s*(?:{_UNIT_WORDS}))*"
DURATION_PATTERN = rf"^\s*(?:0|{_DURATION})\s*$"
POSITIVE_DURATION_PATTERN = rf"^(?=.*[1-9])\s*{_DURATION}\s*$"
SIZE_PATTERN = rf"^\s*{_NUMBER}\s*(?:[KkMmGgTt][Ii]?)?[Bb]\s*$"
ALLOWANCE_PATTERN = r"^\s*(?:[0-9]{1,18}|0*(?:100(?:\.0+)?|[0-9]{1,2}(?:\.[0-9]+)?)\s*%)\s*$"

_DURATION_HINT = "write a number and a unit, such as 500ms, 90s, 15m, 2h or 7 days"
_SIZE_HINT = "write a number and a unit, such as 1MB, 40MB or 2GiB"
_SHARE_HINT = "write a number of rows, such as 100, or a share, such as 50%"


class UnitError(ValueError):
    """A text that is no duration, size or share. The message is a predicate: "is not a duration: …"."""


def parse_duration(text: str) -> timedelta:
    """Read `500ms`, `90s`, `15m`, `2h`, `7 days`, `1h 30m`; a bare `0` is allowed, no other number without a unit.

    Raises:
        UnitError: no duration, finer than a microsecond, or longer than 100 years.
    """
    text = text.strip()
    if text == "0":
        return timedelta(0)
    if re.fullmatch(_NUMBER, text):
        raise UnitError(f"has no unit: {_DURATION_HINT}")
    if not re.fullmatch(rf"(?:{_DURATION_PART}\s*)+", text):
        raise UnitError(f"is not a duration: {_DURATION_HINT}")
    total = Decimal(0)
    for number, unit in re.findall(_DURATION_PART, text):
        if unit.lower() not in _MICROSECONDS:
            raise UnitError(f"is not a duration: {_DURATION_HINT}")
        total += Decimal(number) * _MICROSECONDS[unit.lower()]
    if total > LONGEST // timedelta(microseconds=1):
        raise UnitError("is longer than 100 years")
    if total != int(total):
        raise UnitError("is finer than a microsecond")
    return timedelta(microseconds=int(total))


def format_duration(value: timedelta) -> str:
    """Write a duration so that `parse_duration` reads the same one: `1h 30m`, `7d`, `0s`."""
    rest = value // timedelta(microseconds=1)
    parts: list[str] = []
    for micros, spellings in _DURATION_UNITS[1:]:
        count, rest = divmod(rest, micros)
        if count:
            parts.append(f"{count}{spellings[0]}")
    return " ".join(parts) or "0s"


def parse_size(text: str) -> int:
    """Read `40MB` (10^6), `512 KB`, `1.5GB`, `2GiB` (2^30) as a number of bytes.

    Raises:
        UnitError: no size, or not a whole number of bytes below 2^63.
    """
    match = re.fullmatch(rf"({_NUMBER})\s*([A-Za-z]*)", text.strip())
    if match is None:
        raise UnitError(f"is not a size: {_SIZE_HINT}")
    number, unit = match.groups()
    if not unit:
        raise UnitError(f"has no unit: {_SIZE_HINT}")
    if unit.lower() not in _BYTES:
        raise UnitError(f"is not a size: {_SIZE_HINT}")
    size = Fraction(number) * _BYTES[unit.lower()]
    if size.denominator != 1:
        raise UnitError("is not a whole number of bytes")
    return check_size(int(size))


def check_size(size: int) -> int:
    """Refuse a number of bytes that DuckDB and the file system could not hold."""
    if size > LARGEST:
        raise UnitError("is larger than any file can be")
    return size


def format_size(size: int) -> str:
    """Write a number of bytes so that `parse_size` reads the same one, in the largest unit that divides it."""
    name, unit = (
        next((name, unit) for name, unit in _SIZE_UNITS if size >= unit and size % unit == 0) if size else _ZERO
    )
    return f"{size // unit}{name}"


_ZERO = ("B", 1)


@dataclass(frozen=True)
class Allowance:
    """How many bad rows are allowed: a number of `rows`, or a `share` (0 to 1) of the rows looked at. One is set."""

    rows: int | None = None
    share: float | None = None

    def exceeded(self, bad: int, of: int) -> bool:
        """True when `bad` out of `of` rows are more than this allows. Exact: 29 of 100 do not exceed 29%."""
        if self.rows is not None:
            return bad > self.rows
        return bad > Fraction(repr(self.share)) * of

    def __str__(self) -> str:
        """As the YAML file writes it."""
        if self.rows is not None:
            return str(self.rows)
        return f"{(Decimal(repr(self.share)) * 100).normalize():f}%"


def parse_allowance(value: int | str) -> Allowance:
    """Read `100` (rows) or `50%` (a share).

    Raises:
        UnitError: neither, negative, or more than 100%.
    """
    if isinstance(value, int):
        if value < 0:
            raise UnitError("must not be negative")
        return Allowance(rows=value)
    text = value.strip()
    if re.fullmatch("[0-9]+", text) and len(text) < 19:
        return Allowance(rows=int(text))
    if not re.fullmatch(rf"{_NUMBER}\s*%", text):
        raise UnitError(f"is neither a number of rows nor a share: {_SHARE_HINT}")
    share = Decimal(text.rstrip("% ")) / 100
    if share > 1:
        raise UnitError("is more than 100%")
    return Allowance(share=float(share))
