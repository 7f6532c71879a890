"""A project beside dbt's artefacts, at the front door: relations, the gate, `exposures`, `validate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from dbt_files import catalog, manifest, model, results, source, write
from harness import Project

from warehouse_sync.userpilot.sandbox import Sandbox

DIM, FCT = "model.shop.dim_users", "model.shop.fct_opened"
USERS = {"id": "VARCHAR", "plan": "VARCHAR", "seats": "INTEGER", "changed": "TIMESTAMP"}


def graph(*more: dict[str, Any], users: dict[str, str] | None = None) -> dict[str, Any]:
    return manifest(
        model("dim_users", relation_name='"warehouse"."marts"."dim_users"', columns=users or {}),
        model("fct_opened", relation_name='"warehouse"."marts"."fct_opened"'),
        source("app", "users", relation_name='"warehouse"."main"."users"'),
        *more,
    )


@pytest.fixture
def target(project: Project) -> Path:
    """The fixture project on dbt's relations; returns the folder of dbt's artefacts."""
    project.execute(
        "CREATE SCHEMA marts",
        "CREATE TABLE marts.dim_users AS SELECT id, plan, 1::INTEGER AS seats, changed FROM users",
        "CREATE VIEW marts.fct_opened AS SELECT * FROM events",
    )
    project.write_config("dbt: {target_path: ../target, require: success}\n")
    project.write_model(
        "users",
        """\
        {{ config(event='identify_user', cursor='_changed', description='Users, {{ all }}', tags=['daily'],
                  meta={'owner': {'name': 'Growth', 'email': 'g@shop.example'}, 'tier': 1}) }}
        select id as user_id, plan, seats, changed as inserted_at, changed as _changed from {{ ref('dim_users') }}
        {% if is_incremental() %} where changed >= {{ cursor_from() }} {% endif %}
        """,
    )
    project.write_model(
        "events",
        """\
        {{ config(event='track', cursor='_happened', begin='all') }}
        select user_id, name as event_name, happened as inserted_at, happened as _happened
        from {{ ref('shop', 'fct_opened') }}
        """,
    )
    write(project.folder / "target", manifest=graph(), run_results=results({DIM: "success", FCT: "success"}))
    return project.folder / "target"


def test_a_run_waits_for_dbt(project: Project, target: Path) -> None:
    write(target, run_results=results({DIM: "error", FCT: "success"}))
    plan = project.cli.here("plan").check(1)
    assert "users: dbt: model dim_users errored; mend it and run `dbt build`" in plan.err
    assert "skipped" in plan.out
    run = project.cli.here("run").check(1)
    assert "2 of 2 SKIPPED users: dbt: model dim_users errored" in run.err
    found = {entry["unique_id"]: (entry["status"], entry["delivered"]) for entry in project.results()["results"]}
    assert found == {"sync.prod.events": ("success", 4), "sync.prod.users": ("skipped", 0)}
    write(target, run_results=results({DIM: "success", FCT: "success"}))
    project.cli.here("run").check()
    assert [entry["delivered"] for entry in project.results()["results"]] == [0, 3]


def test_what_waits_of_a_model_that_is_held_back_stays(project: Project, target: Path, sandbox: Sandbox) -> None:
    more = "dbt: {target_path: ../target, require: success}\nbatch: {max_rows: 4}\njob: {max_rows: 4}\n"
    project.write_config(more + "delivery: {job_timeout: 1s}\n")
    sandbox.job_seconds = 60
    project.cli.here("run").check(1)
    project.write_config(more)
    write(target, run_results=results({DIM: "success", FCT: "error"}))
    sandbox.job_seconds = 0
    sandbox.finish_jobs()
    project.cli.here("run").check(1)
    events, users = project.results()["results"]
    assert (events["status"], events["delivered"], events["waiting"]) == ("skipped", 0, 4)
    assert (users["status"], users["delivered"]) == ("success", 3)
    write(target, run_results=results({DIM: "success", FCT: "success"}))
    project.cli.here("run").check()
    assert project.results()["results"][0]["delivered"] == 4


def test_a_missing_manifest_is_an_error_of_the_models_that_need_it(project: Project, target: Path) -> None:
    (target / "manifest.json").unlink()
    project.write_config("dbt: {target_path: ../target}\n")
    project.write_model("plain", "{{ config(event='track', always=true) }} select 'u' as user_id, 'e' as event_name,"
                        " now() as inserted_at")  # fmt: skip
    err = project.cli.here("run").check(1).err
    assert "manifest.json does not exist" in err
    assert "write it with `dbt parse`." in err
    assert [entry["status"] for entry in project.results()["results"]] == ["error", "success", "error"]


def test_exposures(project: Project, target: Path) -> None:
    printed = project.cli.here("exposures").check().out
    events, users = yaml.safe_load(printed)["exposures"]
    assert users == {
        "name": "prod_users",
        "label": "Userpilot: users",
        "type": "application",
        "url": "https://run.userpilot.io",
        "description": "Users, {{ '{{' }} all }}",
        "depends_on": ["ref('dim_users')"],
        "owner": {"name": "Growth", "email": "g@shop.example"},
        "config": {
            "tags": ["daily"],
            "meta": {"tier": 1, "warehouse_sync": {"pipeline": "prod", "model": "users", "event": "identify_user"}},
        },
    }
    assert (events["depends_on"], events["owner"]) == (["ref('shop', 'fct_opened')"], {"name": "warehouse-sync prod"})
    (as_json,) = project.cli.here("exposures", "-s", "users", "--output", "json").check().lines
    assert as_json == {"version": 2, "exposures": [users]}

    file = project.folder / "exposures.yml"
    project.cli.here("exposures", "--write", str(file)).check()
    first = (file.read_bytes(), file.stat().st_ino)
    assert first[0].decode() == printed
    assert "says this already" in project.cli.here("exposures", "--write", str(file)).check().err
    assert (file.read_bytes(), file.stat().st_ino) == first


def test_exposures_of_the_whole_project(project: Project, target: Path) -> None:
    meta = "{owner: data@shop.example, url: 'https://shop.example'}"
    models = f"{{config: {{meta: {meta}}}, refs: {{mine: marts.dim_users}}}}"
    project.write_config(f"dbt: {{target_path: ../target}}\nmodels: {models}\n")
    project.write_model("a-b", "{{ config(event='track', always=true) }} select * from {{ ref('mine') }}, "
                        "{{ source('app', 'users') }}")  # fmt: skip
    project.write_model("a.b", "{{ config(event='track', always=true, meta={'owner': 'me'}) }} select 1")
    found = yaml.safe_load(project.cli.here("exposures", "-s", "a*").check().out)["exposures"]
    assert [entry["name"] for entry in found] == ["prod_a_b", "prod_a_b_2"]
    assert [entry["owner"] for entry in found] == [{"email": "data@shop.example"}, {"name": "me"}]
    assert [entry["depends_on"] for entry in found] == [["source('app', 'users')"], []]
    assert found[0]["url"] == "https://shop.example"


def test_an_exposure_does_without_what_is_private(project: Project, target: Path) -> None:
    """dbt would not parse the project any more: an exposure is in no group."""
    own = model("dim_users", relation_name="marts.dim_users", access="private", group="finance")
    older = model("fct_opened", relation_name="marts.fct_opened", config={"access": "private", "group": "finance"})
    write(target, manifest=manifest(own, older, source("app", "users", relation_name="main.users")))
    project.write_model("both", "{{ config(event='track', always=true) }} select * from {{ ref('dim_users') }}, "
                        "{{ source('app', 'users') }}")  # fmt: skip
    done = project.cli.here("exposures").check()
    found = {entry["name"]: entry["depends_on"] for entry in yaml.safe_load(done.out)["exposures"]}
    assert found == {"prod_both": ["source('app', 'users')"], "prod_events": [], "prod_users": []}
    for name, call in (("both", "dim_users"), ("events", "shop', 'fct_opened"), ("users", "dim_users")):
        said = f"WARN {name}: ref('{call}') is private in dbt: no exposure can depend on it, so it is left out"
        assert said in done.err


def test_an_exposure_does_without_protected_models_of_a_package_that_restricts_access(
    project: Project, target: Path
) -> None:
    dbt = with_profile(project)
    for name, access in (("closed", "restrict-access: true"), ("open", "version: 1.0")):
        (dbt / "dbt_packages" / name).mkdir(parents=True)
        (dbt / "dbt_packages" / name / "dbt_project.yml").write_text(f"name: {name}\n{access}\n")
    foreign = [
        model("own", "closed", access="protected"), model("told", "closed", access="public"),
        model("seeded", "closed", kind="seed"), model("free", "open", access="protected"),
        model("lost", "gone", access="protected"),
    ]  # fmt: skip
    write(target, manifest=manifest(model("dim_users"), *foreign))
    calls = [f"ref('{node['package_name']}', '{node['name']}')" for node in foreign]
    read = " union all ".join(f"select * from {{{{ {call} }}}}" for call in calls)
    project.write_model("all", f"{{{{ config(event='track', always=true) }}}} {read}")
    done = project.cli.here("exposures", "-s", "all").check()
    (entry,) = yaml.safe_load(done.out)["exposures"]
    assert entry["depends_on"] == sorted(calls[1:])
    assert "WARN all: ref('closed', 'own') is protected, and its package closed has `restrict-access: true`" in done.err


def test_exposures_for_dbt_before_tags_and_meta_went_below_config(project: Project, target: Path) -> None:
    for version, old in (("1.7.20", True), ("1.9.11", True), ("1.10.0", False), ("2.0.0-preview.219", False)):
        write(target, manifest=graph() | {"metadata": graph()["metadata"] | {"dbt_version": version}})
        (entry,) = yaml.safe_load(project.cli.here("exposures", "-s", "users").check().out)["exposures"]
        about = entry if old else entry["config"]
        assert ("config" in entry, about["tags"], about["meta"]["tier"]) == (not old, ["daily"], 1), version


def test_exposures_that_cannot_be_told(project: Project, target: Path) -> None:
    file = project.folder / "out" / "exposures.yml"
    assert (
        "cannot be written: No such file or directory"
        in project.cli.here("exposures", "--write", str(file)).check(1).err
    )
    project.write_model("lost", "{{ config(event='track', always=true) }} select * from {{ ref('lost') }}")
    assert "ref('lost') is not known to dbt" in project.cli.here("exposures").check(1).err
    project.write_model("lost", "{{ config(event='trakc') }} select 1")
    file = project.folder / "exposures.yml"
    assert "event" in project.cli.here("exposures", "--write", str(file)).check(1).err
    assert not file.exists()
    (target / "manifest.json").unlink()
    assert "manifest.json does not exist" in project.cli.here("exposures", "-s", "users").check(1).err
    project.write_config()
    assert "names no dbt project" in project.cli.here("exposures").check(2).err


def test_validate_by_the_warehouse(project: Project, target: Path) -> None:
    assert project.cli.here("validate").check().out == (
        "OK    events: columns as the warehouse has them\nOK    users: columns as the warehouse has them\n"
    )
    assert not project.home.exists()
    project.cli.here("run").check()
    project.execute("ALTER TABLE marts.dim_users ALTER seats TYPE VARCHAR")
    failed = project.cli.here("validate", "--output", "json").check(1)
    assert [line["ok"] for line in failed.lines] == [True, False]
    assert "properties changed type: seats (Numeric -> String)" in failed.lines[1]["error"]
    project.execute("ALTER TABLE marts.dim_users DROP seats")
    assert 'column "seats" not found' in project.cli.here("validate").check(1).err
    assert project.cli.here("validate", "-s", "events").check().out.startswith("OK    events")
    project.warehouse.unlink()
    failed = project.cli.here("validate").check(1)
    assert failed.out == "FAIL  events\nFAIL  users\n"
    assert failed.err.count("does not exist") == 1, "said once, not for each model"
    assert "it concerns 2 models: events, users" in failed.err


def test_validate_reads_the_incremental_reading_too(project: Project, target: Path) -> None:
    path = project.folder / "models_sql" / "users.sql"
    path.write_text(path.read_text().replace("where changed >=", "where changd >="))
    assert "changd" in project.cli.here("validate").check(1).err
    path.write_text(
        "{{ config(event='identify_user', unique_key='uid') }} select id as user_id from {{ ref('dim_users') }}"
    )
    assert "uid" in project.cli.here("validate").check(1).err


def test_validate_by_a_manifest(project: Project, target: Path, tmp_path: Path) -> None:
    project.warehouse.unlink()
    review = tmp_path / "review"

    def checked(
        columns: dict[str, str] | None, *, code: int = 0, listed: dict[str, str] | None = None
    ) -> tuple[str, str]:
        write(review, manifest=graph(users=columns))
        (review / "catalog.json").unlink(missing_ok=True)
        if listed is not None:
            write(review, catalog=catalog({DIM: listed}))
        done = project.cli.here("validate", "-s", "users", "--manifest", str(review / "manifest.json")).check(code)
        return done.out, done.err

    good = "OK    users: columns as dbt has them\n"
    assert checked(USERS) == (good, "")
    text = project.config.read_text()
    project.config.write_text(text.replace(project.api_key, "${USERPILOT_API_KEY}"))
    assert checked(USERS) == (good, ""), "a pull request has no secrets"
    assert checked({"id": "text"}, listed=USERS) == (good, "")
    without = {name: kind for name, kind in USERS.items() if name != "plan"}
    for gone in ({"columns": without}, {"columns": USERS, "listed": without}):
        out, err = checked(**gone, code=1)  # type: ignore[arg-type]
        assert out == "FAIL  users\n"
        assert "column `plan` is not among the columns that dbt has of model dim_users" in err
    out, err = checked(dict.fromkeys(USERS, ""))
    assert "types not checked" in err or "columns not checked" in err
    out, err = checked(None)
    assert out == "?     users\n"
    assert "columns not checked: dbt has no columns of model dim_users; `dbt docs generate` writes them" in err

    # A catalog that is older than the manifest knows nothing of what dbt builds now; a contract does.
    old = catalog({DIM: USERS}) | {"metadata": {"invocation_id": "before", "generated_at": "2025-01-01T00:00:00Z"}}
    write(review, catalog=old, manifest=graph(users=without))
    path = str(review / "manifest.json")
    done = project.cli.here("validate", "-s", "users", "--manifest", path).check()
    assert "WARN users: columns of model dim_users: catalog.json is older than the manifest; run `dbt docs" in done.err
    enforced = graph(users=without)
    enforced["nodes"][DIM]["config"]["contract"] = {"enforced": True}
    write(review, manifest=enforced)
    done = project.cli.here("validate", "-s", "users", "--manifest", path).check(1)
    assert "column `plan` is not among the columns that dbt has of model dim_users" in done.err
    old["metadata"]["invocation_id"] = "one"
    write(review, catalog=old)
    assert project.cli.here("validate", "-s", "users", "--manifest", path).check().err == "", "of one `docs generate`"

    # Against the YAML's own manifest, which is production's.
    write(target, manifest=graph(users=USERS))
    assert "changed type: seats (Numeric -> String)" in checked(USERS | {"seats": "VARCHAR"}, code=1)[1]
    assert checked(USERS | {"more": "VARCHAR"}) == (good, "")
    project.write_config("dbt: {target_path: ../target}\nmodels: {drift: warn}\n")
    assert "WARN users: changed type: seats (Numeric -> String)" in checked(USERS | {"seats": "VARCHAR"})[1]


def with_profile(project: Project, default: str = "dev") -> Path:
    """The fixture project on dbt's profile, whose targets are schemas of one file; returns the dbt project's folder."""
    dbt = project.folder / "shop"
    dbt.mkdir()
    (dbt / "dbt_project.yml").write_text("name: shop\nprofile: shop\ntarget-path: ../target\n")
    outputs = "".join(
        f"    {name}: {{type: duckdb, path: ../{project.warehouse.name}, schema: {schema}}}\n"
        for name, schema in (("dev", "dev_alice"), ("ci", "pull_7"), ("prod", "marts"))
    )
    (dbt / "profiles.yml").write_text(f"shop:\n  target: {default}\n  outputs:\n{outputs}")
    lines = project.config.read_text().splitlines()
    kept = [line for line in lines if not line.startswith(("warehouse:", "dbt:"))]
    project.config.write_text("\n".join([*kept, "warehouse: {dbt: {}}", "dbt: {project_dir: ../shop}", ""]))
    return dbt


def in_schema(schema: str, columns: dict[str, str] | None = None) -> dict[str, Any]:
    return manifest(
        model("dim_users", schema=schema, relation_name=f"{schema}.dim_users", columns=columns or {}),
        model("fct_opened", schema=schema, relation_name=f"{schema}.fct_opened"),
    )


def test_rows_of_another_target_are_not_sent_when_the_profile_takes_it_from_the_environment(
    project: Project, target: Path, sandbox: Sandbox
) -> None:
    """dbt notes no target that it was not asked for; what the variable says now is no witness of what it said then."""
    with_profile(project, "\"{{ env_var('SHOP_ENV', 'dev') }}\"")
    project.execute("CREATE SCHEMA dev_alice", "CREATE TABLE dev_alice.dim_users AS SELECT * FROM marts.dim_users")
    write(target, manifest=in_schema("dev_alice"), run_results=results({}))
    err = project.cli.here("run", SHOP_ENV="prod").check(1).err
    assert "manifest.json has its models where target `dev` has them, and here it is `prod`" in err
    assert "target `dev`" in project.cli.here("debug").out
    write(target, manifest=in_schema("marts"))
    project.cli.here("run", SHOP_ENV="prod").check()
    assert "has its models where target `prod` has them, and here it is `dev`" in project.cli.here("run").check(1).err


def test_validate_compares_pull_requests_that_are_built_in_a_target_of_their_own(
    project: Project, target: Path, tmp_path: Path
) -> None:
    with_profile(project)
    write(target, manifest=in_schema("marts", USERS), run_results=results({}, target="prod"))
    changed = in_schema("pull_7", USERS | {"seats": "VARCHAR"})
    review = write(tmp_path / "review", manifest=changed, run_results=results({}, target="ci"))
    words = ("validate", "-s", "users", "--manifest", str(review / "manifest.json"))
    for of in ("prod", "ci", "dev"):
        assert "changed type: seats (Numeric -> String)" in project.cli.here(*words, DBT_TARGET=of).check(1).err
    write(review, manifest=in_schema("pull_7", USERS))
    assert project.cli.here(*words).check().err == ""

    (target / "manifest.json").write_text("{")
    assert "manifest.json is not JSON, or was cut off, so nothing is" in project.cli.here(*words).check().err
    (target / "manifest.json").unlink()
    assert project.cli.here(*words).check().err == ""
    project.config.write_text(project.config.read_text().replace("../shop}", "../shop, target_path: ../target}"))
    assert "manifest.json does not exist, so nothing is compared with it" in project.cli.here(*words).check().err


def test_validate_of_what_dbt_does_not_know(project: Project, target: Path) -> None:
    project.write_config("dbt: {target_path: ../target}\nmodels: {refs: {mine: marts.dim_users}, sources: {s: main}}\n")
    write(target, manifest=graph(users=USERS))
    path = str(target / "manifest.json")
    for body, said in (
        ("select 1 as user_id", "it reads nothing by ref() or source()"),
        ("select id as user_id from {{ ref('mine') }}", "dbt has no columns of ref('mine')"),
        ("select id as user_id from {{ source('s', 't') }}", "dbt has no columns of source('s', 't')"),
        (
            "select d.id as user_id from {{ ref('dim_users') }} d, main.users",
            "it reads a table without ref() or source()",
        ),
    ):
        project.write_model("users", f"{{{{ config(event='identify_user') }}}} {body}")
        assert (
            f"columns not checked: {said}"
            in project.cli.here("validate", "-s", "users", "--manifest", path).check().err
        )
    assert "does not exist" in project.cli.here("validate", "--manifest", "nowhere.json").check(2).err
    write(target, manifest={"metadata": {}})
    assert "is no manifest of dbt" in project.cli.here("validate", "--manifest", path).check(2).err


def test_validate_translates_other_dialects(project: Project, target: Path, tmp_path: Path) -> None:
    project.config.write_text(
        "name: prod\nwarehouse: {type: snowflake, account: a, user: u, password: abcdef}\n"
        "userpilot: {api_key: abcdef}\ndbt: {target_path: ../target}\n"
    )
    columns = {"ID": "NUMBER(38,0)", "PLAN": "VARCHAR(16777216)", "CHANGED": "TIMESTAMP_NTZ(9)", "EXTRA": "VARIANT"}
    users = model("dim_users", relation_name="DB.MARTS.DIM_USERS", columns=columns)
    write(target, manifest=manifest(users, metadata={"adapter_type": "snowflake"}))
    project.write_model(
        "users",
        """\
        {{ config(event='identify_user') }}
        select id as user_id, iff(plan is null, 'none', plan) as plan, to_varchar(changed) as changed
        from {{ ref('dim_users') }} qualify row_number() over (partition by id order by changed desc) = 1
        """,
    )
    path = str(target / "manifest.json")
    assert project.cli.here("validate", "-s", "users", "--manifest", path).check().out.startswith("OK    users")
    model_file = project.folder / "models_sql" / "users.sql"
    model_file.write_text(model_file.read_text().replace("iff(plan", "iff(plann"))
    err = project.cli.here("validate", "-s", "users", "--manifest", path).check(1).err
    assert "column `plann` is not among" in err


def test_a_manifest_of_another_target_sends_nothing(project: Project, target: Path, sandbox: Sandbox) -> None:
    """Also when run_results.json is of an earlier command than the manifest, as after `dbt ls`."""
    dbt = project.folder / "shop"
    dbt.mkdir()
    (dbt / "dbt_project.yml").write_text("name: shop\nprofile: shop\ntarget-path: ../target\n")
    outputs = "".join(
        f'    {name}: {{type: duckdb, path: ../{project.warehouse.name}, schema: "{schema}"}}\n'
        for name, schema in (("dev", "dev_alice"), ("prod", "marts"), ("ci", "marts"), ("own", "{{ env_var('WHO') }}"))
    )
    (dbt / "profiles.yml").write_text(f"shop:\n  target: dev\n  outputs:\n{outputs}")
    project.write_config("dbt: {project_dir: ../shop}\n")
    text = project.config.read_text()
    (warehouse,) = [line for line in text.splitlines() if line.startswith("warehouse:")]
    project.config.write_text(text.replace(warehouse, "warehouse: {dbt: {target: prod}}"))

    def made(schema: str) -> None:
        users = model("dim_users", database="warehouse", schema=schema, relation_name=f"{schema}.dim_users")
        opened = model("fct_opened", database="warehouse", schema=schema, relation_name=f"{schema}.fct_opened")
        other = results({}, target="prod") | {"metadata": {"invocation_id": "before"}}
        write(target, manifest=manifest(users, opened), run_results=other)

    project.execute("CREATE SCHEMA dev_alice", "CREATE TABLE dev_alice.dim_users AS SELECT * FROM marts.dim_users",
                    "CREATE TABLE dev_alice.fct_opened AS SELECT * FROM marts.fct_opened")  # fmt: skip
    made("dev_alice")
    err = project.cli.here("run").check(1).err
    assert "manifest.json has its models where target `dev` has them, and here it is `prod`" in err
    assert f"run `dbt parse --project-dir {dbt} --target prod`" in err
    assert not sandbox.jobs
    failed = project.cli.here("debug").check(1).out
    assert "FAIL  dbt" in failed
    assert "where target `dev` has them" in failed

    # `ci` puts them there too, and so may have written it.
    made("marts")
    assert "v12 of `shop`, target not known (here `prod`), made 20" in project.cli.here("debug").out
    done = project.cli.here("run").check()
    assert done.err.count("manifest.json does not say its target, and here it is `prod`") == 1
    assert [entry["delivered"] for entry in project.results()["results"]] == [4, 3]
    write(target, run_results=results({}, target="prod"))
    assert "v12 of `shop`, target `prod`, made 20" in project.cli.here("debug").out
    assert "WARN" not in project.cli.here("run").check().err


def test_files_that_views_of_dbt_read_lie_where_dbt_runs(
    project: Project, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of the same name in the working folder is not read in its place."""
    dbt = with_profile(project, "prod")
    for folder in (dbt, project.folder):
        (folder / "files").mkdir()
    (dbt / "files" / "people.csv").write_text("id,plan\nright,pro\n")
    monkeypatch.chdir(dbt)
    project.execute("CREATE VIEW marts.people AS SELECT * FROM 'files/people.csv'",
                    "CREATE VIEW marts.all_people AS SELECT * FROM read_csv('files/*.csv')")  # fmt: skip
    nodes = [
        model("people", schema="marts", relation_name="marts.people"),
        model("all_people", schema="marts", relation_name="marts.all_people"),
        source("ext", "people", relation_name="'files/people.csv'"),
    ]
    write(target, manifest=manifest(*nodes), run_results=results({}, target="prod"))
    calls = {"users": "ref('people')", "events": "ref('all_people')", "third": "source('ext', 'people')"}
    for name, call in calls.items():
        body = f"select id as user_id, plan from {{{{ {call} }}}}"
        project.write_model(name, f"{{{{ config(event='identify_user', partial=true) }}}} {body}")
        assert "right" in project.cli.here("show", "-s", name).check().out

    ours = project.folder / "files" / "people.csv"
    ours.write_text("id,plan\nwrong,free\n")
    for name in ("users", "third"):
        err = project.cli.here("show", "-s", name).check(1).err
        assert f"DuckDB would read files/people.csv of the working folder {project.folder}" in err
        assert f"and dbt reads that of {dbt}" in err
    ours.unlink()
    (dbt / "files" / "people.csv").unlink()
    for name, file in (("users", "people.csv"), ("events", "*.csv"), ("third", "people.csv")):
        err = project.cli.here("show", "-s", name).check(1).err
        assert f"a file that a view or source reads is missing: files/{file}" in err


def test_debug_says_which_manifest_it_is(project: Project, target: Path) -> None:
    assert f"OK    dbt           {target / 'manifest.json'}, v12 of `shop`, made 20" in project.cli.here("debug").out
    (target / "manifest.json").write_text("{}")
    failed = project.cli.here("debug").check(1).out
    assert "FAIL  dbt" in failed
    assert "write it with `dbt parse`." in failed
