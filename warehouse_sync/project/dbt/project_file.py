"""dbt_project.yml: where a dbt project is, what it is called, where its artefacts are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from warehouse_sync.errors import ConfigError, Problem
from warehouse_sync.project.yaml import traps

PROJECT_FILE = "dbt_project.yml"
PACKAGES = "dbt_packages"

Place = tuple[str, str]
"""A database and a schema; "" for a database that a profile does not name."""


@dataclass(frozen=True)
class DbtProject:
    """One dbt project. The paths are absolute; `profile` is None when dbt_project.yml names none.

    `packages`: where `dbt deps` puts packages, each in a folder of its name.
    """

    folder: Path
    name: str
    profile: str | None
    target: Path
    model_paths: tuple[Path, ...]
    packages: Path

    @property
    def manifest(self) -> Path:
        """Where dbt writes manifest.json; it need not be there yet."""
        return self.target / "manifest.json"


@dataclass(frozen=True)
class Targets:
    """dbt's target that manifests have to be of ("" for any), and the one that dbt takes unasked ("": not known).

    `places`: where each target of the profile puts models that name no schema of their own, as far as that is known;
    `varies`: a variable decides about `default`, which may have been another one when dbt ran.
    """

    wanted: str = ""
    default: str = ""
    places: Mapping[str, Place] = field(default_factory=dict)
    varies: bool = False


def find_project(start: Path, environ: Mapping[str, str] | None = None) -> DbtProject | None:
    """The dbt project that `start` is in: the nearest folder, `start` or above it, with a dbt_project.yml.

    Raises ConfigError for a dbt_project.yml that cannot be read.
    """
    start = Path(os.path.normpath(start.absolute()))
    folder = next((place for place in (start, *start.parents) if (place / PROJECT_FILE).is_file()), None)
    return None if folder is None else read_project(folder, os.environ if environ is None else environ)


def read_project(folder: Path, environ: Mapping[str, str]) -> DbtProject:
    """The project in that folder. dbt's order for the target folder: its variable, `target-path`, `target`.

    Raises ConfigError: no dbt_project.yml, or it cannot be read.
    """
    file = folder / PROJECT_FILE
    if not file.is_file():
        raise ConfigError([Problem(file, 0, 0, "", f"there is no {PROJECT_FILE} in {folder}")])
    raw = read_mapping(file)

    def text(key: str) -> str:
        value = raw.get(key)
        if not isinstance(value, str) or not value.strip():
            return ""
        try:
            return str(render(value, environ)).strip()
        except RenderError as error:
            kind = UnsetInProject if isinstance(error, UnsetVariable) else ConfigError
            raise kind([Problem(file, 0, 0, key, str(error))]) from None

    models = raw.get("model-paths")
    paths = [str(path) for path in models] if isinstance(models, list) else ["models"]
    target = variable("TARGET_PATH", environ) or text("target-path") or "target"
    try:
        packages = text("packages-install-path") or PACKAGES
    except ConfigError:
        # Only exposures look there.
        packages = PACKAGES
    return DbtProject(
        folder=folder,
        name=text("name"),
        profile=text("profile") or None,
        target=Path(os.path.normpath(folder / target)),
        model_paths=tuple(Path(os.path.normpath(folder / path)) for path in paths),
        packages=Path(os.path.normpath(folder / packages)),
    )


def variable(name: str, environ: Mapping[str, str]) -> str:
    """What dbt finds in its environment under that name: DBT_ENGINE_<name> (1.11), else DBT_<name>; "" for neither."""
    return environ.get(f"DBT_ENGINE_{name}") or environ.get(f"DBT_{name}") or ""


def restricts_access(package: Path) -> bool:
    """True when the dbt package in that folder has `restrict-access: true`; False when there is none."""
    try:
        return read_mapping(package / PROJECT_FILE).get("restrict-access") is True
    except ConfigError:
        return False


def read_mapping(file: Path) -> dict[str, Any]:
    """One of dbt's YAML files, as plain values. Raises ConfigError; no message shows what the file holds."""
    problem = ""
    line = column = 0
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        problem = "not UTF-8 text"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    else:
        try:
            raw = yaml.safe_load(text)
        except yaml.YAMLError as error:
            line, column, problem = traps.syntax_error(error, text)
        except (ValueError, RecursionError):
            problem = "YAML cannot read this"
        else:
            if isinstance(raw, dict):
                return raw
            problem = "must be a mapping: lines of `key: value`"
    raise ConfigError([Problem(file, line, column, "", problem)])


class RenderError(Exception):
    """A `{{ … }}` in one of dbt's files that cannot be put in; the message holds no value."""


class UnsetVariable(RenderError):
    """A variable in one of dbt's files that is not set, and has no default."""


class UnsetInProject(ConfigError):
    """dbt_project.yml holds a variable that is not set."""


def render(text: str, environ: Mapping[str, str]) -> str:
    """A scalar of dbt's YAML with `env_var()` put in, as dbt does it: in a Jinja sandbox, after parsing.

    dbt's filters `as_number`, `as_bool`, `as_native` and `as_text`, and Jinja's `int`, leave a text behind that the key
    reads as its own type. Raises RenderError.
    """
    if "{{" not in text and "{%" not in text:
        return text
    from jinja2 import StrictUndefined, TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def env_var(name: str, default: Any = None) -> Any:
        found = environ.get(str(name), default)
        if found is None:
            raise UnsetVariable(f"the variable `{name}` is not set, and env_var() has no default here")
        return found

    sandbox = ImmutableSandboxedEnvironment(undefined=StrictUndefined)
    sandbox.filters.update(dict.fromkeys(("as_number", "as_bool", "as_native", "as_text"), str))
    try:
        return sandbox.from_string(text).render(env_var=env_var)
    except RenderError:
        raise
    except (TemplateError, TypeError, ValueError, ArithmeticError) as error:
        raise RenderError(f"Jinja ({type(error).__name__}): only env_var() and filters can stand here") from None


__all__ = [
    "PROJECT_FILE",
    "DbtProject",
    "Place",
    "RenderError",
    "Targets",
    "UnsetInProject",
    "UnsetVariable",
    "find_project",
    "read_mapping",
    "read_project",
    "render",
    "restricts_access",
    "variable",
]
