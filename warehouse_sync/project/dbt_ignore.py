"""The files that a dbt project's .dbtignore names: dbt does not read them.

The patterns are git's (git-scm.com/docs/gitignore), the last one that fits decides, and unlike git's a `!` can take a
file out of a folder that is ignored, as in dbt.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

FILE = ".dbtignore"

_PIECE = re.compile(r"\\(?P<escaped>.)|(?P<any>\*+)|(?P<one>\?)|\[(?P<not>[!^])?(?P<set>\]?[^\]]*)\]|(?P<plain>.)")


def ignored(folder: Path | None) -> Callable[[Path], bool]:
    """Tells of a file (absolute, below `folder`, the project's) whether dbt passes over it; without a file never."""
    if folder is None:
        return lambda _: False
    try:
        lines = (folder / FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return lambda _: False
    rules = list(_rules(lines))

    def passed_over(path: Path) -> bool:
        if not path.is_relative_to(folder):
            return False
        name = path.relative_to(folder).as_posix()
        return next((drops for fits, drops in reversed(rules) if fits.fullmatch(name)), False)

    return passed_over


def _rules(lines: list[str]) -> Iterator[tuple[re.Pattern[str], bool]]:
    """Each pattern, and whether what fits it is dropped (True) or kept (`!`)."""
    for line in lines:
        text = re.sub(r"(?<!\\)\s+$", "", line)
        if not text or text.startswith("#"):
            continue
        drops = not text.startswith("!")
        yield re.compile(_regex(text if drops else text[1:]), re.DOTALL), drops


def _regex(text: str) -> str:
    """A pattern without its `!`. It fits a folder's name for everything in it."""
    inside = "/.*" if text.endswith("/") else "(?:/.*)?"
    text = text.rstrip("/")
    start = "" if "/" in text else "(?:.*/)?"
    found = ""
    for part in text.lstrip("/").split("/"):
        found += "(?:.*/)?" if part == "**" else f"{_PIECE.sub(_piece, part)}/"
    if text == "**" or text.endswith("/**"):
        return f"{start}{found.removesuffix('(?:.*/)?')}.*"
    return f"{start}{found.removesuffix('/')}{inside}"


def _piece(match: re.Match[str]) -> str:
    if match["any"]:
        return "[^/]*"
    if match["one"]:
        return "[^/]"
    if match["set"] is not None:
        letters = match["set"].replace("\\", "\\\\").replace("]", "\\]").replace("[", "\\[")
        return f"[{'^' if match['not'] else ''}{letters}]"
    return re.escape(match["escaped"] or match["plain"])


__all__ = ["FILE", "ignored"]
