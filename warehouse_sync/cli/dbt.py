"""`exposures` and `validate`: for the dbt project beside the sync, and for its pull requests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from warehouse_sync.cli.models import SELECTION, report_broken, report_errors
from warehouse_sync.cli.options import Verb, shared
from warehouse_sync.cli.output import print_data, print_json
from warehouse_sync.cli.session import Session

if TYPE_CHECKING:
    from warehouse_sync.inspection.validate import Checked
    from warehouse_sync.values import Model


@click.command(cls=Verb, short_help="Print the models as dbt exposures.")
@shared(*SELECTION, "output")
@click.option(
    "--write",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write them to this file of the dbt project; a second time changes no byte.",
)
@click.pass_obj
def exposures(session: Session, write: Path | None) -> int:
    """Print the models as dbt exposures: what they depend on, whose they are, and where their rows go."""
    from warehouse_sync.errors import ModelError, UsageError
    from warehouse_sync.project.dbt.exposures import as_yaml
    from warehouse_sync.project.dbt.exposures import exposures as exposures_of
    from warehouse_sync.project.dbt.relations import artefacts_of

    session.sends_nothing("warehouse")
    config, settings = session.config, session.policy.settings
    artefacts = artefacts_of(config)
    if artefacts is None:
        raise UsageError(f"{config.file} names no dbt project", hint="add `dbt: {project_dir: ../my_dbt_project}`.")
    chosen, failed = _usable(session)
    try:
        found = exposures_of(config.name, chosen, settings, artefacts)
    except ModelError as error:
        session.console.failure(error)
        return 1
    for exposure in found:
        for call, why in exposure.left_out.items():
            text = f"{exposure.model}: {call} {why} in dbt: no exposure can depend on it, so it is left out"
            session.console.event("model_warning", text, level="warn", model=exposure.model)
    entries = [exposure.entry for exposure in found]
    if write is not None:
        return failed or _write(session, write, as_yaml(entries))
    if session.prints_json:
        print_json({"version": 2, "exposures": entries})
    else:
        print_data(as_yaml(entries).rstrip("\n"))
    return failed


@click.command(cls=Verb, short_help="Check models and columns for a pull request; read no row.")
@shared(*SELECTION, "output")
@click.option(
    "--manifest",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="PATH",
    help="Check against this manifest.json of dbt (and the catalog.json beside it) instead of the warehouse.",
)
@click.pass_obj
def validate(session: Session, manifest: Path | None) -> int:
    """Check config, models, header keys and columns; a column that is sent and has gone or changed type fails.

    Columns are those that the warehouse describes, or with --manifest those that dbt knows. No row is read.
    """
    from warehouse_sync.inspection.validate import validate as check

    if manifest is None:
        session.sends_nothing()
    else:
        session.asks_nobody()
    checked = check(session.config, session.policy, session.selected(), session.console, manifest)
    for item in checked:
        for warning in item.warnings:
            session.console.event("model_warning", f"{item.model}: {warning}", level="warn", model=item.model)
        if session.prints_json:
            print_json(_as_json(item))
        else:
            word = "FAIL" if item.error else "OK  " if item.by else "?   "
            print_data(f"{word}  {item.model}" + (f": columns as {item.by} has them" if item.by else ""))
    return report_errors(session, {item.model: item.error for item in checked if item.error is not None})


def _as_json(item: Checked) -> dict[str, Any]:
    error = None if item.error is None else str(item.error)
    return {
        "model": item.model,
        "ok": error is None,
        "checked_by": item.by or None,
        "error": error,
        "warnings": list(item.warnings),
    }


def _usable(session: Session) -> tuple[list[Model], int]:
    """The selected models that can be used, and 1 when there is one that cannot, which is reported."""
    from warehouse_sync.project.model import BrokenModel

    chosen = session.selected()
    return [model for model in chosen if not isinstance(model, BrokenModel)], report_broken(session, chosen)


def _write(session: Session, file: Path, text: str) -> int:
    """Write the file unless it says this already. Raises DiskError."""
    from warehouse_sync.errors import DiskError

    data = text.encode()
    try:
        if file.is_file() and file.read_bytes() == data:
            session.console.event("exposures_unchanged", f"{file} says this already")
            return 0
        beside = file.with_name(f".{file.name}.{os.getpid()}")
        beside.write_bytes(data)
        beside.replace(file)
    except OSError as error:
        raise DiskError(f"{file} cannot be written: {error.strerror}", hint="check the folder.") from None
    session.console.event("exposures_written", f"{file} written")
    return 0


__all__ = ["exposures", "validate"]
