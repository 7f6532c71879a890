"""The files that a dbt project's .dbtignore names: dbt does not read them. Its patterns are git's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

FILE = ".dbtignore"


def ignored(folder: Path | None) -> Callable[[Path], bool]:
    """Tells of a file (absolute, below `folder`, the project's) whether dbt passes over it; without a file never."""
    from pathspec import GitIgnoreSpec

    try:
        lines = [] if folder is None else (folder / FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    spec = GitIgnoreSpec.from_lines(lines)

    def passed_over(path: Path) -> bool:
        return folder is not None and path.is_relative_to(folder) and spec.match_file(path.relative_to(folder))

    return passed_over
