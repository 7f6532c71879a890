"""Files that load: defaults, variables, paths, secrets, positions."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from warehouse_sync.errors import ConfigError
from warehouse_sync.project.config import (
    Config,
    DuckDBWarehouse,
    PostgresWarehouse,
    SnowflakeWarehouse,
    SqlAlchemyWarehouse,
    load_config,
)
from warehouse_sync.project.quantities import Allowance

KEY = {"USERPILOT_API_KEY": "key-SECRET-123"}

SMALLEST = """\
name: prod
warehouse: {type: duckdb, path: ../warehouse.duckdb}
userpilot:
  api_key: ${USERPILOT_API_KEY}
"""

# The file of the design, as it stands there.
FULL = """\
version: 1
name: prod                        # required; names this pipeline in the state store
warehouse:                        # keys of each type as in dbt's profiles; or dbt: {profiles_dir, profile, target}
  type: duckdb                    # duckdb | snowflake | postgres | sqlalchemy
  path: ../warehouse.duckdb
userpilot:
  api_key: ${USERPILOT_API_KEY}
  endpoint: https://analytex.userpilot.io      # EU: https://analytex-eu.userpilot.io, or the account's own
  source: backend-http-import
models:
  path: ../models_sql
  vars: {}
  sources: {}
  refs: {}                        # names for source() and ref() without dbt
  timezone: UTC
  config: {}                      # defaults that a model's header overrides (dbt's order)
  overrides: {}                   # per model, wins over the header: {users: {lag: 2 hours}}
  drift: error                    # error | warn | allow
state:
  url: sqlite:///../.warehouse_sync/state.db   # or postgresql+psycopg://…
  dir: ../.warehouse_sync         # everything below <dir>/<name>/
batch: {max_rows: 10000, max_bytes: 40MB, max_line: 1MB}      # the unit of bookkeeping
job:   {max_rows: 10000, max_bytes: 40MB}                     # the unit of upload
delivery: {job_timeout: 2h, busy_timeout: 1h, grace: 2m, max_splits: 40, time_limit: null}
invalid: {error_above: 0, stop_above: 50%}     # numbers or shares of the rows read
guard: {max_rows: null, max_times_median: null, max_removed: 50%}
snapshot: {where: local}          # local | warehouse (+ schema)
retention: {delivered: 0 days, rejects: 90 days, logs: 90 days}
engine: {memory_limit: 512MB, threads: null}
"""

EMPTY_SECTIONS = """\
name: prod
warehouse: {type: duckdb, path: ../warehouse.duckdb, attach: }
userpilot: {api_key: "${USERPILOT_API_KEY}"}
models:
state:
batch:
job:
delivery:
invalid:
guard:
snapshot:
retention:
engine:
"""


def load(folder: Path, text: str, environ: dict[str, str] | None = None) -> Config:
    """Write `text` to <folder>/configs/prod.yml and load it."""
    file = folder / "configs" / "prod.yml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return load_config(file, KEY if environ is None else {**KEY, **environ})


def duckdb(extra: str = "", *, path: str = "w.duckdb") -> str:
    """A file that loads, with more sections."""
    return f"name: prod\nwarehouse: {{type: duckdb, path: '{path}'}}\nuserpilot: {{api_key: key-SECRET-123}}\n{extra}"


def other(warehouse: str) -> str:
    """A file that loads, with another warehouse (lines of `key: value`)."""
    lines = "".join(f"  {line}\n" for line in warehouse.strip().splitlines())
    return f"name: prod\nwarehouse:\n{lines}userpilot: {{api_key: key-SECRET-123}}\n"


def problems(folder: Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, environ)
    return [f"{problem.key}: {problem.message}" for problem in caught.value.problems]


@pytest.mark.parametrize("text", [SMALLEST, FULL, EMPTY_SECTIONS, FULL.replace("\n", "\r\n"), "\ufeff" + FULL])
def test_the_smallest_and_the_full_file_have_the_stated_defaults(tmp_path: Path, text: str) -> None:
    config = load(tmp_path, text)
    assert config.model_dump(mode="python") == {
        "version": 1,
        "name": "prod",
        "warehouse": {"type": "duckdb", "path": str(tmp_path / "warehouse.duckdb"), "token": None, "attach": ()},
        "userpilot": {
            "api_key": SecretStr("key-SECRET-123"),
            "endpoint": "https://analytex.userpilot.io",
            "source": "backend-http-import",
        },
        "models": {
            "path": tmp_path / "models_sql",
            "vars": {},
            "sources": {},
            "refs": {},
            "timezone": "UTC",
            "config": {},
            "overrides": {},
            "drift": "error",
        },
        "selectors": {},
        "dbt": {"project_dir": None, "target_path": None, "target": None, "require": None},
        "state": {
            "url": SecretStr(f"sqlite:///{tmp_path}/.warehouse_sync/state.db"),
            "dir": tmp_path / ".warehouse_sync",
        },
        "batch": {"max_rows": 10_000, "max_bytes": 40_000_000, "max_line": 1_000_000},
        "job": {"max_rows": 10_000, "max_bytes": 40_000_000},
        "delivery": {
            "job_timeout": timedelta(hours=2),
            "busy_timeout": timedelta(hours=1),
            "grace": timedelta(minutes=2),
            "max_splits": 40,
            "time_limit": None,
        },
        "invalid": {"error_above": {"rows": 0, "share": None}, "stop_above": {"rows": None, "share": 0.5}},
        "guard": {"max_rows": None, "max_times_median": None, "max_removed": {"rows": None, "share": 0.5}},
        "limits": {"max_properties": 500, "max_name": 255, "max_value": 65_535},
        "snapshot": {"where": "local", "schema_name": None},
        "retention": {"delivered": timedelta(0), "rejects": timedelta(days=90), "logs": timedelta(days=90)},
        "engine": {"memory_limit": 512_000_000, "threads": None},
    }
    assert config.invalid.stop_above == Allowance(share=0.5)
    assert config.file == tmp_path / "configs" / "prod.yml"
    assert config.home == tmp_path / ".warehouse_sync" / "prod"


def test_it_is_frozen(tmp_path: Path) -> None:
    config = load(tmp_path, SMALLEST)
    with pytest.raises(ValidationError):
        config.batch.max_rows = 5


def test_everything_can_be_set(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        duckdb("""
models:
  vars: {start: 2025-01-01, at: 2025-01-01 10:00:00, list: [1, 1.5, yes, null, text], quoted: "1:30"}
  sources: {app: raw.app, web: {events: raw.web.events_v2}}
  refs: {dim_users: analytics.dim_users}
  timezone: Europe/Berlin
  config: {begin: 2024-05-01, tags: [daily]}
  overrides: {users: {lag: 2 hours}, orgs: }
  drift: warn
