"""`warehouse-sync test`: unit tests of models through the real way of a row, with neither warehouse nor account."""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

if TYPE_CHECKING:
    from harness import CommandLine

ROOT = Path(__file__).parent.parent.parent
USERS = """\
{{ config(event='identify_user', cursor='_at', rename={'full_name': 'name'}) }}
select u.id as user_id, u.full_name, u.plan, u.mrr, u.at as inserted_at, u.at as _at
from {{ source('app', 'users') }} as u
{% if is_incremental() %} where u.at > {{ cursor_from() }} {% endif %}
"""


class Bench:
    """A project without a warehouse, an API key or a state; `write` puts tests into it, `run` runs them."""

    def __init__(self, folder: Path, cli: CommandLine) -> None:
        self.folder = folder
        self.cli = cli
        self.model("users", USERS)
        self.config("{type: duckdb, path: ../nowhere.duckdb}")

    def config(self, warehouse: str, more: str = "") -> None:
        (self.folder / "configs").mkdir(exist_ok=True)
        text = f"name: prod\nwarehouse: {warehouse}\nuserpilot: {{api_key: '${{USERPILOT_API_KEY}}'}}\n{more}"
        (self.folder / "configs" / "prod.yml").write_text(text)

    def model(self, name: str, sql: str) -> None:
        path = self.folder / "models_sql" / f"{name}.sql"
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(sql))

    def write(self, tests: str, name: str = "users.yml") -> Path:
        path = self.folder / "models_sql" / "tests" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(tests))
        return path

    def test(self, expect: str, *, rows: str = "[]", more: str = "", model: str = "users") -> None:
        """One test of one input, from YAML in flow style."""
        self.write(
            f"unit_tests:\n- name: one\n  model: {model}\n  given:\n  - input: source('app', 'users')\n"
            f"    rows: {rows}\n  expect: {expect}\n" + textwrap.indent(textwrap.dedent(more), "  ")
        )


@pytest.fixture
def bench(tmp_path: Path, cli: CommandLine) -> Bench:
    return Bench(tmp_path, cli)


TWO = "[{id: u1, full_name: Ada, plan: pro, at: 2025-03-01 10:00:00}, {id: u2, full_name: Bo, at: 2025-03-02 10:00:00}]"


