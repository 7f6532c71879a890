"""Rows and a model header -> exact NDJSON, or the reasons (`golden/*.sql`)."""

from __future__ import annotations

from pathlib import Path

import pytest
from events_harness import Case, outcomes, read_cases

CASES = [
    pytest.param(case, id=f"{path.stem}: {case.title}")
    for path in sorted((Path(__file__).parent / "golden").glob("*.sql"))
    for case in read_cases(path)
]


@pytest.mark.parametrize("case", CASES)
def test_golden(case: Case) -> None:
    for source, found in outcomes(case).items():
        assert found == case.expected, source
