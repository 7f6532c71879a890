"""Options that several verbs share, and how they are read: before the verb as well as after it.

    warehouse-sync -c configs/prod.yml run -s users      the same as
    warehouse-sync run -c configs/prod.yml -s users

Nothing here imports more than click: this module is loaded for `--help`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from warehouse_sync.cli.session import Session

GREEDY = {"-s": "--select", "--select": "--select", "--exclude": "--exclude"}
"""Options that take every word up to the next option, as dbt's do: `--select users companies`."""

_SELECT = "Models are chosen with -s, or --select."
_TARGET = (
    "A target is a YAML file of its own: -c configs/prod.yml; with dbt, `warehouse.dbt.target` or DBT_TARGET says"
    " which."
)
FOREIGN = {"-m": _SELECT, "--model": _SELECT, "--models": _SELECT, "-t": _TARGET, "--target": _TARGET}
"""Options that people know from dbt -> what to use here."""

_Callable = TypeVar("_Callable", bound=Callable[..., Any])


class WholeNumber(click.IntRange):
    """A whole number of a range."""

    name = "whole number"


class Duration(click.ParamType[timedelta]):
    """`90s`, `15m`, `1h 30m`, as in the YAML file."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Read the text; a fault becomes a usage error."""
        from warehouse_sync.project.quantities import UnitError, parse_duration

        try:
            return parse_duration(str(value))
        except UnitError as error:
            self.fail(f"{value!r} {error}", param, ctx)


SHARED: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "config": (
        ("-c", "--config"),
        {
            "type": click.Path(path_type=Path),
            "metavar": "FILE",
            "help": "The YAML file; without it WAREHOUSE_SYNC_CONFIG, warehouse_sync.yml or the only one in configs/.",
        },
    ),
    "select": (
        ("-s", "--select"),
        {
            "multiple": True,
            "metavar": "SELECTOR…",
            "help": "Only these: names, globs, tag: event: path: state: result:; blank: union, comma: intersection.",
        },
    ),
    "exclude": (("--exclude",), {"multiple": True, "metavar": "SELECTOR…", "help": "But not these models."}),
    "selector": (
        ("--selector",),
        {"multiple": True, "metavar": "NAME", "help": "A selection that the YAML has under `selectors`."},
    ),
    "state": (
        ("--state",),
        {
            "type": click.Path(path_type=Path, file_okay=False),
            "metavar": "DIR",
            "help": "What state: and result: compare with; without it the last run, in <state.dir>/<name>.",
        },
    ),
    "vars": (
        ("--vars",),
        {"metavar": "YAML", "help": "Values for var() in the models, over those of the YAML file: '{since: 2025}'."},
    ),
    "output": (
        ("--output",),
        {"type": click.Choice(["text", "json"]), "help": "How data is printed; json: one object a line."},
    ),
    "full_refresh": (
        ("-f", "--full-refresh"),
        {"is_flag": True, "help": "Read and send everything again, where the model allows it."},
    ),
    "fail_fast": (("-x", "--fail-fast"), {"is_flag": True, "help": "Stop at the first that does not succeed."}),
    "quiet": (("-q", "--quiet"), {"is_flag": True, "help": "Say nothing but errors; data is still printed."}),
    "debug": (("-d", "--debug"), {"is_flag": True, "help": "Say more."}),
    "log_format": (
        ("--log-format",),
        {"type": click.Choice(["text", "json"]), "help": "How messages look on stderr; json: one object a line."},
    ),
}
EVERYWHERE = ("quiet", "debug", "log_format")


def shared(*names: str) -> Callable[[_Callable], _Callable]:
    """Give a verb some of the shared options; their values go into the session's `Flags`."""

    def decorate(function: _Callable) -> _Callable:
        more = ("selector", "state") if "select" in names else ()
        for name in reversed((*names, *more, *EVERYWHERE)):
            words, settings = SHARED[name]
            function = click.option(*words, name, expose_value=False, callback=_take, **settings)(function)
        return function

    return decorate


def _take(context: click.Context, option: click.Parameter, value: Any) -> None:
    """Keep a value that was given here; on the group, remember that it stands before the verb."""
    flags, name = context.ensure_object(Session).flags, str(option.name)
    if value in (None, (), False):
        return
    if name == "selector":
        flags.take("select", tuple(f"selector:{one}" for one in value))
    else:
        flags.take(name, value)
    if isinstance(context.command, click.Group):
        flags.given[name] = SHARED[name][0][-1]


@contextmanager
def foreign_options() -> Iterator[None]:
    """Raises UsageError with what to use here for an option of another tool, not with one that looks alike."""
    try:
        yield
    except click.NoSuchOption as error:
        if error.option_name not in FOREIGN:
            raise
        said = f"No such option '{error.option_name}'. {FOREIGN[error.option_name]}"
        raise click.UsageError(said, error.ctx) from None


class Verb(click.Command):
    """A verb: knows the shared options, also when they stand before it, and reads `--select a b` as dbt does."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words behind the verb."""
        takes = {str(param.name) for param in self.params}
        for name, word in ctx.ensure_object(Session).flags.given.items():
            if name not in takes:
                raise click.UsageError(f"`{ctx.info_name}` has no option {word}.", ctx)
        with foreign_options():
            if "select" not in takes or any(isinstance(param, click.Argument) for param in self.params):
                return super().parse_args(ctx, args)
            ctx.allow_extra_args = True
            if left := super().parse_args(ctx, spread(args)):
                chosen = f"`{ctx.info_name} --select {' '.join(left)}`"
                raise click.UsageError(f"models are chosen with --select: {chosen}.", ctx)
            return left


def spread(words: Sequence[str]) -> list[str]:
    """`--select a b -x` as `--select a --select b -x`."""
    read: list[str] = []
    option = ""
    for position, word in enumerate(words):
        if word == "--":
            return [*read, *words[position:]]
        if word.startswith("-"):
            option = GREEDY.get(word, "")
            read += [] if option else [word]
            if option and (position + 1 == len(words) or words[position + 1].startswith("-")):
                read.append(word)
        elif option:
            read += [option, word]
        else:
            read.append(word)
    return read
