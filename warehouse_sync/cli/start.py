"""`init` and `demo`: a project to begin with."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from warehouse_sync.cli.options import Verb, shared
from warehouse_sync.cli.session import API_KEY_VARIABLE, Session, is_terminal

if TYPE_CHECKING:
    from warehouse_sync.project.dbt.project_file import DbtProject

DEMO = Path("warehouse-sync-demo")
IN_DBT = "userpilot"
"""The folder below a dbt project's own, where nothing is in dbt's way."""

REGIONS = {"us": "https://analytex.userpilot.io", "eu": "https://analytex-eu.userpilot.io"}
DRIVERS = ("postgres", "snowflake")
"""Kinds of warehouse whose driver is an extra."""

KINDS = ("duckdb", "postgres", "snowflake", "dbt")


@dataclass(frozen=True)
class Wishes:
    """What `init` was asked for, by flags or in answers; `dbt` is the project for `kind` dbt."""

    folder: Path
    kind: str
    endpoint: str
    name: str
    dbt: DbtProject | None


@click.command(cls=Verb, short_help="Write a working project to begin with.")
@shared()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), default=None, metavar="[DIR]")
@click.option(
    "--warehouse",
    "kind",
    type=click.Choice(KINDS),
    help="What the models read; dbt takes the profile of the dbt project that this folder is in.",
)
@click.option("--region", metavar="us|eu|URL", help="Where the Userpilot account is, or the endpoint of its own.")
@click.option("--name", metavar="NAME", help="Name of the pipeline in the state store.")
@click.option("--no-input", is_flag=True, help="Ask nothing; take what the flags say, and defaults.")
@click.option("--no-sample", is_flag=True, help="Without the sample warehouse (DuckDB) that the models read.")
@click.pass_obj
def init(session: Session, /, directory: Path | None, no_input: bool, no_sample: bool, **flags: str | None) -> None:
    """Write a working project: a YAML with its schema, models_sql/ with unit tests, .gitignore, a sample warehouse.

    Asks for what the flags do not say: warehouse, region, folder, name. Inside a dbt project it goes by dbt's profile
    and manifest. Nothing is written over.
    """
    from warehouse_sync.cli import sample
    from warehouse_sync.cli.project_files import WAREHOUSE, check_free, dbt_files, project_files, write_files
    from warehouse_sync.errors import UsageError

    asks = not no_input and is_terminal(sys.stdin)
    wishes = _wishes(directory, asks, **flags)
    folder = wishes.folder
    if wishes.dbt is not None:
        files = dbt_files(wishes.name, wishes.endpoint, wishes.dbt, folder)
    else:
        files = project_files({"name": wishes.name}, wishes.kind, wishes.endpoint)
    check_free(folder, files)
    with_sample = wishes.kind == "duckdb" and not no_sample
    if with_sample and (folder / WAREHOUSE).exists():
        raise UsageError(f"{folder / WAREHOUSE} is there already", hint="--no-sample leaves it as it is.")
    write_files(folder, files)
    if with_sample:
        sample.create(folder / WAREHOUSE)
    for path in [*map(str, files), *([f"{WAREHOUSE} (a sample)"] if with_sample else [])]:
        session.console.event("file_written", f"wrote {folder / path}")
    session.console.block(_next_steps(wishes, files))


def _wishes(directory: Path | None, asks: bool, *, kind: str | None, region: str | None, name: str | None) -> Wishes:
    """Flags first, then answers, then defaults. Raises UsageError."""
    from warehouse_sync.errors import UsageError
    from warehouse_sync.project import places
    from warehouse_sync.project.dbt.project_file import find_project

    project = find_project(directory or Path())
    default = "duckdb" if project is None else "dbt"
    if kind is None:
        kind = _ask(asks, "Warehouse", default, click.Choice(KINDS if project else KINDS[:-1]))
    if kind == "dbt" and project is None:
        raise UsageError("no dbt project here or above", hint="go into its folder, or choose another --warehouse.")
    if region is None:
        region = _ask(asks, "Region of the Userpilot account: us, eu, or the URL of its endpoint", "us")
    try:
        endpoint = REGIONS.get(region.lower()) or places.endpoint(region)
    except ValueError as error:
        raise UsageError(f"--region {region}: {error}", hint="us, eu, or an https:// URL.") from None
    if directory is None:
        usual = os.path.relpath(project.folder / IN_DBT) if kind == "dbt" and project else "."
        directory = Path(_ask(asks, "Folder", usual))
    suggested = _plain(project.name if kind == "dbt" and project else directory.absolute().name)
    name = name or _ask(asks, "Name of this pipeline", suggested)
    if name != _plain(name):
        raise UsageError(f"{name!r} is no name of a pipeline", hint="up to 64 of a-z, A-Z, 0-9, `_` and `-`.")
    return Wishes(directory, kind, endpoint, name, project if kind == "dbt" else None)


def _ask(asks: bool, question: str, default: str, kind: click.ParamType[str] | None = None) -> str:
    return str(click.prompt(question, default=default, type=kind, err=True)) if asks else default


def _next_steps(wishes: Wishes, files: Mapping[Path, str]) -> str:
    from warehouse_sync.cli.project_files import CONFIG
    from warehouse_sync.project.yaml.environment import expand

    go = "" if wishes.folder == Path() else f"  cd {wishes.folder}\n"
    if wishes.kind in DRIVERS:
        config = CONFIG.with_stem(wishes.kind)
        steps = [f"pip install 'warehouse-sync[{wishes.kind}]'", f"edit {config} and models_sql/"]
        # Comments show other ways to log in.
        names = expand(re.sub("#.*", "", files[config]), {}).missing
        steps += [f"export {name}=..." for name in names if name != API_KEY_VARIABLE]
        go += "".join(f"  {step}\n" for step in steps)
    text = (
        f"\nNext:\n{go}  export {API_KEY_VARIABLE}=...     from the Environment page in Userpilot\n"
        "  warehouse-sync debug             is everything there?\n"
        "  warehouse-sync test              the unit tests of the models\n"
        "  warehouse-sync plan              what would be sent; sends nothing\n"
        "  warehouse-sync run\n"
    )
    if wishes.dbt is None:
        return text + "Without an account: warehouse-sync demo"
    found = "" if wishes.dbt.manifest.is_file() else f"There is no {wishes.dbt.manifest} yet: run `dbt parse` first.\n"
    return text + f"{found}models_sql/users.sql is a draft: it says what to put in, and is disabled until then."


def _plain(text: str) -> str:
    """The text as a pipeline's name."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-_")[:64].strip("-_") or "main"


@click.command(cls=Verb, short_help="See the main job without an account or a warehouse.")
@shared()
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEMO,
    show_default=True,
    help="Folder of the demo's project; an earlier demo there starts over.",
)
@click.pass_obj
def demo(session: Session, directory: Path) -> int:
    """Show the main job without an account or a warehouse, and leave a project to go on with.

    A sample warehouse is made and synced to a local stand-in for the Import API; a day passes in the warehouse; the
    second sync sends only what changed.
    """
    from warehouse_sync.cli.demo import play

    return play(session, directory)