@pytest.mark.parametrize("warehouse", ["duckdb", "snowflake", "postgres"])
def test_the_shipped_tests_pass_in_every_shipped_dialect(cli: CommandLine, tmp_path: Path, warehouse: str) -> None:
    for folder in ("configs", "models_sql"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    result = cli.here("test", "-c", f"configs/{warehouse}.yml").check()
    assert "PASS=7 FAIL=0 ERROR=0 SKIP=0 TOTAL=7" in result.err
    assert not (tmp_path / ".warehouse_sync").exists()


def test_a_test_that_passes_and_what_it_leaves_behind(bench: Bench) -> None:
    bench.test(
        "{rows: [{user_id: u2, name: Bo}, {user_id: u1, metadata: {plan: pro}, inserted_at: 2025-03-01 10:00:00}]}",
        rows=TWO,
    )
    result = bench.cli("test").check()
    assert result.out == ""
    assert "1 of 1 PASS users::one in" in result.err
    assert sorted(path.name for path in bench.folder.iterdir()) == ["configs", "models_sql"]


def test_a_readable_diff(bench: Bench) -> None:
    bench.test(
        "{rows: [{user_id: u1, plan: free, nam: Ada}, {user_id: u2}, {user_id: u3}], "
        "refused: [{key: u4, reasons: [user_id_missing]}]}",
        rows=TWO,
    )
    err = bench.cli.here("test").check(1).err
    path = bench.folder / "models_sql" / "tests" / "users.yml"
    said = [line[10:] for line in err.splitlines()]
    assert said == [
        f"1 of 1 FAIL users::one  {path}:2",
        "3 events expected, 2 came",
        "event user_id=u1 inserted_at=2025-03-01T10:00:00.000000",
        '  - metadata.plan: "free"',
        '  + metadata.plan: "pro"',
        '  - metadata.nam: "Ada"',
        "  + metadata.nam: (left out)",
        "event is missing",
        '  - user_id: "u3"',
        "refused rows",
        "  - key u4: user_id_missing",
        "not given, so NULL: mrr of source('app', 'users')",
        "Done. PASS=0 FAIL=1 ERROR=0 SKIP=0 TOTAL=1",
    ]


def test_rows_that_nobody_expects(bench: Bench) -> None:
    bench.test("{rows: [{user_id: u1}]}", rows=TWO)
    err = bench.cli.here("test").check(1).err
    assert "1 event expected, 2 came" in err
    assert 'event was not expected\n            + event_type: "identify_user"' in err
    bench.test("{rows: []}", rows="[{id: '', at: 2025-03-01}]")
    assert "refused rows\n            + user_id_missing" in bench.cli.here("test").check(1).err


def test_duplicates_and_future_rows_go_the_real_way(bench: Bench) -> None:
    bench.test(
        "{rows: [{user_id: u1, plan: new}]}",
        rows="[{id: u1, plan: old, at: 2025-03-01 10:00:00}, {id: u1, plan: new, at: 2025-03-01 11:00:00},"
        " {id: u2, at: 2025-03-01 14:00:00}]",
        more="now: 2025-03-01 12:00:00",
    )
    bench.cli.here("test").check()
    bench.test("{rows: []}", rows="[{id: u2, at: 2025-03-01 14:00:00}, {id: u3, at: 2025-03-01}]",
               more="now: 2025-03-01 12:00:00")  # fmt: skip
    assert "of 2 rows read: 1 with a cursor more than an hour after `now`" in bench.cli.here("test").check(1).err


def test_now_is_the_clock_of_the_run_and_of_the_sql(bench: Bench) -> None:
    bench.model(
        "users",
        "{{ config(event='identify_user', always=true) }}\n"
        "select u.id as user_id, current_date as today, current_timestamp as clock from {{ source('app', 'users') }} u",
    )
    bench.test(
        "{rows: [{user_id: u1, inserted_at: 2025-03-01 12:00:00, today: 2025-03-01, clock: 2025-03-01 12:00:00Z}]}",
        rows="[{id: u1}]",
        more="now: 2025-03-01 12:00:00",
    )
    bench.cli.here("test").check()


def test_vars_environment_and_the_incremental_branch(bench: Bench) -> None:
    bench.model(
        "users",
        "{{ config(event='identify_user', cursor='_at') }}\n"
        "select u.id as user_id, '{{ var('tier') }}' as tier, '{{ var('x') }}' as x, '{{ env_var('REGION') }}' as r,"
        " u.at as _at from {{ ref('dim', 'users') }} as u"
        "{% if is_incremental() %} where u.at > {{ cursor_from() }}{% endif %}",
    )
    bench.write("""\
        version: 2
        unit_tests:
          - name: one
            model: users
            description: dbt's own form
            config: {tags: [unit], meta: {owner: data}}
            given:
              - input: ref('users')
                format: csv
                rows: |
                  id,at
                  u1,2025-03-01 10:00:00
                  u2,2025-03-01 10:00:01
            vars: {tier: a}
            overrides:
              vars: {x: 2025-01-01}
              env_vars: {REGION: eu}
              macros: {is_incremental: true, cursor_from: 2025-03-01 10:00:00}
            expect:
              format: csv
              rows: |
                user_id,tier,x,r
                u2,a,2025-01-01,eu
        """)
    bench.cli.here("test").check()
    bench.cli.here("test", "--vars", "{tier: b}").check()  # the test's own value wins


def test_rows_as_sql_and_from_files(bench: Bench) -> None:
    (bench.folder / "models_sql" / "tests" / "fixtures").mkdir(parents=True)
    (bench.folder / "models_sql" / "tests" / "fixtures" / "people.sql").write_text(
        "select 'u1' as id, timestamp '2025-03-01 10:00:00' as at, cast(34.7 as decimal(9, 2)) as mrr"
    )
    (bench.folder / "models_sql" / "tests" / "wanted.csv").write_text(
        "user_id,mrr,inserted_at\nu1,34.70,2025-03-01T10:00\n"
    )
    bench.write("""\
        unit_tests:
          - name: files
            model: users
            given: [{input: "source('app', 'users')", fixture: people}]
            expect: {fixture: wanted.csv}
          - name: sql
            model: users
            given:
              - input: source('app', 'users')
                format: sql
                rows: select 'u1' as id, timestamp '2025-03-01 10:00:00' as at
            expect:
              format: sql
              rows: select 'u1' as user_id, timestamp '2025-03-01 10:00:00' as inserted_at
        """)
    assert "PASS=2" in bench.cli.here("test").check().err


def test_types_where_values_do_not_say_them(bench: Bench) -> None:
    bench.model(
        "users",
        "{{ config(event='identify_user', always=true, nested='flatten') }}\n"
        "select u.id as user_id, u.money, u.tags, u.attrs from {{ source('app', 'users') }} u",
    )
    bench.write("""\
        unit_tests:
          - name: one
            model: users
            given:
              - input: source('app', 'users')
                rows:
                  - {id: 1, money: 5, tags: [a, b], attrs: {a: {b: 1.50}}}
                  - {id: 2, money: 1.25}
                types: {money: 'decimal(9, 3)', tags: 'varchar[]'}
            expect:
              rows:
                - {user_id: 1, money: 5.000, tags: '["a","b"]', metadata.attrs.a.b: 1.5}
                - {user_id: '2', metadata: {money: 1.25, tags: null}}
        """)
    bench.cli.here("test").check()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("[{id: u1, plan: 1}, {id: u2, plan: x}]", "the values of column `plan` are numbers and text"),
        ("[{id: u1, at: 2025-02-30}]", "DuckDB: Conversion Error"),
    ],
)
def test_rows_that_are_no_table(bench: Bench, rows: str, message: str) -> None:
    bench.test("{rows: []}", rows=rows)
    err = bench.cli.here("test").check(1).err
    assert f"users.yml:2: source('app', 'users'): {message}" in err
    assert "1 of 1 ERROR users::one" in err


