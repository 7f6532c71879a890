"""Variables of the environment inside scalars: `${VAR}`, `${VAR:-default}`, `{{ env_var('VAR', 'default') }}`.

They are put in after the YAML is parsed, so a secret that holds `#`, `:` or a newline never changes the document, and
what they hold is never expanded again. `$${` is a literal `${`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from warehouse_sync.errors import Problem

# dbt keeps such variables out of everything but credentials and logs; ours follows the same rule.
SECRET_PREFIXES = ("DBT_ENV_SECRET", "WAREHOUSE_SYNC_SECRET")

_NAME = "[A-Za-z_][A-Za-z0-9_]*"
REFERENCE = re.compile(
    rf"""
      (?P<escape> \$\$\{{ )
    | \$\{{ (?P<shell> {_NAME} ) (?: :- (?P<shell_default> (?: [^}}$] | \$(?!\{{) )* ) )? \}}
    | \{{\{{ \s* env_var\( \s* (?P<quote> ['"] ) (?P<jinja> {_NAME} ) (?P=quote) \s*
      (?: , \s* (?: '(?P<single> [^'\\]* )' | "(?P<double> [^"\\]* )"
                    | (?P<bare> [0-9.]+ | [Tt]rue | [Ff]alse ) ) \s* )?
      \) \s* \}}\}}
    | (?P<broken> \$\{{ )
    | (?P<other> \{{\{{ )
    """,
    re.VERBOSE,
)

_BROKEN = (
    "`${` does not begin a variable here: write ${NAME} or ${NAME:-default}, whose default is plain text, "
    "or $${ for the two characters"
)
_OTHER = (
    "only {{ env_var('NAME') }} and {{ env_var('NAME', 'default') }} can stand in {{ }} here, without filters "
    "(a value is read as the type of its key); a text that holds {{ can come from a variable"
)


class Expanded(str):
    """A text into which a variable was put. A number, boolean or duration may be read from it.

    `absent` is true for `${NAME:-}` without a value: the writer says that there may be none, and the key counts as
    left out. `empty` has the variables that are set, but empty or blank: CI systems make that of a secret that they do
    not give. `unset` says which variables are missing: such a text is no value, is judged by nobody, and is an error
    where it is needed.
    """

    absent: bool = False
    empty: tuple[str, ...] = ()
    unset: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Expansion:
    """What became of one scalar: its text, the variables it names, those of them that are not set, what is wrong.

    In the text a reference to a variable that is not set stands as it is written.
    """

    text: str
    variables: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def expand(text: str, environ: Mapping[str, str]) -> Expansion:
    """Put the variables in; `text` comes back as an `Expanded` if there was at least one.

    `:-` gives its default when the variable is unset or empty, as in a shell; `env_var` when it is unset, as in dbt.
    """
    variables: list[str] = []
    missing: list[str] = []
    empty: list[str] = []
    problems: list[str] = []

    def value(match: re.Match[str]) -> str:
        if match["escape"]:
            return "${"
        if match["broken"] or match["other"]:
            problems.append(_BROKEN if match["broken"] else _OTHER)
            return ""
        name = match["shell"] or match["jinja"]
        variables.append(name)
        found = environ.get(name)
        if match["shell"]:
            found = found or (found if match["shell_default"] is None else match["shell_default"])
        elif found is None:
            found = next((match[group] for group in ("single", "double", "bare") if match[group] is not None), None)
        if found is None:
            missing.append(name)
            return match[0]
        if not found.strip() and match["shell_default"] is None:
            empty.append(name)
        return found

    result = REFERENCE.sub(value, text)
    if variables:
        result = Expanded(result)
        result.absent = not result and text.endswith(":-}")
        result.empty = tuple(dict.fromkeys(empty))
    return Expansion(result, tuple(variables), tuple(dict.fromkeys(missing)), tuple(dict.fromkeys(problems)))


def not_set(name: str) -> str:
    """What is said of a variable that is missing."""
    return f"the variable `{name}` is not set: set it in the environment, or give a default with ${{{name}:-…}}"


def set_but_empty(name: str) -> str:
    """What is said of a variable that is there and empty, where an empty text will not do."""
    return f"the variable `{name}` is set, but empty: set it; in CI: does this job have the secret?"


def unset_in(value: Any) -> Iterator[Problem]:
    """The variables that a value of the file lacks, however deep."""
    if isinstance(value, Expanded):
        yield from value.unset
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from unset_in(item)


def secret_variables(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The values of every variable that is secret by its name, used or not."""
    return tuple(value for name, value in environ.items() if name.startswith(SECRET_PREFIXES) and value)
