"""`--select` and `--exclude`: dbt's node selection, without the graph, which models here do not have.

users  stg_*             a model's name, with *, ? and [] as in a shell
tag:daily  event:track   a tag or an event type, globs too
path:models_sql/crm      a file, or a folder and what is below it; a bare text with `/` or `.sql` is a path
state:modified           changed since manifest.json was written, or new; also new, old, unmodified
result:error             how it ended in run_results.json; also success, partial, skipped
selector:nightly         the selection that the YAML has under `selectors`
a b                      union: `a` or `b`, in one argument or in several
a,tag:b                  intersection: `a` and `tag:b`
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeVar

from warehouse_sync.errors import UsageError
from warehouse_sync.project.manifest import FILE, RESULTS, checksum, checksums, statuses
from warehouse_sync.project.model import BrokenModel
from warehouse_sync.project.names import nearest
from warehouse_sync.project.yaml.environment import unset_in
from warehouse_sync.values import EventType, Model, ModelStatus

Selectable = TypeVar("Selectable", Model, BrokenModel, Model | BrokenModel)
_Matcher = Callable[[Model | BrokenModel], bool]

METHODS = ("tag", "event", "path", "state", "result", "selector")
STATES = ("modified", "new", "old", "unmodified")

_GRAPH = re.compile(r"[0-9]*\+.*|.*\+[0-9]*|@.*")
_METHOD = re.compile(r"([A-Za-z_.]+):(.*)", re.DOTALL)


@dataclass(frozen=True)
class SelectionScope:
    """What selectors look at besides the models.

    `root`: the models' folder; a path is looked for from there, from its parent and from the working directory.
    `earlier`: the folder of an earlier run's manifest.json and run_results.json.
    `named`: the YAML's `selectors`; `within`: those that are being read. `is_reading`: their words only, and no file.
    """

    root: Path | None = None
    earlier: Path | None = None
    named: Mapping[str, str] = field(default_factory=dict)
    within: tuple[str, ...] = ()
    is_reading: bool = False


NOWHERE = SelectionScope()


def select(
    models: Sequence[Selectable],
    select: Sequence[str] = (),
    exclude: Sequence[str] = (),
    around: SelectionScope = NOWHERE,
) -> list[Selectable]:
    """The enabled models that are selected and not excluded, in their order; without `select`, all of them.

    A broken model has its name and path, and its event and tags as far as they could be read.
    Raises UsageError for a selector that cannot be read, or that needs a file which is not there.
    """
    chosen = _union(select, around) if select else lambda _model: True
    refused = _union(exclude, around) if exclude else lambda _model: False
    return [model for model in models if model.enabled and chosen(model) and not refused(model)]


def unmatched(
    models: Sequence[Model | BrokenModel],
    select: Sequence[str],
    around: SelectionScope = NOWHERE,
    verb: str = "selects",
) -> tuple[str, ...]:
    """A sentence for each selector that picks no enabled model, with what was meant perhaps: for warnings."""
    return tuple(
        f"{selector} {verb} no enabled model{_meant(selector, models, around)}"
        for argument in select
        for selector in argument.split()
        if not any(model.enabled for model in filter(_intersection(selector, around), models))
    )


def unreadable(named: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The YAML's selections that cannot be read: name and message. What they pick is not looked at."""
    for name in named:
        try:
            _by_name(name, f"selector:{name}", SelectionScope(named=named, is_reading=True))
        except UsageError as error:
            yield name, error.message


def _meant(selector: str, models: Sequence[Model | BrokenModel], around: SelectionScope) -> str:
    """The disabled models that it does pick, or the name or tag most like a part of it that nothing has."""
    disabled = [model.name for model in filter(_intersection(selector, around), models)]
    if disabled:
        return f" (disabled: {', '.join(disabled)})"
    names = {model.name for model in models if model.enabled}
    tags = {tag for model in models if model.enabled for tag in model.tags}
    for part in selector.split(","):
        near = nearest(part, names | {f"tag:{tag}" for tag in tags})
        if near and not any(map(_criterion(part, selector, around), models)):
            return near
    return ""


def _union(arguments: Sequence[str], around: SelectionScope) -> _Matcher:
    matchers: list[_Matcher] = []
    for argument in arguments:
        if not argument.strip():
            raise UsageError("an empty selector", hint="leave --select and --exclude out to take every model.")
        matchers += [_intersection(selector, around) for selector in argument.split()]
    return lambda model: any(matches(model) for matches in matchers)