def test_versions_of_a_ref(bench: Bench) -> None:
    bench.model(
        "users",
        """\
        {{ config(event='identify_user', always=true) }}
        select id as user_id, 'v1' as of from {{ ref('acc', v=1) }}
        union all select id, 'v2' from {{ ref('shop', 'acc', version=2) }}
        union all select id, 'latest' from {{ ref('acc') }}
        """,
    )
    tests = """\
        unit_tests:
          - name: one
            model: users
            given:
              - {input: "ref('acc')", rows: [{id: any}]}
              - {input: "ref('acc', v=1)", rows: [{id: a}]}
              - {input: "ref('shop', 'acc', version='2')", rows: [{id: b}]}
            expect: {rows: [{user_id: a, of: v1}, {user_id: b, of: v2}, {user_id: any, of: latest}]}
        """
    bench.write(tests)
    bench.cli.here("test").check()
    bench.write(tests.replace("\"ref('acc')\"", "\"ref('acc', v=3)\""))
    err = bench.cli.here("test").check(1).err
    assert "the model does not call ref('acc', v=3) (nearest: ref('acc', v=1))" in err
    bench.write(tests.replace("ref('acc')", "ref('shop', 'acc')"))
    assert "the test gives no rows for ref('acc')" in bench.cli.here("test").check(1).err


def test_expected_rows_of_csv_have_the_types_of_what_came(bench: Bench) -> None:
    """As in dbt, which casts them: a cell does not say whether it is the number 7 or the text."""
    bench.model(
        "users",
        "{{ config(event='identify_user', always=true) }}\n"
        "select id as user_id, code, n, code = '7' as is_seven, day from {{ source('app', 'users') }} u",
    )
    rows = "[{id: a, code: '7', n: 7, day: '2025-03-01'}, {id: b, code: '8', n: 8.50, day: '2025-03-02'}]"
    lines = ["user_id,code,n,is_seven,day", "a,7,7,true,2025-03-01", "b,8,8.5,false,2025-03-02"]
    for text, code in (("\\n".join(lines), 0), ("\\n".join(lines).replace("8,8.5", "08,8.5"), 1)):
        bench.test(f'{{format: csv, rows: "{text}"}}', rows=rows)
        assert ('- metadata.code: "08"' in bench.cli.here("test").check(code).err) is bool(code)
    bench.test("{rows: [{code: 7}, {code: 8}]}", rows=rows)
    assert "- metadata.code: 7" in bench.cli.here("test").check(1).err, "YAML says which one it is"


