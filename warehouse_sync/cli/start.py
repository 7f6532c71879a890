"""`init` and `demo`: a project to begin with."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click

from warehouse_sync.cli.options import Verb, shared
from warehouse_sync.cli.session import Session, is_terminal

DEMO = Path("warehouse-sync-demo")


@click.command(cls=Verb, short_help="Write a working project to begin with.")
@shared()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), default=Path(), metavar="[DIR]")
@click.option("--name", metavar="NAME", help="Name of the pipeline in the state store; else asked, or the folder's.")
@click.option("--no-input", is_flag=True, help="Ask nothing.")
@click.option("--no-sample", is_flag=True, help="Without the sample warehouse that the models read.")
@click.pass_obj
def init(session: Session, directory: Path, name: str | None, no_input: bool, no_sample: bool) -> None:
    """Write a working project: configs/duckdb.yml, models_sql/, .gitignore and a sample warehouse.

    Nothing is written over.
    """
    from warehouse_sync.cli import sample
    from warehouse_sync.cli.project_files import WAREHOUSE, project_files, write_files
    from warehouse_sync.errors import UsageError

    suggested = _plain(directory.absolute().name)
    if name is None and not no_input and is_terminal(sys.stdin):
        name = click.prompt("Name of this pipeline", default=suggested, err=True)
    name = name or suggested
    if name != _plain(name):
        raise UsageError(f"{name!r} is no name of a pipeline", hint="letters, digits, `_` and `-`, up to 64 of them.")
    files = project_files({"name": name})
    if not no_sample and (directory / WAREHOUSE).exists():
        raise UsageError(f"{directory / WAREHOUSE} is there already", hint="--no-sample leaves it as it is.")
    write_files(directory, files)
    if not no_sample:
        sample.create(directory / WAREHOUSE)
    written = [*map(str, files), *([] if no_sample else [f"{WAREHOUSE} (a sample)"])]
    for path in written:
        session.console.event("file_written", f"wrote {directory / path}")
    go = "" if directory == Path() else f"  cd {directory}\n"
    session.console.block(
        f"\nNext:\n{go}  export USERPILOT_API_KEY=...     from the Environment page in Userpilot\n"
        "  warehouse-sync debug             is everything there?\n"
        "  warehouse-sync plan              what would be sent; sends nothing\n"
        "  warehouse-sync run\n"
        "Without an account: warehouse-sync demo"
    )


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
