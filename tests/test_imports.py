"""`--help` answers at once: it imports no engine, no driver and no HTTP library."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("duckdb", "sqlalchemy", "alembic", "pyarrow", "requests", "urllib3", "sqlglot", "pydantic", "jinja2")
DRIVERS = ("snowflake", "adbc_driver_manager", "adbc_driver_postgresql", "psycopg")

SCRIPT = """
import json, sys
from warehouse_sync.__main__ import main

sys.argv = ["warehouse-sync", *json.loads(sys.argv[1])]
try:
    main()
except SystemExit as end:
    code = end.code
else:
    code = 0
print()
print(json.dumps({"code": code, "modules": sorted({name.partition(".")[0] for name in sys.modules})}))
"""


def modules_after(*arguments: str) -> set[str]:
    """The top-level modules that a fresh interpreter holds after this command line, which has to end well."""
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(arguments)], capture_output=True, text=True, check=False, timeout=60
    )
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout.splitlines()[-1])
    assert not result["code"], run.stdout
    return set(result["modules"])


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"], ["demo", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    assert not modules_after(*arguments) & {*HEAVY, *DRIVERS}


def test_the_check_sees_what_a_command_imports() -> None:
    assert {"pydantic"} <= modules_after("schema"), "a command that needs pydantic shows it"