def _intersection(selector: str, around: SelectionScope) -> _Matcher:
    matchers = [_criterion(part, selector, around) for part in selector.split(",")]
    return lambda model: all(matches(model) for matches in matchers)


def _criterion(text: str, selector: str, around: SelectionScope) -> _Matcher:
    if not text:
        raise UsageError(f"the selector `{selector}` has an empty part", hint="write name,tag:daily without blanks.")
    if _GRAPH.fullmatch(text):
        raise UsageError(
            f"the selector `{text}`: + and @ are not supported", hint="models here do not depend on each other."
        )
    match = _METHOD.fullmatch(text)
    if match is None:
        if "/" in text or text.endswith(".sql"):
            return _by_path(text, around.root)
        return lambda model: fnmatchcase(model.name, text)
    method, value = match[1], match[2]
    if method not in METHODS:
        raise UsageError(
            f"the selector `{text}`: `{method}:` is not known{nearest(method, METHODS)}",
            hint=f"known: a name, {', '.join(f'{known}:' for known in METHODS)}.",
        )
    if not value:
        raise UsageError(f"the selector `{text}` says nothing after the colon")
    readers: dict[str, Callable[[], _Matcher]] = {
        "tag": lambda: lambda model: any(fnmatchcase(tag, value) for tag in model.tags),
        "event": lambda: _by_event(value, text),
        "path": lambda: _by_path(value, around.root),
        "state": lambda: _by_state(value, text, around),
        "result": lambda: _by_result(value, text, around),
        "selector": lambda: _by_name(value, text, around),
    }
    return readers[method]()


def _one_of(value: str, known: Sequence[str], text: str) -> None:
    if value not in known:
        raise UsageError(f"the selector `{text}`: `{value}` is not known{nearest(value, known)}",
                         hint=f"known: {', '.join(known)}.")  # fmt: skip


def _earlier(text: str, around: SelectionScope, file: str) -> Path:
    """The folder of the earlier run, which has that file."""
    what = f"the selector `{text}` compares with an earlier run"
    if around.earlier is None:
        raise UsageError(what, hint="name its folder: --state DIR")
    if not (around.earlier / file).exists():
        without = f", or `ls --save-state DIR`, which writes {FILE} without a run" if file == FILE else ""
        raise UsageError(
            f"{what}, and {around.earlier / file} does not exist",
            hint=f"it is there after the first `warehouse-sync run`{without}; --state DIR names the folder.",
        )
    return around.earlier


def _by_state(value: str, text: str, around: SelectionScope) -> _Matcher:
    """As in dbt: what is new is modified too. A model that cannot be read is never unmodified."""
    _one_of(value, STATES, text)
    if around.is_reading:
        return lambda _model: False
    known = checksums(_earlier(text, around, FILE))

    def matches(model: Model | BrokenModel) -> bool:
        there = model.name in known
        same = there and known[model.name] is not None and known[model.name] == checksum(model)
        return {"modified": not same, "unmodified": same, "new": not there, "old": there}[value]

    return matches


def _by_result(value: str, text: str, around: SelectionScope) -> _Matcher:
    _one_of(value, [str(status) for status in ModelStatus], text)
    if around.is_reading:
        return lambda _model: False
    known = statuses(_earlier(text, around, RESULTS))
    return lambda model: known.get(model.name) == value


def _by_name(name: str, text: str, around: SelectionScope) -> _Matcher:
    """A selection of the YAML, which may name others."""
    if name not in around.named:
        raise UsageError(
            f"the selector `{text}`: the YAML has no `selectors.{name}`{nearest(name, around.named)}",
            hint=f"add it to the YAML: `selectors: {{{name}: 'tag:daily event:track'}}`.",
        )
    if name in around.within:
        raise UsageError(f"`selectors.{name}` of the YAML names itself: {' -> '.join([*around.within, name])}")
    for unset in unset_in(around.named[name]):
        if around.is_reading:
            return lambda _model: False
        raise UsageError(f"the selector `{text}`: {unset.message}")
    return _union([around.named[name]], replace(around, within=(*around.within, name)))


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


__all__ = ["SelectionScope", "select", "unmatched", "unreadable"]