delivery: {job_timeout: 1h 30m, busy_timeout: 0, grace: 500ms, max_splits: 0, time_limit: 50m}
invalid: {error_above: 10, stop_above: 12.5%}
guard: {max_rows: 5, max_times_median: 3, max_removed: 100}
batch: {max_rows: 5, max_bytes: 1KiB, max_line: 500}
job: {max_rows: 5, max_bytes: 1.5KB}
retention: {delivered: 1w, rejects: 2 days 4h, logs: 10s}
engine: {memory_limit: 1GiB, threads: 2}
"""),
    )
    assert config.models.vars == {
        "start": "2025-01-01",
        "at": "2025-01-01 10:00:00",
        "list": [1, 1.5, True, None, "text"],
        "quoted": "1:30",
    }
    assert config.models.sources == {"app": "raw.app", "web": {"events": "raw.web.events_v2"}}
    assert config.models.refs == {"dim_users": "analytics.dim_users"}
    assert config.models.config == {"begin": "2024-05-01", "tags": ["daily"]}
    assert config.models.overrides == {"users": {"lag": "2 hours"}, "orgs": {}}
    assert config.delivery.job_timeout == timedelta(minutes=90)
    assert (config.delivery.busy_timeout, config.delivery.max_splits) == (timedelta(0), 0)
    assert (config.invalid.error_above, config.invalid.stop_above) == (Allowance(rows=10), Allowance(share=0.125))
    assert (config.guard.max_times_median, config.guard.max_removed) == (3.0, Allowance(rows=100))
    assert (config.batch.max_bytes, config.batch.max_line, config.job.max_bytes) == (1024, 500, 1500)
    assert config.retention.rejects == timedelta(days=2, hours=4)
    assert (config.engine.memory_limit, config.engine.threads) == (2**30, 2)


def test_variables_are_read_as_the_type_of_their_key(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """
version: ${ONE}
name: "{{ env_var('NAME', 'prod') }}-${ONE}"
warehouse: {type: "${TYPE}", account: a, user: u, password: "${PASSWORD}", client_session_keep_alive: "${YES}"}
userpilot: {api_key: "${USERPILOT_API_KEY}", source: "${SOURCE:-web-client}"}
models: {vars: {rows: "${ROWS}", nested: [{a: "${ONE}"}]}}
batch: {max_rows: "${ROWS}", max_bytes: "${BYTES}", max_line: "${SIZE}"}
delivery: {grace: "${ROWS}s", busy_timeout: "${ZERO}", time_limit: "${NOTHING:-}", max_splits: "{{ env_var('N', 7) }}"}
invalid: {error_above: "${ROWS}", stop_above: "${SHARE}"}
guard: {max_rows: "${NOTHING:-null}", max_times_median: "${HALF}", max_removed: "${NOTHING:-}"}
engine: {threads: "${ONE}"}
""",
        {
            "ONE": "1",
            "TYPE": "snowflake",
            "PASSWORD": "a#b: {c}\n${ONE}",
            "YES": "yes",
            "ROWS": "12",
            "BYTES": "3000000",
            "SIZE": "2MB",
            "ZERO": "0",
            "SHARE": "5%",
            "HALF": "1.5",
        },
    )
    assert isinstance(config.warehouse, SnowflakeWarehouse)
    assert config.name == "prod-1"
    assert config.warehouse.password == SecretStr("a#b: {c}\n${ONE}")
    assert config.warehouse.client_session_keep_alive is True
    assert config.userpilot.source == "web-client"
    assert config.models.vars == {"rows": "12", "nested": [{"a": "1"}]}
    assert type(config.models.vars["rows"]) is str
    assert config.batch.model_dump() == {"max_rows": 12, "max_bytes": 3_000_000, "max_line": 2_000_000}
    assert config.delivery.grace == timedelta(seconds=12)
    assert (config.delivery.busy_timeout, config.delivery.time_limit) == (timedelta(0), None)
    assert config.delivery.max_splits == 7
    assert (config.invalid.error_above, config.invalid.stop_above) == (Allowance(rows=12), Allowance(share=0.05))
    assert (config.guard.max_rows, config.guard.max_times_median, config.guard.max_removed) == (None, 1.5, None)
    assert config.engine.threads == 1


@settings(max_examples=60)
@given(secret=st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_no_secret_changes_the_document(tmp_path_factory: pytest.TempPathFactory, secret: str) -> None:
    text = other("type: postgres\nhost: h\nuser: u\ndbname: d\npassword: ${PASSWORD}")
    folder = tmp_path_factory.mktemp("secret")
    if not secret.strip():
        (found,) = problems(folder, text, {"PASSWORD": secret})
        assert found.startswith("warehouse.password: the variable `PASSWORD` is set, but empty: set it")
        return
    config = load(folder, text, {"PASSWORD": secret})
    assert isinstance(config.warehouse, PostgresWarehouse)
    assert config.warehouse.password == SecretStr(secret)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("../warehouse.duckdb", "{root}/warehouse.duckdb"),
        ("w.duckdb", "{root}/configs/w.duckdb"),
        ("/data/w.duckdb", "/data/w.duckdb"),
        ("~/w.duckdb", "/home/me/w.duckdb"),
        (":memory:", ":memory:"),
        ("md:analytics", "md:analytics"),
        ("md:", "md:"),
        ("s3://bucket/w.duckdb", "s3://bucket/w.duckdb"),
    ],
)
def test_duckdb_paths_start_at_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, expected: str
) -> None:
    monkeypatch.chdir("/")
    config = load(tmp_path, duckdb(path=written), {"HOME": "/home/me"})
    assert isinstance(config.warehouse, DuckDBWarehouse)
    assert config.warehouse.path == expected.format(root=tmp_path)


def test_a_relative_file_works_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(tmp_path, SMALLEST)
    monkeypatch.chdir(tmp_path / "configs")
    config = load_config(Path("prod.yml"), KEY)
    assert config.models.path == tmp_path / "models_sql"
    assert config.file == tmp_path / "configs" / "prod.yml"


def test_the_token_of_motherduck_leaves_the_path(tmp_path: Path) -> None:
    config = load(tmp_path, duckdb(path="md:app?a=b&motherduck_token=tok-SECRET"))
    assert isinstance(config.warehouse, DuckDBWarehouse)
    assert config.warehouse.path == "md:app?a=b"
    assert config.warehouse.token == SecretStr("tok-SECRET")
    assert "SECRET" not in repr(config)
    given_twice = load(
        tmp_path, other("type: duckdb\npath: md:app?motherduck_token=other-SECRET\ntoken: tok-SECRET")
    ).warehouse
    assert isinstance(given_twice, DuckDBWarehouse)
    assert (given_twice.path, given_twice.token) == ("md:app", SecretStr("tok-SECRET"))


def test_attached_databases(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        other("""
type: duckdb
path: w.duckdb
attach:
  - {path: ../other.duckdb, alias: other, read_only: true}
  - {path: app.sqlite, type: sqlite}
  - {path: "postgres://u:pw-SECRET@h/db", type: postgres}
