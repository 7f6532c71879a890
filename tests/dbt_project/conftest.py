"""A real dbt project, built by the real dbt in an environment of its own, and a sync beside it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from dbt_shop import ACCOUNTS, CLICKS, CONFIG, HERE, Shop
from environments import environment_with
from harness import CommandLine, Project

from warehouse_sync.userpilot.sandbox import Sandbox


@pytest.fixture(scope="session")
def dbt_program() -> Path:
    """dbt 1.11 with DuckDB's adapter: $WAREHOUSE_SYNC_TEST_DBT, or one in an environment that is made once."""
    named = os.environ.get("WAREHOUSE_SYNC_TEST_DBT")
    return Path(named) if named else environment_with("dbt-1.11", ["dbt-core<1.12", "dbt-duckdb"]) / "bin" / "dbt"


@pytest.fixture
def shop(dbt_program: Path, tmp_path: Path, cli: CommandLine, sandbox: Sandbox) -> Shop:
    """Three accounts and four clicks that dbt has not built yet, and two models that read what it will build."""
    shutil.copytree(HERE / "shop", tmp_path / "shop")
    project = Project(tmp_path, cli, sandbox.url, sandbox.api_key)
    project.config.parent.mkdir()
    project.config.write_text(CONFIG.format(api_key=sandbox.api_key, endpoint=sandbox.url))
    project.write_model("accounts", ACCOUNTS)
    project.write_model("clicks", CLICKS)
    shop = Shop(dbt_program, tmp_path / "shop", project)
    shop.execute(
        "CREATE SCHEMA app",
        "CREATE TABLE app.accounts (id VARCHAR, email VARCHAR, plan VARCHAR, price_cents INTEGER,"
        " signed_up_at TIMESTAMP, changed_at TIMESTAMP)",
        "INSERT INTO app.accounts SELECT 'a' || i, 'a' || i || '@shop.example', 'free', 0,"
        " TIMESTAMP '2025-01-01' + i * INTERVAL 1 DAY, TIMESTAMP '2025-02-01' + i * INTERVAL 1 DAY"
        " FROM range(3) AS numbers(i)",
        "CREATE TABLE app.clicks (click_id BIGINT, account_id VARCHAR, page VARCHAR, clicked_at TIMESTAMP)",
        "INSERT INTO app.clicks SELECT i, 'a' || i % 3, '/home', TIMESTAMP '2025-03-01' + i * INTERVAL 1 MINUTE"
        " FROM range(4) AS numbers(i)",
    )
    return shop
