"""`dbt: {require: success}`: who has to wait, and for what."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from dbt_files import check, manifest, model, results, source, write

from warehouse_sync.project.dbt.gate import held_back, uses_of
from warehouse_sync.project.dbt.relations import Artefacts, DbtRelations
from warehouse_sync.project.model import BrokenModel, ModelSettings, load_models
from warehouse_sync.project.relations import YamlRelations
from warehouse_sync.values import Model

STG, DIM, FCT, APP, FAR = (
    "model.shop.stg", "model.shop.dim", "model.shop.fct", "source.shop.app.users", "source.shop.app.clicks"
)  # fmt: skip
GRAPH = manifest(
    source("app", "users"),
    source("app", "clicks"),
    model("stg", above=[APP]),
    model("dim", above=[STG]),
    model("fct", above=[FAR]),
    check("not_null_dim", [DIM], attached=DIM),
    check("same_count", [STG, FCT]),
    check("from_dim_to_fct", [DIM, FCT], attached=FCT),
    check("stg_unit", [STG], kind="unit_test"),
)


@pytest.fixture
def settings(tmp_path: Path) -> ModelSettings:
    """Two models: `one` reads dim, `two` reads fct, and dim in its incremental reading only when told so."""
    folder = tmp_path / "models_sql"
    folder.mkdir()
    for name, call in (("one", "ref('dim')"), ("two", "ref('fct')")):
        (folder / f"{name}.sql").write_text(
            f"{{{{ config(event='track', always=true) }}}} select * from {{{{ {call} }}}}"
        )
    names = YamlRelations(refs={"elsewhere": "x.y"})
    relations = DbtRelations(Artefacts(write(tmp_path / "target", manifest=GRAPH)), names)
    return ModelSettings(path=folder, relations=relations)


def waiting(settings: ModelSettings, folder: Path, statuses: dict[str, str], **more: Any) -> dict[str, str]:
    write(folder / "target", run_results=results(statuses, **more.pop("args", {})), **more)
    return held_back("success", settings, load_models(settings))


def test_who_waits_for_what(settings: ModelSettings, tmp_path: Path) -> None:
    good = dict.fromkeys((STG, DIM, FCT), "success") | {"test.shop.not_null_dim": "pass"}
    for wrong, expected in (
        ({}, {}),
        ({"test.shop.not_null_dim": "warn"}, {}),
        ({"test.shop.not_null_dim": "skipped"}, {}),
        ({DIM: "error"}, {"one": "model dim errored"}),
        ({FCT: "skipped"}, {"two": "model fct was skipped"}),
        ({FCT: "partial success"}, {"two": "model fct was built in part"}),
        ({STG: "Error"}, {"one": "model stg errored, and model dim is built from it"}),
        ({"test.shop.not_null_dim": "fail"}, {"one": "model dim failed the test not_null_dim"}),
        ({"test.shop.not_null_dim": "runtime error"}, {"one": "model dim failed the test not_null_dim"}),
        ({"test.shop.from_dim_to_fct": "fail"}, {"two": "model fct failed the test from_dim_to_fct"}),
        (
            {"test.shop.same_count": "fail"},
            {"one": "model stg failed the test same_count, and model dim is built from it",
             "two": "model fct failed the test same_count"},
        ),
        (
            {"unit_test.shop.stg_unit": "fail"},
            {"one": "model stg failed the test stg_unit, and model dim is built from it"},
        ),
        ({"operation.shop.shop-on-run-start-0": "error"}, {}),
    ):  # fmt: skip
        assert waiting(settings, tmp_path, good | wrong) == {
            name: f"dbt: {why}; mend it and run `dbt build`" for name, why in expected.items()
        }


def test_stale_sources(settings: ModelSettings, tmp_path: Path) -> None:
    for status, expected in (
        ("pass", []),
        ("warn", []),
        ("error", ["one"]),
        ("Error", ["one"]),
        ("runtime error", ["one"]),
    ):
        assert list(waiting(settings, tmp_path, {}, sources=results({APP: status, FAR: "pass"}))) == expected
    (why,) = waiting(settings, tmp_path, {}, sources=results({APP: "error"})).values()
    assert why == (
        "dbt: source app.users is stale, and model dim is built from it;"
        " load it, run `dbt build` and `dbt source freshness`"
    )
    (settings.path / "two.sql").write_text(
        "{{ config(event='track', always=true) }} select * from {{ source('app', 'clicks') }}"
    )
    (why,) = waiting(settings, tmp_path, {}, sources=results({FAR: "error"})).values()
    assert why == "dbt: source app.clicks is stale; load it, run `dbt source freshness`"


def test_nothing_to_judge_by_holds_back_everybody(settings: ModelSettings, tmp_path: Path) -> None:
    models = load_models(settings)
    found = held_back("success", settings, models)
    assert set(found) == {"one", "two"}
    assert "run_results.json does not exist; write it with `dbt build`" in found["one"]
    found = waiting(settings, tmp_path, {DIM: "success"}, args={"which": "compile"})
    assert "run_results.json is of `dbt compile`, which builds nothing; run `dbt build`" in found["two"]
    (tmp_path / "target" / "run_results.json").write_text("[")
    assert "is not JSON" in held_back("success", settings, models)["one"]


def test_empty_tables_and_samples_are_no_build(settings: ModelSettings, tmp_path: Path) -> None:
    for args, words in (({"empty": True}, "--empty"), ({"sample": {"start": "2025-01-01"}}, "--sample")):
        found = waiting(settings, tmp_path, {DIM: "success"}, args=args)
        assert f"run_results.json is of `dbt build {words}`, which builds only a part; run `dbt build`" in found["one"]
    assert waiting(settings, tmp_path, {DIM: "success"}, args={"empty": False, "sample": None}) == {}


def test_sources_that_cannot_be_read_are_not_taken_for_fresh(settings: ModelSettings, tmp_path: Path) -> None:
    (tmp_path / "target" / "sources.json").write_text('{"results": [')
    why = waiting(settings, tmp_path, {DIM: "success"})["one"]
    assert "sources.json is not JSON, or was cut off; write it again with `dbt source freshness`" in why


def at(path: Path, moment: datetime) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (moment.timestamp(), moment.timestamp()))


BEFORE = datetime(2025, 3, 1, 10, tzinfo=UTC)


def after_a_build(folder: Path, *, last: str, manifest_of: int, results_at: int, built_at: int) -> None:
    """dbt's folder; times in minutes. `last`: the invocation that wrote the manifest, where results are of `one`."""
    moment = (BEFORE + timedelta(minutes=manifest_of)).isoformat().replace("+00:00", "Z")
    graph = GRAPH | {"metadata": GRAPH["metadata"] | {"generated_at": moment, "invocation_id": last}}
    write(folder, manifest=graph, run_results=results({DIM: "success"}))
    at(folder / "run_results.json", BEFORE + timedelta(minutes=results_at))
    at(folder / "run" / "shop" / "models" / "dim.sql", BEFORE + timedelta(minutes=built_at))