"""),
    )
    assert isinstance(config.warehouse, DuckDBWarehouse)
    assert [attach.path.get_secret_value() for attach in config.warehouse.attach] == [
        str(tmp_path / "other.duckdb"),
        str(tmp_path / "configs" / "app.sqlite"),
        "postgres://u:pw-SECRET@h/db",
    ]
    assert "pw-SECRET" in config.secrets()
    assert str(tmp_path / "other.duckdb") not in config.secrets()


def test_snowflake(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        other("""
type: snowflake
account: org-account
user: LOADER
role: TRANSFORMER
warehouse: WH
database: ANALYTICS
schema: MARTS
private_key_path: ../keys/rsa.p8
private_key_passphrase: ${PASSPHRASE}
query_tag: sync
connect_retries: 3
connect_timeout: 10
client_session_keep_alive: true
host: 127.0.0.1
port: 8080
protocol: http
"""),
        {"PASSPHRASE": "phrase-SECRET"},
    )
    assert isinstance(config.warehouse, SnowflakeWarehouse)
    assert config.warehouse.schema_name == "MARTS"
    assert config.warehouse.private_key_path == tmp_path / "keys" / "rsa.p8"
    assert config.warehouse.private_key_passphrase == SecretStr("phrase-SECRET")


def test_snowflake_with_oauth_needs_no_user(tmp_path: Path) -> None:
    config = load(tmp_path, other("type: snowflake\naccount: a\nauthenticator: oauth\ntoken: tok-SECRET"))
    assert isinstance(config.warehouse, SnowflakeWarehouse)
    assert config.warehouse.user is None


@pytest.mark.parametrize(("password", "database"), [("password", "dbname"), ("pass", "database")])
def test_postgres_has_both_names_of_dbt(tmp_path: Path, password: str, database: str) -> None:
    config = load(
        tmp_path,
        other(f"""
