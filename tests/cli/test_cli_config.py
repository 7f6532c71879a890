"""The YAML file as every verb meets it: one report of all that is wrong, and variables that nobody set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

if TYPE_CHECKING:
    from harness import Project

EVERYWHERE = """\
name: ${NAME}
warehouse: {type: duckdb, path: "${WAREHOUSE}", attach: [{path: "${ATTACHED}"}]}
userpilot: {api_key: "${KEY}", endpoint: "https://${REGION}.userpilot.io"}
models:
  vars: {since: "${SINCE}"}
  sources: {app: "${SCHEMA}", other: {users: "${TABLE}"}}
  refs: {dim: "${DIM}"}
dbt: {require: "${REQUIRE}", target_path: null}
state: {url: "${STATE_URL}", dir: "${STATE_DIR}"}
job: {max_rows: "${ROWS}", max_bytes: "${BYTES}"}
delivery: {time_limit: "${LIMIT}", grace: "${GRACE}"}
invalid: {stop_above: "${SHARE}"}
guard: {max_times_median: "${MEDIAN}"}
snapshot: {where: "${WHERE}"}
engine: {threads: "${THREADS}", memory_limit: "{{ env_var('MEMORY', '512MB') }}"}
"""
WAREHOUSES = {
    "postgres": "{type: postgres, host: '${H}', port: '${P}', user: '${U}', password: '${W}', dbname: '${D}'}",
    "snowflake": "{type: snowflake, account: '${A}', authenticator: '${B}', protocol: http, host: '${H}'}",
    "sqlalchemy": "{type: sqlalchemy, url: '${WAREHOUSE_URL}'}",
    "written": "{type: sqlalchemy, url: 'mysql+pymysql://sync:${W}@h/d'}",
}
EMPTY = dict.fromkeys(("H", "P", "U", "W", "D", "A", "B", "WAREHOUSE_URL"), "")


def write(project: Project, **sections: str) -> None:
    """The project's config, with these sections in place of its own."""
    config = yaml.safe_load(project.config.read_text())
    config |= {name: yaml.safe_load(text) for name, text in sections.items()}
    project.config.write_text(yaml.safe_dump(config))


@pytest.fixture
def bare(project: Project) -> Project:
    """Every key that can be left to a variable is left to one that is not set."""
    project.config.write_text(EVERYWHERE)
    return project


def test_no_key_is_judged_by_a_variable_that_is_missing(bare: Project) -> None:
    assert bare.cli.here("ls").check().out == "events\nusers\n"
    assert "-- users (" in bare.cli.here("compile").check().out


def test_what_is_needed_is_named_and_nothing_else(bare: Project) -> None:
    err = bare.cli.here("run").check(2).err
    assert {f"`{name}`" for name in ("NAME", "WAREHOUSE", "KEY", "REGION", "SINCE", "TABLE", "WHERE")} <= set(
        err.split()
    )
    assert "`MEMORY`" not in err
    for words in ("status", "state show"):
        err = bare.cli.here(*words.split()).check(2).err
        assert "state.url: the variable `STATE_URL` is not set" in err
        assert "`KEY`" not in err
        assert "`WAREHOUSE`" not in err
    err = bare.cli.here("ls", "--save-state", "earlier").check(2).err
    assert "prod.yml:1:7: name: the variable `NAME` is not set" in err
    assert err.count("is not set") == 1
    assert "name its folder: --state DIR" in bare.cli.here("ls", "-s", "state:new").check(2).err


