"""ref() and source() by dbt's manifest."""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from dbt_files import manifest, model, results, source, write

from warehouse_sync.errors import ModelError
from warehouse_sync.project.dbt.ignore import ignored
from warehouse_sync.project.dbt.manifest import ArtefactError, read_manifest
from warehouse_sync.project.dbt.project_file import Targets, find_project
from warehouse_sync.project.dbt.relations import Artefacts, DbtRelations
from warehouse_sync.project.relations import YamlRelations

NODES = (
    model("dim_users"),
    model("both"),
    model("both", "crm"),
    model("twice", "crm"),
    model("twice", "erp"),
    model("far", "crm"),
    model("plans", kind="seed"),
    model("users_history", kind="snapshot"),
    model("region", version=1, latest_version=2),
    model("region", version=2, latest_version=2),
    model("region", version="next", latest_version=2),
    model("inline", config={"materialized": "ephemeral"}),
    model("odd", relation_name='DB.MARTS."Odd Name"'),
    source("app", "users"),
)
OFF = (model("retired"), source("app", "old"))


def relations(folder: Path, document: dict[str, Any], **more: Any) -> DbtRelations:
    return DbtRelations(Artefacts(write(folder, manifest=document), **more))


@pytest.mark.parametrize("version", [9, 10, 11, 12, 20])
def test_relations_of_every_version(tmp_path: Path, version: int) -> None:
    found = relations(tmp_path, manifest(*NODES, version=version, disabled=OFF))
    assert found.ref("dim_users", None) == '"db"."shop"."dim_users"'
    assert found.ref("both", None) == '"db"."shop"."both"', "the project's own, as in dbt"
    assert found.ref("both", "crm") == '"db"."crm"."both"'
    assert found.ref("far", None) == '"db"."crm"."far"'
    assert found.ref("plans", "shop") == '"db"."shop"."plans"'
    assert found.ref("users_history", None) == '"db"."shop"."users_history"'
    assert found.ref("region", None) == '"db"."shop"."region_v2"'
    assert found.ref("region", None, "1") == '"db"."shop"."region_v1"'
    assert found.ref("region", None, "next") == '"db"."shop"."region_vnext"'
    assert found.ref("odd", None) == 'DB.MARTS."Odd Name"'
    assert found.source("app", "users") == '"raw"."app"."users"'


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (
            ("twice", None),
            "ref('twice') is in more than one dbt package: crm, erp",
            "name the package: ref('crm', 'twice').",
        ),
        (("dim_user", None), "ref('dim_user') is not known to dbt (nearest: dim_users)", "run `dbt parse`"),
        (("far", "shop"), "ref('shop', 'far') is not known to dbt (there is one in crm)", "run `dbt parse`"),
        (("retired", None), "ref('retired') is disabled in dbt: nothing builds it", "enable it there"),
        (("inline", None), "ref('inline') is ephemeral in dbt: it has no table to read", "make it a view or a table"),
        (("region", None, "7"), "ref('region', v=7) has no such version in dbt", "its versions: 1, 2, next."),
        (("region", None, "x"), "ref('region', v='x') has no such version in dbt", "its versions: 1, 2, next."),
        (("plans", None, "1"), "ref('plans', v=1) has no such version in dbt", "its versions: none: leave `v` out."),
    ],
)
def test_a_ref_that_has_no_table(tmp_path: Path, arguments: tuple[Any, ...], message: str, hint: str) -> None:
    found = relations(tmp_path, manifest(*NODES, disabled=OFF))
    with pytest.raises(ModelError) as caught:
        found.ref(*arguments)
    assert caught.value.message == message
    assert hint in caught.value.hint


def test_a_source_that_has_no_table(tmp_path: Path) -> None:
    nodes = (*NODES, source("crm", "leads", "erp"), source("crm", "leads", "crm"), model("bare", relation_name=None))
    found = relations(tmp_path, manifest(*nodes, disabled=OFF))
    for arguments, message in (
        (("app", "user"), "source('app', 'user') is not known to dbt (nearest: app.users)"),
        (("app", "old"), "source('app', 'old') is disabled in dbt"),
        (("crm", "leads"), "source('crm', 'leads') is in more than one dbt package: crm, erp"),
    ):
        with pytest.raises(ModelError) as caught:
            found.source(*arguments)
        assert caught.value.message == message
    with pytest.raises(ModelError, match="has no `relation_name`"):
        found.ref("bare", None)


