"""Compare and set: every change of a state is one UPDATE that also checks the state it leaves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Connection, Table, and_, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from warehouse_sync.state import tables
from warehouse_sync.state.lifecycle import (
    BATCH_MOVES,
    JOB_MOVES,
    WINDOW_MOVES,
    BatchState,
    IllegalMove,
    JobState,
    StateT,
    WindowState,
    sources,
)

# Far below the most variables that either database takes in one statement.
CHUNK = 5_000
ItemT = TypeVar("ItemT")


@dataclass(frozen=True)
class Cycle(Generic[StateT]):
    """A table with a state and the moves its rows may make."""

    noun: str
    table: Table
    moves: Mapping[StateT, frozenset[StateT]]
    indexed: str
    """The condition of its partial index: the states that are not the last ones."""

    def are_open(self, states: Iterable[StateT]) -> bool:
        """True when rows in these states are found without a look at those that are over."""
        return all(f"'{state}'" in self.indexed for state in states)

    def in_states(self, states: Iterable[StateT]) -> ColumnElement[bool]:
        """True for rows in one of these states."""
        wanted = sorted(states)
        found = self.table.c.state.in_(wanted)
        return and_(text(f"{self.table.name}.{self.indexed}"), found) if self.are_open(wanted) else found


WINDOW: Cycle[WindowState] = Cycle("window", tables.windows, WINDOW_MOVES, tables.OPEN_WINDOWS)
BATCH: Cycle[BatchState] = Cycle("batch", tables.batches, BATCH_MOVES, tables.OPEN_BATCHES)
JOB: Cycle[JobState] = Cycle("job", tables.jobs, JOB_MOVES, tables.OPEN_JOBS)


def chunks(items: Sequence[ItemT]) -> Iterator[Sequence[ItemT]]:
    """Cut a list into parts that fit one statement."""
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]


def insert_into(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that can say ON CONFLICT, which both databases spell alike and SQLAlchemy keeps apart."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def move(
    connection: Connection,
    cycle: Cycle[StateT],
    ids: Iterable[int],
    target: StateT,
    *,
    only: Iterable[StateT] | None = None,
    **values: Any,
) -> None:
    """Move rows to `target` and set `values`, or raise `IllegalMove` when one of them may not go there.

    `only` narrows the states they may come from. The caller's transaction ends with the exception.
    """
    states = cycle.table.c
    allowed = sources(cycle.moves, target)
    if only is not None:
        allowed &= frozenset(only)
    for part in chunks(sorted(set(ids))):
        statement = update(cycle.table).where(states.id.in_(part), states.state.in_(sorted(allowed)))
        if connection.execute(statement.values(state=target, **values)).rowcount != len(part):
            raise IllegalMove(_refusal(connection, cycle, part, target, allowed))


def _refusal(
    connection: Connection, cycle: Cycle[StateT], ids: Sequence[int], target: StateT, allowed: Iterable[StateT]
) -> str:
    origins = " or ".join(sorted(allowed)) or "no state"
    if len(ids) > 1:
        listed = ", ".join(str(one) for one in ids[:10]) + (", …" if len(ids) > 10 else "")
        return f"{cycle.noun} {listed}: not all of them are {origins}, so they cannot become {target}"
    state = connection.scalar(select(cycle.table.c.state).where(cycle.table.c.id == ids[0]))
    found = "is unknown" if state is None else f"is {state}"
    return f"{cycle.noun} {ids[0]} {found}; only from {origins} can it become {target}"