type: postgres
host: localhost
user: me
{password}: pg-SECRET
{database}: app
schema: public
sslmode: verify-full
sslrootcert: ca.pem
"""),
    )
    assert isinstance(config.warehouse, PostgresWarehouse)
    assert (config.warehouse.password, config.warehouse.dbname) == (SecretStr("pg-SECRET"), "app")
    assert (config.warehouse.port, config.warehouse.connect_timeout, config.warehouse.keepalives_idle) == (5432, 10, 0)
    assert config.warehouse.sslrootcert == tmp_path / "configs" / "ca.pem"
    assert config.warehouse.statement_timeout is None


@pytest.mark.parametrize("written", ["system", "${AUTHORITIES:-system}"])
def test_the_certificates_of_the_machine(tmp_path: Path, written: str) -> None:
    text = f"type: postgres\nhost: h\nuser: u\ndbname: d\nsslrootcert: {written}\nstatement_timeout: 90s"
    config = load(tmp_path, other(text))
    assert isinstance(config.warehouse, PostgresWarehouse)
    assert config.warehouse.sslrootcert == Path("system")
    assert config.warehouse.statement_timeout == timedelta(seconds=90)


def test_sqlalchemy(tmp_path: Path) -> None:
    config = load(tmp_path, other("type: sqlalchemy\nurl: sqlite:///../app.db?timeout=5"))
    assert isinstance(config.warehouse, SqlAlchemyWarehouse)
    assert config.warehouse.url.get_secret_value() == f"sqlite:///{tmp_path}/app.db?timeout=5"


SECRETS = [
    other("type: snowflake\naccount: a\nuser: u\npassword: w-SECRET"),
    other("type: snowflake\naccount: a\nuser: u\nauthenticator: oauth\ntoken: w-SECRET"),
    other("type: snowflake\naccount: a\nuser: u\nprivate_key: w-SECRET\nprivate_key_passphrase: w-SECRET"),
    other("type: postgres\nhost: h\nuser: u\ndbname: d\npassword: w-SECRET"),
    other("type: sqlalchemy\nurl: mysql://u:w-SECRET@h/d"),
    duckdb("state: {url: 'postgresql://u:w-SECRET@h/d'}"),
    duckdb("state: {url: 'postgresql+psycopg://h/d?password=w-SECRET&sslmode=require'}"),
    other("type: duckdb\npath: md:x\ntoken: w-SECRET"),
    other("type: duckdb\npath: x\nattach: [{path: 'postgres://u:w-SECRET@h'}]"),
]


@pytest.mark.parametrize("text", SECRETS)
def test_no_form_of_the_config_shows_a_secret(tmp_path: Path, text: str) -> None:
    config = load(tmp_path, text)
    shown = f"{config!r} {config} {config.model_dump_json()} {config.model_dump()} {config.warehouse!r}"
    assert "SECRET" not in shown
    assert {"key-SECRET-123", "w-SECRET"} <= set(config.secrets())


def test_secrets_for_scrubbing(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        other("type: snowflake\naccount: a\nuser: u\nprivate_key: ${PEM}\nprivate_key_passphrase: abc"),
        {
            "PEM": "-----BEGIN-----\nline-one\n-----END-----\n",
            "DBT_ENV_SECRET_TOKEN": "never-used-dbt",
            "WAREHOUSE_SYNC_SECRET_TOKEN": "never-used-own",
            "DBT_ENV_SECRET_EMPTY": "",
            "OTHER": "not-secret",
        },
    )
    found = config.secrets()
    assert list(found) == sorted(found, key=len, reverse=True)
    assert set(found) == {
        "-----BEGIN-----\nline-one\n-----END-----",
        "-----BEGIN-----",
        "line-one",
        "-----END-----",
        "key-SECRET-123",
        "never-used-dbt",
        "never-used-own",
    }


def test_a_secret_variable_may_stand_in_a_connection(tmp_path: Path) -> None:
    text = other("type: postgres\nhost: h\nuser: \"{{ env_var('DBT_ENV_SECRET_USER') }}\"\ndbname: d")
    config = load(tmp_path, text, {"DBT_ENV_SECRET_USER": "hidden-user"})
    assert isinstance(config.warehouse, PostgresWarehouse)
    assert config.warehouse.user == "hidden-user"
    assert "hidden-user" in config.secrets()


def test_the_api_key_loses_the_newline_of_a_secret_file(tmp_path: Path) -> None:
    config = load(tmp_path, SMALLEST, {"USERPILOT_API_KEY": "key-SECRET-123\n"})
    assert config.userpilot.api_key == SecretStr("key-SECRET-123")


def test_positions(tmp_path: Path) -> None:
    config = load(
        tmp_path, duckdb("models:\n  overrides:\n    users:\n      lag: 2h\n      tags: [a, b]\n  vars: {}\n")
    )
    assert config.position("models.overrides.users.lag") == (7, 7)
    assert config.position("models.overrides.users.tags[1]") == (8, 17)
    assert config.position("models.overrides.users.tags[9]") == (8, 7)
    assert config.position("models.overrides.users.cursor") == (6, 5)
    assert config.position("models.drift") == (4, 1)
    assert config.position("engine.threads") == (1, 1)
    assert config.position("") == (1, 1)


def test_a_config_without_a_file_has_no_positions() -> None:
    config = Config.model_validate(
        {
            "name": "prod",
            "warehouse": {"type": "duckdb", "path": ":memory:"},
            "userpilot": {"api_key": "key-SECRET"},
            "delivery": {"grace": timedelta(seconds=3)},
            "invalid": {"error_above": Allowance(rows=3)},
            "models": {"path": Path("/models")},
        }
    )
    assert config.models.path == Path("/models")
    assert config.delivery.grace == timedelta(seconds=3)
    assert config.invalid.error_above == Allowance(rows=3)
    assert config.position("name") == (1, 1)
    assert config.state.dir == (Path.cwd().parent / ".warehouse_sync")


def test_anchors_and_merge_keys(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        duckdb("""
models:
  config: &shared {lag: 1h, tags: [a]}
  overrides:
    users: {<<: *shared, lag: 2h}
    orgs: {<<: [{lag: 3h}, *shared]}
    deep: {<<: {<<: *shared, nulls: omit}}
