"""Failure texts of import jobs: the words, and the row that the API printed into them.

A failed job's `reason_for_failure` holds texts such as (page "Import API", "Get All Import Job Statuses")

    Required field `user_id` not provided in the row: %{"event_type" => "identify_user", "metadata" => %{"a" => 1}}

The row is what Elixir's `inspect/2` prints for a map. Maps, keyword lists, lists, tuples, strings, charlists, binaries,
atoms and numbers become Python values; structs become dicts without their name; what has no value in JSON (`#PID<…>`,
`~U[…]`, `Decimal.new("1")`) becomes `Opaque` text, not to be compared with anything. `inspect` prints `...` past its
limits and a text may be cut anywhere: maps keep what was read up to there, every other value that is not whole is left
out, and `FailureText.truncated` says so.

One pass, no backtracking: the time is linear in the text, and nothing is ever raised.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

MAX_DEPTH = 64
MAX_MESSAGE = 500


class Opaque(str):
    """What Elixir printed for a value that JSON does not have; its text, not its value."""

    __slots__ = ()


@dataclass(frozen=True)
class FailureText:
    """One failure text, read.

    `message`: the words without the row and without quoted values, at most MAX_MESSAGE characters: safe to print.
    `row`: the echoed row, None when the text shows none; its values are personal data and stay out of `repr`.
    `truncated`: the row goes on where the text does not; keys that are missing from it mean nothing then.
    """

    message: str
    row: dict[str, Any] | None = field(default=None, repr=False)
    truncated: bool = False


def parse_reason(text: str) -> FailureText:
    """Read one failure text; of several echoed rows the first. Never raises."""
    text = _storable(text)
    start = _ROW.search(text)
    if start is None:
        return FailureText(words(text))
    reader = _Reader(text, start.start())
    row = reader.map(0)
    rest = "" if reader.stopped else text[reader.at :]
    return FailureText(words(text[: start.start()] + "…" + rest), row or None, reader.truncated)


def _storable(text: str) -> str:
    """Half of a surrogate pair, which no line holds, is what no file and no query takes."""
    return text.encode(errors="replace").decode()


_ROW = re.compile(r"%(?:[A-Z][\w.]*)?\{")
_ECHO = re.compile(r"%[\w.]*\{|[{\[]")
_QUOTED = re.compile(r"\"(?:[^\"\\]|\\.)*\"?|(?<!\w)'[^']*'?", re.DOTALL)
_EDGE = " \t\r\n…:,;"


def words(text: str) -> str:
    """The part of a text that holds no values: up to the first bracket of an echo, quoted parts replaced; one line."""
    text = text[: 4 * MAX_MESSAGE]
    echo = _ECHO.search(text)
    plain = _QUOTED.sub('"…"', text[: echo.start()] if echo else text)
    printable = "".join(letter if letter.isprintable() else " " for letter in plain)
    return " ".join(printable.split()).strip(_EDGE)[:MAX_MESSAGE]


class _Cut(Exception):
    """The text ends here, or goes on in a way that cannot be read."""


_ELIDED = object()  # a value that inspect printed only in part (`...`)

_SPACE = re.compile(r"\s*")
_ELLIPSIS = re.compile(r"\.\.\.")
_STRING_PART = {quote: re.compile(rf"[^{quote}\\]+") for quote in "\"'"}
_ESCAPE = re.compile(r"\\(?:[xu]\{([0-9a-fA-F]{1,6})\}|x([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|([^xu]))", re.DOTALL)
_ESCAPES = {"a": "\a", "b": "\b", "d": "\x7f", "e": "\x1b", "f": "\f", "n": "\n", "r": "\r", "s": " ", "t": "\t"}
_ESCAPES |= {"v": "\v", "0": "\0"}
_NUMBER = re.compile(
    r"-?(?:(?P<base>0x[0-9a-fA-F_]+|0b[01_]+|0o[0-7_]+)|(?P<float>\d[\d_]*\.\d[\d_]*(?:[eE][+-]?\d+)?)|\d[\d_]*)(?![\w.])"
)
_ATOM = re.compile(r":(?:([^\W\d][\w@]*[?!]?)|(\"))")
_OPERATOR = re.compile(r":(<<>>|%\{\}|\{\}|%|\.\.//|\.\.\.|[-+*/=<>!&|^~@.]+)")
_WORD = re.compile(r"[^\W\d][\w@]*[?!]?(?:\.[A-Z]\w*)*")
_KEYWORD = re.compile(r"([^\W\d][\w@]*[?!]?):(?=\s)")
_CALL = re.compile(r"(?:\.[a-z_]\w*[?!]?)?\(")
_HASH = re.compile(r"#[A-Z][\w.]*<")
_SIGIL = re.compile(r"~[a-zA-Z]+")
_SIGIL_ENDS = {"[": "]", "(": ")", "{": "}", "<": ">", '"': '"', "'": "'", "/": "/", "|": "|"}
_STRUCT = re.compile(r"%(?:[A-Z][\w.]*)?\{")
_SIZE = re.compile(r"::[\w()-]+")
# The closing quote is optional, so that a text cut inside a string is passed over once, not once per quote.
_BRACKET = re.compile(r"\"(?:[^\"\\]|\\.)*\"?|[\[({})\]]", re.DOTALL)
_ANGLE = re.compile(r"\"(?:[^\"\\]|\\.)*\"?|[=-]>|[<>]", re.DOTALL)
_CONSTANTS = {"true": True, "false": False, "nil": None}


class _Reader:
    """A recursive-descent reader over one text; `at` is the next character to read."""

    def __init__(self, text: str, at: int) -> None:
        self.text = text
        self.at = at
        self.truncated = False
        self.stopped = False  # nothing behind `at` can be read: every map under construction ends with what it has

    def value(self, depth: int) -> Any:
        """The value at `at`: a Python value, `Opaque`, or `_ELIDED`."""
        if depth > MAX_DEPTH:
            raise _Cut
        self.skip_space()
        text, at = self.text, self.at
        first = text[at : at + 1]
        if text.startswith("<<", at):
            return self.binary()
        if first == "%":
            return self.map(depth)
        if first == '"':
            return self.concatenated(self.string('"'))
        if first == "'":
            return self.concatenated(self.string("'"))
        if first in ("[", "{"):
            return self.sequence(depth, "]" if first == "[" else "}")
        if first == ":":
            return self.atom()
        if first == "~":
            return self.sigil()
        if first == "#":
            return self.angled()
        word = self.take(_WORD)
        return self.word(word) if word else self.number_or_ellipsis()

    # -- small steps -----------------------------------------------------------------------------------------------

    def skip_space(self) -> None:
        match = _SPACE.match(self.text, self.at)
        self.at = match.end() if match else self.at

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self.text, self.at)
        if match:
            self.at = match.end()
        return match

    def taken(self, mark: str) -> bool:
        self.skip_space()
        if not self.text.startswith(mark, self.at):
            return False
        self.at += len(mark)
        return True

    def need(self, mark: str) -> None:
        if not self.taken(mark):
            raise _Cut

    # -- collections -----------------------------------------------------------------------------------------------

    def map(self, depth: int) -> dict[str, Any]:
        """`%{…}` or `%Name{…}`; ends with what was read when the text is cut inside."""
        result: dict[str, Any] = {}
        try:
            if not self.take(_STRUCT):
                raise _Cut
            while not (self.stopped or self.taken("}")):
                self.entry(depth, result)
        except _Cut:
            self.truncated = self.stopped = True
        return result

    def entry(self, depth: int, result: dict[str, Any]) -> None:
        """One `key => value` or `key: value` into `result`; nothing for `...` and for values that are not whole."""
        key = self.key(depth)
        value = _ELIDED if key is _ELIDED else self.value(depth + 1)
        # Without a comma or the end of the map behind it, a number or a word may be only its own beginning.
        ended = self.taken(",") or self.text.startswith("}", self.at)
        if value is not _ELIDED and (ended or isinstance(value, dict)):
            result[str(key)] = value
        if not ended:
            raise _Cut

    def key(self, depth: int) -> Any:
        self.skip_space()
        keyword = self.take(_KEYWORD)
        if keyword:
            return keyword.group(1)
        key = self.value(depth + 1)
        if key is not _ELIDED and not self.colon(key):
            self.need("=>")
        return key

    def colon(self, key: Any) -> bool:
        """Read on behind the colon of `"quoted key": value`."""
        if not isinstance(key, str) or not self.text.startswith(": ", self.at):
            return False
        self.at += 1
        return True

    def sequence(self, depth: int, end: str) -> Any:
        """A list, a keyword list (pairs) or a tuple; `_ELIDED` when a part of it is not shown."""
        self.at += 1
        items: list[Any] = []
        while not self.taken(end):
            if items:
                self.need(",")
            items.append(self.item(depth))
            if self.stopped:
                raise _Cut
        if any(item is _ELIDED for item in items):
            return _ELIDED
        return items if end == "]" else tuple(items)

    def item(self, depth: int) -> Any:
        self.skip_space()
        keyword = self.take(_KEYWORD)
        key = keyword.group(1) if keyword else self.value(depth + 1)
        if not keyword and not self.colon(key):
            return key
        value = self.value(depth + 1)
        return _ELIDED if value is _ELIDED else (key, value)

    # -- text ------------------------------------------------------------------------------------------------------

    def string(self, quote: str) -> str:
        """A quoted text with its escapes undone; `at` is on the opening quote."""
        self.at += 1
        parts: list[str] = []
        while True:
            part = self.take(_STRING_PART[quote])
            if part:
                parts.append(part.group())
            elif self.text.startswith(quote, self.at):
                self.at += 1
                return "".join(parts)
            else:
                parts.append(self.escape())

    def escape(self) -> str:
        match = self.take(_ESCAPE)
        if match is None:
            raise _Cut
        if match.group(4) is not None:
            return _ESCAPES.get(match.group(4), match.group(4))
        code = int(match.group(1) or match.group(2) or match.group(3), 16)
        if code > 0x10FFFF:
            raise _Cut
        return _storable(chr(code))

    def concatenated(self, text: str) -> Any:
        """`text`, or `_ELIDED` for `"text" <> ...` and `'text' ++ ...`, which is how inspect cuts a long one."""
        if self.taken("<>") or self.taken("++"):
            self.need("...")
            self.truncated = True
            return _ELIDED
        return text

    def binary(self) -> Any:
        """`<<104, 105>>`: the text of these bytes when they are UTF-8, as of a string with control characters."""
        start = self.at
        self.at += 2
        numbers: list[Any] = []
        plain = True
        while not self.taken(">>"):
            if numbers:
                self.need(",")
            self.skip_space()
            numbers.append(self.number_or_ellipsis())
            plain = not self.take(_SIZE) and plain
        if _ELIDED in numbers:
            return _ELIDED
        try:
            return bytes(numbers).decode() if plain else Opaque(self.text[start : self.at])
        except (TypeError, ValueError):  # not bytes, or bytes that are no text
            return Opaque(self.text[start : self.at])

    def number_or_ellipsis(self) -> Any:
        if self.take(_ELLIPSIS):
            self.truncated = True
            return _ELIDED
        return self.number()

    # -- the rest --------------------------------------------------------------------------------------------------

    def number(self) -> int | float | Opaque:
        match = self.take(_NUMBER)
        if match is None:
            raise _Cut
        digits = match.group()
        try:
            number = float(digits) if match.group("float") else int(digits, 0 if match.group("base") else 10)
        except ValueError:  # thousands of digits, or `_` where none belongs
            return Opaque(digits)
        return Opaque(digits) if number in (math.inf, -math.inf) else number

    def atom(self) -> str:
        match = self.take(_ATOM)
        if match is None:
            operator = self.take(_OPERATOR)
            if operator is None:
                raise _Cut
            return operator.group(1)
        if match.group(2):
            self.at -= 1
            return self.string('"')
        return match.group(1)

    def word(self, match: re.Match[str]) -> Any:
        """`true`, `false`, `nil`, an alias such as `Foo.Bar`, or a call such as `Decimal.new("1")`."""
        if match.group() in _CONSTANTS:
            return _CONSTANTS[match.group()]
        if self.take(_CALL):
            self.balance(_BRACKET, "([{", ")]}")
            return Opaque(self.text[match.start() : self.at])
        return match.group()

    def angled(self) -> Opaque:
        """`#Name<…>`: a value that prints itself."""
        start = self.at
        if not self.take(_HASH):
            raise _Cut
        self.balance(_ANGLE, "<", ">")
        return Opaque(self.text[start : self.at])

    def balance(self, marks: re.Pattern[str], opening: str, closing: str) -> None:
        """Go on behind the bracket that closes the one just read."""
        depth = 1
        for match in marks.finditer(self.text, self.at):
            depth += (match.group() in opening) - (match.group() in closing)
            if depth == 0:
                self.at = match.end()
                return
        raise _Cut

    def sigil(self) -> Any:
        """`~c"abc"` is a charlist; every other one (`~U[…]`, `~r/…/`) is opaque."""
        start = self.at
        name = self.take(_SIGIL)
        opening = self.text[self.at : self.at + 1]
        if name is None or opening not in _SIGIL_ENDS:
            raise _Cut
        if name.group() == "~c" and opening in "\"'":
            return self.concatenated(self.string(opening))
        end = self.text.find(_SIGIL_ENDS[opening], self.at + 1)
        if end < 0:
            raise _Cut
        self.at = end + 1
        return Opaque(self.text[start : self.at])


__all__ = ["FailureText", "Opaque", "parse_reason", "words"]