# Slips that would pass in silence


def test_a_flag_that_is_none_switches_nothing_off(bench: Bench) -> None:
    for written, said in (("'true'", "PASS=1"), ("'False'", "SKIP=1")):
        bench.test("{rows: []}", more=f"config: {{enabled: {written}}}")
        assert said in bench.cli.here("test").check().err
    for written in ("", "'{{ env_var(1) }}'", "1", "[]"):
        bench.test("{rows: []}", more=f"config: {{enabled: {written}}}")
        err = bench.cli.here("test").check(2).err
        assert "users.yml:8:" in err
        assert "unit_tests[0].config.enabled: must be true or false" in err


@pytest.mark.parametrize(
    ("given", "said", "hint"),
    [
        (
            "ref('nothing')",
            "the model does not call ref('nothing')",
            "it calls source('app', 'users'), ref('shop', 'plans')",
        ),
        ("source('app', 'userz')", "the model does not call source('app', 'userz') (nearest: source('app', 'users'))",
         "it calls"),
        ("ref('other', 'plans')", "the model does not call ref('other', 'plans') (nearest: ref('shop', 'plans'))", ""),
    ],
)  # fmt: skip
def test_rows_for_what_the_model_does_not_call(bench: Bench, given: str, said: str, hint: str) -> None:
    bench.model("users", USERS + "{% if is_incremental() %} join {{ ref('shop', 'plans') }} p using (plan) {% endif %}")
    bench.write(f"""\
        unit_tests:
          - name: one
            model: users
            given:
              - {{input: "source('app', 'users')", rows: []}}
              - {{input: "ref('plans')", rows: []}}
              - {{input: "{given}", rows: []}}
            expect: {{rows: []}}
        """)
    err = bench.cli.here("test").check(1).err
    assert "1 of 1 ERROR users::one" in err
    assert f"users.yml:7: given: {said}" in err
    assert hint in err


@pytest.mark.parametrize(
    ("body", "rows", "said"),
    [
        ("select u.id as user_id, u.plan, u.at as _at from {t} u", "{id: a, plann: pro, at: 2025-03-01 10:00:00}",
         "nothing reads `plann` of source('app', 'users') (nearest: plan)"),
        ("select u.id as user_id, plan, count(*) as n, u.at as _at from {t} u group by all",
         "{id: a, Plann: pro, at: 2025-03-01 10:00:00}",
         "nothing reads `Plann` of source('app', 'users') (nearest: plan)"),
        # What may be read without its name is no slip, nor is what is like nothing that lacks.
        ("select u.*, u.id as user_id, u.plan as tier, u.at as _at from {t} u", "{id: a, plann: pro, at: 2025-03-01}",
         ""),
        ("select u.id as user_id, u.plan, to_json(u) as whole, u.at as _at from {t} u",
         "{id: a, plann: pro, at: 2025-03-01 10:00:00}", ""),
        ("select u.id as user_id, u.plan, u.at as _at from {t} u", "{id: a, country: pl, at: 2025-03-01 10:00:00}", ""),
        ("select u.id as user_id, u.plan, u.at as _at from {t} u", "{id: a, plann: x, plan: y, at: 2025-03-01}", ""),
    ],
)  # fmt: skip
def test_a_column_that_nothing_reads_beside_one_that_lacks(bench: Bench, body: str, rows: str, said: str) -> None:
    bench.model("users", "{{ config(event='identify_user', cursor='_at') }}\n"
                + body.replace("{t}", "{{ source('app', 'users') }}"))  # fmt: skip
    bench.test("{rows: [{user_id: a}]}", rows=f"[{rows}]")
    done = bench.cli.here("test", "--output", "json").check()
    (line,) = done.lines
    assert line["status"] == "pass"
    assert line["warnings"] == ([said] if said else [])
    assert f"WARN users::one: {said}" in done.err if said else "WARN" not in done.err


