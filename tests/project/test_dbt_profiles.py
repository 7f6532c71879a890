"""`warehouse: {dbt: …}`: a target of profiles.yml as the settings of a warehouse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from warehouse_sync.errors import ConfigError
from warehouse_sync.project.config import Config, load_config

SECRET = "hunter-2-SECRET"

PROFILES = """\
config: {send_anonymous_usage_stats: false}
shop:
  target: "{{ env_var('SHOP_TARGET', 'file') }}"
  outputs:
    file: {type: duckdb, path: data/shop.duckdb, schema: main, threads: 4, extensions: [icu],
           attach: [{path: other.duckdb, alias: other, read_only: false, options: {x: 1}}]}
    md: {type: duckdb, path: "md:shop?motherduck_token={{ env_var('DBT_ENV_SECRET_MD') }}"}
    md2: {type: duckdb, path: "md:shop", config_options: {motherduck_token: "{{ env_var('DBT_ENV_SECRET_MD') }}"}}
    memory: {type: duckdb}
    pg:
      type: postgres
      host: "{{ env_var('PG_HOST', 'localhost') }}"
      port: "{{ env_var('PG_PORT', '5433') | as_number }}"
      user: sync
      pass: "{{ env_var('DBT_ENV_SECRET_PG') }}"
      dbname: shop
      schema: 7
      threads: 8
      retries: 2
      connect_timeout: 5
      sslmode: require
      sslrootcert: certs/root.pem
    rs: {type: redshift, host: c.redshift.example, user: u, password: 12345, dbname: d, schema: s, ra3_node: true}
    rs_iam: {type: redshift, method: iam, host: c.redshift.example, user: u, dbname: d, schema: s}
    sf:
      type: snowflake
      account: org-acc
      user: u
      private_key_path: key.p8
      private_key_passphrase: "{{ env_var('DBT_ENV_SECRET_PG') }}"
      role: r
      warehouse: w
      database: d
      schema: s
      client_session_keep_alive: "{{ env_var('KEEP', 'true') | as_bool }}"
      connect_retries: 3
      threads: 8
    sf_oauth: {type: snowflake, account: a, user: u, authenticator: oauth, oauth_client_id: x, token: t, database: d}
    sf_open: {type: snowflake, account: a, user: u, database: d}
    bq: {type: bigquery, method: oauth, project: p}
    unset: {type: duckdb, path: "{{ env_var('NOT_SET') }}"}
    jinja: {type: duckdb, path: "{{ target.name }}"}
    short: {type: postgres, host: h, dbname: d, password: hunter-2-SECRET}
    wrong: {type: postgres, host: h, user: u, dbname: d, port: hunter-2-SECRET}
