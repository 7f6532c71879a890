"""A folder of model files: which are models, and that a broken one hides no other."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from warehouse_sync.errors import ConfigError, ModelError
from warehouse_sync.project.model import BrokenModel, ModelSettings, load_models, settings_from
from warehouse_sync.project.render import RenderContext, render
from warehouse_sync.values import EventType, Model

USER = "{{ config(event='identify_user') }}\nselect 1 as user_id"
PARTIAL = "{{ config(event='identify_user', partial=true) }}\nselect 1 as user_id"
TRACK = "{{ config(event='track', unique_key='id', tags='t') }}\nselect 1 as id"


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.sql"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def load(folder: Path, **options: Any) -> dict[str, Model | BrokenModel]:
    return {model.name: model for model in load_models(ModelSettings(path=folder, **options))}


def error_of(model: Model | BrokenModel, folder: Path) -> str:
    assert isinstance(model, BrokenModel)
    return str(model.error).replace(f"{folder}/", "")


def test_which_files_are_models(tmp_path: Path) -> None:
    write(tmp_path, b=TRACK, a=TRACK, crm__deep__c=TRACK, _macros=TRACK, tests__d=TRACK, crm__tests__e=TRACK)
    write(tmp_path, **{".hidden": TRACK, ".git__f": TRACK})
    (tmp_path / "notes.md").write_text("no model")
    (tmp_path / "folder.sql").mkdir()
    (tmp_path / "UPPER.SQL").write_text(TRACK)
    assert list(load(tmp_path)) == ["UPPER", "a", "b", "c"]


def test_a_folder_named_tests_above_is_no_matter(tmp_path: Path) -> None:
    folder = tmp_path / "tests" / ".hidden"
    write(folder, a=TRACK)
    assert list(load(folder)) == ["a"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "there is no folder {0}"),
        ("file.sql", "{0} is a file: name its folder"),
        ("empty", "there is no model file (*.sql) in {0}: is this the folder, and is it mounted?"),
    ],
)
def test_no_folder_with_models(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "file.sql").write_text(TRACK)
    write(tmp_path, empty__tests__a=TRACK, empty___b=TRACK)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / name, file=Path("c.yml"))
    assert str(caught.value) == f"c.yml:1:1: models.path: {message.format(tmp_path / name)}"


def test_one_broken_file_hides_no_other(tmp_path: Path) -> None:
    write(tmp_path, good=TRACK, bad="{{ config(", worse="select 1")
    models = load(tmp_path)
    assert isinstance(models["good"], Model)
    assert isinstance(models["bad"], BrokenModel)
    assert isinstance(models["worse"], BrokenModel)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "a.sql: is empty\n  write {{ config(event='\u2026') }} and a SELECT, or remove the file."),
        (b" \n\t\n", "a.sql: is empty\n  write {{ config(event='\u2026') }} and a SELECT, or remove the file."),
        (b"select\n'\xe4'", "a.sql:2: is not UTF-8\n  save the file in UTF-8."),
        (USER.encode("utf-16"), "a.sql:1: is not UTF-8\n  save the file in UTF-8."),
        (USER.encode("utf-16-le"), "a.sql:1: holds a NUL character\n  save the file in UTF-8."),
    ],
)
def test_what_no_editor_saves_on_purpose(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.sql").write_bytes(data)
    assert error_of(load(tmp_path)["a"], tmp_path) == message


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.sql").write_bytes(b"\xef\xbb\xbf" + USER.replace("\n", "\r\n").encode())
    model = load(tmp_path)["a"]
    assert isinstance(model, Model)
    assert model.sql.startswith("{{")


def test_a_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, a=USER)

    def refuse(_path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert error_of(load(tmp_path)["a"], tmp_path) == "a.sql: cannot be read: Permission denied"


def test_a_link_to_nowhere_is_no_model_that_is_gone(tmp_path: Path) -> None:
    write(tmp_path, a=USER)
    (tmp_path / "b.sql").symlink_to(tmp_path / "gone.sql")
    assert error_of(load(tmp_path)["b"], tmp_path) == "b.sql: cannot be read: No such file or directory"


@pytest.mark.parametrize("name", ["my users", "-x", "a,b", "tag:x", "über", "x" * 101])
def test_a_name_that_no_selector_could_write(name: str, tmp_path: Path) -> None:
    write(tmp_path, **{name: USER})
    assert error_of(load(tmp_path)[name], tmp_path) == (
        f"{name}.sql: a model's name, which is its file's, is up to 100 letters (a-z, A-Z), digits, `_`, `-` and `.`\n"
        "  rename the file; one that is no model has a name that begins with `_`."
    )


def test_two_files_of_one_name_are_both_broken(tmp_path: Path) -> None:
    write(tmp_path, users=USER, crm__Users=TRACK, other=TRACK)
    models = load(tmp_path)
    assert error_of(models["users"], tmp_path) == (
        "users.sql: another model has the same name: crm/Users.sql\n  rename one of them, also if one is disabled."
    )
    assert error_of(models["Users"], tmp_path) == (
        "crm/Users.sql: another model has the same name: users.sql\n  rename one of them, also if one is disabled."
    )
    assert isinstance(models["other"], Model)


def test_two_identify_models_of_one_event_are_both_broken(tmp_path: Path) -> None:
    company = USER.replace("identify_user", "identify_company")
    write(tmp_path, a="\n" + USER, b=PARTIAL, c=company, d=TRACK, e=TRACK)
    models = load(tmp_path)
    hint = "\n  join them, disable all but one, or set partial=true in each, which then has its own properties only."
    assert error_of(models["a"], tmp_path) == f"a.sql:2: another model is identify_user too: b{hint}"
    assert error_of(models["b"], tmp_path) == f"b.sql:1: another model is identify_user too: a{hint}"
    assert models["a"].event is EventType.IDENTIFY_USER
    assert all(isinstance(models[name], Model) for name in "cde")


@pytest.mark.parametrize(
    "second", [USER.replace("user')", "user', enabled=false)"), "{{ config(event='identify_user', nulls=1) }}"]
)
def test_disabled_and_broken_models_are_no_rivals(second: str, tmp_path: Path) -> None:
    write(tmp_path, a=USER, b=second)
    assert isinstance(load(tmp_path)["a"], Model)


def test_partial_models_live_side_by_side(tmp_path: Path) -> None:
    write(tmp_path, a=PARTIAL, b=PARTIAL)
    assert all(isinstance(model, Model) for model in load(tmp_path).values())


def test_a_broken_model_keeps_what_could_be_read(tmp_path: Path) -> None:
    write(tmp_path, a="{{ config(event='track', tags=['x'], enabled=false, lagg=1) }}", b="{{ config(event='trck') }}")
    models = load(tmp_path, defaults={"tags": "all"})
    assert (models["a"].event, models["a"].tags, models["a"].enabled) == (EventType.TRACK, ("all", "x"), False)
    assert (models["b"].event, models["b"].tags, models["b"].enabled) == (None, ("all",), True)


def test_an_override_may_name_a_broken_model(tmp_path: Path) -> None:
    write(tmp_path, users="{{ config(")
    assert isinstance(load(tmp_path, overrides={"users": {"lag": "1h"}})["users"], BrokenModel)


def test_settings_from_the_config(tmp_path: Path) -> None:
    models = SimpleNamespace(
        path=tmp_path,
        vars={"a": 1},
        sources={"app": "raw.app"},
        refs={"b": "c.b"},
        timezone="Europe/Berlin",
        config={"tags": "x"},
        overrides={"users": {"lag": "1h"}},
    )
    position = {"a": (1, 2)}.__getitem__
    config = SimpleNamespace(
        models=models,
        file=tmp_path / "c.yml",
        userpilot=SimpleNamespace(source="web-client"),
        position=position,
        dbt=SimpleNamespace(target_path=None),
        dbt_project=None,
    )
    assert settings_from(cast("Any", config), {"E": "1"}) == ModelSettings(
        path=tmp_path,
        file=tmp_path / "c.yml",
        vars={"a": 1},
        sources={"app": "raw.app"},
        refs={"b": "c.b"},
        timezone="Europe/Berlin",
        defaults={"tags": "x"},
        overrides={"users": {"lag": "1h"}},
        source="web-client",
        environ={"E": "1"},
    )


def test_the_context_of_a_rendering(tmp_path: Path) -> None:
    of_models = ModelSettings(tmp_path, vars={"a": 1}, sources={"s": "x"}, refs={"r": "y"}, environ=os.environ)
    context = of_models.context(incremental=True, cursor_from="7")
    assert (context.incremental, context.cursor_from, context.vars) == (True, "7", {"a": 1})
    assert (context.sources, context.refs, context.environ) == ({"s": "x"}, {"r": "y"}, os.environ)
    assert of_models.context().incremental is False


PIECES = [
    "{{ config(event='track', unique_key='id') }}",
    "{{ config(event='identify_user', ",
    "cursor=x",
    "lag=[]",
    ") }}",
    "{{",
    "}}",
    "{%",
    "%}",
    "{#",
    "#}",
    "{% if is_incremental() %}",
    "{% endif %}",
    "{% set x = 1 %}",
    "{{ var('x') }}",
    "{{ ref('a')[0](1) }}",
    "select 1",
    ";",
    "'",
    "\n",
    "\u2028",
]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
def test_any_text_is_a_model_or_broken_and_renders_or_is_refused(tmp_path: Path, text: str) -> None:
    write(tmp_path, a=text, b=TRACK)
    models = load(tmp_path)
    assert isinstance(models["b"], Model)
    if isinstance(models["a"], Model):
        with suppress(ModelError):
            render(models["a"], RenderContext(incremental=True, cursor_from="1"), "duckdb")
