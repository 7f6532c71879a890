"""Variables of the environment inside scalars: `${VAR}`, `${VAR:-default}`, `{{ env_var('VAR', 'default') }}`.

They are put in after the YAML is parsed, so a secret that holds `#`, `:` or a newline never changes the document, and
what they hold is never expanded again. `$${` is a literal `${`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

# dbt keeps such variables out of everything but credentials and logs; ours follows the same rule.
SECRET_PREFIXES = ("DBT_ENV_SECRET", "WAREHOUSE_SYNC_SECRET")

STAND_IN = "not-set"
"""What stands for a variable that nobody set, where nobody needs it."""

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
_MISSING = "the variable `{name}` is not set: set it in the environment, or give a default with ${{{name}:-…}}"


class Expanded(str):
    """A text into which a variable was put. A number, boolean or duration may be read from it.

    `absent` is true for `${NAME:-}` without a value: the writer says that there may be none, and the key counts as
    left out. A variable that is set but empty, which CI systems make of a forgotten secret, is an empty text.
    """

    absent: bool = False


@dataclass(frozen=True)
class Expansion:
    """What became of one scalar: its text, the variables it names, and what is wrong with them."""

    text: str
    variables: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def expand(text: str, environ: Mapping[str, str]) -> Expansion:
    """Put the variables in; `text` comes back as an `Expanded` if there was at least one.

    `:-` gives its default when the variable is unset or empty, as in a shell; `env_var` when it is unset, as in dbt.
    """
    variables: list[str] = []
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
            problems.append(_MISSING.format(name=name))
            return ""
        return found

    result = REFERENCE.sub(value, text)
    if variables:
        result = Expanded(result)
        result.absent = not result and text.endswith(":-}")
    return Expansion(result, tuple(variables), tuple(dict.fromkeys(problems)))


def missing_variables(complaint: str) -> frozenset[str]:
    """The variables that a report of problems says are not set, in the YAML or in dbt's profiles."""
    return frozenset(re.findall(rf"the variable `({_NAME})` is not set", complaint))


def secret_variables(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The values of every variable that is secret by its name, used or not."""
    return tuple(value for name, value in environ.items() if name.startswith(SECRET_PREFIXES) and value)
