"""A model's SQL for one run: rendered, found to be exactly one query, and fingerprinted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any

from warehouse_sync.errors import ModelError
from warehouse_sync.project.query import NotOneQuery, one_query, wrap
from warehouse_sync.project.template import Relations, RenderContext, YamlRelations, evaluate, header_call, source_lines
from warehouse_sync.values import Model

_NOT_IN_FINGERPRINT = frozenset({"name", "path", "sql", "enabled", "tags", "description", "meta"})


def _same(line: int) -> int:
    return line


@dataclass(frozen=True)
class Rendered:
    """One query, without `;` or comment at its end, so that `wrap(sql)` works. `warnings` are sentences.

    `place` gives the line of the file (1-based) from which a line of the query comes; 0 stays 0.
    """

    sql: str
    warnings: tuple[str, ...] = ()
    place: Callable[[int], int] = field(default=_same, compare=False, repr=False)


def render(model: Model, context: RenderContext, dialect: str) -> Rendered:
    """The model's query for this context; `dialect` is sqlglot's name of the warehouse's dialect.

    Raises ModelError with path and line for every fault of Jinja, and for SQL that is not exactly one query.
    """
    breaks = "\n" * header_call(model.sql, model.path).breaks

    def config(**_: Any) -> str:
        # A header of several lines leaves its line breaks behind, so that the SQL below keeps its line numbers.
        return breaks

    text = evaluate(model.sql, model.path, context, config)

    def place(line: int) -> int:
        lines = source_lines(model.sql, model.path, context, config, text)
        return lines[min(line, len(lines)) - 1] if line else 0

    try:
        sql, unparsed = one_query(text, dialect)
    except NotOneQuery as error:
        raise ModelError(error.message, path=model.path, line=place(error.line), hint=error.hint) from None
    if unparsed is None:
        return Rendered(sql, place=place)
    where = f"{model.path}:{place(unparsed)}" if unparsed else f"{model.path}"
    warning = f"{where}: sqlglot cannot parse this as {dialect or 'SQL'}; the warehouse gets it unchecked"
    return Rendered(sql, (warning,), place)


def fingerprint(sql: str, model: Model, extra: Mapping[str, str]) -> str:
    """SHA-256 (hex) of what decides which rows a window holds: rendered SQL, header after overrides, `extra`.

    `sql` is the full-refresh rendering; `extra` holds what lies outside of the model (vars, encoder version, …).
    `enabled`, `tags`, `description` and `meta` change no row and are left out, and so are name and place of the file.
    """
    header = {item.name: getattr(model, item.name) for item in fields(model) if item.name not in _NOT_IN_FINGERPRINT}
    document = {"sql": sql.strip(), "header": header, "extra": dict(extra)}
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=_canonical)
    return hashlib.sha256(text.encode()).hexdigest()


def _canonical(value: Any) -> Any:
    if isinstance(value, timedelta):
        return {"microseconds": value // timedelta(microseconds=1)}
    raise TypeError(f"no canonical form for {type(value).__name__}")


__all__ = ["Relations", "RenderContext", "Rendered", "YamlRelations", "fingerprint", "render", "wrap"]