empty: {}
"""

ENVIRON = {"DBT_ENV_SECRET_PG": SECRET, "DBT_ENV_SECRET_MD": SECRET}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`shop/` is a dbt project with its profiles.yml, `configs/` is beside it."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "dbt_project.yml").write_text("name: shop\nprofile: shop\n")
    (tmp_path / "shop" / "profiles.yml").write_text(PROFILES)
    (tmp_path / "configs").mkdir()
    (tmp_path / "home").mkdir()
    return tmp_path


def load(folder: Path, choice: str = "{}", dbt: str = "{project_dir: ../shop}", **environ: str) -> Config:
    file = folder / "configs" / "prod.yml"
    file.write_text(f"name: prod\nwarehouse: {{dbt: {choice}}}\nuserpilot: {{api_key: abcdefgh}}\ndbt: {dbt}\n")
    return load_config(file, {"HOME": str(folder / "home")} | ENVIRON | environ)


def settings(config: Config) -> dict[str, Any]:
    dumped = config.warehouse.model_dump(by_alias=True, exclude_defaults=True)
    return {name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in dumped.items()}


def test_duckdb(folder: Path) -> None:
    config = load(folder)
    found = settings(config)
    assert found.pop("attach")[0]["path"].get_secret_value() == str(folder / "shop" / "other.duckdb")
    assert found == {"type": "duckdb", "path": str(folder / "shop" / "data" / "shop.duckdb")}
    for target in ("md", "md2"):
        config = load(folder, f"{{target: {target}}}")
        assert settings(config) == {"type": "duckdb", "path": "md:shop", "token": SECRET}
        assert SECRET in config.secrets()


def test_postgres_and_redshift(folder: Path) -> None:
    config = load(folder, "{target: pg}", PG_HOST="db.example")
    assert settings(config) == {
        "type": "postgres", "host": "db.example", "port": 5433, "user": "sync", "password": SECRET, "dbname": "shop",
        "schema": "7", "connect_timeout": 5, "sslmode": "require",
        "sslrootcert": folder / "shop" / "certs" / "root.pem",
    }  # fmt: skip
    assert config.dbt_targets.wanted == "pg"
    assert settings(load(folder, "{target: rs}")) == {
        "type": "postgres", "host": "c.redshift.example", "port": 5439, "user": "u", "password": "12345", "dbname": "d",
        "schema": "s",
    }  # fmt: skip


def test_snowflake(folder: Path) -> None:
    assert settings(load(folder, "{target: sf}")) == {
        "type": "snowflake", "account": "org-acc", "user": "u", "private_key_path": folder / "shop" / "key.p8",
        "private_key_passphrase": SECRET, "role": "r", "warehouse": "w", "database": "d", "schema": "s",
        "client_session_keep_alive": True, "connect_retries": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("memory", "the database is in memory"),
        ("rs_iam", "its login method is `iam`"),
        ("sf_oauth", "OAuth with a refresh token is a login for people"),
        ("sf_open", "no way to log in"),
        ("bq", "its type is `bigquery`, and a sync reads profiles of duckdb, snowflake, postgres, redshift"),
        ("unset", "shop.outputs.unset.path: the variable `NOT_SET` is not set"),
        ("jinja", "shop.outputs.jinja.path: Jinja (UndefinedError)"),
        ("short", "user is missing"),
        ("wrong", "port has a value that cannot be used"),
        ("fiel", "the profile `shop` has no target `fiel` (nearest: file)"),
    ],
)
def test_a_target_that_cannot_be_used(folder: Path, target: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(folder, f"{{target: {target}}}")
    (problem,) = caught.value.problems
    assert message in problem.message
    assert str(folder / "shop" / "profiles.yml") in problem.message
    assert (problem.key, problem.line) == ("warehouse.dbt", 2)
    assert SECRET not in str(caught.value)


def test_where_profiles_are_looked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The named folder, then the variable, then the project, the working folder, and ~/.dbt."""
    monkeypatch.chdir(folder)

    def put(name: str) -> Path:
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        text = f"shop: {{target: t, outputs: {{t: {{type: duckdb, path: {name.replace('/', '-')}.duckdb}}}}}}"
        (place / "profiles.yml").write_text(text)
        return place

    def used(choice: str = "{}", dbt: str = "{project_dir: ../shop}", **environ: str) -> str:
        return Path(settings(load(folder, choice, dbt, **environ))["path"]).stem

    (folder / "shop" / "profiles.yml").unlink()
    with pytest.raises(ConfigError, match=r"there is no profiles\.yml in .*shop, .*, .*home/\.dbt"):
        used()
    put("home/.dbt")
    assert used() == "home-.dbt"
    put(".")
    assert used() == "."
    put("shop")
    assert used() == "shop"
    put("other")
    assert used(DBT_PROFILES_DIR=str(folder / "other")) == "other"
    put("named")
    assert used("{profiles_dir: ../named}", DBT_PROFILES_DIR=str(folder / "other")) == "named"
    config = load(folder, "{profiles_dir: ../named}", "{}")
    assert settings(config)["path"] == str(folder / "named" / "named.duckdb")
    with pytest.raises(ConfigError, match=r"there is no profiles\.yml in .*nowhere:"):
        used("{profiles_dir: ../nowhere}")


