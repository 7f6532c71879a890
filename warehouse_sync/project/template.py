"""Jinja in model files: sandboxed, undefined is an error, seven functions, and no other file can be read.

    config(**keys)            the header; once per file, outside of blocks
    var(name[, default])      models.vars of the YAML, --vars
    env_var(name[, default])  the environment; secret names (DBT_ENV_SECRET…) are refused, as in dbt
    source(schema, table)     models.sources; both also by dbt's manifest, where the YAML has `dbt`
    ref([package,] name, v=)  models.refs
    is_incremental()          true when the run reads from a cursor
    cursor_from()             where it reads from, as an SQL literal of the warehouse

Every fault of a template leaves this module as a ModelError with the file and the line in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from jinja2 import Environment, StrictUndefined, TemplateError, TemplateSyntaxError, UndefinedError, nodes
from jinja2.environment import Template
from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream
from jinja2.sandbox import ImmutableSandboxedEnvironment

from warehouse_sync.errors import ModelError
from warehouse_sync.project.names import nearest
from warehouse_sync.project.relations import Relations, YamlRelations
from warehouse_sync.project.yaml.environment import SECRET_PREFIXES, unset_in

FUNCTIONS = ("config", "var", "env_var", "source", "ref", "is_incremental", "cursor_from")
"""What a template may call."""

_OTHER_FILES = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)
_PLAIN_PARENTS = (nodes.Template, nodes.Output, nodes.ExprStmt, nodes.Assign)
_MARK = re.compile("\x00([0-9]+)\x00")
_MISSING = object()
_KNOWN = "known here: " + ", ".join(f"{name}()" for name in FUNCTIONS) + "; a macro has to be in the same file."
_ASKS = "a model asks the warehouse nothing while it is rendered: build it in dbt, and select from it with ref()."
_MACROS = "dbt's macros are not here: write it in SQL, or build it in dbt and select from it with ref()."
_THIS = "a model has no table of its own here: use cursor_from()."
_UNDEFINED_HINTS = {
    "target": "there are no dbt targets here: use var() or env_var().",
    "log": "a model prints nothing: take it out.",
    "execute": "a model is only rendered to be run: take the `if` out.",
    "modules": "write it in SQL, or pass it with var().",
    **dict.fromkeys(("adapter", "graph", "load_result", "run_query"), _ASKS),
    **dict.fromkeys(("dbt", "dbt_utils", "dbt_date", "api", "exceptions"), _MACROS),
}
_QUOTE = "a quote that is not closed, perhaps: text stands in ' or \" on both sides."
_EQUALS = "keys are written with `=`: config(event='identify_user', tags=['daily'])."
_NAME_ONLY = "source() and ref() give the table's full name, as text: there is nothing to ask it for."
_NO_FILTERS = (
    "dbt's filters are not here, nor needed: `'5'` and `'true'` are read as their key wants them; in SQL, CAST."
)
_FORMS = {
    "var": "var('name') or var('name', 'default')",
    "env_var": "env_var('NAME') or env_var('NAME', 'default')",
    "source": "source('schema', 'table')",
    "ref": "ref('name'), ref('package', 'name') or ref('name', v=2)",
    "is_incremental": "is_incremental()",
    "cursor_from": "cursor_from()",
}
_CALL = re.compile(r"_Functions\.([a-z_]+)\(\)")
_RAW = "what is SQL, and not Jinja, stands between {% raw %} and {% endraw %} where it holds `{{`, `{%` or `{#`."
_SYNTAX_HINTS = {
    "end of comment": _RAW,
    "tag name expected": _RAW,
    **{f"unexpected char {quote!r}": "write ' or \" around text: this is a quote of prose." for quote in "‘’‚“”„«»"},
    **dict.fromkeys(('unexpected char "\'"', "unexpected char '\"'"), _QUOTE),
    "unexpected char ": _RAW,
    "expected token ',', got ':'": _EQUALS,
    "syntax for function call": _EQUALS,
    "'str object' has no attribute": _NAME_ONLY,
    "No filter named 'as_": _NO_FILTERS,
    **{f"unknown tag '{name}'": f"write it with two braces: {{{{ {name}(…) }}}}." for name in FUNCTIONS},
    "'end of print statement'": _RAW,
    "unknown tag 'snapshot'": "a model is one query: dbt builds the snapshot, and ref() names it.",
    "unknown tag 'test'": "a model is one query: its tests are in YAML files in `tests/`.",
}


@dataclass(frozen=True)
class RenderContext:
    """What a rendering depends on besides the file.

    `cursor_from`: an SQL literal in the warehouse's dialect, of no account unless `incremental`.
    `relations`: what resolves source() and ref() in place of `sources` and `refs`.
    """

    incremental: bool = False
    cursor_from: str = ""
    vars: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, str | Mapping[str, str]] = field(default_factory=dict)
    refs: Mapping[str, str] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    relations: Relations | None = None


class HeaderRead(Exception):
    """Raised by a recording `config()` to end the rendering: what stands below it is not looked at."""


def evaluate(source: str, path: Path, context: RenderContext, config: Callable[..., str]) -> str:
    """The text of a template. Raises ModelError with path and line, and whatever `config` raises by itself."""
    return _evaluate(source, path, context, config, marks=False)


def source_lines(source: str, path: Path, context: RenderContext, config: Callable[..., str], text: str) -> list[int]:
    """For each line of the rendered `text` the line of the file (1-based) it comes from; blocks make them differ.

    Lines of the file's own text carry marks through a second rendering; a line without a mark belongs to the last one.
    Should the marks change the text (a block that looks at itself), lines are taken to be where they were.
    """
    try:
        marked = _evaluate(source, path, context, config, marks=True)
    except ModelError:
        marked = ""
    if _MARK.sub("", marked) != text:
        return list(range(1, text.count("\n") + 2))
    found, lines = 1, []
    for line in marked.split("\n"):
        mark = _MARK.search(line)
        found = int(mark[1]) if mark else found
        lines.append(found)
    return lines


@dataclass(frozen=True)
class HeaderCall:
    """Where `config()` stands: its line, the line of each keyword, and how many line breaks its braces span."""

    line: int
    lines: Mapping[str, int]
    breaks: int


def header_call(source: str, path: Path) -> HeaderCall:
    """The one `config()` of a file, found without running it.

    ModelError: none or several, inside a block, a keyword twice, a function without parentheses, an include.
    """
    try:
        tree = _environment(marks=False).parse(source, path.name, str(path))
    except TemplateSyntaxError as error:
        message, hint = _explain(error)
        raise ModelError(f"Jinja: {message}", path=path, line=error.lineno, hint=hint) from None
    except RecursionError:
        raise ModelError("Jinja: nested too deeply", path=path) from None
    calls: list[nodes.Call] = []
    for node, parents in _walk(tree):
        _refuse(node, parents, path)
        if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name) and node.node.name == "config":
            calls.append(node)
            if not all(isinstance(parent, _PLAIN_PARENTS) for parent in parents):
                raise ModelError(
                    "config() stands inside a block or an expression",
                    path=path,
                    line=node.lineno,
                    hint="write {{ config(...) }} on its own, outside of {% if %}, {% for %} and macros.",
                )
    if not calls:
        raise ModelError(
            "no {{ config(...) }}: the header is missing",
            path=path,
            line=1,
            hint="begin the file with {{ config(event='identify_user') }}, or another event; "
            "a file that is no model has a name that begins with `_`.",
        )
    if len(calls) > 1:
        raise ModelError(
            f"config() a second time (the first is in line {calls[0].lineno})",
            path=path,
            line=calls[1].lineno,
            hint="a model has one header; an SQL comment does not hide Jinja, {# … #} does.",
        )
    return HeaderCall(calls[0].lineno, _keyword_lines(calls[0], path), _breaks(source))


class _Marks(Extension):
    """Puts the number of its line before each line of a template's own text."""

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        """The same tokens, with marks in those that are text."""
        for token in stream:
            if token.type == "data":
                lines = enumerate(token.value.split("\n"), token.lineno)
                yield Token(token.lineno, "data", "\n".join(f"\x00{number}\x00{line}" for number, line in lines))
            else:
                yield token


