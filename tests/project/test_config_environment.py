"""Variables inside scalars."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse_sync.project.yaml.environment import Expanded, Expansion, expand, secret_variables

ENVIRON = {"A": "one", "EMPTY": "", "REF": "${A} {{ env_var('A') }}"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${A}", "one"),
        ("x${A}y${A}z", "xoneyonez"),
        ("${EMPTY}", ""),
        ("${EMPTY:-default}", "default"),
        ("${NONE:-default}", "default"),
        ("${NONE:-}", ""),
        ("${NONE:-a: #b}", "a: #b"),
        ("${A:-default}", "one"),
        ("$${A}", "${A}"),
        ("$${A} ${A}", "${A} one"),
        ("$A $ {A} {A} $$", "$A $ {A} {A} $$"),
        ("{{ env_var('A') }}", "one"),
        ('{{env_var("A")}}', "one"),
        ("{{ env_var('NONE', 'd') }}/x", "d/x"),
        ('{{ env_var("NONE", "d") }}', "d"),
        ("{{ env_var('NONE', '') }}", ""),
        ("{{ env_var('EMPTY', 'd') }}", ""),
        ("{{ env_var('NONE', 5432) }}", "5432"),
        ("{{ env_var('NONE', True) }}", "True"),
        ("${REF}", "${A} {{ env_var('A') }}"),
    ],
)
def test_expansion(text: str, expected: str) -> None:
    expansion = expand(text, ENVIRON)
    assert expansion.text == expected
    assert expansion.problems == ()
    assert isinstance(expansion.text, Expanded) == bool(expansion.variables)


@pytest.mark.parametrize("text", ["${NONE}", "{{ env_var('NONE') }}", "${NONE} ${NONE}"])
def test_a_missing_variable_is_named_once(text: str) -> None:
    assert expand(text, ENVIRON) == Expansion(text, ("NONE",) * text.count("NONE"), ("NONE",))


@pytest.mark.parametrize(
    "text", ["${}", "${1}", "${A", "${A-b}", "${A:?b}", "${a.b}", "${Ä}", "${NONE:-${A}}", "${A:-${A:-b}}"]
)
def test_what_is_no_variable(text: str) -> None:
    (problem,) = expand(text, ENVIRON).problems
    assert problem.startswith("`${` does not begin a variable")


@pytest.mark.parametrize("text", ["{{ A }}", "{{ env_var('A') | int }}", "{{ env_var(A) }}", "{{", "{{ var('a') }}"])
def test_what_is_no_env_var(text: str) -> None:
    (problem,) = expand(text, ENVIRON).problems
    assert problem.startswith("only {{ env_var('NAME') }}")


@given(st.text())
def test_text_without_references_stays_the_same_object(text: str) -> None:
    if "${" not in text and "{{" not in text:
        assert expand(text, {}).text == text


def test_variables_that_are_secret_by_their_name() -> None:
    environ = {"DBT_ENV_SECRET_A": "a", "WAREHOUSE_SYNC_SECRET_B": "b", "DBT_ENV_SECRET_C": "", "SECRET": "d"}
    assert secret_variables(environ) == ("a", "b")
