"""What the YAML file takes from dbt's own files, put in before it is judged: the project, and a profile's target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from warehouse_sync.errors import ConfigError
from warehouse_sync.project import places
from warehouse_sync.project.dbt.project_file import DbtProject, Targets, UnsetInProject, read_project
from warehouse_sync.project.yaml.complaints import complain
from warehouse_sync.project.yaml.connections import DbtWarehouse, ProfileChoice, Section, Warehouse
from warehouse_sync.project.yaml.document import Document, KeyPath
from warehouse_sync.project.yaml.environment import Expanded, unset_in
from warehouse_sync.project.yaml.fields import Context

if TYPE_CHECKING:
    from warehouse_sync.project.dbt.profiles import Profile
    from warehouse_sync.project.yaml.settings import Config

_WAREHOUSE: TypeAdapter[Any] = TypeAdapter(Warehouse)


class _Choice(Section):
    """The `warehouse` section alone, so that a fault has its place in the file."""

    warehouse: DbtWarehouse


def project_of(document: Document, context: Context, environ: Mapping[str, str]) -> DbtProject | None:
    """The project in `dbt.project_dir`; what is wrong with it is reported in the document."""
    section = document.value.get("dbt")
    written = section.get("project_dir") if isinstance(section, dict) else None
    if not isinstance(written, str) or not written.strip() or any(unset_in(written)):
        return None
    try:
        return read_project(places.resolve(written, context.folder, context.home), environ)
    except ConfigError as error:
        (problem,), is_unset = error.problems, isinstance(error, UnsetInProject)
    where = f" (line {problem.line})" if problem.line else ""
    key = f"{problem.key}: " if problem.key else ""
    message = f"holds no dbt project that can be read: {key}{problem.message}{where}"
    if is_unset:
        section["project_dir"] = Expanded(written)
        document.lacks(("dbt", "project_dir"), section["project_dir"], [message])
    else:
        document.report(("dbt", "project_dir"), message)
    return None


def put_in_profile(
    document: Document, context: Context, environ: Mapping[str, str], project: DbtProject | None
) -> Targets:
    """Replace `warehouse: {dbt: …}` by the settings of that target; returns the target, and the profile's own."""
    from warehouse_sync.project.dbt.profiles import ProfileError, ProfileSearch, UnsetInProfile, read_profile

    raw = document.value.get("warehouse")
    if not isinstance(raw, dict) or "dbt" not in raw:
        return Targets()
    choice = _choice_of(document, context)
    # Whatever is wrong below has its own message: the section's keys are not judged a second time.
    document.value["warehouse"] = {}
    if choice is None:
        document.faults.add(("warehouse",))
        return Targets()
    if choice.lacks(*ProfileChoice.model_fields):
        document.value["warehouse"] = Expanded()
        document.value["warehouse"].unset = tuple(unset_in(raw))
        return Targets()
    place = ("warehouse", "dbt")
    try:
        profile = read_profile(choice, ProfileSearch(environ, context.home, project, Path.cwd()))
        document.value["warehouse"] = _connection(profile, context)
        for key, value in profile.settings.items():
            if problems := [document.problem(place, str(unset), at_key=True) for unset in unset_in(value)]:
                document.unset[*place, key] = tuple(problems)
    except UnsetInProfile as error:
        document.value["warehouse"] = Expanded()
        document.lacks(place, document.value["warehouse"], [str(error)])
        return Targets()
    except ProfileError as error:
        document.report(("warehouse", "dbt"), str(error), at_key=True)
        document.faults.add(("warehouse",))
        return Targets()
    return Targets(profile.target, profile.default, profile.places, profile.varies)


def _choice_of(document: Document, context: Context) -> ProfileChoice | None:
    raw = document.value["warehouse"]
    if raw["dbt"] is None:
        raw["dbt"] = {}
    others = [key for key in raw if key != "dbt"]
    if others:
        message = f"stands beside `{others[0]}`: a dbt profile says everything about the warehouse: remove one of them"
        document.report(("warehouse", "dbt"), message, at_key=True)
        return None
    try:
        return _Choice.model_validate({"warehouse": raw}, context=context).warehouse.dbt
    except ValidationError as error:
        complain(error, document)
        return None


def _connection(profile: Profile, context: Context) -> Section:
    """The checked settings. Raises ProfileError, which names keys of the profile and shows no value."""
    from warehouse_sync.project.config import credentials
    from warehouse_sync.project.dbt.profiles import ProfileError

    where = f"{profile.file}: {profile.name}.outputs.{profile.target}"
    settings = dict(profile.settings)
    faults = [f"{path[-1]} {message}" for path, message in credentials({"warehouse": settings})]
    try:
        found: Section = _WAREHOUSE.validate_python(settings, context=Context(profile.folder, context.home))
    except ValidationError as error:
        faults += _faults(error)
    if faults:
        raise ProfileError(f"{where}: {'; '.join(dict.fromkeys(faults))}")
    return found


def _faults(error: ValidationError) -> Iterator[str]:
    for details in error.errors(include_url=False, include_input=False):
        # The first part is the union's member.
        key = ".".join(str(part) for part in details["loc"][1:])
        cause = details.get("ctx", {}).get("error")
        if details["type"] == "missing":
            yield f"{key} is missing"
        elif details["type"] == "value_error" and cause is not None:
            yield f"{key} {cause}"
        else:
            yield f"{key} has a value that cannot be used"


def rules(config: Config) -> Iterator[tuple[KeyPath, str]]:
    """What the keys of `dbt` need of each other."""
    section = config.dbt
    if section.project_dir is None and section.target_path is None:
        for key in ("target", "require"):
            if getattr(section, key) is not None:
                yield ("dbt", key), "needs the project: give `dbt.project_dir` too, or `dbt.target_path`"


__all__ = ["project_of", "put_in_profile", "rules"]
