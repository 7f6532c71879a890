"""`--select` and `--exclude`: dbt's node selection, without the graph, which models here do not have.

users  stg_*             a model's name, with *, ? and [] as in a shell
tag:daily  event:track   a tag or an event type, globs too
path:models_sql/crm      a file, or a folder and what is below it; a bare text with `/` or `.sql` is a path
a b                      union: `a` or `b`, in one argument or in several
a,tag:b                  intersection: `a` and `tag:b`
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeVar

from warehouse_sync.errors import UsageError
from warehouse_sync.project.model import BrokenModel
from warehouse_sync.project.names import nearest
from warehouse_sync.values import EventType, Model

Selectable = TypeVar("Selectable", Model, BrokenModel, Model | BrokenModel)
_Matcher = Callable[[Model | BrokenModel], bool]

METHODS = ("tag", "event", "path")
LATER_METHODS = ("state", "result")

_GRAPH = re.compile(r"[0-9]*\+.*|.*\+[0-9]*|@.*")
_METHOD = re.compile(r"([A-Za-z_.]+):(.*)", re.DOTALL)


def select(
    models: Sequence[Selectable], select: Sequence[str] = (), exclude: Sequence[str] = (), *, root: Path | None = None
) -> list[Selectable]:
    """The enabled models that are selected and not excluded, in their order; without `select`, all of them.

    `root` is the models' folder: a path is looked for from there, from its parent and from the working directory.
    A broken model has its name and path, and its event and tags as far as they could be read.
    Raises UsageError for a selector that cannot be read.
    """
    chosen = _union(select, root) if select else lambda _model: True
    refused = _union(exclude, root) if exclude else lambda _model: False
    return [model for model in models if model.enabled and chosen(model) and not refused(model)]


def unmatched(
    models: Sequence[Model | BrokenModel], select: Sequence[str], *, root: Path | None = None
) -> tuple[str, ...]:
    """A sentence for each selector that picks no enabled model, with the nearest name: for warnings."""
    enabled = [model for model in models if model.enabled]
    return tuple(
        f"{selector} selects no enabled model{nearest(selector, [model.name for model in enabled])}"
        for argument in select
        for selector in argument.split()
        if not any(map(_intersection(selector, root), enabled))
    )


def _union(arguments: Sequence[str], root: Path | None) -> _Matcher:
    matchers: list[_Matcher] = []
    for argument in arguments:
        if not argument.strip():
            raise UsageError("an empty selector", hint="leave --select and --exclude out to take every model.")
        matchers += [_intersection(selector, root) for selector in argument.split()]
    return lambda model: any(matches(model) for matches in matchers)


def _intersection(selector: str, root: Path | None) -> _Matcher:
    matchers = [_criterion(part, selector, root) for part in selector.split(",")]
    return lambda model: all(matches(model) for matches in matchers)


def _criterion(text: str, selector: str, root: Path | None) -> _Matcher:
    if not text:
        raise UsageError(f"the selector `{selector}` has an empty part", hint="write name,tag:daily without blanks.")
    if _GRAPH.fullmatch(text):
        raise UsageError(
            f"the selector `{text}`: + and @ are not supported", hint="models here do not depend on each other."
        )
    match = _METHOD.fullmatch(text)
    if match is None:
        if "/" in text or text.endswith(".sql"):
            return _by_path(text, root)
        return lambda model: fnmatchcase(model.name, text)
    method, value = match[1], match[2]
    if method in LATER_METHODS:
        raise UsageError(f"the selector `{text}`: `{method}:` is not built yet")
    if method not in METHODS:
        raise UsageError(
            f"the selector `{text}`: `{method}:` is not known{nearest(method, METHODS)}",
            hint=f"known: a name, {', '.join(f'{known}:' for known in METHODS)}.",
        )
    if not value:
        raise UsageError(f"the selector `{text}` says nothing after the colon")
    if method == "tag":
        return lambda model: any(fnmatchcase(tag, value) for tag in model.tags)
    return _by_event(value, text) if method == "event" else _by_path(value, root)


def _by_event(pattern: str, text: str) -> _Matcher:
    if not any(fnmatchcase(event, pattern) for event in EventType):
        raise UsageError(
            f"the selector `{text}` names no event type{nearest(pattern, EventType)}",
            hint=f"known: {', '.join(EventType)}.",
        )
    return lambda model: model.event is not None and fnmatchcase(model.event, pattern)


def _by_path(pattern: str, root: Path | None) -> _Matcher:
    """A file or folder; `*` crosses folders, as in the names."""
    folders = [Path.cwd(), *([root, root.parent] if root else [])]
    # An absolute pattern stays as it is when it is joined to a folder.
    patterns = {os.path.normpath(Path(glob.escape(str(folder))) / pattern) for folder in folders}

    def matches(model: Model | BrokenModel) -> bool:
        places = [str(model.path), *map(str, model.path.parents)]
        return any(fnmatchcase(place, wanted) for place in places for wanted in patterns)

    return matches


__all__ = ["select", "unmatched"]