@lru_cache(maxsize=2)
def _environment(*, marks: bool) -> Environment:
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined,
        autoescape=False,
        finalize=_finalize,
        extensions=["jinja2.ext.do", "jinja2.ext.loopcontrols", *([_Marks] if marks else [])],
    )
    # Both give other text at every rendering, so that a model would seem to change from run to run.
    del environment.globals["lipsum"], environment.filters["random"]
    return environment


def _finalize(value: Any) -> Any:
    if value is None:
        raise ModelError("an expression is none here", hint="write NULL in the SQL, or give var() a default.")
    return value


def _evaluate(source: str, path: Path, context: RenderContext, config: Callable[..., str], *, marks: bool) -> str:
    functions = _Functions(context)
    names = {name: getattr(functions, name) for name in FUNCTIONS if name != "config"}
    environment = _environment(marks=marks)
    try:
        code = environment.compile(source, path.name, str(path))
        return Template.from_code(environment, code, dict(environment.globals)).render(names, config=config)
    except HeaderRead:
        raise
    except ModelError as error:
        line = error.line or _template_line(error.__traceback__, path)
        raise ModelError(error.message, path=path, line=line, hint=error.hint) from None
    except Exception as error:  # a template's expressions can raise whatever Python can
        line = error.lineno if isinstance(error, TemplateSyntaxError) else _template_line(error.__traceback__, path)
        message, hint = _explain(error)
        raise ModelError(functions.scrub(f"Jinja: {message}"), path=path, line=line, hint=hint) from None


