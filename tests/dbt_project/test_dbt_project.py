"""A day with dbt: build, sync, change, build, sync; by the real dbt."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from dbt_shop import Shop

from warehouse_sync.userpilot.sandbox import Sandbox

pytestmark = pytest.mark.slow

Imported = Callable[[], Sequence[dict[str, Any]]]


def sent(results: dict[str, dict[str, Any]]) -> dict[str, int]:
    return {model: entry["delivered"] for model, entry in results.items()}


def test_only_the_change_goes_after_a_build_and_nothing_after_a_full_refresh(shop: Shop, imported: Imported) -> None:
    shop.dbt("build")
    assert sent(shop.run()) == {"accounts": 3, "clicks": 4}
    assert sent(shop.run()) == {"accounts": 0, "clicks": 0}

    shop.execute(
        "UPDATE app.accounts SET plan = 'pro', price_cents = 2950, changed_at = '2025-04-01 10:00' WHERE id = 'a1'",
        "INSERT INTO app.clicks VALUES (4, 'a1', '/billing', '2025-04-01 10:01')",
    )
    assert sent(shop.run()) == {"accounts": 0, "clicks": 0}
    shop.dbt("build")
    assert sent(shop.run()) == {"accounts": 1, "clicks": 1}
    changed, clicked = imported()[-2:]
    assert (changed["user_id"], changed["metadata"]["plan"], changed["metadata"]["price"]) == ("a1", "pro", 29.5)
    assert (clicked["user_id"], clicked["metadata"]["page"]) == ("a1", "/billing")

    shop.dbt("build", "--full-refresh")
    assert sent(shop.run()) == {"accounts": 0, "clicks": 0}
    assert len(imported()) == 9


def test_a_failed_build_holds_back_what_is_built_from_it(shop: Shop, imported: Imported) -> None:
    shop.execute("UPDATE app.accounts SET plan = 'gold' WHERE id = 'a1'")
    shop.dbt("build", code=1)
    plan = shop.sync("plan", "--output", "json", code=1)
    assert [bool(line["skipped"]) for line in plan.lines] == [True, False]

    results = shop.run(code=1)
    assert results["accounts"]["status"] == "skipped"
    assert re.fullmatch(
        r"dbt: model dim_accounts failed the test accepted_values_dim_accounts_plan__free__pro__team;"
        r" mend it and run `dbt build --project-dir \S+/shop --target dev`",
        results["accounts"]["message"],
    )
    assert (results["clicks"]["status"], results["clicks"]["delivered"]) == ("success", 4)

    shop.execute("UPDATE app.accounts SET plan = 'pro' WHERE id = 'a1'")
    shop.dbt("build")
    assert sent(shop.run()) == {"accounts": 3, "clicks": 0}
    assert len(imported()) == 7


def test_a_model_that_cannot_be_built_holds_back_everything_below_it(shop: Shop) -> None:
    shop.execute("ALTER TABLE app.accounts RENAME COLUMN plan TO tier")
    shop.dbt("build", code=1)
    results = shop.run(code=1)
    assert results["accounts"]["status"] == "skipped"
    assert "model dim_accounts was skipped" in results["accounts"]["message"]
    assert results["clicks"]["status"] == "success"


def test_a_build_that_was_killed_holds_back_everything(shop: Shop) -> None:
    shop.dbt("build")
    model = shop.folder / "models" / "killer.py"
    body = "    found = dbt.ref('dim_accounts')\n    os._exit(9)\n    return found\n"
    model.write_text(f"import os\n\n\ndef model(dbt, session):\n{body}")
    shop.dbt("build", code=9)
    for _ in range(2):
        results = shop.run(code=1)
        assert {entry["status"] for entry in results.values()} == {"skipped"}
        assert "its last build was ended, or goes on; run `dbt build" in results["clicks"]["message"]
        shop.dbt("ls")
    model.unlink()
    shop.dbt("build")
    assert sent(shop.run()) == {"accounts": 3, "clicks": 4}


def test_a_build_of_empty_tables_holds_back_everything(shop: Shop) -> None:
    shop.dbt("build", "--empty")
    assert "is of `dbt build --empty`, which builds only a part" in shop.run(code=1)["accounts"]["message"]


def test_messages_name_the_dbt_command_that_helps(shop: Shop) -> None:
    def advised(*words: str) -> list[str]:
        (command, *_) = re.findall(r"`dbt ([^`]+)`", shop.sync("compile", *words, code=1).err)
        return command.split()

    missing = advised("-s", "accounts")
    assert missing[0] == "parse"
    shop.dbt(*missing)
    assert '"shop"."main_marts"."dim_accounts"' in shop.sync("compile", "-s", "accounts").out

    time.sleep(0.01)
    (shop.folder / "models" / "marts" / "dim_accounts.sql").write_text("select 1 as id, 'free' as plan")
    stale = advised("-s", "accounts")
    assert stale[0] == "build"
    shop.dbt("parse", *stale[1:])
    shop.sync("compile", "-s", "accounts")


def test_what_dbt_has_no_table_for(shop: Shop) -> None:
    shop.dbt("parse")
    for name, call, said in (
        ("a", "ref('only_paying')", "ref('only_paying') is ephemeral in dbt"),
        ("b", "ref('retired')", "ref('retired') is disabled in dbt"),
        ("c", "ref('dim_account')", "ref('dim_account') is not known to dbt (nearest: dim_accounts)"),
        ("d", "source('app', 'click')", "source('app', 'click') is not known to dbt (nearest: app.clicks)"),
        ("e", "ref('regions', v=3)", "ref('regions', v=3) has no such version in dbt\n"),
    ):
        shop.project.write_model(name, f"{{{{ config(event='track', always=true) }}}}\nselect * from {{{{ {call} }}}}")
        assert said in shop.sync("compile", "-s", name, code=1).err
    shop.project.write_model(
        "f",
        """\
        {{ config(event='track', always=true) }}
        select * from {{ ref('regions') }}, {{ ref('regions', v=1) }}, {{ ref('plans') }}, {{ source('app', 'clicks') }}
        """,
    )
    tables = re.findall(r'"shop"\.\S+"', shop.sync("compile", "-s", "f").out)
    assert tables == [
        '"shop"."main_marts"."regions_v2"', '"shop"."main_marts"."regions_v1"', '"shop"."main"."plans"',
        '"shop"."app"."clicks"',
    ]  # fmt: skip


def test_relations_are_those_of_the_target(shop: Shop) -> None:
    shop.project.config.write_text(shop.project.config.read_text().replace("target: dev", "target: prod"))
    shop.dbt("build")
    err = shop.sync("compile", "-s", "accounts", code=1).err
    assert re.search(r"manifest\.json .*target `dev`.*, and here it is `prod`", err)
    shop.dbt("build", "--target", "prod")
    assert '"shop"."prod_marts"."dim_accounts"' in shop.sync("compile", "-s", "accounts").out
    assert sent(shop.run()) == {"accounts": 3, "clicks": 4}


def test_a_manifest_that_was_written_again_for_the_default_target(shop: Shop) -> None:
    """`dbt ls` leaves run_results.json as the build wrote it; so do `parse` and `source freshness`."""
    shop.project.config.write_text(shop.project.config.read_text().replace("target: dev", "target: prod"))
    (shop.folder / "models" / "plain.sql").write_text("select 1 as id")
    shop.dbt("build", "--target", "prod")
    shop.dbt("ls")
    err = shop.sync("compile", "-s", "accounts", code=1).err
    assert "manifest.json has its models where target `dev` has them, and here it is `prod`" in err
    assert "target not known" not in shop.project.cli("debug").out
    (advised, *_) = re.findall(r"`dbt (parse [^`]+)`", err)
    shop.dbt(*advised.split())
    done = shop.sync("compile", "-s", "accounts")
    assert '"shop"."prod_marts"."dim_accounts"' in done.out
    assert "WARN" not in done.err
    assert "target `prod`" in shop.sync("debug").out


def test_exposures_are_valid_for_dbt_and_written_twice_the_same(shop: Shop) -> None:
    shop.dbt("parse")
    file = shop.folder / "models" / "userpilot.yml"
    shop.sync("exposures", "--write", str(file))
    first = (file.read_bytes(), file.stat().st_mtime_ns)
    shop.sync("exposures", "--write", str(file))
    assert (file.read_bytes(), file.stat().st_mtime_ns) == first
    shop.dbt("--warn-error", "parse", "--no-partial-parse")
    found = {entry["name"]: entry for entry in shop.artefact("manifest.json")["exposures"].values()}
    assert {name: entry["depends_on"]["nodes"] for name, entry in found.items()} == {
        "prod_accounts": ["model.shop.dim_accounts"],
        "prod_clicks": ["model.shop.fct_clicks"],
    }
    assert found["prod_accounts"]["owner"]["email"] == "growth@shop.example"
    assert found["prod_clicks"]["meta"]["warehouse_sync"]["event"] == "track"
    shop.sync("exposures", "--write", str(file))
    assert file.read_bytes() == first[0]


def test_validate_in_a_pull_request(shop: Shop) -> None:
    shop.dbt("build")
    shop.dbt("docs", "generate")
    assert shop.sync("validate").out.count("OK") == 2
    production = shop.folder.parent / "production"
    shutil.copytree(shop.target, production)
    shop.project.config.write_text(
        shop.project.config.read_text().replace("../shop,", "../shop, target_path: ../production,")
    )
    manifest = str(shop.target / "manifest.json")
    assert [line["checked_by"] for line in shop.sync("validate", "--manifest", manifest, "--output", "json").lines] == [
        "dbt",
        "dbt",
    ]

    dim = shop.folder / "models" / "marts" / "dim_accounts.sql"
    whole = dim.read_text()
    for text, said in (
        (whole.replace("    plan,\n", ""), "column `plan` is not among the columns that dbt has of model dim_accounts"),
        (whole.replace("    plan,", "    length(plan) as plan,"), "properties changed type: plan (String -> Numeric)"),
    ):
        dim.write_text(text)
        shop.dbt("run")
        shop.dbt("docs", "generate")
        assert said in shop.sync("validate", "--manifest", manifest, code=1).err
    unchanged = shop.sync("validate", "-s", "clicks", "--manifest", manifest)
    assert unchanged.out == "OK    clicks: columns as dbt has them\n"


def test_dbt_builds_while_rows_are_delivered(shop: Shop, sandbox: Sandbox) -> None:
    """The warehouse is open only while a model is read, and read-only then."""
    shop.dbt("build")
    sandbox.job_seconds = 60
    with shop.project.cli.start("run") as running:
        deadline = time.monotonic() + 30
        while not sandbox.jobs and time.monotonic() < deadline:
            time.sleep(0.05)
        assert sandbox.jobs
        shop.dbt("build", "--full-refresh")
        assert running.poll() is None
        sandbox.job_seconds = 0
        sandbox.finish_jobs()
        assert running.wait(60) == 0
