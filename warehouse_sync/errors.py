"""Every error of this program, grouped by what the caller does about it.

    WarehouseSyncError              what, where, and a hint: what to do next
      NothingStarted                exit 2: nothing could start
        UsageError                    the command line
        ConfigError                   the YAML file; carries every Problem found
        StateError                    state store or state.dir
        DestinationError              the state belongs to another account or endpoint
        AuthError                     the API refuses the key
      Stopped                       exit 1: started, then had to stop; the next run goes on
        LeaseHeld                     another run holds the lease
        TimeLimit                     --time-limit is over
        Interrupted                   SIGTERM, SIGINT
        DiskError                     no room, read-only
        LocalStateLost                lease lost, state store went away in the middle
        JobsOutOfReach                the API took no job for as long as this run may wait
        Outage                        the API fails every job
      ModelError                    one model ends `error`, the others go on
        ModelErrors                   the same, for several reasons
        WarehouseError                the warehouse refused or broke
          ConnectionLost                in the middle: reading again may do
      ApiError                      the Import API did not do what was asked
        NotSent                       the request never left: safe to send again
        Unclear                       it may have arrived: ask the job list first
        Busy                          409: a job is running
        Throttled                     429: slow down
        Refused                       an answer that will not change by asking again (413, 4xx)

Messages never hold a row, a key or a secret: foreign errors are turned into these at one border each, `from None`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, order=True)
class Problem:
    """One thing wrong in a file: where (path, line, column; from 1, 0 for none), the dotted key if any, and what."""

    path: Path
    line: int
    column: int
    key: str
    message: str

    def __str__(self) -> str:
        place = f"{self.path}" + "".join(f":{number}" for number in (self.line, self.column) if number)
        return f"{place}: {self.key + ': ' if self.key else ''}{self.message}"


class WarehouseSyncError(Exception):
    """Base of all: `message` says what and where, `hint` what to do next."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class NothingStarted(WarehouseSyncError):
    """Nothing could start."""

    exit_code = 2


class UsageError(NothingStarted):
    """The command line asks for something that cannot be."""


class ConfigError(NothingStarted):
    """The YAML file has problems; all of them are in `problems`."""

    def __init__(self, problems: Sequence[Problem], *, hint: str = "") -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems), hint=hint)


class StateError(NothingStarted):
    """The state store or state.dir cannot be used."""


class DestinationError(NothingStarted):
    """The stored state belongs to another account or endpoint."""


class AuthError(NothingStarted):
    """The API refuses the key."""


class Stopped(WarehouseSyncError):
    """The run started and had to stop; what was recorded stays, the next run goes on."""


class LeaseHeld(Stopped):
    """Another run holds the lease of this pipeline."""


class TimeLimit(Stopped):
    """The time given to this run is over."""


class Interrupted(Stopped):
    """A signal asked the run to end."""


class DiskError(Stopped):
    """A file could not be written."""


class LocalStateLost(Stopped):
    """The lease or the state store was lost in the middle of a run."""


class JobsOutOfReach(Stopped):
    """The API did not let any job through for as long as this run may wait."""


class Outage(Stopped):
    """The API fails every job."""


class ModelError(WarehouseSyncError):
    """One model cannot go on; the others do.

    `path` and `line` (1-based, 0 when unknown) name the place in the model file.
    """

    def __init__(self, message: str, *, path: Path | None = None, line: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.path = path
        self.line = line

    def __str__(self) -> str:
        place = "" if self.path is None else f"{self.path}{f':{self.line}' if self.line else ''}: "
        return place + super().__str__()


class ModelErrors(ModelError):
    """Several things are wrong with one model; they are in `errors`, and all of them in the message."""

    def __init__(self, errors: Sequence[ModelError]) -> None:
        self.errors = tuple(sorted(errors, key=lambda error: (not error.line, error.line)))
        first, *rest = self.errors
        texts = [f"{f'line {error.line}: ' if error.line else ''}{_in_a_line(error)}" for error in rest]
        super().__init__("\n  ".join([_in_a_line(first), *texts]), path=first.path, line=first.line)

    @staticmethod
    def of(errors: Sequence[ModelError]) -> ModelError:
        """One error that says all of these, each of them once; of a single one, that one."""
        flat = [one for error in errors for one in (error.errors if isinstance(error, ModelErrors) else (error,))]
        single = list({(error.line, error.message): error for error in flat}.values())
        return ModelErrors(single) if len(single) > 1 else single[0]


def _in_a_line(error: ModelError) -> str:
    return f"{error.message} ({error.hint.rstrip('.')})" if error.hint else error.message


class WarehouseError(ModelError):
    """The warehouse refused the query, or the connection broke."""


class ConnectionLost(WarehouseError):
    """The connection to the warehouse broke while a model was read; the next statement opens a new one."""


class ApiError(WarehouseSyncError):
    """The Import API did not do what was asked. `status` is the HTTP status, 0 without an answer."""

    def __init__(self, message: str, *, status: int = 0, request_id: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.request_id = request_id


class NotSent(ApiError):
    """The request never left this machine: sending it again is safe."""


class Unclear(ApiError):
    """The request may have arrived: the job list says."""


class Busy(ApiError):
    """409: an import job is already running for this account."""


class Throttled(ApiError):
    """429: too many requests. `retry_after` in seconds, None when the answer names none."""

    def __init__(
        self, message: str, *, retry_after: float | None = None, status: int = 429, request_id: str = ""
    ) -> None:
        super().__init__(message, status=status, request_id=request_id)
        self.retry_after = retry_after


class Refused(ApiError):
    """An answer that asking again will not change."""
