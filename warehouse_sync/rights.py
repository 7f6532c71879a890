"""Files that this user may not use: whose they are, and the command that gives them to this one."""

from __future__ import annotations

import os
import pwd
import shlex
from pathlib import Path

READ, CHANGE = os.R_OK | os.X_OK, os.R_OK | os.W_OK | os.X_OK
"""What a user must be allowed to do with a folder: to look, or to change what is in it."""


def refusal(path: Path, needed: int = CHANGE) -> str:
    """Who may not do what with that file or folder, and whose it is, as a sentence without its full stop."""
    what = "read and change" if needed & os.W_OK else "read"
    return f"user `{_name(os.geteuid())}` may not {what} {path}, which belongs to user `{_name(path.stat().st_uid)}`"


def chown(*paths: Path, deep: bool = False) -> str:
    """The command that gives these files to this user, or with `deep` all that is in these folders."""
    places = " ".join(shlex.quote(str(path)) for path in paths)
    return f"`chown {'-R ' if deep else ''}{_name(os.geteuid())} {places}`"


def _name(user: int) -> str:
    """The user's name, or the number where the machine knows none."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
