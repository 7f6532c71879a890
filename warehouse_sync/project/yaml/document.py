"""A YAML file as plain values, with the line and column of every key, duplicate keys refused and variables put in.

The node tree is walked here instead of by PyYAML's constructor, because the constructor forgets where a value stood,
takes the last of two equal keys in silence, and would turn dates into objects that nobody asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from warehouse_sync.errors import ConfigError, Problem
from warehouse_sync.project.yaml import traps
from warehouse_sync.project.yaml.environment import REFERENCE, SECRET_PREFIXES, Expanded, expand, not_set, set_but_empty

KeyPath = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"
_COLLECTIONS = (_TAG + "map", _TAG + "seq")
# dbt lets secret variables into profiles only; these are the sections that a profile would hold.
_CONNECTIONS = ("warehouse", "userpilot", "state")
_MOST_NODES = 20_000
_DEEPEST = 50
_SHOWN = 40
_NO_TEXT = "no text: it is no YAML file, or it is saved as UTF-16: save it as UTF-8"
_LOOKS_SECRET = re.compile("@|token|pass|secret|key=", re.IGNORECASE)


Kind = Literal["plain", "secret", "free"]
"""What a key holds: a value that messages may show, a secret, or something that this program knows nothing about."""


class _Fault:
    """Stands for a value that could not be read; its problem is already in the report."""

    def __repr__(self) -> str:
        return "FAULT"


FAULT = _Fault()


@dataclass(frozen=True)
class DateText:
    """An unquoted date or timestamp, as written: YAML would make an object of it."""

    text: str


def dotted(path: KeyPath) -> str:
    """`("warehouse", "attach", 0, "path")` as `warehouse.attach[0].path`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f"{'.' if text else ''}{part}"
    return text


@dataclass
class Document:
    """One parsed file. Positions are 1-based; `faults` are the paths whose problem is already in `problems`.

    `unset` has the problems of values whose variables are missing, by their path: whether they are problems at all
    depends on who reads the file.
    """

    file: Path
    kind: Callable[[KeyPath], Kind]
    value: Any = None
    problems: list[Problem] = field(default_factory=list)
    faults: set[KeyPath] = field(default_factory=set)
    unset: dict[KeyPath, tuple[Problem, ...]] = field(default_factory=dict)
    keys: dict[KeyPath, yaml.Mark] = field(default_factory=dict)
    nodes: dict[KeyPath, yaml.Node] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def key_place(self, path: KeyPath) -> tuple[int, int]:
        """Where the key of `path` stands, or the nearest key above it."""
        while path and path not in self.keys:
            path = path[:-1]
        mark = self.keys.get(path)
        return (mark.line + 1, mark.column + 1) if mark else (1, 1)

    def value_place(self, path: KeyPath) -> tuple[int, int]:
        """Where the value of `path` stands, or the nearest key above it."""
        node = self.nodes.get(path)
        return (node.start_mark.line + 1, node.start_mark.column + 1) if node else self.key_place(path)

    def positions(self) -> dict[str, tuple[int, int]]:
        """Line and column of every key, by dotted key."""
        return {dotted(path): self.key_place(path) for path in self.keys}

    def written(self, path: KeyPath) -> str:
        """The scalar as the file has it, in backticks, if it may be shown; else "this value".

        What a variable held is never shown: the reference to it is.
        """
        node = self.nodes.get(path)
        if not isinstance(node, yaml.ScalarNode) or not node.value.strip():
            return "this value"
        if re.fullmatch(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}", node.value):
            return f"`{node.value}`"
        if self.kind(path) != "plain":
            return "this value"
        if _LOOKS_SECRET.search(REFERENCE.sub("", node.value)):
            return "this value"
        text = node.value if len(node.value) <= _SHOWN else node.value[:_SHOWN] + "…"
        return f"`{' '.join(text.split())}`"

    def report(self, path: KeyPath, message: str, *, at_key: bool = False) -> None:
        """Add a problem at the value (or at the key) of `path`."""
        self.problems.append(self.problem(path, message, at_key=at_key))

    def problem(self, path: KeyPath, message: str, *, at_key: bool = False) -> Problem:
        """A problem at the value (or at the key) of `path`."""
        line, column = self.key_place(path) if at_key else self.value_place(path)
        return Problem(self.file, line, column, dotted(path), message)

    def lacks(self, path: KeyPath, value: Expanded, messages: Iterable[str]) -> None:
        """Take the value at `path` for none: its variables are missing, as the messages say."""
        value.unset = self.unset[path] = tuple(self.problem(path, message) for message in messages)

    def is_empty(self, path: KeyPath) -> bool:
        """True when the value at `path` is no value because a variable is empty; then it is taken for none."""
        value = self.value
        for part in path:
            inside = (isinstance(value, dict) and part in value) or (
                isinstance(value, list) and isinstance(part, int) and part < len(value)
            )
            value = value[part] if inside else None
        if not isinstance(value, Expanded) or not value.empty:
            return False
        self.lacks(path, value, map(set_but_empty, value.empty))
        return True

    def covers(self, path: KeyPath) -> bool:
        """True when `path`, or something above it, already has its problem."""
        return any(path[:length] in self.faults for length in range(len(path) + 1))


