"""Nearest known names, for messages about a name that is not known."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: str, known: Iterable[str]) -> str:
    """` (nearest: x)` for the known name most like `word`, or an empty string; case is no difference."""
    by_case = {name.casefold(): name for name in known}
    close = get_close_matches(word.casefold(), by_case, n=1)
    return f" (nearest: {by_case[close[0]]})" if close else ""


__all__ = ["nearest"]
