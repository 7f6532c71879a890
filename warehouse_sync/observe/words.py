"""Words that go with numbers."""

from __future__ import annotations

_VERBS = {"is": "are", "has": "have", "waits": "wait"}


def counted(number: int, words: str) -> str:
    """`1 row`, `2,048 rows`; a verb behind the noun goes with it: `1 batch is`, `2 batches are`."""
    if number == 1:
        return f"1 {words}"
    noun, _, verb = words.rpartition(" ")
    if verb not in _VERBS:
        noun, verb = words, ""
    ending = "es" if noun.endswith("ch") else "s"
    return f"{number:,} {noun}{ending}" + (f" {_VERBS[verb]}" if verb else "")


__all__ = ["counted"]
