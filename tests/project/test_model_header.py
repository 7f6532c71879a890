"""Headers: what each key becomes, and the exact words for each thing that can be wrong."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from warehouse_sync.project.header import PARSERS
from warehouse_sync.project.model import BrokenModel, ModelSettings, load_models
from warehouse_sync.values import EventType, Model

SELECT = "\nselect 1 as user_id"


def load(tmp_path: Path, text: str, **settings: Any) -> Model | BrokenModel:
    (tmp_path / "users.sql").write_text(text, encoding="utf-8")
    (model,) = load_models(ModelSettings(path=tmp_path, **settings))
    return model


def good(tmp_path: Path, header: str, **settings: Any) -> Model:
    model = load(tmp_path, header + SELECT, **settings)
    assert isinstance(model, Model), str(model.error)
    return model


def error_of(tmp_path: Path, text: str, **settings: Any) -> str:
    model = load(tmp_path, text, **settings)
    assert isinstance(model, BrokenModel)
    assert model.error.path == tmp_path / "users.sql"
    return str(model.error).replace(f"{tmp_path}/", "")


TRACK = "event='track', cursor='at', begin='all'"

# The keywords of config() in line 1, and what is said about them.
KEYS = [
    ("", "`event` is missing: one of identify_company, identify_user, page_view, track"),
    ("event=none", "`event` is missing: one of identify_company, identify_user, page_view, track"),
    (
        "event='identify_usr'",
        "`event` must be one of identify_company, identify_user, page_view, track, not `identify_usr` "
        "(nearest: identify_user)",
    ),
    ("event='zzz'", "`event` must be one of identify_company, identify_user, page_view, track, not `zzz`"),
    ("event=1", "`event` must be one of identify_company, identify_user, page_view, track, not a number"),
    ("event='track', uniq_key='id'", "`uniq_key` is not a header key (nearest: unique_key)"),
    ("event='track', Cursor='at'", "`Cursor` is not a header key (nearest: cursor)"),
    ("event='track', zzz=1", f"`zzz` is not a header key (known: {', '.join(PARSERS)})"),
    (
        "event='track', materialized='table'",
        "`materialized` is not a header key: it tells dbt what to build, and a model here is only read",
    ),
    ("event='identify_user', unique_key=[]", "`unique_key` must name at least one column"),
    ("event='identify_user', unique_key=''", "`unique_key` must not be empty"),
    ("event='identify_user', unique_key=['a', ' ']", "`unique_key` must not be empty"),
    ("event='identify_user', unique_key=['a', 'A']", "`unique_key` holds two equal names: A"),
    ("event='identify_user', unique_key={'a': 1}", "`unique_key` must be a name or a list of names, not a mapping"),
    ("event='identify_user', unique_key=['a', 1]", "`unique_key` must be a name or a list of names, not a list"),
    ("event='identify_user', cursor=['at']", "`cursor` must be text, not a list"),
    ("event='identify_user', cursor=''", "`cursor` must not be empty"),
    (
        "event='identify_user', cursor='at', lag='1 parsec'",
        "`lag` holds `1 parsec`, which is not a duration: write a number and a unit, such as 500ms, 90s, 15m, 2h or "
        "7 days",
    ),
    (
        "event='identify_user', cursor='at', lag=1.5",
        "`lag` must be a duration such as 15m or 7 days, or a whole number, not a number",
    ),
    (
        "event='identify_user', cursor='at', lag=true",
        "`lag` must be a duration such as 15m or 7 days, or a whole number, not a boolean",
    ),
    ("event='identify_user', cursor='at', lag=-1", "`lag` must not be negative"),
    ("event='identify_user', lag='1h'", "`lag` needs a `cursor`: without one every run reads all rows"),
    (
        f"{TRACK}, lag='1h'",
        "`lag` must be 0 for track without `unique_key`: rows read again could not be told from new ones",
    ),
    ("event='identify_user', cursor='at', slice=0", "`slice` must be greater than zero"),
    ("event='identify_user', cursor='at', slice='0s'", "`slice` must be greater than zero"),
    ("event='identify_user', slice='1d'", "`slice` needs a `cursor`: without one every run reads all rows"),
    ("event='identify_user', begin='now'", "`begin` needs a `cursor`: without one every run reads all rows"),
    (
        "event='identify_user', cursor='at', begin=1.5",
        "`begin` must be 'all', 'now' or a value of the cursor, as text or a whole number, not a number",
    ),
    (
        "event='identify_user', cursor='at', begin=false",
        "`begin` must be 'all', 'now' or a value of the cursor, as text or a whole number, not a boolean",
    ),
    (
        "event='identify_user', cursor='at', begin=' '",
        "`begin` must be 'all', 'now' or a value of the cursor, and not empty",
    ),
    (
        "event='identify_user', cursor='at', begin='a\\nb'",
        "`begin` must be 'all', 'now' or a value of the cursor, and not empty",
    ),
    (
        "event='track', cursor='at'",
        "`begin` is required for track with a `cursor`, since events cannot be taken back: "
        "'all', 'now', or the first value of the cursor to send",
    ),
    (
        "event='page_view', cursor='at', unique_key='id'",
        "`begin` is required for page_view with a `cursor`, since events cannot be taken back: "
        "'all', 'now', or the first value of the cursor to send",
    ),
    (
        "event='page_view'",
        "`cursor` is missing: page_view needs a `cursor`, a `unique_key`, or always=true; "
        "without them every run would send every row again",
    ),
    (
        "event='track', always=false",
        "`cursor` is missing: track needs a `cursor`, a `unique_key`, or always=true; "
        "without them every run would send every row again",
    ),
    (
        "event='identify_user', null_cursor='skip'",
        "`null_cursor` needs a `cursor`: without one every run reads all rows",
    ),
    (f"{TRACK}, null_cursor='keep'", "`null_cursor` must be one of reject, skip, include, not `keep`"),
    (
        f"{TRACK}, null_cursor='includ'",
        "`null_cursor` must be one of reject, skip, include, not `includ` (nearest: include)",
    ),
    (
        f"{TRACK}, null_cursor='include'",
        "`null_cursor` can be include only with a `unique_key`: such rows are read by every run",
    ),
    (f"{TRACK}, always='yes'", "`always` must be true or false, not `yes`"),
    (f"{TRACK}, full_refresh=1", "`full_refresh` must be true or false, not a number"),
    (f"{TRACK}, nulls='sent'", "`nulls` must be one of send, omit, not `sent` (nearest: send)"),
    (f"{TRACK}, nested='jsn'", "`nested` must be one of json, flatten, error, not `jsn` (nearest: json)"),
    (f"{TRACK}, context=true", "`context` is for identify_user only, not for track"),
    ("event='identify_company', context=true", "`context` is for identify_user only, not for identify_company"),
    (
        f"{TRACK}, source='web'",
        "`source` must be one of web-client, backend-http, backend-hubspot, backend-salesforce, backend-segment, "
        "backend-http-import, not `web`",
    ),
    (f"{TRACK}, rename=['a', 'b']", "`rename` must give each column a name: {'old': 'new'}"),
    (f"{TRACK}, rename={{'a': 1}}", "`rename` must give each column a name: {'old': 'new'}"),
    (f"{TRACK}, rename={{'a': ''}}", "`rename` must not hold an empty name"),
    (f"{TRACK}, rename={{'a': 'metadata.'}}", "`rename` must not hold an empty name"),
    (f"{TRACK}, rename={{'a': 'x', 'A': 'y'}}", "`rename` holds two equal columns: A"),
    (f"{TRACK}, rename={{'a': 'x', 'b': 'X'}}", "`rename` holds two equal final names: X"),
    (f"{TRACK}, exclude_columns=1", "`exclude_columns` must be a name or a list of names, not a number"),
    (f"{TRACK}, ignore_changes=['']", "`ignore_changes` must not be empty"),
    (f"{TRACK}, dropped=true", "`dropped` must be a name or a list of names, not a boolean"),
    (
        f"{TRACK}, on_removed='report'",
        "`on_removed` can be report only for identify_user and identify_company, not for track",
    ),
    (
        "event='identify_user', cursor='at', on_removed='report'",
        "`on_removed` can be report only without a `cursor`: with one, no run sees all rows",
    ),
    ("event='identify_user', on_removed='delete'", "`on_removed` must be one of ignore, report, not `delete`"),
    (f"{TRACK}, partial=true", "`partial` is for identify_user and identify_company, not for track"),
    (f"{TRACK}, enabled='maybe'", "`enabled` must be true or false, not `maybe`"),
    (f"{TRACK}, tags=['a b']", "`tags` must hold no blanks and commas: --select could not name such a tag"),
    (f"{TRACK}, tags='a,b'", "`tags` must hold no blanks and commas: --select could not name such a tag"),
    (f"{TRACK}, description=['a']", "`description` must be text, not a list"),
    (f"{TRACK}, meta='x'", "`meta` must be a mapping, not `x`"),
]


@pytest.mark.parametrize(("keywords", "message"), KEYS)
def test_a_fault_in_a_key(keywords: str, message: str, tmp_path: Path) -> None:
    text = f"{{{{ config({keywords}) }}}}{SELECT}"
    assert error_of(tmp_path, text) == f"users.sql:1: config(): {message}"


# Whole files, and the whole error.
FILES = [
    (
        "select 1",
        "users.sql:1: no {{ config(...) }}: the header is missing\n"
        "  begin the file with {{ config(event='identify_user') }}, or another event; "
        "a file that is no model has a name that begins with `_`.",
    ),
    (
        "-- {{ config(event='track') }}\n\n{{ config(event='track') }}",
        "users.sql:3: config() a second time (the first is in line 1)\n"
        "  a model has one header; an SQL comment does not hide Jinja, {# … #} does.",
    ),
    (
        "\n{% if true %}\n{{ config(event='track') }}\n{% endif %}",
        "users.sql:3: config() stands inside a block or an expression\n"
        "  write {{ config(...) }} on its own, outside of {% if %}, {% for %} and macros.",
    ),
    (
        "{{ config(event='track') or '' }}",
        "users.sql:1: config() stands inside a block or an expression\n"
        "  write {{ config(...) }} on its own, outside of {% if %}, {% for %} and macros.",
    ),
    (
        "{{ config({'event': 'track'}) }}",
        "users.sql:1: config() takes keywords only\n  write config(event='track', …).",
    ),
    ("{{ config(*['track']) }}", "users.sql:1: config() takes keywords only\n  write config(event='track', …)."),
    ("\n{{ config(event='track',\n event='track') }}", "users.sql:3: Jinja: `event` is given twice\n  remove one."),
    ("\n{{ config }}", "users.sql:2: Jinja: `config` is a function\n  call it: config(…)."),
    ("{% set var = 1 %}", "users.sql:1: Jinja: `var` is the name of a function\n  choose another name."),
    (
        "{% macro config() %}{% endmacro %}\n{{ config(event='track') }}",
        "users.sql:1: Jinja: `config` is the name of a function\n  choose another name.",
    ),
    ("{{ config(event='track'", "users.sql:1: Jinja: unexpected end of template, expected ','."),
    ("\n\n{% endfor %}", "users.sql:3: Jinja: Encountered unknown tag 'endfor'."),
    ("{{ config(event='track') }}\n{{ 1 | nope }}", "users.sql:2: Jinja: No filter named 'nope'."),
    (
        "{{ config(\n  event='track',\n  cursor=at,\n) }}",
        "users.sql:3: config(): `cursor` holds `at`, which is undefined\n"
        "  text stands in quotes; values of the YAML come from var('…').",
    ),
    (
        "{{ config(event='track', meta={'a': [b]}) }}",
        "users.sql:1: config(): `meta` holds `b`, which is undefined\n"
        "  text stands in quotes; values of the YAML come from var('…').",
    ),
    (
        "{{ config(event='track', meta={'a': cycler('b')}) }}",
        "users.sql:1: config(): `meta` holds something that is neither text, number, list nor mapping",
    ),
    (
        "{{ config(event='track',\n  tags=[1, 'a'] | map('upper') | map(attribute='x')) }}",
        "users.sql:2: config(): `tags` holds `x`, which is undefined\n"
        "  text stands in quotes; values of the YAML come from var('…').",
    ),
    (
        "{{ config(\n  event='track',\n  lagg=1,\n  nulls='x',\n) }}",
        "users.sql:3: config(): `lagg` is not a header key (nearest: lag)\n"
        "  line 4: config(): `nulls` must be one of send, omit, not `x`",
    ),
    (
        "{{ config(event='track',\n  lag=is_incremental() and 1 or 2) }}",
        "users.sql:2: config(): `lag` depends on is_incremental()\n"
        "  the header is read once for all runs; use is_incremental() in the SQL only.",
    ),
    (
        "\n{{ config(event='track', cursor=var('cursr')) }}",
        "users.sql:2: var('cursr') is not set (nearest: cursor)\n"
        "  add it to the YAML under models.vars, pass --vars, or give a default: var('cursr', …).",
    ),
    (
        "{% include 'x.sql' %}",
        "users.sql:1: Jinja: a model cannot read other files\n"
        "  write the SQL out; include, import and extends do not exist here.",
    ),
    ("{{ " + "(" * 5000, "users.sql: Jinja: nested too deeply"),
]


@pytest.mark.parametrize(("text", "message"), FILES)
def test_a_fault_in_a_file(text: str, message: str, tmp_path: Path) -> None:
    assert error_of(tmp_path, text, vars={"cursor": "at"}) == message


def test_what_a_header_leaves_out(tmp_path: Path) -> None:
    model = good(tmp_path, "{{ config(event='identify_user') }}")
    assert model == Model(
        name="users",
        path=tmp_path / "users.sql",
        sql="{{ config(event='identify_user') }}" + SELECT,
        event=EventType.IDENTIFY_USER,
        unique_key=("user_id",),
    )


@pytest.mark.parametrize(
    ("event", "unique_key", "begin", "full_refresh", "nulls"),
    [
        ("identify_company", ("company_id",), "all", True, "send"),
        ("identify_user", ("user_id",), "all", True, "send"),
        ("page_view", (), "now", False, "omit"),
        ("track", (), "now", False, "omit"),
    ],
)
def test_defaults_that_depend_on_the_event(
    event: str, unique_key: tuple[str, ...], begin: str, full_refresh: bool, nulls: str, tmp_path: Path
) -> None:
    given = "" if event.startswith("identify") else ", begin='now'"
    model = good(tmp_path, f"{{{{ config(event='{event}', cursor='at'{given}) }}}}", source="backend-http")
    assert model.unique_key == unique_key
    assert model.begin == begin
    assert model.full_refresh is full_refresh
    assert model.nulls == nulls
    assert model.source == "backend-http"
    assert model.lag is None


def test_every_key(tmp_path: Path) -> None:
    model = good(
        tmp_path,
        """{{ config(
            event='identify_user', unique_key=('id', 'region'), cursor='_At', lag='2 hours', begin='2024-01-01',
            slice='7 days', null_cursor='include', always=true, full_refresh=false, nulls='omit', nested='flatten',
            context=true, source='web-client', rename={'host': 'metadata.hostname'}, exclude_columns='a',
            ignore_changes=['b', 'c'], on_removed='ignore', dropped='d', partial=true, enabled=false,
            tags='daily', description='Who', meta={'owner': {'team': ['x', 1, none]}},
        ) }}""",
    )
    assert model == Model(
        name="users",
        path=model.path,
        sql=model.sql,
        event=EventType.IDENTIFY_USER,
        unique_key=("id", "region"),
        cursor="_At",
        lag=timedelta(hours=2),
        begin="2024-01-01",
        slice=timedelta(days=7),
        null_cursor="include",
        always=True,
        full_refresh=False,
        nulls="omit",
        nested="flatten",
        context=True,
        source="web-client",
        rename={"host": "metadata.hostname"},
        exclude_columns=("a",),
        ignore_changes=("b", "c"),
        on_removed="ignore",
        dropped=("d",),
        partial=True,
        enabled=False,
        tags=("daily",),
        description="Who",
        meta={"owner": {"team": ["x", 1, None]}},
    )
    assert set(PARSERS) == set(Model.__dataclass_fields__) - {"name", "path", "sql"}


@pytest.mark.parametrize(
    ("written", "meant"),
    [("'15m'", timedelta(minutes=15)), ("'0'", 0), ("0", 0), ("10", 10), ("'10'", 10), ("'0s'", timedelta(0))],
)
def test_lag_is_a_duration_or_a_whole_number(written: str, meant: Any, tmp_path: Path) -> None:
    model = good(tmp_path, f"{{{{ config(event='identify_user', cursor='at', lag={written}) }}}}")
    assert model.lag == meant
    assert type(model.lag) is type(meant)


def test_lag_0_is_allowed_for_events_without_a_key(tmp_path: Path) -> None:
    assert good(tmp_path, f"{{{{ config({TRACK}, lag='0s') }}}}").lag == timedelta(0)


@pytest.mark.parametrize(
    ("begin", "meant"),
    [
        ("All", "all"),
        (" now ", "now"),
        (7, "7"),
        (-7, "-7"),
        ("2024-01-01 10:00", "2024-01-01 10:00"),
        (date(2024, 1, 2), "2024-01-02"),
        (datetime(2024, 1, 2, 3, 4), "2024-01-02 03:04:00"),
    ],
)
def test_begin(begin: Any, meant: str, tmp_path: Path) -> None:
    model = good(tmp_path, "{{ config(event='track', cursor='at', begin=var('begin')) }}", vars={"begin": begin})
    assert model.begin == meant


def test_a_duration_can_come_from_the_yaml_as_one(tmp_path: Path) -> None:
    model = good(tmp_path, "{{ config(event='identify_user', cursor='at') }}", defaults={"lag": timedelta(minutes=3)})
    assert model.lag == timedelta(minutes=3)


def test_the_environment_gives_text_for_numbers_and_truth(tmp_path: Path) -> None:
    model = good(
        tmp_path,
        "{{ config(event='identify_user', cursor='at', lag=env_var('LAG'), enabled=env_var('ON', 'True')) }}",
        environ={"LAG": "5"},
    )
    assert (model.lag, model.enabled) == (5, True)


def test_a_column_renamed_to_the_id_is_the_key(tmp_path: Path) -> None:
    model = good(tmp_path, "{{ config(event='identify_company', rename={'name': 'x', 'ORG': 'Company_ID'}) }}")
    assert model.unique_key == ("ORG",)


def test_what_stands_above_the_header_is_run_and_what_stands_below_is_not(tmp_path: Path) -> None:
    model = good(
        tmp_path,
        "{% set keys = ['a', 'b'] %}{% set read = is_incremental() %}"
        "{% do config(event='identify_user', unique_key=keys | map('upper')) %}{{ nowhere() }}{{ source('a', 'b') }}",
    )
    assert model.unique_key == ("A", "B")


def test_a_header_can_be_given_by_a_set(tmp_path: Path) -> None:
    assert good(tmp_path, "{% set _ = config(event='identify_user') %}").event is EventType.IDENTIFY_USER


# The order is dbt's: defaults < header < overrides.


def test_overrides_win_over_the_header_and_the_header_over_defaults(tmp_path: Path) -> None:
    model = good(
        tmp_path,
        "{{ config(event='identify_user', cursor='at', lag='1h', nested='flatten', tags='header', "
        "meta={'a': 2, 'b': 2}) }}",
        defaults={"lag": "1m", "nested": "error", "nulls": "omit", "tags": ["all", "header"], "meta": {"a": 1, "z": 1}},
        overrides={"users": {"lag": "2 hours", "tags": "mine", "meta": {"b": 3}}},
    )
    assert model.lag == timedelta(hours=2)
    assert model.nested == "flatten"
    assert model.nulls == "omit"
    assert model.tags == ("all", "header", "mine")
    assert model.meta == {"a": 2, "z": 1, "b": 3}


def test_null_takes_a_key_back(tmp_path: Path) -> None:
    model = good(
        tmp_path,
        "{{ config(event='identify_user', cursor='at', lag=none, tags='a') }}",
        defaults={"lag": "1m"},
        overrides={"users": {"tags": None}},
    )
    assert model.lag is None
    assert model.tags == ()


@pytest.mark.parametrize(
    "key", [{"lag": "1h"}, {"begin": "now"}, {"slice": "1d"}, {"null_cursor": "include"}, {"on_removed": "report"}]
)
def test_a_default_that_cannot_apply_is_left_out(key: dict[str, Any], tmp_path: Path) -> None:
    model = good(tmp_path, "{{ config(event='track', unique_key='id') }}", defaults=key)
    assert model == good(tmp_path, "{{ config(event='track', unique_key='id') }}")


def test_defaults_of_identify_models_do_not_reach_events(tmp_path: Path) -> None:
    defaults = {"context": True, "partial": True, "lag": "1h", "null_cursor": "include"}
    model = good(tmp_path, f"{{{{ config({TRACK}) }}}}", defaults=defaults)
    assert (model.context, model.partial, model.lag, model.null_cursor) == (False, False, None, "reject")


def test_an_override_that_cannot_apply_is_an_error_of_the_model(tmp_path: Path) -> None:
    text = "\n{{ config(event='track', unique_key='id') }}"
    assert error_of(tmp_path, text, overrides={"users": {"lag": "1h"}}) == (
        "users.sql:2: models.overrides.users.lag needs a `cursor`: without one every run reads all rows"
    )


def test_a_default_event_is_enough(tmp_path: Path) -> None:
    assert good(tmp_path, "{{ config() }}", defaults={"event": "identify_company"}).event is EventType.IDENTIFY_COMPANY
