"""Secrets out of everything that is printed or logged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

MASK = "*****"


class Scrubber:
    """Replaces secret texts by a mask, the longest first, so that no part of a longer one is left."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: tuple[str, ...] = ()
        self.add(secrets)

    def add(self, secrets: Iterable[str]) -> None:
        """Know more secrets from now on."""
        known = {*self._secrets, *(secret for secret in secrets if secret)}
        self._secrets = tuple(sorted(known, key=lambda secret: (-len(secret), secret)))

    def text(self, text: str) -> str:
        """The text without secrets."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text

    def value(self, value: Any) -> Any:
        """The same for every text in a JSON value but its keys, which are names; other kinds become text."""
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, Mapping):
            return {str(key): self.value(item) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.value(item) for item in value]
        return self.text(str(value))
