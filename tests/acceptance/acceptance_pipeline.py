"""A pipeline on disk for these tests: a DuckDB warehouse, models, a sandbox on a real socket, and `run()` itself."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness import duckdb_file

from warehouse_sync.parts import policy_of
from warehouse_sync.project.config import Config, load_config
from warehouse_sync.project.model import BrokenModel, load_models, settings_from
from warehouse_sync.runs.results import ModelResult, RunReport
from warehouse_sync.runs.run import RunOptions, run
from warehouse_sync.state.rows import Reject
from warehouse_sync.state.store import open_store
from warehouse_sync.userpilot.sandbox import Sandbox
from warehouse_sync.values import Model


class Silent:
    """A reporter that keeps what it hears."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, str]] = []

    def event(self, code: str, message: str, level: str = "info", **_: Any) -> None:
        self.events.append((level, code, message))

    def progress(self, *_: Any) -> None:
        pass


class Pipeline:
    """`warehouse.duckdb` (or another name), `models_sql/` and one YAML in a folder, and what the sandbox imported."""

    def __init__(self, folder: Path, sandbox: Sandbox, more: str = "", warehouse: str = "warehouse.duckdb") -> None:
        self.folder = folder
        self.sandbox = sandbox
        self.warehouse = folder / warehouse
        self.reporter = Silent()
        self.reports: list[RunReport] = []
        (folder / "models_sql").mkdir(parents=True)
        self.configure(more)

    def configure(self, more: str = "") -> None:
        """Write the YAML; `more` is appended."""
        (self.folder / "configs").mkdir(exist_ok=True)
        path = json.dumps(str(self.warehouse))
        (self.folder / "configs" / "prod.yml").write_text(
            f"name: prod\nwarehouse: {{type: duckdb, path: {path}}}\n"
            f"userpilot: {{api_key: {self.sandbox.api_key}, endpoint: '{self.sandbox.url}'}}\n{more}",
            encoding="utf-8",
        )

    def model(self, name: str, header: str, sql: str) -> None:
        """Write a model file; `header` is what stands in `config(...)`."""
        path = self.folder / "models_sql" / f"{name}.sql"
        path.write_text(f"{{{{ config({header}) }}}}\n{sql}\n", encoding="utf-8")

    def sql(self, *statements: str) -> None:
        """Change the warehouse."""
        with duckdb_file(self.warehouse) as connection:
            for statement in statements:
                connection.execute(statement)

    def config(self) -> Config:
        return load_config(self.folder / "configs" / "prod.yml", {})

    def models(self, *names: str) -> list[Model | BrokenModel]:
        found = [model for model in load_models(settings_from(self.config(), {})) if model.enabled]
        return [model for model in found if not names or model.name in names]

    def run(self, *names: str, **options: Any) -> RunReport:
        """One run over the named models, or all of them."""
        config = self.config()
        report = run(config, policy_of(config, {}), self.models(*names), RunOptions(**options), self.reporter)
        for result in report.results:
            check_sums(result)
        self.reports.append(report)
        return report

    def one(self, **options: Any) -> ModelResult:
        """One run of the only model."""
        (result,) = self.run(**options).results
        return result

    def good(self, **options: Any) -> ModelResult:
        """One run of the only model, which ends well."""
        result = self.one(**options)
        assert str(result.status) == "success", f"{result.message} {result.error and str(result.error)}"
        return result

    def imported(self, start: int = 0) -> list[dict[str, Any]]:
        """What the sandbox imported, from its `start`th row."""
        return [json.loads(line) for line in self.sandbox.imported()[start:]]

    @contextmanager
    def store(self) -> Iterator[Any]:
        with open_store(self.config().state.url.get_secret_value(), read_only=True) as store:
            yield store

    def rejects(self, model: str = "m") -> list[Reject]:
        """The open rejects."""
        with self.store() as store:
            return list(store.open_rejects("prod", model))

    def reasons(self, model: str = "m") -> Mapping[str | None, tuple[str, ...]]:
        """key -> reasons of the open rejects."""
        return {reject.key: tuple(reject.reasons) for reject in self.rejects(model)}

    def cursor(self, model: str = "m") -> str | None:
        """Where the model's cursor stands."""
        with self.store() as store:
            known = store.model_state("prod", model)
        return known.cursor.text if known and known.cursor else None


def check_sums(result: ModelResult) -> None:
    """Both sums of the design, for a model whose windows were all extracted."""
    n = result.counts
    assert n.read == n.added + n.changed + n.unchanged + n.duplicate + n.suppressed + n.invalid + n.future, n
    assert n.added + n.changed == n.delivered + n.rejected + n.waiting, n
    assert min(n.as_dict().values()) >= 0, n
