"""Every file of `config_cases/` is wrong in its own way; beside it stands the whole report a user gets.

All values that must never be shown hold the word SECRET, in the files and in the environment.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from warehouse_sync.errors import ConfigError
from warehouse_sync.project.config import load_config

CASES = Path(__file__).parent / "config_cases"
ENVIRON: dict[str, str] = json.loads((CASES / "environ.json").read_text())

# Words of the libraries underneath, which tell a user nothing.
JARGON = re.compile(r"pydantic|Input should|type=|scanning|parsing|valid (string|dictionary)|None")


@pytest.mark.parametrize("case", sorted(path.stem for path in CASES.glob("*.yml")))
def test_report(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CASES)
    with pytest.raises(ConfigError) as caught:
        load_config(Path(f"{case}.yml"), ENVIRON)
    report = str(caught.value)
    assert f"{report}\n" == (CASES / f"{case}.txt").read_text()
    hidden = report.replace("DBT_ENV_SECRET_X", "").replace("${SECRET_TEXT}", "")
    assert "SECRET" not in hidden
    assert not JARGON.search(report)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_every_case_has_a_report() -> None:
    assert {path.stem for path in CASES.glob("*.yml")} == {path.stem for path in CASES.glob("*.txt")}


def test_every_problem_has_its_own_line_and_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CASES)
    with pytest.raises(ConfigError) as caught:
        load_config(Path("types.yml"), ENVIRON)
    lines = Path("types.yml").read_text().split("\n")
    for problem in caught.value.problems:
        last = re.split(r"[.\[]", problem.key)[-1]
        assert last in lines[problem.line - 1]
        assert 0 < problem.column <= len(lines[problem.line - 1])
    assert caught.value.exit_code == 2


LEAVES = {
    "duckdb": "path token attach",
    "snowflake": (
        "account user password private_key_path private_key private_key_passphrase token authenticator role warehouse "
        "database schema query_tag client_session_keep_alive connect_retries connect_timeout statement_timeout host "
        "port protocol"
    ),
    "postgres": (
        "host port user password dbname schema search_path role sslmode sslcert sslkey sslrootcert keepalives_idle "
        "connect_timeout statement_timeout"
    ),
    "sqlalchemy": "url",
}
SECTIONS = {
    "userpilot": "api_key endpoint source",
    "models": "path vars sources refs timezone config overrides drift",
    "state": "url dir",
    "batch": "max_rows max_bytes max_line",
    "job": "max_rows max_bytes",
    "delivery": "job_timeout busy_timeout grace max_splits time_limit",
    "invalid": "error_above stop_above",
    "guard": "max_rows max_times_median max_removed",
    "snapshot": "where",
    "retention": "delivered rejects logs",
    "engine": "memory_limit threads",
}
ODD = [
    "no", "true", "0", "5", "-1", "1.5", ".nan", "2025-01-01", "99999999999999999999", "text", "'5'", "''", "'   '",
    "null", "", "[]", "[a]", "[[a]]", "{}", "{a: b}", "{a: {b: [c]}}", "${EMPTY}", "${NOT_SET:-}", "${SECRET_TEXT}",
    "50%", "1h", "40MB", "http://x", "sqlite:///x", "~/x", "*x", "!x", "@x", "&x", "{{ x }}", "1:30", "010",
]  # fmt: skip


@pytest.mark.parametrize("kind", LEAVES)
@pytest.mark.parametrize("odd", ODD)
def test_any_value_at_any_key_is_read_or_explained(kind: str, odd: str, tmp_path: Path) -> None:
    """One file in which every key has the same odd value: whatever is wrong is said in our words, key by key."""
    lines = [f"name: {odd}", f"version: {odd}", "warehouse:", f"  type: {kind}"]
    lines += [f"  {key}: {odd}" for key in LEAVES[kind].split()]
    for section, names in SECTIONS.items():
        lines += [f"{section}:", *(f"  {name}: {odd}" for name in names.split())]
    file = tmp_path / "odd.yml"
    file.write_text("\n".join(lines))
    with pytest.raises(ConfigError) as caught:
        load_config(file, ENVIRON)
    report = str(caught.value).replace(str(file), "").replace("${SECRET_TEXT}", "")
    assert "SECRET" not in report
    assert "another value" not in report
    assert not JARGON.search(report)
    keys = [problem.key for problem in caught.value.problems]
    assert len(keys) == len(set(keys)), "one problem a key"
