"""`ls`, `compile`, `show`, `plan`: what models are, become and would do. None of them writes anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from warehouse_sync.cli.options import Verb, WholeNumber, shared
from warehouse_sync.cli.output import few, key_text, print_data, print_json, print_table, share, table
from warehouse_sync.cli.session import Session
from warehouse_sync.observe.words import counted

if TYPE_CHECKING:
    from warehouse_sync.errors import WarehouseSyncError
    from warehouse_sync.inspection.preview import ModelPlan
    from warehouse_sync.project.model import BrokenModel
    from warehouse_sync.values import Model

SELECTION = ("config", "select", "exclude", "vars")
LISTED = (
    "event", "unique_key", "cursor", "lag", "begin", "slice", "null_cursor", "always", "full_refresh", "source",
    "tags", "description", "meta",
)  # fmt: skip
"""Header keys that `ls --output json` shows, in its order."""


@click.command(cls=Verb, short_help="List the models that a selection takes.")
@shared(*SELECTION, "output")
@click.option(
    "--save-state",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write manifest.json of all models there, for a later --state DIR.",
)
@click.pass_obj
def ls(session: Session, save_state: Path | None) -> int:
    """List the models that a selection takes. Asks neither warehouse nor API, and needs no secrets."""
    session.asks_nobody()
    chosen = session.selected()
    if save_state is not None:
        _save_state(session, save_state)
    for model in chosen:
        if session.prints_json:
            print_json(_described(session, model))
        else:
            print_data(model.name)
    return report_broken(session, chosen)


@click.command("compile", cls=Verb, short_help="Print the rendered SQL of models.")
@shared(*SELECTION, "output")
@click.option(
    "--incremental-from", metavar="VALUE", help="Render as a later run would, from this value of the cursor on."
)
@click.pass_obj
def compile_(session: Session, incremental_from: str | None) -> int:
    """Print the rendered SQL of models, as the first run would send it to the warehouse."""
    from warehouse_sync.errors import ModelError
    from warehouse_sync.parts import dialect_of
    from warehouse_sync.project.model import BrokenModel
    from warehouse_sync.project.render import render

    session.asks_nobody()
    chosen = session.selected()
    dialect, settings = dialect_of(session.config), session.settings
    failed = report_broken(session, chosen)
    for model in chosen:
        if isinstance(model, BrokenModel):
            continue
        context = settings.context()
        if incremental_from is not None:
            context = settings.context(incremental=True, cursor_from=_literal(session, model, incremental_from))
        try:
            rendered = render(model, context, dialect)
        except ModelError as error:
            session.console.failure(error)
            failed = 1
            continue
        for warning in rendered.warnings:
            session.console.event("model_warning", f"{model.name}: {warning}", level="warn", model=model.name)
        if session.prints_json:
            print_json({"name": model.name, "path": str(model.path), "sql": rendered.sql})
        else:
            print_data((f"-- {model.name} ({model.path})\n" if len(chosen) > 1 else "") + rendered.sql.strip() + "\n")
    return failed


@click.command(cls=Verb, short_help="Print a few rows as the events they would become.")
@shared(*SELECTION, "output")
@click.option("--limit", type=WholeNumber(1, 10_000), default=5, show_default=True, metavar="N", help="Rows.")
@click.pass_obj
def show(session: Session, limit: int) -> int:
    """Print a few rows of a model as the events they would become; a refused row with its reasons. One JSON object a
    line, whatever --output says.

    This prints what the warehouse holds: names, e-mail addresses.
    """
    if not session.flags.select:
        raise click.UsageError("`show` needs --select MODEL.")
    from warehouse_sync.errors import ModelError
    from warehouse_sync.inspection import preview
    from warehouse_sync.project.model import BrokenModel

    session.sends_nothing()
    config, policy, chosen = session.config, session.policy, session.selected()
    failed = report_broken(session, chosen)
    for model in chosen:
        if isinstance(model, BrokenModel):
            continue
        try:
            _show(preview.show(config, policy, model, limit, session.console))
        except ModelError as error:
            session.console.failure(error)
            failed = 1
    return failed


@click.command(cls=Verb, short_help="Count what `run` would do; send and write nothing.")
@shared(*SELECTION, "output", "full_refresh")
@click.option("--limit", type=WholeNumber(min=1), metavar="N", help="As `run --limit N` would.")
@click.option("--from", "start", metavar="VALUE", help="As `run --from VALUE` would.")
@click.option("--to", "end", metavar="VALUE", help="As `run --to VALUE` would.")
@click.pass_obj
def plan(session: Session, limit: int | None, start: str | None, end: str | None) -> int:
    """Count what `run` would do, and show how columns become fields and properties. Sends and writes nothing."""
    from warehouse_sync.cli.report import say_warnings
    from warehouse_sync.extraction.request import Request
    from warehouse_sync.inspection import preview

    session.sends_nothing()
    config, policy, chosen = session.config, session.policy, session.selected()
    if not chosen:
        return 0
    request = Request(session.flags.full_refresh, limit, start, end)
    enabled = frozenset(model.name for model in session.models if model.enabled)
    plans = preview.plan(config, policy, chosen, session.console, request, enabled)
    for item in plans:
        say_warnings(session, item.model, item.warnings, item.notes)
        if item.held_back:
            session.console.event("model_skipped", f"{item.model}: {item.held_back}", level="warn", model=item.model)
        if session.prints_json:
            print_json(_plan_as_json(item))
        elif item.is_counted:
            print_data(_plan_as_text(item))
    failed = report_errors(session, {item.model: item.error for item in plans if item.error is not None})
    if not session.prints_json:
        _print_totals(plans)
    return int(failed or any(item.held_back for item in plans))


def _save_state(session: Session, folder: Path) -> None:
    from warehouse_sync import __version__
    from warehouse_sync.errors import DiskError
    from warehouse_sync.observe.results import write_results
    from warehouse_sync.project.manifest import FILE, manifest
    from warehouse_sync.values import utc_now

    document = manifest(session.config.name, session.models, __version__, utc_now())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_results(folder, document, session.console.scrubber, FILE)
    except OSError as error:
        raise DiskError(f"{folder} cannot be written: {error.strerror}", hint="name another: --save-state") from None
    session.console.event("file_written", f"wrote {folder / FILE}")


def _described(session: Session, model: Model | BrokenModel) -> dict[str, Any]:
    """One model for machines."""
    from warehouse_sync.project.model import BrokenModel

    known = {"unique_id": f"sync.{session.config.name}.{model.name}", "name": model.name, "path": str(model.path)}
    if isinstance(model, BrokenModel):
        return {**known, "event": model.event, "tags": list(model.tags), "error": str(model.error)}
    return known | {name: _plain(getattr(model, name)) for name in LISTED}


def _plain(value: Any) -> Any:
    from datetime import timedelta

    from warehouse_sync.project.quantities import format_duration

    if isinstance(value, timedelta):
        return format_duration(value)
    return list(value) if isinstance(value, tuple) else value


def report_broken(session: Session, chosen: Sequence[Model | BrokenModel]) -> int:
    """Say what is wrong with models that cannot be used; 1 when there is one."""
    from warehouse_sync.project.model import BrokenModel

    return report_errors(session, {model.name: model.error for model in chosen if isinstance(model, BrokenModel)})


def report_errors(session: Session, errors: Mapping[str, WarehouseSyncError]) -> int:
    """Say what is wrong with models, and only once what is wrong with several; 1 when there is an error."""
    shared: dict[str, list[str]] = {}
    for model, error in errors.items():
        shared.setdefault(str(error), []).append(model)
    for models in shared.values():
        session.console.failure(errors[models[0]])
        if len(models) > 1:
            text = f"it concerns {counted(len(models), 'model')}: {', '.join(models)}"
            session.console.event("models_concerned", text, level="error", models=models)
    return int(bool(errors))


def _literal(session: Session, model: Model, text: str) -> str:
    """A cursor value of the command line as SQL; the state store knows its kind, else its looks tell."""
    from warehouse_sync.parts import dialect_of
    from warehouse_sync.values import CursorValue
    from warehouse_sync.warehouses.base import cursor_literal

    with session.store() as store:
        known = store.model_state(session.config.name, model.name)
    kind = known.cursor.kind if known and known.cursor else _kind_of(text)
    return cursor_literal(CursorValue(kind, text), dialect_of(session.config))


def _kind_of(text: str) -> Any:
    import re

    from warehouse_sync.values import CursorKind

    day = r"\d{4}-\d{2}-\d{2}"
    shapes = (
        (r"-?\d+", CursorKind.INTEGER),
        (day, CursorKind.DATE),
        (rf"{day}[ T][\d:.]+([+-]\d{{2}}:?\d{{2}}|Z)", CursorKind.TIMESTAMPTZ),
        (rf"{day}[ T][\d:.]+", CursorKind.TIMESTAMP),
    )
    return next((kind for shape, kind in shapes if re.fullmatch(shape, text)), CursorKind.STRING)


def _show(rows: Sequence[dict[str, Any]]) -> None:
    for row in rows:
        print_data(row["line"]) if "line" in row else print_json(row)


# Plans


def _plan_as_json(item: ModelPlan) -> dict[str, Any]:
    return {
        "model": item.model,
        "error": None if item.error is None else str(item.error),
        "skipped": item.held_back or None,
        "counts": item.counts.as_dict(),
        "columns": [
            {"column": c.column, "to": c.to, "kind": c.kind, "type": c.type, "null_share": c.null_share}
            for c in item.columns
        ],
        "keys": {verdict: list(keys) for verdict, keys in item.keys.items()},
        "reasons": dict(item.reasons),
        "reason_columns": {code: list(columns) for code, columns in item.about.items()},
        "warnings": list(item.warnings),
        "notes": dict(item.notes),
    }


def _plan_as_text(item: ModelPlan) -> str:
    from warehouse_sync.events.reasons import Reason

    sentences = {reason.code: reason.sentence for reason in Reason}
    columns = [(c.column, c.to or c.kind, c.type, share(c.null_share)) for c in item.columns]
    parts = [table(("column", "becomes", "type", "NULL"), columns, title=f"{item.model}\n")]
    if item.reasons:
        refused = [
            (rows, code, few(item.about.get(code, ())), sentences.get(code, "")) for code, rows in item.reasons.items()
        ]
        parts.append(table(("rows", "refused because", "column", ""), refused))
    if item.keys:
        parts.append(
            "\n".join(
                f"{verdict}: {', '.join(str(key_text(key)) for key in keys)}" for verdict, keys in item.keys.items()
            )
        )
    return "\n\n".join(parts) + "\n"


def _print_totals(plans: Sequence[ModelPlan]) -> None:
    names = ["read", "added", "changed", "unchanged", "duplicate", "suppressed", "invalid", "future", "removed"]
    names += [name for name in ("retimed", "repaired") if any(getattr(item.counts, name) for item in plans)]
    rows = [
        (item.model, word, *(getattr(item.counts, name) if item.is_counted else None for name in names))
        for item in plans
        for word in ["error" if item.error else "skipped" if item.held_back else ""]
    ]
    print_table(("model", "", *names), rows)