def test_an_empty_table_has_no_slips(bench: Bench) -> None:
    bench.model("users", "{{ config(event='identify_user', cursor='_at') }}\n"
                "select u.id as user_id, u.name, u.at as _at from {{ source('app', 'users') }} u")  # fmt: skip
    bench.test("{rows: []}", rows="[]")
    assert "WARN" not in bench.cli.here("test").check().err


def test_an_expected_reason_that_does_not_exist(bench: Bench) -> None:
    bench.test("{refused: [{reasons: [nope, user_id_missing]}]}", rows=TWO)
    err = bench.cli.here("test").check(1).err
    assert "users.yml:2: expect.refused: there is no reason `nope`" in err
    assert "there are user_id_missing, company_id_missing, event_name_missing" in err


@pytest.mark.parametrize("kind", ["int); drop table x; --", "int) x", "int, y int", "int; select 1", "decmal(9,2)"])
def test_a_type_that_is_none(bench: Bench, kind: str) -> None:
    bench.write(f"""\
        unit_tests:
          - name: one
            model: users
            given: [{{input: "source('app', 'users')", rows: [{{plan: x}}], types: {{Plan: '{kind}'}}}}]
            expect: {{rows: []}}
        """)
    err = bench.cli.here("test").check(1).err
    assert f"users.yml:2: `types` names '{kind}', which is no type" in err


# Other dialects


def test_a_snowflake_model_runs_as_it_would_there(bench: Bench) -> None:
    bench.config("{type: snowflake, account: a, user: u, password: '${SNOWFLAKE_PASSWORD}'}")
    bench.model(
        "users",
        """\
        {{ config(event='identify_user', cursor='_at') }}
        select u.id::string as user_id, iff(u.paid, 'pro', 'free') as Plan, u.attrs:team.name::string as "Team",
               dateadd(day, 1, u.at) as Next_At, u.at as inserted_at, u.at as _at
        from {{ source('app', 'users') }} u
        qualify row_number() over (partition by u.id order by u.at desc) = 1
        """,
    )
    bench.test(
        "{rows: [{user_id: 7, plan: pro, metadata.Team: Core, next_at: 2025-03-02 10:00:00}]}",
        rows="[{id: 7, paid: true, attrs: {team: {name: Core}}, at: 2025-03-01 10:00:00},"
        " {id: 7, paid: false, at: 2025-02-01 10:00:00}]",
        more="overrides: {macros: {is_incremental: true, cursor_from: 2025-01-01 00:00:00}}",
    )
    bench.cli.here("test").check()


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("to_char(u.at, 'YYYY-MM')", "cannot be translated from snowflake to DuckDB"),
        ("my_udf(u.at)", "DuckDB has no function my_udf()"),
        ("v.plan", "(translated from snowflake)"),
        ("u.at at (timestamp => x)", "sqlglot cannot read this as snowflake"),
    ],
)
def test_what_cannot_be_translated_is_reported_with_its_line(bench: Bench, expression: str, message: str) -> None:
    bench.config("{type: snowflake, account: a, user: u, password: x}")
    bench.model(
        "users",
        "{{ config(\n  event='identify_user',\n  always=true) }}\n"
        f"select u.id as user_id,\n  {expression} as odd,\n  u.plan\nfrom {{{{ source('app', 'users') }}}} u",
    )
    bench.test("{rows: []}", rows="[{id: u1, at: 2025-03-01}]")
    err = bench.cli.here("test").check(1).err
    assert message in err
    assert f"{bench.folder / 'models_sql' / 'users.sql'}:5: " in err


# Selecting, output, exit codes


