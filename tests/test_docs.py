"""The README is tested: its YAML loads, its models load and render, its commands exist; so does the example project."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from warehouse_sync.cli import sample
from warehouse_sync.cli.main import cli
from warehouse_sync.cli.project_files import schema_text
from warehouse_sync.project.config import Config, json_schema, load_config
from warehouse_sync.project.model import BrokenModel, ModelSettings, load_models, settings_from
from warehouse_sync.project.render import render, wrap
from warehouse_sync.values import EventType, Model

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
CONFIGS = sorted((ROOT / "configs").glob("*.yml"))
DIALECTS = ("duckdb", "snowflake", "postgres")


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def commands(text: str) -> Iterator[list[str]]:
    """The arguments of every `warehouse-sync …` in the sh blocks, one list a command."""
    for block in blocks("sh", text):
        for line in block.splitlines():
            for part in re.split(r"&&|\|", line):
                words = shlex.split(part, comments=True)
                if "warehouse-sync" in words:
                    yield words[words.index("warehouse-sync") + 1 :]


def verbs_of(group: click.Command) -> dict[str, click.Command]:
    """The commands that a group shows; it may load them only when they are asked for."""
    if not isinstance(group, click.Group):
        return {}
    context = click.Context(group)
    found = {name: group.get_command(context, name) for name in group.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None and not command.hidden}


def options_of(command: click.Command) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


def load_shipped(path: Path) -> Config:
    """A file of configs/, with every variable set that it does not give a default for."""
    return load_config(path, dict.fromkeys(re.findall(r"\$\{(\w+)\}", path.read_text(encoding="utf-8")), "something"))


def load(text: str, folder: Path) -> Config:
    path = folder / "configs" / "prod.yml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return load_config(path, {"USERPILOT_API_KEY": "a-key"})


@pytest.mark.parametrize("text", blocks("yaml"))
def test_yaml_blocks_load(text: str, tmp_path: Path) -> None:
    assert load(text, tmp_path).name == "prod"


def test_the_full_yaml_block_shows_the_defaults(tmp_path: Path) -> None:
    smallest, full = sorted(blocks("yaml"), key=len)
    assert load(full, tmp_path).model_dump() == load(smallest, tmp_path).model_dump()


def test_the_full_yaml_block_shows_every_section_and_key() -> None:
    full = max(blocks("yaml"), key=len)
    schema = json_schema()
    for section, described in schema["properties"].items():
        assert re.search(rf"^{section}:", full, flags=re.MULTILINE), section
        if section == "warehouse":
            continue
        for name in re.findall(r"#/\$defs/(\w+)", str(described)):
            for key in schema["$defs"][name].get("properties", {}):
                assert re.search(rf"\b{key}:", full), f"{section}.{key}"


def test_every_key_of_every_warehouse_is_documented() -> None:
    schema = json_schema()
    rows = {row.split("`")[1]: row for row in README.splitlines() if row.startswith("| `") and " | `" in row}
    for branch in schema["properties"]["warehouse"]["oneOf"]:
        keys = schema["$defs"][branch["$ref"].rpartition("/")[2]]["properties"]
        kind = keys["type"]["const"] if "type" in keys else None
        for key in keys if kind else ():
            assert key == "type" or f"`{key}`" in rows[kind], f"{kind}: {key}"


@pytest.mark.parametrize("text", blocks("sql"))
@pytest.mark.parametrize("dialect", DIALECTS)
def test_sql_blocks_are_models(text: str, dialect: str, tmp_path: Path) -> None:
    (tmp_path / "example.sql").write_text(text, encoding="utf-8")
    settings = ModelSettings(path=tmp_path, sources={"app": "app"})
    (model,) = load_models(settings)
    assert isinstance(model, Model), model.error
    for context in (settings.context(), settings.context(incremental=True, cursor_from="TIMESTAMP '2025-01-01'")):
        assert not render(model, context, dialect).warnings


def test_every_header_key_is_documented() -> None:
    not_keys = {"name", "path", "sql"}
    for key in set(Model.__dataclass_fields__) - not_keys:
        assert re.search(rf"^\|.*`{key}`", README, flags=re.MULTILINE), key


def test_every_field_is_documented() -> None:
    for event in EventType:
        assert f"`{event.value}`" in README


@pytest.mark.parametrize("arguments", [*commands(README), *commands(CONTRIBUTING)], ids=" ".join)
def test_commands_exist(arguments: list[str]) -> None:
    verb, *rest = arguments
    assert verb in verbs_of(cli)
    command = verbs_of(cli)[verb]
    known = options_of(command) | options_of(cli)
    for word in rest:
        if word.startswith("-"):
            assert word.partition("=")[0] in known, f"{verb} has no option {word}"


def test_every_verb_is_in_the_table_of_commands() -> None:
    documented = set(re.findall(r"^\| `([a-z]+)[ `]", README, flags=re.MULTILINE))
    assert set(verbs_of(cli)) <= documented
    for name, command in verbs_of(cli).items():
        for verb in verbs_of(command):
            assert f"`{name} {verb}`" in README


def test_every_option_that_the_readme_names_exists() -> None:
    verbs = [verb for command in verbs_of(cli).values() for verb in (command, *verbs_of(command).values())]
    known = options_of(cli).union(*map(options_of, verbs))
    later = set(re.findall(r"`(--[a-z-]+)`", README.partition("\n| not built yet |")[2].partition("\n")[0]))
    prose = re.sub(r"^```.*?^```$", "", README, flags=re.DOTALL | re.MULTILINE)
    assert set(re.findall(r"`(--[a-z-]+)", prose)) - later <= known


def test_links_lead_somewhere() -> None:
    for text in (README, CONTRIBUTING):
        for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", text):
            assert (ROOT / target).exists(), target


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_shipped_configs_load(path: Path) -> None:
    config = load_shipped(path)
    assert config.models.path == ROOT / "models_sql"
    assert config.userpilot.endpoint == "https://analytex.userpilot.io"
    assert path.read_text(encoding="utf-8").count("yaml-language-server: $schema=schema.json") == 1


def test_the_shipped_schema_is_the_one_of_this_version() -> None:
    written = (ROOT / "configs" / "schema.json").read_text(encoding="utf-8")
    assert written == schema_text(), "write it again: warehouse-sync schema > configs/schema.json"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_shipped_models_render_for_every_shipped_config(path: Path) -> None:
    config = load_shipped(path)
    settings = settings_from(config, {})
    models = load_models(settings)
    assert [model.name for model in models] == ["companies", "events", "page_views", "users"]
    for model in models:
        assert not isinstance(model, BrokenModel), model.error
        for context in (settings.context(), settings.context(incremental=True, cursor_from="DATE '2025-01-01'")):
            rendered = render(model, context, config.warehouse.type)
            assert not rendered.warnings
            assert settings.sources["app"] + "." + model.name in rendered.sql


def test_shipped_models_read_the_sample_warehouse(tmp_path: Path) -> None:
    import duckdb

    sample.create(tmp_path / "warehouse.duckdb")
    settings = settings_from(load_shipped(ROOT / "configs" / "duckdb.yml"), {})
    seen: dict[str, int] = {}
    with duckdb.connect(tmp_path / "warehouse.duckdb", read_only=True) as warehouse:
        for model in load_models(settings):
            assert isinstance(model, Model)
            relation = wrap(render(model, settings.context(), "duckdb").sql)
            seen[model.event.value] = len(warehouse.sql(f"SELECT * FROM {relation}").fetchall())
    assert seen == {"identify_company": 200, "identify_user": 2000, "page_view": 5786, "track": 8000}


def test_the_layer_table_is_the_contract_of_the_imports():
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]["layers"]
    wanted = [{name.removeprefix("warehouse_sync.") for name in layer.split(" | ")} for layer in contract]
    table = CONTRIBUTING.partition("| layer | modules |")[2].partition("\n\n")[0]
    cells = [line.split("|")[2] for line in table.splitlines()[2:]]
    assert [set(re.findall(r"`(\w+)`", layer)) for cell in cells for layer in cell.split(" over ")] == wanted