def read_document(file: Path, environ: Mapping[str, str] | None, kind: Callable[[KeyPath], Kind]) -> Document:
    """Parse `file` and put variables in; without `environ` every text stays as it is written.

    `kind` says of each key what it holds. Problems other than syntax errors are collected in the
    result, with `FAULT` in place of the value.

    Raises:
        ConfigError: the file cannot be read, is not UTF-8, or is not YAML (one problem, with line and column).
    """
    text = _text_of(file)
    problem = None
    node = None
    try:
        node = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError as error:
        line, column, message = traps.syntax_error(error, text)
        problem = Problem(file, line, column, "", message)
    except RecursionError:
        problem = Problem(file, 1, 1, "", "the file is nested too deeply")
    if problem is not None:
        raise ConfigError([problem])
    document = Document(file, kind, lines=text.split("\n"))
    if node is None:
        document.problems.append(Problem(file, 1, 1, "", "the file is empty"))
        document.value = FAULT
        document.faults.add(())
    else:
        document.value = _Reader(document, environ).read(node, ())
    return document


def _text_of(file: Path) -> str:
    problem = None
    try:
        data = file.read_bytes()
        if b"\0" in data:
            raise ConfigError([Problem(file, 1, 1, "", _NO_TEXT)])
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        problem = Problem(file, line, column, "", "not UTF-8 text: save the file as UTF-8")
    except OSError as error:
        problem = Problem(file, 0, 0, "", f"cannot be read: {error.strerror}")
    raise ConfigError([problem])


