"""What YAML does to a text that its writer did not mean, in the writer's words.

Nothing here shows a piece of the document: a syntax error may well stand in the middle of a password.
"""

from __future__ import annotations

import re

import yaml

_FLOW_VARIABLE = re.compile(r"[\[{,:\s]\$\{")
_JINJA_VALUE = re.compile(r"(?:^|[:\-\[{,])\s*\{\{")

QUOTE_JINJA = """YAML reads `{{` as a mapping: quote the value, "{{ env_var('NAME') }}\""""
QUOTE_VARIABLE = 'inside `{…}` and `[…]` YAML reads the brace of `${NAME}` as its own: quote it, "${NAME}"'
SPACE_AFTER_COLON = "`:` needs a space behind it, `key: value`"
TAB = "a tab: YAML is indented with spaces only"

# PyYAML's words (context and problem, joined) -> ours. The first that is found in them.
_SYNTAX: tuple[tuple[str, str], ...] = (
    (r"character '\\t'", TAB),
    (r"character '[@`%|>!&*]' that cannot start", "a value cannot begin with `@`, `%` or a backtick: quote it"),
    ("undefined alias", "`*` begins a YAML alias, and no anchor has that name: quote a value that begins with `*`"),
    ("duplicate anchor", "two YAML anchors (`&`) have one name: quote a value that begins with `&`"),
    ("scanning an (alias|anchor)", "`*` and `&` begin a YAML alias or anchor: quote a value that begins with one"),
    ("(parsing|scanning) a tag|tag handle", "`!` begins a YAML tag: quote a value that begins with it"),
    ("unknown escape|hexadecimal", r"in double quotes `\` begins an escape: use single quotes, or write `\\`"),
    ("scanning a quoted scalar.*end of stream", "this quote is never closed"),
    ("quoted scalar", "this quote is never closed, or not where it should be"),
    ("mapping values are not allowed", "`:` where no key can stand: quote a value that holds `: `, and check the "
     "indentation and the line above"),
    ("sequence entries are not allowed", "a list item (`- `) cannot stand here: put it on a line of its own"),
    ("block scalar", "after `|` and `>` the text begins on the next line, indented"),
    ("flow (mapping|sequence|node).*end>", "this `{` or `[` is never closed"),
    ("flow (mapping|sequence)", "inside `{…}` or `[…]` a comma is missing, or a special character is not quoted"),
    ("could not find expected ':'", f"this is neither a key nor a value; {SPACE_AFTER_COLON}"),
    ("another document", "a second document begins here: the file must hold one, so remove the `---`"),
    ("block (collection|mapping|sequence)", "this does not fit the lines above: check the indentation, and quote a "
     "value that goes on behind a quote or a brace"),
    ("special characters", "a control character: YAML allows none"),
    ("node content", "a value cannot begin with `]`, `}` or `,`: quote it"),
    ("directive|document start|YAML document", "a line that begins with `%` instructs YAML: remove or quote it"),
)  # fmt: skip


def syntax_error(error: yaml.YAMLError, text: str) -> tuple[int, int, str]:
    """Line and column (1-based) of a YAML error and what the user did, without a word of the document."""
    if not isinstance(error, yaml.MarkedYAMLError):
        position = getattr(error, "position", 0)
        before = text[:position]
        return before.count("\n") + 1, position - before.rfind("\n"), _said("special characters")
    mark = error.problem_mark or error.context_mark
    if "quoted scalar" in (error.context or "") and "end of stream" in (error.problem or ""):
        mark = error.context_mark
    line, column = (mark.line, mark.column) if mark else (0, 0)
    lines = text.split("\n")
    for number in (line, error.context_mark.line if error.context_mark else line):
        jinja = _JINJA_VALUE.search(lines[number])
        if jinja:
            return number + 1, jinja.end() - 1, QUOTE_JINJA
    if "flow" in (error.context or "") and _FLOW_VARIABLE.search(lines[line]):
        return line + 1, column + 1, QUOTE_VARIABLE
    return line + 1, column + 1, _said(f"{error.context} {error.problem}")


def _said(words: str) -> str:
    return next((ours for theirs, ours in _SYNTAX if re.search(theirs, words)), "YAML cannot read this")


def misread(node: yaml.ScalarNode) -> str:
    """Why a plain scalar that became a number cannot be what its writer meant; empty if it can."""
    text = node.value
    if node.tag.endswith((":int", ":float")) and ":" in text:
        return "YAML reads {0} as a number to the base 60: quote it, or write a duration such as 90m"
    if node.tag.endswith(":int") and re.fullmatch(r"[-+]?0[0-7_]+", text):
        return "YAML reads {0} as an octal number: quote it, or write it without the zero"
    return ""


def truth(text: str) -> str:
    """What YAML 1.1 makes of `yes`, `no`, `on`, `off`: `true` or `false`."""
    return "true" if text.lower() in ("true", "yes", "on") else "false"