"""),
    )
    assert config.models.overrides == {
        "users": {"lag": "2h", "tags": ["a"]},
        "orgs": {"lag": "3h", "tags": ["a"]},
        "deep": {"nulls": "omit", "lag": "1h", "tags": ["a"]},
    }


def test_json_form_is_written_as_the_file_is(tmp_path: Path) -> None:
    config = load(tmp_path, SMALLEST)
    dumped: dict[str, Any] = config.model_dump(mode="json")
    assert dumped["delivery"]["job_timeout"] == "2h"
    assert dumped["batch"]["max_bytes"] == "40MB"
    assert dumped["invalid"] == {"error_above": "0", "stop_above": "50%"}
    assert dumped["userpilot"]["api_key"] == "**********"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none.yml", "No such file"), (tmp_path, "directory")):
        with pytest.raises(ConfigError, match=reason) as caught:
            load_config(path, {})
        assert caught.value.problems[0].line == 0


def test_deep_and_multiplying_files(tmp_path: Path) -> None:
    for depth in (60, 400, 600):
        assert problems(tmp_path, "a: " + "[" * depth + "]" * depth) == [": the file is nested too deeply"]
    lines = ["name: prod", "a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join(f'*a{n - 1}' for _ in range(10))}]" for n in range(1, 9)]
    assert problems(tmp_path, "\n".join(lines)) == [": the file is too large, or its aliases multiply"]


def test_a_variable_that_is_not_text(tmp_path: Path) -> None:
    found = problems(tmp_path, SMALLEST, {"USERPILOT_API_KEY": "key\udcff"})
    assert found == ["userpilot.api_key: the value of `${USERPILOT_API_KEY}` is not UTF-8 text"]


def test_nothing_is_written_with_an_empty_default(tmp_path: Path) -> None:
    text = other("""