def test_selection_and_fail_fast(bench: Bench) -> None:
    bench.model("people", "{{ config(event='track', always=true) }}\nselect 1 as user_id, 'x' as event_name, 'y' as "
                          "inserted_at, * from {{ source('app', 'users') }}")  # fmt: skip
    given = "given: [{input: \"source('app', 'users')\", rows: []}]"
    bench.write(
        f"unit_tests:\n- {{name: t, model: people, {given}, expect: {{rows: []}}}}\n"
        f"- {{name: t, model: users, {given}, expect: {{rows: [{{user_id: x}}]}}}}\n"
    )
    assert "TOTAL=2" in bench.cli.here("test").check(1).err
    assert "PASS=1 FAIL=0 ERROR=0 SKIP=0 TOTAL=1" in bench.cli.here("test", "-s", "people").check().err
    assert "PASS=1" in bench.cli.here("test", "--exclude", "event:identify_user").check().err
    assert "TOTAL=2" in bench.cli.here("test", "-x").check(1).err
    bench.write("unit_tests: []\n")
    assert "WARN no unit test of these models" in bench.cli.here("test").check().err


def test_broken_disabled_and_skipped(bench: Bench) -> None:
    bench.model("broken", "select 1")
    bench.write("""\
        unit_tests:
          - {name: a, model: broken, given: [], expect: {rows: []}}
          - {name: b, model: users, config: {enabled: false}, given: [], expect: {rows: []}}
          - {name: c, model: users, given: [], expect: {rows: []}}
          - {name: d, model: users, given: [], expect: {refused: [{reasons: user_id_mising}]}}
        """)
    err = bench.cli.here("test").check(1).err
    assert "1 of 4 ERROR broken::a" in err
    assert "no {{ config(...) }}" in err
    assert "2 of 4 SKIP users::b: disabled" in err
    assert "the test gives no rows for source('app', 'users')" in err
    assert "no reason `user_id_mising` (nearest: user_id_missing)" in err
    assert "PASS=0 FAIL=0 ERROR=3 SKIP=1 TOTAL=4" in err


def test_json_and_junit(bench: Bench) -> None:
    bench.write("""\
        unit_tests:
          - name: good
            model: users
            given: [{input: "source('app', 'users')", rows: []}]
            expect: {rows: []}
          - name: bad
            model: users
            given: [{input: "source('app', 'users')", rows: [{id: "u\\x01", at: 2025-03-01}]}]
            expect: {rows: []}
          - {name: idle, model: users, config: {enabled: false}, given: [], expect: {rows: []}}
        """)
    result = bench.cli.here("test", "--output", "json", "--junit", "out/junit.xml", "-q").check(1)
    assert [(row["name"], row["status"]) for row in result.lines] == [
        ("good", "pass"),
        ("bad", "fail"),
        ("idle", "skip"),
    ]
    root = ElementTree.fromstring((bench.folder / "out" / "junit.xml").read_bytes())
    (suite,) = root
    assert {**suite.attrib, "time": ""} == {
        "name": "prod", "tests": "3", "failures": "1", "errors": "0", "skipped": "1", "time": "",
    }  # fmt: skip
    good, bad, off = suite
    assert (good.get("classname"), good.get("name"), list(good)) == ("users", "good", [])
    assert bad[0].tag == "failure"
    assert bad[0].get("message") == "0 events expected, 1 came"
    assert "user_id" in str(bad[0].text)
    assert off[0].tag == "skipped"
    (bench.folder / "file").touch()
    assert "cannot be written" in bench.cli.here("test", "--junit", "file/junit.xml").check(1).err


def test_machines_get_events(bench: Bench) -> None:
    bench.test("{rows: [{user_id: u1}, {user_id: u2}]}", rows=TWO)
    done = bench.cli.here("test", "--log-format", "json").check()
    assert done.event("test_result")["data"]["status"] == "pass"
    assert done.event("tests_done")["data"] == {"statuses": {"pass": 1}}