def test_a_variable_is_named_by_the_model_that_needs_it(bare: Project) -> None:
    calls = ("var('since')", "source('app', 'users')", "source('other', 'users')", "ref('dim')")
    names = ("SINCE", "SCHEMA", "TABLE", "DIM")
    for call in calls:
        bare.write_model("users", f"{{{{ config(event='identify_user') }}}}\nselect {{{{ {call} }}}}")
        bare.cli.here("ls").check()
        name = names[calls.index(call)]
        assert f"users.sql:2: {call}: the variable `{name}` is not set" in bare.cli.here("compile").check(1).err
    bare.cli.here("compile", "-s", "users", SCHEMA="app", TABLE="t", DIM="d", SINCE="1").check()
    bare.write_model("users", "{{ config(event='identify_user') }}\nselect {{ var('since') }}")
    bare.cli.here("compile", "-s", "users", "--vars", "{since: 1}").check()


@pytest.mark.parametrize("key", ["config: {tags: ['${TAG}']}", "overrides: {users: {enabled: '${ON}'}}"])
def test_a_header_needs_its_variables(project: Project, key: str) -> None:
    write(project, models=f"{{{key}}}")
    err = project.cli.here("ls").check(2).err
    assert err.count("prod.yml:") == err.count("is not set") == 1
    assert project.cli.here("status").check(2).err.count("is not set") == 1


@pytest.mark.parametrize("kind", WAREHOUSES)
@pytest.mark.parametrize("environ", [{}, EMPTY], ids=["unset", "empty"])
def test_no_warehouse_is_judged_by_a_variable_that_is_missing(
    project: Project, kind: str, environ: dict[str, str]
) -> None:
    write(project, warehouse=WAREHOUSES[kind])
    for words in ("ls", "compile", "test", "ls --save-state earlier", "status"):
        project.cli.here(*words.split(), **environ).check()
    said = "is set, but empty: set it; in CI: does this job have the secret?" if environ else "is not set: set it"
    err = project.cli.here("plan", **environ).check(int(not environ or kind != "written") + 1).err
    assert said in err or kind == "written"


def test_a_type_that_a_variable_says(project: Project) -> None:
    write(project, warehouse="{type: '${TYPE}', path: ../warehouse.duckdb}")
    project.cli.here("ls").check()
    err = project.cli.here("compile").check(2).err
    assert err.count("prod.yml") == 1
    assert "warehouse.type: the variable `TYPE` is not set" in err
    project.cli.here("compile", TYPE="duckdb").check()


def test_a_key_that_is_set_but_empty(project: Project) -> None:
    project.write_config(api_key="${USERPILOT_API_KEY}")
    for words in ("ls", "test", "compile", "plan", "status", "show -s users"):
        project.cli.here(*words.split(), USERPILOT_API_KEY="").check()
    err = project.cli.here("run", USERPILOT_API_KEY="").check(2).err
    assert "`USERPILOT_API_KEY` is set, but empty: set it; in CI: does this job have the secret?" in err
    project.cli.here("debug", USERPILOT_API_KEY=" ").check(2)


def test_a_missing_variable_hides_no_other_problem(project: Project) -> None:
    write(project, userpilot="{api_key: '${KEY}', source: nowhere}")
    err = project.cli.here("ls").check(2).err
    assert "userpilot.source" in err
    assert "`KEY`" not in err
    assert "`KEY` is not set" in project.cli.here("run").check(2).err


# One report


def test_what_the_yaml_says_of_models_is_in_its_report(project: Project) -> None:
    write(
        project,
        batchh="{}",
        models="{config: {lagg: 1h, nested: foo}, overrides: {users: {nulls: maybe}, userz: {lag: 1h}}}",
        selectors="{a: 'tagg:x', b: 'selector:b', c: 'state:new selector:nope', d: 'result:error', e: 'event:trakc'}",
    )
    for verb in ("ls", "run", "status"):
        err = project.cli.here(verb).check(2).err
        for said in (
            "batchh: unknown key (nearest: batch)",
            "models.config.lagg: is not a header key (nearest: lag)",
            "models.config.nested: must be one of json, flatten, error, not `foo`",
            "models.overrides.users.nulls: must be one of send, omit, not `maybe`",
            "models.overrides.userz: there is no such model (nearest: users)",
            "selectors.a: the selector `tagg:x`: `tagg:` is not known (nearest: tag)",
            "selectors.b: `selectors.b` of the YAML names itself: b -> b",
            "selectors.c: the selector `selector:nope`: the YAML has no `selectors.nope`",
            "selectors.e: the selector `event:trakc` names no event type (nearest: track)",
        ):
            assert said in err, said
        assert err.count("prod.yml:") == 9
    write(project, batchh="null", models="{path: ../nowhere, overrides: {userz: {lag: 1h}}}")
    assert "userz" not in project.cli.here("ls").check(2).err, "of no folder nobody knows the models"


