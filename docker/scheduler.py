#!/usr/bin/env python
"""schedule CRONTAB: run the lines of a crontab in a container, as the user that it is started as.

A line is a cron expression (five fields, or six with seconds in front; @hourly and the like) and a command for /bin/sh.
`NAME=value` sets a variable for the lines below it. Times are those of TZ, UTC without one; when clocks change, Debian
cron's rules hold.

- Lines of its own go to stdout, one for each start and each end; what a command prints goes where this program's goes.
- A clock that was set back by more than a minute is noticed, and said: every line's next time is found anew.
- A line whose command is still at work when its time comes again is passed over, and said.
- SIGTERM goes on to every command that is at work, with all that it started; nothing new starts, and this program ends
  with 0 when the last one has. A second signal goes on too. SIGINT does the same, and goes on as SIGTERM: a shell whose
  program ends well after SIGINT begins the next one.
- It may be process 1: orphans are collected.

Exit code 2: no such file, or a line that is none; every one of them is named. `schedule --check CRONTAB` only looks.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

NICKNAMES = {
    "@yearly": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0", "@daily": "0 0 * * *",
    "@hourly": "0 * * * *",
}  # fmt: skip
VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")
ENDS = (signal.SIGTERM, signal.SIGINT)
LONGEST = 60.0
"""Seconds that are slept at once, so that a clock that was set is noticed."""
SET_BACK = 60.0
"""Seconds by which a clock may go back, so that the lines' times still hold."""
GLANCE = 0.2
"""Seconds between two looks at whether what a shell left behind is over."""


class Refused(Exception):
    """A crontab that cannot be used; one sentence for each reason."""


@dataclass
class Line:
    """One line: what is run, with which variables, when next, and the process while it is at work."""

    number: int
    expression: str
    command: str
    variables: dict[str, str]
    due: datetime
    process: subprocess.Popen[bytes] | None = None
    begun: float = 0.0


def read(text: str, now: datetime) -> list[Line]:
    """The lines of a crontab, each with its first time after `now`. Raises Refused."""
    lines: list[Line] = []
    variables: dict[str, str] = {}
    wrong: list[str] = []
    for number, raw in enumerate(text.splitlines(), 1):
        stripped = raw.strip()
        if not stripped or stripped.startswith("#"):
            continue
        if found := VARIABLE.fullmatch(stripped):
            variables = variables | {found[1]: found[2].strip("\"'")}
            continue
        try:
            expression, command = split(stripped)
            lines.append(Line(number, expression, command, variables, following(expression, now)))
        except Refused as error:
            wrong.append(f"line {number}: {error}")
    if not lines and not wrong:
        wrong.append("no line says when to run what")
    if wrong:
        raise Refused("\n".join(wrong))
    return lines


def split(line: str) -> tuple[str, str]:
    """Expression and command. Six fields are six only if the sixth could be one. Raises Refused."""
    words = line.split(None, 6)
    if words[0].startswith("@"):
        if words[0] not in NICKNAMES or len(words) < 2:
            raise Refused(f"{words[0]} is none of {', '.join(NICKNAMES)}, or has no command")
        return NICKNAMES[words[0]], line.split(None, 1)[1]
    if len(words) == 7 and is_expression(" ".join(words[:6])):
        return " ".join(words[:6]), words[6]
    if len(words) >= 6 and is_expression(" ".join(words[:5])):
        return " ".join(words[:5]), line.split(None, 5)[5]
    raise Refused(f"`{' '.join(words[:5])} …` is no cron expression of five or six fields and a command")


def is_expression(text: str) -> bool:
    """True for a cron expression, with or without seconds."""
    try:
        CronSim(text, datetime.now(UTC))
    except CronSimError:
        return False
    return True


def following(expression: str, now: datetime) -> datetime:
    """The first time after `now`, in its zone. Raises Refused for a day that never comes."""
    try:
        found: datetime = next(CronSim(expression, now))
    except StopIteration:
        raise Refused(f"`{expression}` never comes") from None
    return found


def clock_ahead() -> float:
    """Seconds by which the clock is ahead of one that nobody sets."""
    return datetime.now(UTC).timestamp() - time.monotonic()


def say(message: str) -> None:
    """One line on stdout, with the time in UTC."""
    print(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} schedule: {message}", flush=True)


