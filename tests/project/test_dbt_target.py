"""Which target a manifest was made for, when run_results.json does not tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dbt_files import manifest, model, results, source, write

from warehouse_sync.project.dbt.manifest import ArtefactError
from warehouse_sync.project.dbt.project_file import Place, Targets
from warehouse_sync.project.dbt.relations import Artefacts

DEV, PROD = ("wh", "dev_alice"), ("wh", "analytics")
PLACES = {"dev": DEV, "prod": PROD}


def at(name: str, place: Place, **config: Any) -> dict[str, Any]:
    return model(name, database=place[0], schema=place[1], config=config)


def artefacts(folder: Path, *nodes: dict[str, Any], places: dict[str, Place] | None = None) -> Artefacts:
    """Those of a `dbt ls` after the build: run_results.json is of the build."""
    other = results({}, target="prod") | {"metadata": {"invocation_id": "two"}}
    write(folder, manifest=manifest(*nodes), run_results=other)
    return Artefacts(folder, targets=Targets("prod", "dev", PLACES if places is None else places))


@pytest.mark.parametrize(
    ("nodes", "places"),
    [
        ([at("a", DEV)], PLACES),
        ([at("a", DEV), at("b", ("wh", "marts"), schema="marts"), at("c", ("lake", "x"), database="lake")], PLACES),
        ([at("a", ("WH", "DEV_ALICE"))], PLACES),
        ([at("a", DEV), source("app", "users", database="wh", schema="analytics")], PLACES),
        ([at("a", ("dev_db", "main"))], {"dev": ("dev_db", "main"), "prod": ("prod_db", "main")}),
        ([at("a", ("made_here", "dev_alice"))], {"dev": ("", "dev_alice"), "prod": ("", "analytics")}),
    ],
)
def test_the_schemas_are_those_of_another_target(
    tmp_path: Path, nodes: list[dict[str, Any]], places: dict[str, Place]
) -> None:
    with pytest.raises(ArtefactError) as caught:
        _ = artefacts(tmp_path, *nodes, places=places).manifest
    assert "has its models where target `dev` has them, and here it is `prod`" in caught.value.message
    assert caught.value.hint == "run `dbt parse --target prod`, or `dbt build --target prod`, which notes its target."


@pytest.mark.parametrize(
    ("nodes", "places"),
    [
        ([], PLACES),
        ([at("a", ("wh", "elsewhere"))], PLACES),
        ([at("a", DEV), at("b", PROD)], PLACES),
        ([at("a", DEV), at("b", ("wh", "by_folder"))], PLACES),
        ([at("a", DEV)], {"dev": DEV, "prod": DEV}),
        ([at("a", PROD)], {"dev": PROD, "prod": PROD}),
        ([at("a", DEV)], {"dev": DEV}),
        ([at("a", DEV)], {}),
        ([at("a", ("dev_db", "main"))], {"dev": ("file", "main"), "prod": ("other", "main")}),
    ],
)
def test_what_cannot_be_told_is_a_doubt_and_no_error(
    tmp_path: Path, nodes: list[dict[str, Any]], places: dict[str, Place]
) -> None:
    found = artefacts(tmp_path, *nodes, places=places)
    assert found.manifest
    assert found.made_for == ""
    assert "does not say its target, and here it is `prod`: let `dbt build --target prod` be the last" in found.doubt


def test_the_schemas_are_those_of_this_target(tmp_path: Path) -> None:
    found = artefacts(tmp_path, at("a", PROD))
    assert (found.made_for, found.doubt) == ("prod", "")


def test_what_dbt_noted_goes_before_the_schemas(tmp_path: Path) -> None:
    found = artefacts(tmp_path, at("a", DEV))
    write(tmp_path, run_results=results({}, target="prod"))
    assert found.manifest
    assert (found.made_for, found.doubt) == ("prod", "")


def test_a_manifest_that_is_named_by_hand_only_tells_columns(tmp_path: Path) -> None:
    found = artefacts(tmp_path, at("a", DEV))
    assert Artefacts(tmp_path, targets=found.targets, manifest_file=tmp_path / "manifest.json").manifest


def made_by_default(folder: Path, node: dict[str, Any], targets: Targets) -> Artefacts:
    """Those of one build that no target was named for: dbt notes none then."""
    write(folder, manifest=manifest(node), run_results=results({}))
    return Artefacts(folder, targets=targets)


def test_the_schemas_go_before_what_the_profile_says_by_now(tmp_path: Path) -> None:
    """`target: "{{ env_var('SHOP_ENV', 'dev') }}"` was `dev` when dbt ran, and is `prod` here; or the other way."""
    for place, now, wanted in ((DEV, "prod", "prod"), (DEV, "dev", "prod"), (PROD, "dev", "dev")):
        found = made_by_default(tmp_path, at("a", place), Targets(wanted, now, PLACES))
        with pytest.raises(ArtefactError, match="has its models where target"):
            _ = found.manifest
    found = made_by_default(tmp_path, at("a", PROD), Targets("prod", "dev", PLACES))
    assert (found.manifest.project, found.made_for, found.doubt) == ("shop", "prod", "")


def test_a_default_that_cannot_vary_is_the_target_of_what_names_none(tmp_path: Path) -> None:
    elsewhere = at("a", ("wh", "elsewhere"))
    found = made_by_default(tmp_path, elsewhere, Targets("dev", "dev", PLACES))
    assert (found.manifest.project, found.made_for, found.doubt) == ("shop", "dev", "")
    with pytest.raises(ArtefactError, match="made for target `dev`, the profile's own, and here it is `prod`"):
        _ = made_by_default(tmp_path, elsewhere, Targets("prod", "dev", PLACES)).manifest


@pytest.mark.parametrize(("wanted", "now"), [("prod", "prod"), ("prod", "dev")])
def test_a_default_that_varies_is_a_doubt(tmp_path: Path, wanted: str, now: str) -> None:
    found = made_by_default(tmp_path, at("a", ("wh", "elsewhere")), Targets(wanted, now, PLACES, varies=True))
    assert (found.manifest.project, found.made_for) == ("shop", "")
    assert "does not say its target, and here it is `prod`" in found.doubt


def test_nothing_is_doubted_where_no_other_target_is_asked_for(tmp_path: Path) -> None:
    artefacts(tmp_path, at("a", ("wh", "elsewhere")))
    for targets in (Targets(), Targets("dev", "dev", PLACES)):
        assert Artefacts(tmp_path, targets=targets).doubt == ""
