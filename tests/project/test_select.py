"""`--select` and `--exclude`: dbt's node selection without the graph."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse_sync.errors import ModelError, UsageError
from warehouse_sync.project.model import BrokenModel
from warehouse_sync.project.select import SelectionScope, select, unmatched
from warehouse_sync.values import EventType, Model

ROOT = Path("/home/me/[shop]/models_sql")


def model(name: str, event: EventType, *tags: str, folder: str = "", enabled: bool = True) -> Model:
    path = ROOT / folder / f"{name}.sql"
    return Model(name=name, path=path, sql="", event=event, tags=tags, enabled=enabled)


def broken(name: str, event: EventType | None = None, *tags: str, enabled: bool = True) -> BrokenModel:
    return BrokenModel(name, ROOT / f"{name}.sql", ModelError("x"), event, tags, enabled)


MODELS: list[Model | BrokenModel] = [
    model("companies", EventType.IDENTIFY_COMPANY, "daily", "crm", folder="crm"),
    model("users", EventType.IDENTIFY_USER, "daily", folder="crm/people"),
    model("page_views", EventType.PAGE_VIEW, "hourly"),
    model("events", EventType.TRACK, "hourly", "big"),
    model("old", EventType.TRACK, "hourly", enabled=False),
    broken("orders", EventType.TRACK, "daily"),
    broken("odd"),
    broken("off", enabled=False),
]
METHODS = "known: a name, tag:, event:, path:, state:, result:, selector:."
ALL = ["companies", "users", "page_views", "events", "orders", "odd"]


def names(*arguments: str, exclude: tuple[str, ...] = (), root: Path | None = ROOT) -> list[str]:
    return [item.name for item in select(MODELS, arguments, exclude, SelectionScope(root))]


@pytest.mark.parametrize(
    ("arguments", "selected"),
    [
        ((), ALL),
        (("users",), ["users"]),
        (("Users",), []),
        (("old",), []),
        (("o*",), ["orders", "odd"]),
        (("??d",), ["odd"]),
        (("[uc]*",), ["companies", "users"]),
        (("users companies",), ["companies", "users"]),
        (("users", "companies", "users"), ["companies", "users"]),
        (("tag:daily",), ["companies", "users", "orders"]),
        (("tag:d*",), ["companies", "users", "orders"]),
        (("tag:daily,event:track",), ["orders"]),
        (("tag:daily,event:track users",), ["users", "orders"]),
        (("tag:daily,*s,path:crm",), ["companies", "users"]),
        (("event:track",), ["events", "orders"]),
        (("event:identify_*",), ["companies", "users"]),
        (("tag:none",), []),
        (("path:crm",), ["companies", "users"]),
        (("path:./crm/",), ["companies", "users"]),
        (("path:crm/*.sql",), ["companies", "users"]),
        (("path:crm/people/users.sql",), ["users"]),
        (("path:models_sql/crm/people",), ["users"]),
        (("crm/people",), ["users"]),
        (("page_views.sql",), ["page_views"]),
        (("*/orders.sql",), ["orders"]),
        (("path:../models_sql/odd.sql",), ["odd"]),
        (("path:/home/me/[[]shop]",), ALL),
        (("path:me",), []),
        (("path:users",), []),
    ],
)
def test_selectors(arguments: tuple[str, ...], selected: list[str]) -> None:
    assert names(*arguments) == selected


def test_exclude() -> None:
    assert names(exclude=("tag:daily", "event:page_view odd")) == ["events"]
    assert names("tag:daily", exclude=("users,tag:daily",)) == ["companies", "orders"]


def test_a_path_is_looked_for_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here = [Model(name="a", path=tmp_path / "sql" / "a.sql", sql="", event=EventType.TRACK)]
    assert select(here, ("path:sql",)) == here
    assert select(here, ("./sql/a.sql",)) == here
    assert select(here, (f"path:{tmp_path}/sql",)) == here
    assert select(here, ("path:a.sql",)) == []


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("", "an empty selector\n  leave --select and --exclude out to take every model."),
        ("  ", "an empty selector\n  leave --select and --exclude out to take every model."),
        ("a,,b", "the selector `a,,b` has an empty part\n  write name,tag:daily without blanks."),
        ("users, tag:daily", "the selector `users,` has an empty part\n  write name,tag:daily without blanks."),
        ("+users", "the selector `+users`: + and @ are not supported\n  models here do not depend on each other."),
        ("users+", "the selector `users+`: + and @ are not supported\n  models here do not depend on each other."),
        ("2+users", "the selector `2+users`: + and @ are not supported\n  models here do not depend on each other."),
        ("tag:a+3", "the selector `tag:a+3`: + and @ are not supported\n  models here do not depend on each other."),
        ("@users", "the selector `@users`: + and @ are not supported\n  models here do not depend on each other."),
        (
            "state:modified",
            "the selector `state:modified` compares with an earlier run\n  name its folder: --state DIR",
        ),
        (
            "result:fail",
            "the selector `result:fail`: `fail` is not known\n  known: success, partial, error, skipped.",
        ),
        (
            "state:modifed",
            "the selector `state:modifed`: `modifed` is not known (nearest: modified)\n"
            "  known: modified, new, old, unmodified.",
        ),
        (
            "selector:nightly",
            "the selector `selector:nightly`: the YAML has no `selectors.nightly`\n"
            "  add it to the YAML: `selectors: {nightly: 'tag:daily event:track'}`.",
        ),
        ("tags:a", f"the selector `tags:a`: `tags:` is not known (nearest: tag)\n  {METHODS}"),
        ("config.enabled:true", f"the selector `config.enabled:true`: `config.enabled:` is not known\n  {METHODS}"),
        ("tag:", "the selector `tag:` says nothing after the colon"),
        (
            "event:identify_usr",
            "the selector `event:identify_usr` names no event type (nearest: identify_user)\n"
            "  known: identify_company, identify_user, page_view, track.",
        ),
    ],
)
def test_a_selector_that_cannot_be_read(selector: str, message: str) -> None:
    for arguments in (("users", selector),):
        with pytest.raises(UsageError) as caught:
            select(MODELS, arguments, around=SelectionScope(ROOT))
        assert str(caught.value) == message
        with pytest.raises(UsageError):
            select(MODELS, exclude=arguments, around=SelectionScope(ROOT))


def test_what_selects_nothing_is_told_with_the_nearest_name() -> None:
    assert unmatched(MODELS, ("user tag:daily", "event:track,users", "old", "tag:dayly"), SelectionScope(ROOT)) == (
        "user selects no enabled model (nearest: users)",
        "event:track,users selects no enabled model",
        "old selects no enabled model (disabled: old)",
        "tag:dayly selects no enabled model (nearest: tag:daily)",
    )


CRITERIA = st.sampled_from(
    ["users", "o*", "*", "tag:daily", "tag:*", "event:track", "event:i*", "path:crm", "page_views.sql", "nobody", "odd"]
)
SELECTORS = st.lists(CRITERIA, min_size=1, max_size=3).map(",".join)
ARGUMENTS = st.lists(SELECTORS, min_size=1, max_size=4)


@given(ARGUMENTS)
def test_several_arguments_are_one_with_spaces(arguments: list[str]) -> None:
    assert names(*arguments) == names(" ".join(arguments)) == names(*reversed(arguments))


@given(ARGUMENTS, ARGUMENTS)
def test_union_and_difference_are_those_of_sets(one: list[str], two: list[str]) -> None:
    both = names(*one, *two)
    assert set(both) == set(names(*one)) | set(names(*two))
    assert both == [name for name in ALL if name in both]
    assert set(names(*one, exclude=tuple(two))) == set(names(*one)) - set(names(*two))


@given(SELECTORS, SELECTORS)
def test_a_comma_is_the_intersection(one: str, two: str) -> None:
    assert set(names(f"{one},{two}")) == set(names(one)) & set(names(two))


@given(ARGUMENTS)
def test_what_is_excluded_too_is_not_selected(arguments: list[str]) -> None:
    assert names(*arguments, exclude=tuple(arguments)) == []


@given(st.text(max_size=20))
def test_any_text_selects_or_is_refused(text: str) -> None:
    with suppress(UsageError):
        assert set(names(text)) <= set(ALL)