class Scheduler:
    """Runs lines until a signal ends it. One thread: signals are waited for, never handled in between."""

    def __init__(self, lines: list[Line], zone: tzinfo) -> None:
        self.lines = lines
        self.zone = zone
        self.ending = False
        self.groups: set[int] = set()
        self.ahead = clock_ahead()

    def run(self) -> None:
        """Until SIGTERM or SIGINT came and every command is over."""
        signals = {*ENDS, signal.SIGCHLD}
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        while not self.ending or self._are_at_work():
            came = signal.sigtimedwait(signals, self._pause())
            if came is not None and came.si_signo in ENDS:
                self._end(signal.Signals(came.si_signo).name)
            self._collect()
            self._look_at_the_clock()
            if not self.ending:
                self._start_what_is_due()

    def _pause(self) -> float:
        if self.ending:
            return GLANCE
        nearest = min(line.due for line in self.lines)
        return min(LONGEST, max(0.0, (nearest - datetime.now(self.zone)).total_seconds()))

    def _look_at_the_clock(self) -> None:
        """A clock that was ahead, and was put right, would leave the lines' next times far away."""
        ahead = clock_ahead()
        if self.ahead - ahead <= SET_BACK:
            self.ahead = max(self.ahead, ahead)
            return
        self.ahead, now = ahead, datetime.now(self.zone)
        for line in self.lines:
            line.due = following(line.expression, now)
        nearest = min(line.due for line in self.lines)
        say(f"the clock was set back; next at {nearest.isoformat()}")

    def _start_what_is_due(self) -> None:
        now = datetime.now(self.zone)
        for line in self.lines:
            if line.due > now:
                continue
            line.due = following(line.expression, now)
            if line.process is not None:
                say(f"line {line.number} is still at work since {time.monotonic() - line.begun:.0f} s: passed over")
                continue
            say(f"line {line.number} starts: {line.command}")
            self._start(line)

    def _start(self, line: Line) -> None:
        try:
            # The mask of signals is inherited, and with it a command could not be ended.
            line.process = subprocess.Popen(
                ["/bin/sh", "-c", line.command], env={**os.environ, **line.variables}, stdin=subprocess.DEVNULL,
                start_new_session=True, preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, ()),
            )  # fmt: skip
        except OSError as error:
            say(f"line {line.number} did not start: {error.strerror}")
            return
        line.begun = time.monotonic()

    def _collect(self) -> None:
        """Everything that ended: our commands, and as process 1 also orphans."""
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                self._ended(ended[0], os.waitstatus_to_exitcode(ended[1]))

    def _ended(self, process: int, code: int) -> None:
        for line in self.lines:
            if line.process is not None and line.process.pid == process:
                line.process.returncode = code
                line.process = None
                how = f"exit code {code}" if code >= 0 else f"ended by {signal.Signals(-code).name}"
                say(f"line {line.number} is over: {how}, {time.monotonic() - line.begun:.1f} s")

    def _end(self, name: str) -> None:
        """A shell dies of the signal at once, so it is its whole group that gets it, and that is waited for."""
        self.ending = True
        self.groups |= {line.process.pid for line in self.lines if line.process is not None}
        say(f"{name}: nothing new starts; passed on to {len(self.groups)} at work")
        for group in self.groups:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGTERM)

    def _are_at_work(self) -> bool:
        """Once it ends: is anything left of what got the signal?"""
        for group in list(self.groups):
            try:
                os.killpg(group, 0)
            except ProcessLookupError:
                self.groups.discard(group)
        return bool(self.groups)


def main(words: list[str]) -> int:
    """The command line; returns the exit code."""
    checks = words[:1] == ["--check"]
    if len(words) != 1 + checks or words[-1].startswith("-"):
        print("usage: schedule [--check] CRONTAB", file=sys.stderr)
        return 2
    try:
        zone: tzinfo = ZoneInfo(os.environ["TZ"]) if os.environ.get("TZ") else UTC
        lines = read(Path(words[-1]).read_text(encoding="utf-8"), datetime.now(zone))
    except (OSError, UnicodeDecodeError, Refused) as error:
        print(f"schedule: {words[-1]}: {error}", file=sys.stderr)
        return 2
    except (ValueError, LookupError):
        print(f"schedule: TZ={os.environ['TZ']} is no time zone; write it as Europe/Dublin", file=sys.stderr)
        return 2
    for line in lines:
        say(f"line {line.number}: {line.command}; next at {line.due.isoformat()}")
    if not checks:
        Scheduler(lines, zone).run()
        say("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