type: snowflake
account: a
user: u
private_key: "${PEM:-}"
password: "${PASSWORD:-}"
role: ${ROLE:-}
port: ${PORT:-}
private_key_path: "${KEY_FILE:-}"
""")
    config = load(tmp_path, text, {"PASSWORD": "w-SECRET", "KEY_FILE": ""})
    assert isinstance(config.warehouse, SnowflakeWarehouse)
    assert config.warehouse.password == SecretStr("w-SECRET")
    assert (config.warehouse.private_key, config.warehouse.private_key_path) == (None, None)
    assert (config.warehouse.role, config.warehouse.port) == (None, None)
    assert problems(tmp_path, text.replace(":-}", "}"), {"PASSWORD": "w", "PEM": "", "ROLE": "r", "PORT": ""}) == [
        "warehouse.private_key: the variable `PEM` is set, but empty: set it; in CI: does this job have the secret?",
        "warehouse.private_key_path: the variable `KEY_FILE` is not set: set it in the environment, "
        "or give a default with ${KEY_FILE:-…}",
    ]


def test_a_number_that_no_number_holds(tmp_path: Path) -> None:
    found = problems(tmp_path, duckdb(f"batch: {{max_rows: {'9' * 5000}}}"))
    assert found == ["batch.max_rows: YAML reads this as a number, and it is none: quote it if it is text"]


def test_without_a_time_zone_database_the_engine_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warehouse_sync.project.yaml.fields.available_timezones", set)
    assert load(tmp_path, duckdb("models: {timezone: Mars/Olympus}")).models.timezone == "Mars/Olympus"


def test_a_null_byte_in_a_path(tmp_path: Path) -> None:
    found = problems(tmp_path, duckdb('models: {path: "a\\0b"}'))
    assert found == ["models.path: holds a character that is not text (NUL, or half of a surrogate pair)"]


def test_a_folder_with_a_question_mark(tmp_path: Path) -> None:
    folder = tmp_path / "what?"
    folder.mkdir()
    assert problems(folder, SMALLEST) == [
        "state.dir: this value leads to a folder with `?` in its name, which DuckDB cannot read: rename the folder",
        "state.url: this value leads to a folder with `?` in its name, which no URL can hold: rename the folder",
    ]


@pytest.mark.parametrize("name", ["a[b]", "a*b", "a\\b"])
def test_a_state_folder_that_is_a_pattern_to_the_engine(tmp_path: Path, name: str) -> None:
    """It would read the files of other folders that match, such as `ab`."""
    folder = tmp_path / name
    folder.mkdir()
    assert problems(folder, SMALLEST) == [
        f"state.dir: this value leads to a folder with `{name[1]}` in its name, which DuckDB cannot read: rename the"
        " folder"
    ]
