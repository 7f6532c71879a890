"""Model files: a folder of them becomes `Model`s, and one that cannot be read hides none of the others."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warehouse_sync.errors import ConfigError, ModelError, Problem
from warehouse_sync.project.dbt.relations import relations_of
from warehouse_sync.project.header import MergedHeader, build, merge, read_header
from warehouse_sync.project.relations import Relations
from warehouse_sync.project.template import RenderContext, header_call
from warehouse_sync.project.yaml.environment import unset_in
from warehouse_sync.values import EventType, Model

if TYPE_CHECKING:
    from warehouse_sync.project.yaml.settings import Config

_DEFAULTS = "models.config"
_OVERRIDES = "models.overrides"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def _first_position(_key: str) -> tuple[int, int]:
    return 1, 1


@dataclass(frozen=True)
class ModelSettings:
    """What the YAML says about models.

    `relations` resolves source() and ref() in place of `sources` and `refs`, where the YAML has `dbt`.
    `defaults` is `models.config`, `source` is `userpilot.source`, `environ` is what `env_var()` sees; `file` is the
    YAML itself and `position` gives line and column (1-based) of a dotted key in it, both for messages.
    """

    path: Path
    file: Path = Path()
    vars: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, str | Mapping[str, str]] = field(default_factory=dict)
    refs: Mapping[str, str] = field(default_factory=dict)
    timezone: str = "UTC"
    defaults: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    source: str = "backend-http-import"
    environ: Mapping[str, str] = field(default_factory=dict)
    position: Callable[[str], tuple[int, int]] = field(default=_first_position, compare=False, repr=False)
    relations: Relations | None = field(default=None, compare=False, repr=False)

    def context(self, *, incremental: bool = False, cursor_from: str = "") -> RenderContext:
        """What to render with: in full, or from `cursor_from`, an SQL literal in the warehouse's dialect."""
        return RenderContext(incremental, cursor_from, self.vars, self.sources, self.refs, self.environ, self.relations)


@dataclass(frozen=True)
class BrokenModel:
    """A model file that cannot be used, and why; `event` and `tags` as far as they could be read."""

    name: str
    path: Path
    error: ModelError
    event: EventType | None = None
    tags: tuple[str, ...] = ()
    enabled: bool = True


def load_models(settings: ModelSettings) -> list[Model | BrokenModel]:
    """Every model below `settings.path`, in the order of their names; disabled ones are among them.

    `*.sql` files are models, except those whose name begins with `_` or `.` and those in a folder `tests` or `.…`.
    Raises ConfigError: no such folder, none that can be read, no model file in it, or a variable that `models.config`
    or `models.overrides` holds is missing. What they say is checked with the YAML.
    """
    folder = settings.path
    wrong = ""
    if not folder.is_dir():
        wrong = f"{folder} is a file: name its folder" if folder.is_file() else f"there is no folder {folder}"
    elif not os.access(folder, os.R_OK | os.X_OK):
        wrong = f"this user may not read the folder {folder}"
    files = [] if wrong else list(_files(folder))
    if not wrong and not files:
        wrong = f"there is no model file (*.sql) in {folder}: is this the folder, and is it mounted?"
    problems = [_problem(settings, "models.path", wrong)] if wrong else []
    problems += unset_in([settings.defaults, settings.overrides])
    if problems:
        raise ConfigError(problems)
    loaded = [_load(path, settings) for path in files]
    return sorted(_refuse_rivals(_refuse_same_names(loaded)), key=lambda model: (model.name, model.path))


def model_names(folder: Path) -> list[str]:
    """The names of the models below a folder, none of a folder that cannot be read."""
    return [path.stem for path in _files(folder)] if folder.is_dir() and os.access(folder, os.R_OK | os.X_OK) else []


def settings_from(config: Config, environ: Mapping[str, str]) -> ModelSettings:
    """The part of the YAML that models need."""
    models = config.models
    return ModelSettings(
        path=models.path,
        file=config.file,
        vars=models.vars,
        sources=models.sources,
        refs=models.refs,
        timezone=models.timezone,
        defaults=models.config,
        overrides=models.overrides,
        source=config.userpilot.source,
        environ=environ,
        position=config.position,
        relations=relations_of(config),
    )