class _Reader:
    """One walk over the node tree. Aliases and `<<` are followed; a file cannot grow without limit through them."""

    def __init__(self, document: Document, environ: Mapping[str, str] | None) -> None:
        self.document = document
        self.environ = environ
        self.open: list[yaml.Node] = []
        self.count = 0

    def read(self, node: yaml.Node, path: KeyPath) -> Any:
        self.document.nodes[path] = node
        self.count += 1
        if node in self.open:
            return self.fault(path, "this alias stands inside what it names")
        if len(self.open) > _DEEPEST:
            return self.fault((), "the file is nested too deeply")
        if self.count > _MOST_NODES:
            return self.fault((), "the file is too large, or its aliases multiply")
        if not node.tag.startswith(_TAG) or (isinstance(node, yaml.CollectionNode) and node.tag not in _COLLECTIONS):
            return self.fault(path, "`!` begins a YAML tag, and none is known here: quote a value that begins with it")
        self.open.append(node)
        try:
            if isinstance(node, yaml.MappingNode):
                return self.mapping(node, path)
            if isinstance(node, yaml.ScalarNode):
                return self.scalar(node, path)
            return self.sequence(node, path)
        finally:
            self.open.pop()

    def fault(self, path: KeyPath, message: str, *, at_key: bool = False) -> Any:
        if not self.document.covers(path):
            self.document.report(path, message, at_key=at_key)
            self.document.faults.add(path)
        return FAULT

    def sequence(self, node: yaml.Node, path: KeyPath) -> list[Any]:
        for index, item in enumerate(node.value):
            self.document.keys[(*path, index)] = item.start_mark
        return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]

    def mapping(self, node: yaml.MappingNode, path: KeyPath) -> Any:
        if node.flow_style and any(isinstance(key, yaml.MappingNode) for key, _ in node.value):
            return self.fault(path, traps.QUOTE_JINJA)
        result: dict[str, Any] = {}
        lines: dict[str, int] = {}
        merged: list[tuple[yaml.Node, yaml.Node]] = []
        for key_node, value_node in node.value:
            if key_node.tag == _TAG + "merge":
                merged += self.merged(value_node, path)
                continue
            key = self.key(key_node, value_node, node, path)
            if key is None:
                continue
            line = key_node.start_mark.line + 1
            if key in lines:
                self.duplicate((*path, key), key_node, lines[key])
                continue
            lines[key] = line
            self.document.keys[(*path, key)] = key_node.start_mark
            result[key] = self.read(value_node, (*path, key))
        for key_node, value_node in merged:
            key = self.key(key_node, value_node, node, path)
            if key is not None and key not in result:
                self.document.keys[(*path, key)] = key_node.start_mark
                result[key] = self.read(value_node, (*path, key))
        return result

    def duplicate(self, path: KeyPath, node: yaml.Node, first: int) -> None:
        line, column = node.start_mark.line + 1, node.start_mark.column + 1
        place = f"in line {line}" if first == line else f"in lines {first} and {line}"
        message = f"the key stands twice, {place}: remove one"
        self.document.problems.append(Problem(self.document.file, line, column, dotted(path), message))

    def merged(self, node: yaml.Node, path: KeyPath) -> Iterator[tuple[yaml.Node, yaml.Node]]:
        """The pairs that `<<` brings in, nearest first, as in YAML 1.1: what the mapping itself says wins."""
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for source in sources:
            if source in self.open:
                self.fault(path, "this alias stands inside what it names")
            elif isinstance(source, yaml.MappingNode):
                self.open.append(source)
                yield from (pair for pair in source.value if pair[0].tag != _TAG + "merge")
                for key, value in source.value:
                    if key.tag == _TAG + "merge":
                        yield from self.merged(value, path)
                self.open.pop()
            else:
                self.fault(path, "`<<` takes the alias of a mapping, or a list of such")

    def key(self, node: yaml.Node, value: yaml.Node, parent: yaml.MappingNode, path: KeyPath) -> str | None:
        """The text of a key; None, and a problem, if YAML does not read it as text."""
        if not isinstance(node, yaml.ScalarNode):
            message = "a key must be text, not a list or a mapping"
        elif node.tag == _TAG + "bool":
            message = f"YAML reads the key `{node.value}` as {traps.truth(node.value)}: quote it"
        elif node.tag != _TAG + "str" and node.tag != _TAG + "value":
            message = "YAML does not read this key as text: quote it"
        elif parent.flow_style and ":" in node.value and value.tag == _TAG + "null" and not value.value:
            # `{api_key:secret}` is one key without a value. Its text must not be shown.
            message = traps.SPACE_AFTER_COLON
        elif _not_text(node.value):
            message = "a key holds a character that is not text"
        else:
            return str(node.value)
        line, column = node.start_mark.line + 1, node.start_mark.column + 1
        self.document.problems.append(Problem(self.document.file, line, column, dotted(path), message))
        return None

    def scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        kind = node.tag.removeprefix(_TAG)
        message = traps.misread(node)
        if message:
            return self.fault(path, message.format(self.document.written(path)))
        if kind == "null":
            return self.nothing(node, path)
        if kind == "bool":
            return traps.truth(node.value) == "true"
        if kind in ("int", "float"):
            return self.number(node, path, kind)
        if kind == "timestamp":
            return DateText(node.value)
        if kind in ("str", "value"):
            return self.text(node.value, path)
        return self.fault(path, "`!` begins a YAML tag, and this one is not known here: quote the value if it is text")

    def nothing(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        """None, unless a value is there that YAML does not see: `password: #1x`, `password: &1x`."""
        start = self.document.keys.get(path)
        rest = ""
        if start and not node.value:
            rest = self.document.lines[start.line][start.column :].partition(":")[2].strip()
        if rest.startswith("&"):
            return self.fault(path, "has no value: `&` begins a YAML anchor, quote a value that begins with it")
        if re.match(r"#\S", rest) and self.document.kind(path) == "secret":
            return self.fault(path, "has no value: `#` begins a comment, quote a value that begins with it")
        return None

    def number(self, node: yaml.ScalarNode, path: KeyPath, kind: str) -> Any:
        constructor = yaml.constructor.SafeConstructor()
        try:
            if kind == "int":
                return constructor.construct_yaml_int(node)
            return constructor.construct_yaml_float(node)
        except (ValueError, OverflowError):
            return self.fault(path, "YAML reads this as a number, and it is none: quote it if it is text")

    def text(self, text: str, path: KeyPath) -> Any:
        if _not_text(text):
            return self.fault(path, "holds a character that is not text (NUL, or half of a surrogate pair)")
        if self.environ is None:
            return text
        expansion = expand(text, self.environ)
        for message in expansion.problems:
            self.document.report(path, message)
            self.document.faults.add(path)
        if expansion.problems:
            return FAULT
        if expansion.text is not text and _not_text(expansion.text):
            return self.fault(path, f"the value of {self.document.written(path)} is not UTF-8 text")
        secret = next((name for name in expansion.variables if name.startswith(SECRET_PREFIXES)), None)
        if secret and path[0] not in _CONNECTIONS and self.document.kind(path) != "secret":
            return self.fault(path, f"`{secret}` is secret by its name: it can stand only in {', '.join(_CONNECTIONS)}")
        if expansion.missing and isinstance(expansion.text, Expanded):
            self.document.lacks(path, expansion.text, map(not_set, expansion.missing))
        return expansion.text


def _not_text(text: str) -> bool:
    return "\0" in text or any("\ud800" <= character <= "\udfff" for character in text)