def test_names_of_the_yaml_win(tmp_path: Path) -> None:
    names = YamlRelations({"app": {"users": "mine.users"}}, {"dim_users": "mine.dim", "crm.both": "mine.both",
                                                             "region.v1": "mine.region"})  # fmt: skip
    found = DbtRelations(Artefacts(write(tmp_path, manifest=manifest(*NODES))), names)
    assert found.ref("dim_users", None) == "mine.dim"
    assert found.ref("both", "crm") == "mine.both"
    assert found.ref("both", "shop") == '"db"."shop"."both"'
    assert (found.ref("region", None, "1"), found.ref("region", None)) == ("mine.region", '"db"."shop"."region_v2"')
    assert found.source("app", "users") == "mine.users"
    with pytest.raises(ModelError, match=r"add it to the YAML under models.sources.app"):
        found.source("app", "orders")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "manifest.json does not exist"),
        ("{", "manifest.json is not JSON, or was cut off"),
        ("[]", "manifest.json is not JSON, or was cut off"),
        ("{}", "manifest.json is no manifest of dbt"),
        ('{"metadata": {"dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v8.json"}}', "version v8"),
        ('{"metadata": {"dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v21.json"}}', "version v21"),
    ],
)
def test_a_manifest_that_cannot_be_read_names_the_command(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    artefacts = Artefacts(tmp_path, Path("/srv/shop"), targets=Targets("prod"))
    for _ in range(2):
        with pytest.raises(ArtefactError) as caught:
            _ = artefacts.manifest
        assert message in caught.value.message
        assert "`dbt parse --project-dir /srv/shop --target prod`" in caught.value.hint
    with pytest.raises(ModelError, match=r"^dbt: "):
        DbtRelations(artefacts).ref("a", None)


def test_odd_manifests_are_read_as_far_as_they_go(tmp_path: Path) -> None:
    odd = manifest(metadata={"generated_at": "soon", "project_name": None})
    odd["nodes"] = {"model.shop.a": {"columns": {"x": None}, "depends_on": None}, "model.shop.b": None}
    found = read_manifest(write(tmp_path, manifest=odd) / "manifest.json", "dbt parse")
    assert set(found.nodes) == {"model.shop.a", "model.shop.b"}
    assert (datetime.now(UTC) - found.generated_at).total_seconds() < 60


def test_a_manifest_older_than_a_model_file_is_stale(tmp_path: Path) -> None:
    text = "select 1 as id\n"
    checksum = {"name": "sha256", "checksum": hashlib.sha256(text.strip().encode()).hexdigest()}
    old = {"generated_at": "2025-01-01T00:00:00Z"}
    document = manifest(model("a", checksum=checksum), metadata=old)
    models = tmp_path / "models"
    models.mkdir()
    (models / "a.sql").write_text(text)
    (models / "readme.md").write_text("no model")

    def artefacts() -> Artefacts:
        return Artefacts(write(tmp_path / "target", manifest=document), tmp_path, (models,))

    # Newer, as after a checkout, and the same: not stale.
    assert artefacts().manifest.nodes
    (models / "a.sql").write_text("select 2 as id\n")
    with pytest.raises(ArtefactError) as caught:
        _ = artefacts().manifest
    assert f"is older than {models / 'a.sql'}, which has changed since" in caught.value.message
    assert f"run `dbt build --project-dir {tmp_path}`" in caught.value.hint
    os.utime(models / "a.sql", (0, 0))
    assert artefacts().manifest.nodes
    (models / "new.py").write_text("def model(dbt, session): ...")
    with pytest.raises(ArtefactError, match=r"new\.py"):
        _ = artefacts().manifest


@pytest.mark.parametrize(
    ("lines", "left"),
    [
        ("", {"models/a.sql", "models/wip/b.sql", "models/wip/deep/c.py", "models/d e.tmp.sql", "models/F.SQL"}),
        ("# models/\n\n\\#x\n", {"models/a.sql", "models/wip/b.sql", "models/wip/deep/c.py", "models/d e.tmp.sql",
                                "models/F.SQL"}),
        ("wip/\n*.tmp.sql  \nF.*", {"models/a.sql"}),
        ("/wip/\n/models/*.sql\n[D-F].SQL", {"models/wip/b.sql", "models/wip/deep/c.py"}),
        ("models/**/c.p?\nmodels/**\n!models/wip/b.*\n!models/d\\ e.tmp.sql",
         {"models/wip/b.sql", "models/d e.tmp.sql"}),
        ("**/deep/**\n[!a].sql\n", {"models/a.sql", "models/d e.tmp.sql", "models/F.SQL"}),
        ("**", set()),
        ("models", set()),
    ],
)  # fmt: skip
def test_files_that_dbtignore_names_are_not_read(tmp_path: Path, lines: str, left: set[str]) -> None:
    """As `pathspec` has it, which dbt uses."""
    (tmp_path / ".dbtignore").write_text(lines)
    passed_over = ignored(tmp_path)
    names = {"models/a.sql", "models/wip/b.sql", "models/wip/deep/c.py", "models/d e.tmp.sql", "models/F.SQL"}
    assert {name for name in names if not passed_over(tmp_path / name)} == left
    assert not passed_over(tmp_path.parent / "a.sql")
    assert not ignored(None)(tmp_path / "models" / "a.sql")
    assert not ignored(tmp_path / "nowhere")(tmp_path / "models" / "a.sql")


def test_a_file_that_dbt_does_not_read_makes_nothing_stale(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    text = "select 1 as id\N{NO-BREAK SPACE}\n"
    (models / "a.sql").write_text(text, encoding="utf-8")
    (models / "draft.SQL").write_bytes(b"select '\xff'")
    # dbt strips text and not bytes.
    checksum = {"name": "sha256", "checksum": hashlib.sha256(b"select 1 as id").hexdigest()}
    document = manifest(model("a", checksum=checksum), metadata={"generated_at": "2025-01-01T00:00:00Z"})
    folder = write(tmp_path / "target", manifest=document)
    with pytest.raises(ArtefactError, match=r"draft\.SQL"):
        _ = Artefacts(folder, tmp_path, (models,)).manifest
    (tmp_path / ".dbtignore").write_text("draft.*\n")
    assert Artefacts(folder, tmp_path, (models,)).manifest


@pytest.mark.parametrize(
    ("adapter", "warehouse", "good"),
    [("duckdb", "duckdb", True), ("redshift", "postgres", True), ("snowflake", "duckdb", False),
     ("spark", "duckdb", True), ("postgres", "sqlalchemy", True)],
)  # fmt: skip
def test_the_adapter_has_to_be_the_warehouses(tmp_path: Path, adapter: str, warehouse: str, good: bool) -> None:
    document = manifest(metadata={"adapter_type": adapter})
    artefacts = Artefacts(write(tmp_path, manifest=document), warehouse=warehouse)
    if good:
        assert artefacts.manifest
    else:
        with pytest.raises(ArtefactError, match=f"was made for {adapter}, and `warehouse` is {warehouse}"):
            _ = artefacts.manifest


@pytest.mark.parametrize(
    ("made_for", "wanted", "good"),
    [({"target": "prod"}, "prod", True), ({"target": "dev"}, "prod", False), ({}, "prod", False), ({}, "dev", True),
     ({"target": "dev"}, "", True)],
)  # fmt: skip
def test_the_target_has_to_be_the_one_that_is_asked_for(
    tmp_path: Path, made_for: dict[str, str], wanted: str, good: bool
) -> None:
    folder = write(tmp_path, manifest=manifest(), run_results=results({}, **made_for))
    artefacts = Artefacts(folder, targets=Targets(wanted, "dev"))
    if good:
        assert artefacts.manifest
    else:
        with pytest.raises(ArtefactError, match=r"made for target `dev`.*, and here it is `prod`") as caught:
            _ = artefacts.manifest
        assert "--target prod" in caught.value.hint
    other = results({}, target="elsewhere") | {"metadata": {"invocation_id": "two"}}
    assert Artefacts(write(tmp_path, run_results=other), targets=Targets(wanted, "dev")).manifest


def test_finding_the_project(tmp_path: Path) -> None:
    assert find_project(tmp_path) is None
    (tmp_path / "dbt_project.yml").write_text(
        "name: shop\nprofile: \"{{ env_var('PROFILE', 'p') }}\"\nmodel-paths: [models, more]\ntarget-path: out\n"
    )
    inside = tmp_path / "models" / "deep"
    inside.mkdir(parents=True)
    found = find_project(inside, {})
    assert found is not None
    assert (found.folder, found.name, found.profile) == (tmp_path, "shop", "p")
    assert found.manifest == tmp_path / "out" / "manifest.json"
    assert found.model_paths == (tmp_path / "models", tmp_path / "more")
    moved = find_project(inside, {"DBT_TARGET_PATH": "elsewhere", "PROFILE": "q"})
    assert moved is not None
    assert (moved.target, moved.profile) == (tmp_path / "elsewhere", "q")
    newer = find_project(inside, {"DBT_TARGET_PATH": "elsewhere", "DBT_ENGINE_TARGET_PATH": "newer"})
    assert newer is not None
    assert newer.target == tmp_path / "newer"
