"""The sync beside the dbt project in `shop/`, and dbt itself, as tests work with them."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from environments import plain_environment
from harness import Project, Result

HERE = Path(__file__).parent
SECONDS = 120

CONFIG = """\
name: prod
warehouse: {{dbt: {{target: dev}}}}
userpilot: {{api_key: {api_key}, endpoint: "{endpoint}"}}
dbt: {{project_dir: ../shop, require: success}}
"""

ACCOUNTS = """\
{{ config(event='identify_user', cursor='_changed_at', meta={'owner': 'growth@shop.example'}) }}
select id as user_id, email, plan, price, signed_up_at, changed_at as inserted_at, changed_at as _changed_at
from {{ ref('dim_accounts') }}
"""

CLICKS = """\
{{ config(event='track', unique_key='_click_id', cursor='_clicked_at', begin='all') }}
select account_id as user_id, 'Clicked' as event_name, page, clicked_at as inserted_at, click_id as _click_id,
       clicked_at as _clicked_at
from {{ ref('shop', 'fct_clicks') }}
"""


@dataclass
class Shop:
    """A dbt project in `folder`, the sync's project around it, and dbt itself."""

    program: Path
    folder: Path
    project: Project

    @property
    def target(self) -> Path:
        return self.folder / "target"

    def dbt(self, *words: str, code: int = 0) -> str:
        """The real dbt in the project; what it printed."""
        environ = plain_environment() | {"DBT_SEND_ANONYMOUS_USAGE_STATS": "0", "NO_COLOR": "1"}
        command = [str(self.program), "--no-version-check", *words]
        done = subprocess.run(
            command, cwd=self.folder, env=environ, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def execute(self, *statements: str) -> None:
        """Change what dbt builds from."""
        import duckdb

        with duckdb.connect(str(self.folder / "shop.duckdb")) as connection:
            for statement in statements:
                connection.execute(statement)

    def run(self, *words: str, code: int = 0) -> dict[str, dict[str, Any]]:
        """A run; its results by model."""
        self.project.cli("run", *words).check(code)
        return {entry["unique_id"].rpartition(".")[2]: entry for entry in self.project.results()["results"]}

    def sync(self, *words: str, code: int = 0) -> Result:
        """Any verb."""
        return self.project.cli(*words).check(code)

    def artefact(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.target / name).read_text())
        return found