@pytest.mark.parametrize(
    ("last", "manifest_of", "results_at", "built_at", "held"),
    [
        ("one", 1, 1, 0, False),  # a whole build
        ("two", 3, 1, 0, False),  # then `dbt ls`
        ("two", 3, 1, 1, False),  # on a clock of minutes
        ("two", 3, 1, 4, True),  # a second build that was killed, or still goes on
        ("three", 9, 1, 4, True),  # then `dbt ls`
        ("two", 3, 8, 9, False),  # copied after `dbt ls`, without its times
        ("one", 1, 0, 9, False),  # of one invocation, whatever the times
    ],
)
def test_a_build_that_did_not_end(
    settings: ModelSettings, tmp_path: Path, last: str, manifest_of: int, results_at: int, built_at: int, held: bool
) -> None:
    """dbt writes target/run while it builds, and run_results.json at the end: that of the build before is there."""
    after_a_build(tmp_path / "target", last=last, manifest_of=manifest_of, results_at=results_at, built_at=built_at)
    found = held_back("success", settings, load_models(settings))
    assert set(found) == ({"one", "two"} if held else set())
    if held:
        assert found["one"].endswith(
            "target/run: its last build was ended, or goes on; run `dbt build`, and wait for its end"
        )


def test_who_is_never_held_back(settings: ModelSettings, tmp_path: Path) -> None:
    write(tmp_path / "target", run_results=results({DIM: "error", FCT: "error"}))
    models = load_models(settings)
    assert held_back(None, settings, models) == {}
    assert held_back("success", ModelSettings(path=settings.path), models) == {}
    for name, body in (("plain", "select 1 as user_id"), ("yaml", "select * from {{ ref('elsewhere') }}"),
                       ("lost", "select * from {{ ref('lost') }}"), ("broken", "{{ config() }}")):  # fmt: skip
        (settings.path / f"{name}.sql").write_text(f"{{{{ config(event='track', always=true) }}}} {body}")
    models = load_models(settings)
    assert any(isinstance(found, BrokenModel) for found in models)
    assert set(held_back("success", settings, models)) == {"one", "two"}


def test_uses_of_both_readings(settings: ModelSettings) -> None:
    (settings.path / "one.sql").write_text(
        "{{ config(event='track', always=true) }} select * from {{ ref('shop', 'fct') }}"
        " {% if is_incremental() %} join {{ source('app', 'users') }} on true {% endif %} join {{ ref('elsewhere') }}"
    )
    (one, _) = load_models(settings)
    assert isinstance(one, Model)
    assert [use.call for use in uses_of(one, settings)] == [
        "ref('shop', 'fct')", "ref('elsewhere')", "source('app', 'users')",
    ]  # fmt: skip