def test_which_profile_and_target(folder: Path) -> None:
    places = load(folder, "{target: pg}").dbt_targets.places
    assert places == {"pg": ("shop", "7")}
    places = load(folder, "{target: file}").dbt_targets.places
    assert places == {
        "file": ("shop", "main"), "md": ("shop", "main"), "md2": ("shop", "main"), "memory": ("", "main"),
    }  # fmt: skip
    assert load(folder, SHOP_TARGET="md").dbt_targets.wanted == "md"
    assert load(folder).dbt_targets.varies
    assert load(folder, DBT_ENGINE_TARGET="md2", DBT_TARGET="pg").dbt_targets.wanted == "md2"
    assert load(folder, SHOP_TARGET="md", DBT_TARGET="pg").dbt_targets.wanted == "pg"
    assert load(folder, "{target: sf}", DBT_TARGET="pg").dbt_targets.wanted == "sf"
    assert load(folder, dbt="{project_dir: ../shop, target: other}").dbt_targets.wanted == "other"
    choice = "{profiles_dir: ../shop}"
    for dbt, environ, message in (
        ("{}", {"DBT_PROFILE": "shp"}, "has no profile `shp` (nearest: shop)"),
        ("{}", {"DBT_PROFILE": "empty"}, "the profile `empty` has no `outputs`"),
    ):
        with pytest.raises(ConfigError) as caught:
            load(folder, choice, dbt, **environ)
        assert message in str(caught.value)
    (folder / "shop" / "profiles.yml").write_text("shop: [a\n")
    with pytest.raises(ConfigError, match=r"profiles\.yml:\d+:\d+: .*`\[` is never closed"):
        load(folder)


def test_names_and_anchors_as_yaml_has_them(folder: Path) -> None:
    """What only anchors share is no profile, and a name may look like a number or a boolean."""
    base = "base: &base {type: duckdb, path: a.duckdb}\n"
    profile = "{target: 7, outputs: {7: {<<: *base}, yes: {<<: *base, path: b.duckdb}}}\n"
    choice = "{profiles_dir: ../shop}"
    (folder / "shop" / "profiles.yml").write_text(f"{base}2: {profile}")
    assert settings(load(folder, choice, "{}"))["path"] == str(folder / "shop" / "a.duckdb")
    with pytest.raises(ConfigError, match=r"has no target `2` \(there: 7, True\)"):
        load(folder, "{profiles_dir: ../shop, target: '2'}", "{}")
    (folder / "shop" / "profiles.yml").write_text(f"{base}2: {profile}off: {profile}")
    with pytest.raises(ConfigError, match="has 2 profiles: name one as `profile`"):
        load(folder, choice, "{}")


def test_an_empty_key_is_none(folder: Path) -> None:
    text = "{type: postgres, host: h, user: u, password: '', dbname: d, role: \"{{ env_var('ROLE', '') }}\"}"
    (folder / "shop" / "profiles.yml").write_text(f"shop: {{target: t, outputs: {{t: {text}}}}}")
    assert settings(load(folder)) == {"type": "postgres", "host": "h", "user": "u", "dbname": "d"}


def test_the_section_dbt(folder: Path) -> None:
    for dbt, message in (
        (
            "{project_dir: ../nowhere}",
            "dbt.project_dir: holds no dbt project that can be read: there is no dbt_project.yml",
        ),
        ("{require: success}", "dbt.require: needs the project: give `dbt.project_dir` too, or `dbt.target_path`"),
        ("{target: prod}", "dbt.target: needs the project"),
    ):
        with pytest.raises(ConfigError) as caught:
            load(folder, "{profiles_dir: ../shop, profile: shop}", dbt)
        assert message in str(caught.value)
    (folder / "shop" / "dbt_project.yml").write_text("name: \"{{ env_var('NO') }}\"\n")
    with pytest.raises(ConfigError, match=r"can be read: name: the variable `NO` is not set"):
        load(folder)
    (folder / "shop" / "dbt_project.yml").write_bytes(b"name: \xff\n")
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        load(folder)
    assert load(folder, "{profiles_dir: ../shop, profile: shop}", "{target_path: ../out, require: success}").dbt.require
