"""What a template may do, and the line that its errors name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse_sync.errors import ModelError
from warehouse_sync.project.render import RenderContext, YamlRelations, render
from warehouse_sync.values import EventType, Model

HEADER = "{{ config(event='identify_user') }}\n"
INCREMENTAL = RenderContext(incremental=True, cursor_from="TIMESTAMP '2024-01-01'")


REF = "write ref('name'), ref('package', 'name') or ref('name', v=2)."


def model(text: str, header: str = HEADER) -> Model:
    return Model(name="users", path=Path("/models/users.sql"), sql=header + text, event=EventType.IDENTIFY_USER)


def sql(text: str, context: RenderContext | None = None) -> str:
    rendered = render(model(text), context or RenderContext(), "duckdb")
    assert rendered.warnings == ()
    return rendered.sql.lstrip("\n")


def error_of(text: str, context: RenderContext | None = None, header: str = HEADER) -> str:
    with pytest.raises(ModelError) as caught:
        render(model(text, header), context or RenderContext(), "duckdb")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    return str(caught.value).replace("/models/", "")


def test_var() -> None:
    context = RenderContext(vars={"days": 7, "plans": ["a", "b"]})
    assert sql("select {{ var('days') }}, {{ var('hours', 24) }}", context) == "select 7, 24"
    assert sql("select {% for plan in var('plans') %}'{{ plan }}',{% endfor %} 1", context) == "select 'a','b', 1"
    assert error_of("select {{ var('day') }}", context) == (
        "users.sql:2: var('day') is not set (nearest: days)\n"
        "  add it to the YAML under models.vars, pass --vars, or give a default: var('day', …)."
    )


def test_env_var() -> None:
    context = RenderContext(environ={"SCHEMA": "raw"})
    assert sql("from {{ env_var('SCHEMA') }}.{{ env_var('TABLE', 'users') }}", context) == "from raw.users"
    assert error_of("from {{ env_var('TABLE') }}", context) == (
        "users.sql:2: env_var('TABLE'): the environment has no such variable\n"
        "  set it, or give a default: env_var('TABLE', …)."
    )


@pytest.mark.parametrize("name", ["DBT_ENV_SECRET_KEY", "WAREHOUSE_SYNC_SECRET"])
def test_secrets_do_not_reach_sql(name: str) -> None:
    message = error_of(f"select '{{{{ env_var('{name}', 'x') }}}}'", RenderContext(environ={name: "hunter2"}))
    assert message == (
        f"users.sql:2: env_var('{name}') is a secret by its name\n"
        "  SQL is logged by warehouses: secrets belong into the YAML file, not into models."
    )


def test_no_message_shows_the_environment() -> None:
    context = RenderContext(environ={"KEY": "hunter2", "EMPTY": ""})
    message = error_of("{{ env_var('EMPTY') }}select {{ {}[env_var('KEY')] }}", context)
    assert message == "users.sql:2: Jinja: 'dict object' has no attribute '*****'"


@pytest.mark.parametrize(
    ("call", "found"),
    [
        ("source('app', 'users')", "raw.app.users"),
        ("source('crm', 'people')", "crm.dbo.people"),
        ("ref('dim_users')", "analytics.dim_users"),
        ("ref('shop', 'dim_users')", "shop.dim_users"),
        ("ref('other', 'dim_users')", "analytics.dim_users"),
    ],
)
def test_relations(call: str, found: str) -> None:
    context = RenderContext(
        sources={"app": {"users": "raw.app.users"}, "crm": "crm.dbo"},
        refs={"dim_users": "analytics.dim_users", "shop.dim_users": "shop.dim_users"},
    )
    assert sql(f"from {{{{ {call} }}}}", context) == f"from {found}"
    given_once = RenderContext(relations=YamlRelations(context.sources, context.refs))
    assert sql(f"from {{{{ {call} }}}}", given_once) == f"from {found}"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            "source('ap', 'users')",
            "source('ap', 'users') is not known (nearest: app)\n"
            "  add it to the YAML under models.sources: {ap: {users: <schema>.users}}.",
        ),
        (
            "source('app', 'user')",
            "source('app', 'user') is not known (nearest: users)\n"
            "  add it to the YAML under models.sources.app: {user: <schema>.user}.",
        ),
        (
            "source('crm', 'order items')",
            "source('crm', 'order items') needs quoting: a prefix cannot give its name\n"
            "  add it to the YAML under models.sources.crm: {order items: <schema>.order items}.",
        ),
        (
            "ref('dim_user')",
            "ref('dim_user') is not known (nearest: dim_users)\n"
            "  add it to the YAML under models.refs: {dim_user: <schema>.dim_user}.",
        ),
        (
            "ref('shop', 'orders')",
            "ref('shop', 'orders') is not known\n  add it to the YAML under models.refs: {orders: <schema>.orders}.",
        ),
        (
            "ref('a', v=2)",
            "ref('a', v=2) is not known\n  add it to the YAML under models.refs: {a.v2: <schema>.a}.",
        ),
        ("ref('a', w=2)", f"Jinja: ref() got an unexpected keyword argument 'w'\n  {REF}"),
    ],
)
def test_relations_that_are_not_known(call: str, message: str) -> None:
    context = RenderContext(sources={"app": {"users": "x"}, "crm": "crm.dbo"}, refs={"dim_users": "y"})
    assert error_of(f"select 1\nfrom {{{{ {call} }}}}", context) == f"users.sql:3: {message}"


def test_incremental() -> None:
    text = "select 1 {% if is_incremental() %}where at >= {{ cursor_from() }}{% endif %}"
    assert sql(text) == "select 1"
    assert sql(text, INCREMENTAL) == "select 1 where at >= TIMESTAMP '2024-01-01'"


def test_a_full_read_has_no_bound_whatever_the_caller_says() -> None:
    context = RenderContext(incremental=False, cursor_from="NULL")
    assert error_of("select 1 where at >= {{ cursor_from() }}", context) == (
        "users.sql:2: cursor_from() has no value in a full read\n"
        "  put it inside {% if is_incremental() %} … {% endif %}; without `cursor` all is read."
    )


KNOWN = (
    "known here: config(), var(), env_var(), source(), ref(), is_incremental(), cursor_from();"
    " a macro has to be in the same file."
)
RAW = "what is SQL, and not Jinja, stands between {% raw %} and {% endraw %} where it holds `{{`, `{%` or `{#`."
MACROS = "dbt's macros are not here: write it in SQL, or build it in dbt and select from it with ref()."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "\nselect {{ this }}",
            "3: Jinja: `this` is undefined\n  a model has no table of its own here: use cursor_from().",
        ),
        (
            "select {{ target.name }}",
            "2: Jinja: `target` is undefined\n  there are no dbt targets here: use var() or env_var().",
        ),
        ("select {{ vars('x') }}", f"2: Jinja: `vars` is undefined (nearest: var)\n  {KNOWN}"),
        (
            "select 1\n{% if is_incremental() %}\nwhere a > (select max(a) from {{ this }})\n{% endif %}",
            "4: Jinja: `this` is undefined\n  a model has no table of its own here: use cursor_from().",
        ),
        ("select {{ dbt_utils.star() }}", f"2: Jinja: `dbt_utils` is undefined\n  {MACROS}"),
        ("{{ log('x') }}", "2: Jinja: `log` is undefined\n  a model prints nothing: take it out."),
        ("\nselect '{{\"a\": 1}}'", f"3: Jinja: expected token 'end of print statement', got ':'\n  {RAW}"),
        ("select '{%' || 'x'", f"2: Jinja: tag name expected\n  {RAW}"),
        ("select {{ lipsum() }}", f"2: Jinja: `lipsum` is undefined\n  {KNOWN}"),
        ("select {{ [1] | random }}", "2: Jinja: No filter named 'random'."),
        ("{{ is_incremental }}", "2: Jinja: `is_incremental` is a function\n  call it: is_incremental(…)."),
        ("select {{ ''.__class__ }}", "2: Jinja: access to attribute '__class__' of 'str' object is unsafe."),
        ("select {{ [].append(1) }}", "2: Jinja: access to attribute 'append' of 'list' object is unsafe."),
        (
            "\n{% for i in range(1000000) %}{% endfor %}",
            "3: Jinja: Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000).",
        ),
        ("select {{ 1 + 'a' }}", "2: Jinja: unsupported operand type(s) for +: 'int' and 'str'"),
        ("select {{ 1 // 0 }}", "2: Jinja: ZeroDivisionError in an expression"),
        (
            "select {{ var() }}",
            "2: Jinja: var() does not take these arguments\n  write var('name') or var('name', 'default').",
        ),
        ("select {{ var('a', default=1,\ndefault=2) }}", "3: Jinja: `default` is given twice\n  remove one."),
        ("\n\nselect {{ none }}", "4: an expression is none here\n  write NULL in the SQL, or give var() a default."),
        ("{% macro m(x) %}\n{{ x.y }}\n{% endmacro %}\n{{ m(1) }}", "3: Jinja: 'int object' has no attribute 'y'"),
        ("select {# a\n\n", f"2: Jinja: Missing end of comment tag\n  {RAW}"),
        ("{% import 'x' as y %}", "2: Jinja: a model cannot read other files\n  write the SQL out; "
         "include, import and extends do not exist here."),
    ],
)  # fmt: skip
def test_a_fault_names_its_line(text: str, message: str) -> None:
    assert error_of(text) == f"users.sql:{message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ source('users') }}", "source() does not take these arguments\n  write source('schema', 'table')."),
        ("{{ ref() }}", f"ref() does not take these arguments\n  {REF}"),
        ("{{ ref('a').schema }}", "'str object' has no attribute 'schema'\n  source() and ref() give the table's"),
        ("{{ '1' | as_number }}", "No filter named 'as_number'.\n  dbt's filters are not here, nor needed"),
        ("{{ config.get('x') }}", "`config` is a function\n  the header is not read back here"),
        ("{% source('a', 'b') %}", "Encountered unknown tag 'source'.\n  write it with two braces: {{ source(…) }}."),
        ("{{ var(\u2018x\u2019) }}", "unexpected char '\u2018' at 43\n  write ' or \" around text"),
        ("{{ var('x) }}", 'unexpected char "\'" at 43\n  a quote that is not closed, perhaps'),
        ("{{ var(name: 'x') }}", "expected token ',', got ':'\n  keys are written with `=`"),
        (
            "{{ var(name='x', default: 'x') }}",
            "invalid syntax for function call expression\n  keys are written with `=`",
        ),
    ],
)
def test_slips_with_a_hint(text: str, message: str) -> None:
    context = RenderContext(refs={"a": "b.a"})
    assert error_of(text, context).startswith(f"users.sql:2: Jinja: {message}")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("select 1;\nselect 2", 2),
        ("{% if false %}\na\nb\n{% endif %}\nselect 1;\nselect 2", 6),
        ("{% if true %}\n\n{% endif %}\nselect 1;\nselect 2", 5),
        ("{% for i in range(3) %}\n-- {{ i }}\n{% endfor %}\nselect 1;\nselect 2", 5),
        ("{# a\nb #}\nselect 1;\nselect 2", 4),
        ("{%- if false -%}\n\n{%- endif %}\n\n\nselect 1;\nselect 2", 7),
        ("{{ var('two_lines') }}\nselect 1;\nselect 2", 3),
        ("{{ var('carriage') }}\nselect 1 as \"\n\"; select 2", 4),
        ("{% raw %}\n\n{% endraw %}\nselect 1;\nselect 2", 5),
    ],
)
def test_a_fault_of_the_sql_names_the_line_of_the_file(text: str, line: int) -> None:
    context = RenderContext(vars={"two_lines": "--\n--\n--", "carriage": "-- a\r-- b\r"})
    message = error_of(text, context)
    assert message == f"users.sql:{line}: a second statement after `;`\n  a model is one query: make two files of it."


@pytest.mark.parametrize("condition", ["x | length == 3", "x | length == 3 or none + 1"])
def test_a_block_that_looks_at_itself_keeps_the_rendered_line(condition: str) -> None:
    text = f"{{% set x %}}abc{{% endset %}}{{% if {condition} %}}select 1;{{% endif %}}\nselect 2"
    assert error_of(text).startswith("users.sql:2: a second statement")


@given(st.lists(st.sampled_from(["select 1", "{% if false %}", "{% endif %}", "{# x", "#}", "-- c", ""]), max_size=8))
def test_the_line_of_the_file_for_any_mix_of_blocks(lines: list[str]) -> None:
    text = "\n".join([*lines, "select 1;", "select 2"])
    message = error_of(text)
    if "a second statement" in message and not any(line.startswith("select") for line in lines):
        assert message.startswith(f"users.sql:{len(lines) + 2}:")


def test_a_header_of_several_lines_leaves_its_line_breaks() -> None:
    text = "-- a\n{{\n  config(\n    event='identify_user',\n  )\n}}\nselect 1"
    assert render(model(text, ""), RenderContext(), "duckdb").sql == text.replace(text[5:-9], "\n\n\n\n")
    stripped = "{{\n config(event='identify_user') -}}\n\nselect 1"
    assert render(model(stripped, ""), RenderContext(), "duckdb").sql == "\n\n\nselect 1"
    assigned = "{% set x = 1\n%}{% set _ = config(\nevent='identify_user') %}\nselect 1"
    assert render(model(assigned, ""), RenderContext(), "duckdb").sql == "\nselect 1"


def test_windows_line_ends() -> None:
    assert sql("select 1,\r\n2\r\n") == "select 1,\n2"


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="{}%#\0\r"), max_size=40))
def test_plain_text_passes_unchanged(text: str) -> None:
    literal = "'" + text.replace("'", "''") + "'"
    rendered = sql(f"select {literal}")
    assert re.sub(r"\s+", " ", rendered) == re.sub(r"\s+", " ", f"select {literal}")


def test_render_is_what_the_context_says_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WS_TEST_SCHEMA", "leaked")
    assert "leaked" not in error_of("from {{ env_var('WS_TEST_SCHEMA') }}")


def test_a_relations_object_decides_alone() -> None:
    class Dbt:
        def source(self, schema: str, table: str) -> str:
            raise ModelError(f"{schema}.{table} is not in the manifest")

        def ref(self, name: str, package: str | None, version: str | None = None) -> str:
            return f"{package}__{name}"

    context: Any = RenderContext(relations=Dbt(), refs={"a": "b"})
    assert sql("from {{ ref('a') }}, {{ ref('p', 'a') }}", context) == "from None__a, p__a"
    assert error_of("from {{ source('x', 'y') }}", context) == "users.sql:2: x.y is not in the manifest"