def test_every_problem_of_the_files_at_once(bench: Bench) -> None:
    bench.write("""\
        unit_test: []
        unit_tests:
          - name: one
            modle: users
            given: {}
            expect: {row: []}
          - name: two
            model: user
            now: soon
            given:
              - {input: users, rows: []}
              - {input: "ref('a', 'b', 'c')", rows: []}
              - {input: "source('a', 'b')", rows: [], fixture: x}
              - {input: "source('a', 'b')", fixture: nowhere}
              - {input: "ref('a')", rows: 5, format: csv}
              - {input: "ref('a')", rows: "a,b\\n1", format: csv}
              - {input: "ref('a')", rows: x, format: json}
              - {input: "ref('t')", rows: [{plan: x}, {Mrr: 1}], types: {mrr: int, plann: int}}
              - {input: "ref('q')", rows: select 1 as a, format: sql, types: {a: int}}
              - {input: "ref('e')", rows: [], types: {a: int}}
              - {input: "source('a', 'b')", fixture: both}
            overrides: {macros: {is_incremental: true}}
            expect: {refused: [{key: x}]}
        """)
    for name in ("both.csv", "both.sql"):
        bench.write("a", name)
    bench.write("unit_tests: 5\n", "other.yml")
    bench.write("a: [\n", "odd.yml")
    result = bench.cli.here("test").check(2)
    for said in (
        "users.yml:1:1: unit_test: unknown key (nearest: unit_tests)",
        "users.yml:4:5: unit_tests[0].modle: unknown key (nearest: model)",
        "unit_tests[0].model: required, but missing",
        "users.yml:5:12: unit_tests[0].given: must be a list",
        "unit_tests[0].expect.row: unknown key (nearest: rows)",
        "users.yml:8:12: unit_tests[1].model: there is no such model (nearest: users)",
        "unit_tests[1].now: must be a date or a time",
        "unit_tests[1].given[0].input: must be ref('name')",
        "unit_tests[1].given[1].input: must be ref('name')",
        "unit_tests[1].given[2]: needs `rows` or `fixture`, one of them",
        "unit_tests[1].given[3].fixture: there is no such file: looked for",
        "unit_tests[1].given[4].rows: must be text",
        "unit_tests[1].given[5].rows: row 1 has 1 cells, and there are 2 columns",
        "unit_tests[1].given[6].format: must be dict, csv, sql",
        "unit_tests[1].given[7].types.plann: the rows have no such column (nearest: plan)",
        "unit_tests[1].given[8].types.a: does not go with a query: let that cast the column",
        "unit_tests[1].given[10].fixture: there are both.csv and both.sql: write the ending too, as in"
        " `fixture: both.csv`",
        "users.yml:10:5: unit_tests[1].given: ref('a') stands twice, in lines 15 and 16",
        "unit_tests[1].given: source('a', 'b') stands twice, in lines 14 and 21",
        "unit_tests[1].overrides.macros: needs `cursor_from` beside it",
        "unit_tests[1].expect.refused[0].reasons: required, but missing",
        "other.yml:1:13: unit_tests: must be a list",
        "odd.yml:2:1: ",
    ):
        assert said in result.err, said
    for not_said in ("types.mrr", "given[9]"):
        assert not_said not in result.err


def test_two_tests_of_one_name(bench: Bench) -> None:
    one = "- {name: a, model: users, given: [], expect: {rows: []}}\n"
    bench.write(f"unit_tests:\n{one}{one}")
    assert "`users::a` stands twice, in lines 2 and 3" in bench.cli.here("test").check(2).err


def test_a_variable_that_nobody_set_matters_only_where_it_is_needed(bench: Bench) -> None:
    bench.write("unit_tests: []\n")
    bench.config("{type: postgres, host: '${PGHOST}', user: u, dbname: d, port: '${PGPORT}'}")
    for environ in ({}, {"PGPORT": ""}, {"PGPORT": "5432"}):
        bench.cli.here("test", **environ).check()
    assert "warehouse.port: `many`" not in bench.cli.here("test", PGPORT="many").check(2).err
    err = bench.cli.here("run").check(2).err
    assert all(f"the variable `{name}` is not set" in err for name in ("PGHOST", "PGPORT", "USERPILOT_API_KEY"))


def test_files_of_tests_are_no_models(bench: Bench) -> None:
    bench.write("unit_tests: []\n")
    bench.write("select 1", "fixtures.sql")
    out = bench.cli.here("ls", USERPILOT_API_KEY="key").check().out
    assert out == "users\n"