def _explain(error: Exception) -> tuple[str, str]:
    """A foreign error in our words: message, hint. Of others than these the text is not shown: it may hold values."""
    if isinstance(error, UndefinedError) and str(error.message).endswith(" is undefined"):
        name = str(error.message).split("'")[1]
        return f"`{name}` is undefined{nearest(name, FUNCTIONS)}", _UNDEFINED_HINTS.get(name, _KNOWN)
    if isinstance(error, TemplateError):
        message = str(error.message)
        return message, next((hint for words, hint in _SYNTAX_HINTS.items() if words in message), "")
    if isinstance(error, TypeError | OverflowError):
        message, call = str(error).replace("_Functions.", ""), _CALL.search(str(error))
        if call is None:
            return message, ""
        # Python counts an argument that no template gives.
        what = f"{call[1]}() does not take these arguments" if "positional" in message else message
        return what, f"write {_FORMS[call[1]]}."
    return f"{type(error).__name__} in an expression", ""


def _template_line(trace: TracebackType | None, path: Path) -> int:
    """The deepest line of the template in a traceback that Jinja has rewritten, 0 when there is none."""
    line = 0
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


class _Functions:
    """The functions of one rendering."""

    def __init__(self, context: RenderContext) -> None:
        self._context = context
        self._relations = context.relations or YamlRelations(context.sources, context.refs)
        self._read: set[str] = set()

    def var(self, name: str, default: Any = _MISSING) -> Any:
        if name in self._context.vars:
            for unset in unset_in(self._context.vars[name]):
                raise ModelError(f"var('{name}'): {unset.message}", hint=f"or pass it: --vars '{{{name}: …}}'")
            return self._context.vars[name]
        if default is not _MISSING:
            return default
        raise ModelError(
            f"var('{name}') is not set{nearest(str(name), self._context.vars)}",
            hint=f"add it to the YAML under models.vars, pass --vars, or give a default: var('{name}', …).",
        )

    def env_var(self, name: str, default: Any = _MISSING) -> Any:
        if str(name).startswith(SECRET_PREFIXES):
            raise ModelError(
                f"env_var('{name}') is a secret by its name",
                hint="SQL is logged by warehouses: secrets belong into the YAML file, not into models.",
            )
        if name in self._context.environ:
            value = self._context.environ[name]
            self._read.add(value)
            return value
        if default is not _MISSING:
            return default
        raise ModelError(
            f"env_var('{name}'): the environment has no such variable",
            hint=f"set it, or give a default: env_var('{name}', …).",
        )

    def source(self, schema: str, table: str) -> str:
        return self._relations.source(str(schema), str(table))

    def ref(self, first: str, second: str | None = None, *, v: Any = None, version: Any = None) -> str:
        package, name = (None, str(first)) if second is None else (str(first), str(second))
        wanted = version if v is None else v
        return self._relations.ref(name, package, None if wanted is None else str(wanted))

    def is_incremental(self) -> bool:
        return self._context.incremental

    def cursor_from(self) -> str:
        # In a full read any value would be wrong: NULL, for one, would select nothing and look like success.
        if not self._context.incremental:
            raise ModelError(
                "cursor_from() has no value in a full read",
                hint="put it inside {% if is_incremental() %} … {% endif %}; without `cursor` all is read.",
            )
        return self._context.cursor_from

    def scrub(self, message: str) -> str:
        """The message without any value that this rendering took from the environment."""
        for value in sorted(filter(None, self._read), key=len, reverse=True):
            message = message.replace(value, "*****")
        return message


