"""Sealed batches: every line once and in order, within both limits, durable names, nothing left after a failure."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warehouse_sync.errors import DiskError
from warehouse_sync.outbox import KEY_COLUMNS, BatchLimits, Outbox, SealedFile


def rows(lines: list[str], start: int = 0) -> pa.RecordBatch:
    count = len(lines)
    return pa.record_batch(
        {
            "line": pa.array([line + "\n" for line in lines], pa.large_string()),
            "key": pa.array([str(start + n) for n in range(count)], pa.large_string()),
            "key_hash": pa.array([b"k" * 16] * count, pa.large_binary()),
            "row_hash": pa.array([b"r" * 16] * count, pa.large_binary()),
            "cursor": pa.array(range(start, start + count), pa.int64()),
            "inserted_at": pa.array([0] * count, pa.timestamp("us")),
        }
    )


def seal(home: Path, chunks: list[list[str]], limits: BatchLimits) -> tuple[Outbox, list[SealedFile]]:
    outbox = Outbox(home)
    start = 0
    with outbox.writer("users", 1, limits) as writer:
        for chunk in chunks:
            writer.write(rows(chunk, start))
            start += len(chunk)
        return outbox, writer.close()


chunks_of_lines = st.lists(st.lists(st.text("ab\u00e9\U0001f600", max_size=9), max_size=7), max_size=7)


@settings(max_examples=60, deadline=None)
@given(chunks=chunks_of_lines, max_rows=st.integers(1, 6), max_bytes=st.integers(1, 60))
def test_any_rows_and_limits(tmp_path_factory, chunks, max_rows, max_bytes):
    outbox, sealed = seal(tmp_path_factory.mktemp("home"), chunks, BatchLimits(max_rows, max_bytes))
    written = [outbox.lines(file.name).read_bytes() for file in sealed]
    assert b"".join(written).decode() == "".join(line + "\n" for chunk in chunks for line in chunk)
    for file, content in zip(sealed, written, strict=True):
        assert file.rows == content.count(b"\n") <= max_rows
        assert file.bytes == len(content)
        assert len(content) <= max_bytes or file.rows == 1, "only a line that is longer than a batch may exceed it"
        assert file.sha256 == hashlib.sha256(content).hexdigest()
        assert outbox.is_whole(file.name, file.rows, file.bytes, file.sha256)
    keys = [key for file in sealed for key in pq.read_table(outbox.keys(file.name)).column("key").to_pylist()]
    assert keys == [str(n) for n in range(sum(map(len, chunks)))]


def test_a_sliced_batch_writes_only_its_own_lines(tmp_path):
    outbox = Outbox(tmp_path)
    with outbox.writer("users", 1, BatchLimits(10, 1000)) as writer:
        writer.write(rows(["zero", "one", "two", "three"]).slice(1, 2))
        (file,) = writer.close()
    assert outbox.lines(file.name).read_text() == "one\ntwo\n"
    assert pq.read_table(outbox.keys(file.name)).column("key").to_pylist() == ["1", "2"]


def test_files_are_private_and_complete(tmp_path):
    outbox, (file,) = seal(tmp_path, [["a", "b"]], BatchLimits(10, 1000))
    assert sorted(path.name for path in (outbox.root / "users").iterdir()) == [
        "00000001-00000.keys.parquet",
        "00000001-00000.ndjson",
    ]
    for path in (outbox.lines(file.name), outbox.keys(file.name)):
        assert path.stat().st_mode & 0o777 == 0o600
    assert pq.read_schema(outbox.keys(file.name)).names == list(KEY_COLUMNS)


@pytest.mark.parametrize("harm", ["lines gone", "lines cut", "lines changed", "keys gone", "keys cut", "keys changed"])
def test_a_damaged_batch_is_noticed(tmp_path, harm):
    outbox, (file,) = seal(tmp_path, [["aaaa", "bbbb"]], BatchLimits(10, 1000))
    kind, how = harm.split()
    path = outbox.lines(file.name) if kind == "lines" else outbox.keys(file.name)
    if how == "gone":
        path.unlink()
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        one = b"a" if kind == "lines" else pq.read_table(path).column("key_hash")[1].as_py()
        path.write_bytes(path.read_bytes().replace(one, b"x" * len(one)))
        assert kind == "lines" or pq.read_table(path).num_rows == file.rows, "only the checksum tells"
    assert not outbox.is_whole(file.name, file.rows, file.bytes, file.sha256)


def test_an_error_leaves_no_file(tmp_path):
    outbox = Outbox(tmp_path)

    def killed() -> None:
        with outbox.writer("users", 1, BatchLimits(2, 1000)) as writer:
            writer.write(rows(["a", "b", "c", "d", "e"]))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        killed()
    assert list((outbox.root / "users").iterdir()) == []


@pytest.mark.parametrize("line", ["d" * 5000, "d"], ids=["lines", "keys"])
def test_a_file_that_may_not_grow_is_our_error_and_leaves_no_file(tmp_path, line):
    outbox = Outbox(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, hard))
    try:
        with pytest.raises(DiskError, match="File too large"):
            seal(tmp_path, [["a", "b", "c"], [line] * 5], BatchLimits(2, 9999))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((outbox.root / "users").iterdir()) == []


def test_a_failing_sync_is_our_error(tmp_path, monkeypatch):
    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    outbox = Outbox(tmp_path)
    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(DiskError, match="Input/output error"):
        seal(tmp_path, [["a", "b", "c"]], BatchLimits(2, 99))
    assert list((outbox.root / "users").iterdir()) == []


def test_without_drops_lines_and_their_keys(tmp_path):
    outbox, (file,) = seal(tmp_path, [["a", "", "c\u2028", "d"]], BatchLimits(10, 1000))
    rest = outbox.without(file, [0, 3], "users/00000001-00000-r")
    assert rest is not None
    assert outbox.lines(rest.name).read_text(encoding="utf-8") == "\nc\u2028\n"
    assert (rest.rows, rest.bytes) == (2, len("\nc\u2028\n".encode()))
    assert outbox.is_whole(rest.name, rest.rows, rest.bytes, rest.sha256)
    assert pq.read_table(outbox.keys(rest.name)).column("key").to_pylist() == ["1", "2"]
    assert outbox.without(file, [0, 1, 2, 3], "users/none") is None


@pytest.mark.parametrize("good", [0, 1], ids=["keys", "lines"])
def test_a_sync_that_fails_for_one_of_two_files_leaves_neither(tmp_path, monkeypatch, good):
    outbox, (file,) = seal(tmp_path, [["a", "b"]], BatchLimits(10, 1000))
    before = sorted(outbox.root.rglob("*"))
    works = iter([True] * good)

    def sync(descriptor: int) -> None:
        if not next(works, False):
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", sync)
    with pytest.raises(DiskError, match="Input/output error"):
        outbox.without(file, [0], "users/00000001-00000-r")
    assert sorted(outbox.root.rglob("*")) == before


def test_sweep_removes_what_nobody_recorded(tmp_path):
    outbox, sealed = seal(tmp_path, [["a", "b", "c"]], BatchLimits(1, 1000))
    (outbox.root / "users" / "00000002-00000.ndjson.tmp").write_text("half")
    stuck = outbox.root / "users" / "00000003-00000.ndjson.tmp"
    stuck.mkdir()
    assert outbox.sweep({sealed[1].name}) == [stuck], "what the system does not let go keeps no run from its work"
    stuck.rmdir()
    assert {path.name.split(".")[0] for path in (outbox.root / "users").iterdir()} == {sealed[1].name.split("/")[1]}
    assert outbox.is_whole(sealed[1].name, sealed[1].rows, sealed[1].bytes, sealed[1].sha256)
    outbox.remove(sealed[1].name)
    assert list((outbox.root / "users").iterdir()) == []