def test_no_model_files(project: Project) -> None:
    """As where a disk is not mounted: neither green nor silent."""
    (project.folder / "empty").mkdir()
    project.write_config("models: {path: ../empty}\n")
    for words in (["run", "-q"], ["ls"], ["plan"], ["test"]):
        assert "models.path: there is no model file (*.sql) in" in project.cli.here(*words).check(2).err
    assert "FAIL  models" in project.cli.here("debug").check(2).out
    (project.folder / "empty" / "users.sql").write_text("{{ config(event='identify_user', enabled=false) }}\nselect 1")
    project.cli.here("run").check()


def test_a_yaml_in_the_root_says_where_its_things_are(project: Project) -> None:
    root = project.folder / "warehouse_sync.yml"
    project.config.rename(root)
    err = project.cli.here("ls").check(2).err
    for said in (
        "models.path: give it here, `path: models_sql`: left out it is ../models_sql, outside of this folder",
        "state.url: give it here, `url: sqlite:///.warehouse_sync/state.db`: left out it is",
        "state.dir: give it here, `dir: .warehouse_sync`: left out it is",
    ):
        assert f"warehouse_sync.yml:1:1: {said}" in err
    more = "models: {path: models_sql}\nstate: {url: sqlite:///.warehouse_sync/state.db, dir: .warehouse_sync}\n"
    root.write_text(root.read_text() + more)
    assert project.cli.here("ls").check().out == "events\nusers\n"


PROFILES = """\
shop:
  target: "{{ env_var('DBT_TARGET_OF_CI', 'prod') }}"
  outputs:
    prod:
      type: postgres
      host: "{{ env_var('HOST_OF_DBT') }}"
      port: "{{ env_var('PORT_OF_DBT') | as_number }}"
      user: "{{ env_var('USER_OF_DBT') }}"
      dbname: d
      schema: s
    typed: {type: "{{ env_var('TYPE_OF_DBT') }}", path: x.duckdb}
"""


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("{profiles_dir: ..}", ("HOST_OF_DBT", "PORT_OF_DBT", "USER_OF_DBT")),
        ("{profiles_dir: .., target: typed}", ("TYPE_OF_DBT",)),
        ("{profiles_dir: '${PROFILES}'}", ("PROFILES",)),
    ],
)
def test_variables_of_a_dbt_profile(project: Project, choice: str, names: tuple[str, ...]) -> None:
    (project.folder / "profiles.yml").write_text(PROFILES)
    write(project, warehouse=f"{{dbt: {choice}}}")
    project.cli.here("ls").check()
    project.cli.here("status").check()
    for words, code in (("test", 0), ("compile", 0), ("plan", 2)):
        err = project.cli.here(*words.split()).check(code if len(names) == 3 else 2).err
        missing = list(names) if code or len(names) == 1 else []
        assert [name for name in names if f"`{name}` is not set" in err] == missing


def test_variables_of_a_dbt_project(project: Project) -> None:
    (project.folder / "dbt_project.yml").write_text("name: shop\nprofile: \"{{ env_var('PROFILE_OF_CI') }}\"\n")
    write(project, dbt="{project_dir: ..}")
    assert "`PROFILE_OF_CI` is not set" in project.cli.here("run").check(2).err
    project.cli.here("ls").check()