def _walk(root: nodes.Node) -> Iterator[tuple[nodes.Node, tuple[nodes.Node, ...]]]:
    """Every node, with its ancestors from the root down."""
    stack: list[tuple[nodes.Node, tuple[nodes.Node, ...]]] = [(root, ())]
    while stack:
        current, above = stack.pop()
        yield current, above
        stack.extend((child, (*above, current)) for child in reversed(list(current.iter_child_nodes())))


def _refuse(node: nodes.Node, parents: tuple[nodes.Node, ...], path: Path) -> None:
    """ModelError for what would do something else than it says."""

    def fail(message: str, hint: str) -> NoReturn:
        raise ModelError(message, path=path, line=node.lineno, hint=hint)

    if isinstance(node, _OTHER_FILES):
        fail(
            "Jinja: a model cannot read other files",
            "write the SQL out; include, import and extends do not exist here.",
        )
    if isinstance(node, nodes.Name) and node.name == "this":
        # It stands where only later runs come: after is_incremental().
        fail("Jinja: `this` is undefined", _THIS)
    if isinstance(node, nodes.Keyword):
        # By identity: equal nodes compare equal.
        earlier = takewhile(lambda child: child is not node, parents[-1].iter_child_nodes())
        if any(isinstance(child, nodes.Keyword) and child.key == node.key for child in earlier):
            fail(f"Jinja: `{node.key}` is given twice", "remove one.")
    if not isinstance(node, nodes.Name | nodes.Macro) or node.name not in FUNCTIONS:
        return
    if isinstance(node, nodes.Macro) or node.ctx != "load":
        fail(f"Jinja: `{node.name}` is the name of a function", "choose another name.")
    if not (isinstance(parents[-1], nodes.Call) and parents[-1].node is node):
        # `{% if is_incremental %}` would always be true.
        if node.name == "config" and isinstance(parents[-1], nodes.Getattr):
            fail("Jinja: `config` is a function", "the header is not read back here: write the value, or use var().")
        fail(f"Jinja: `{node.name}` is a function", f"call it: {node.name}(…).")


def _keyword_lines(call: nodes.Call, path: Path) -> dict[str, int]:
    if call.args or call.dyn_args is not None:
        raise ModelError(
            "config() takes keywords only", path=path, line=call.lineno, hint="write config(event='track', …)."
        )
    return {keyword.key: keyword.lineno for keyword in call.kwargs if isinstance(keyword, nodes.Keyword)}


def _breaks(source: str) -> int:
    """How many line breaks go with the braces around `config`, so that it can give them back to the SQL below."""
    breaks, found = 0, False
    for _line, kind, value in _environment(marks=False).lex(source):
        if kind == "variable_begin":
            breaks, found = 0, False
        breaks += value.count("\n")
        found = found or (kind == "name" and value == "config")
        if kind == "variable_end" and found:
            return breaks
    return 0


__all__ = [
    "FUNCTIONS",
    "HeaderCall",
    "HeaderRead",
    "Relations",
    "RenderContext",
    "YamlRelations",
    "evaluate",
    "header_call",
    "source_lines",
]