def _files(folder: Path) -> Iterable[Path]:
    for path in sorted(folder.rglob("*")):
        folders = path.relative_to(folder).parts[:-1]
        hidden = path.name.startswith((".", "_")) or any(part == "tests" or part.startswith(".") for part in folders)
        if path.suffix.lower() == ".sql" and not hidden and (path.is_file() or _leads_nowhere(path)):
            yield path


def _leads_nowhere(path: Path) -> bool:
    """True for a link to a file that is not there: a model that cannot be read, and not one that is gone."""
    return path.is_symlink() and not path.exists()


def _load(path: Path, settings: ModelSettings) -> Model | BrokenModel:
    name, merged = path.stem, MergedHeader()
    try:
        if _NAME.fullmatch(name) is None:
            raise ModelError(
                "a model's name, which is its file's, is up to 100 letters (a-z, A-Z), digits, `_`, `-` and `.`",
                path=path,
                hint="rename the file; one that is no model has a name that begins with `_`.",
            )
        sql = _read(path)
        header = read_header(sql, path, settings.context())
        override = settings.overrides.get(name, {})
        merged = merge([(_DEFAULTS, settings.defaults), ("", header.values), (f"{_OVERRIDES}.{name}", override)])
        return build(name, path, sql, header, merged, source=settings.source, defaults=_DEFAULTS)
    except ModelError as error:
        known = merged.values
        return BrokenModel(name, path, error, known.get("event"), known.get("tags", ()), known.get("enabled", True))


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror or type(error).__name__}", path=path) from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ModelError("is not UTF-8", path=path, line=line, hint="save the file in UTF-8.") from None
    if "\0" in text:
        raise ModelError("holds a NUL character", path=path, line=1, hint="save the file in UTF-8.")
    if not text.strip():
        raise ModelError("is empty", path=path, hint="write {{ config(event='…') }} and a SELECT, or remove the file.")
    return text


def _problem(settings: ModelSettings, key: str, message: str) -> Problem:
    line, column = settings.position(key)
    return Problem(settings.file, line, column, key, message)


def _broken(model: Model | BrokenModel, message: str, *, line: int = 0, hint: str) -> BrokenModel:
    error = ModelError(message, path=model.path, line=line, hint=hint)
    return BrokenModel(model.name, model.path, error, model.event, model.tags, model.enabled)


def _refuse_same_names(models: Sequence[Model | BrokenModel]) -> list[Model | BrokenModel]:
    """Files of one name are all broken: state is kept by name. Case is no difference: some file systems see none."""
    by_name: dict[str, list[Model | BrokenModel]] = defaultdict(list)
    for model in models:
        by_name[model.name.casefold()].append(model)
    checked: list[Model | BrokenModel] = []
    for model in models:
        others = [str(twin.path) for twin in by_name[model.name.casefold()] if twin is not model]
        if others:
            message = f"another model has the same name: {', '.join(others)}"
            checked.append(_broken(model, message, hint="rename one of them, also if one is disabled."))
        else:
            checked.append(model)
    return checked


def _refuse_rivals(models: Sequence[Model | BrokenModel]) -> list[Model | BrokenModel]:
    """Enabled identify models of one event would overwrite each other's properties, unless each is `partial`."""
    by_event: dict[EventType, list[Model]] = defaultdict(list)
    for model in models:
        if isinstance(model, Model) and model.enabled and model.event.is_identify:
            by_event[model.event].append(model)
    rivals = {
        id(model): [rival.name for rival in group if rival is not model]
        for group in by_event.values()
        if not all(model.partial for model in group) and len(group) > 1
        for model in group
    }
    return [
        _broken(
            model,
            f"another model is {model.event} too: {', '.join(rivals[id(model)])}",
            line=header_call(model.sql, model.path).line,
            hint="join them, disable all but one, or set partial=true in each, which then has its own properties only.",
        )
        if isinstance(model, Model) and id(model) in rivals
        else model
        for model in models
    ]


__all__ = ["BrokenModel", "ModelSettings", "load_models", "settings_from"]
