"""A full disk, on a real one: a small file system in memory, which root may mount."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selftrain.data.intake_table import intake_path, read_intake
from selftrain.data.store.shards import create_shard
from selftrain.errors import DiskFullError, InputError
from selftrain.files.full_disk import full_disk, full_disk_told
from selftrain.files.writing import replace_text
from tests.conftest import Ended
from tests.files.small_disk import SmallDisk, mounted

Paint = Callable[..., Path]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A file system of 400 kB."""
    (tmp_path / "small").mkdir()
    disk = mounted(tmp_path / "small", "400k")
    if not isinstance(disk, SmallDisk):
        pytest.skip(disk)
    yield disk
    disk.unmount()


@pytest.fixture
def small(disk: SmallDisk) -> Path:
    return disk.folder


def write_text(folder: Path) -> None:
    replace_text(folder / "long.txt", "x" * 1_000_000)


def write_parquet(folder: Path) -> None:
    rng = np.random.default_rng(0)
    pq.write_table(pa.table({"x": rng.random(200_000)}), folder / "long.parquet")


def write_shard(folder: Path) -> None:
    writer = create_shard(folder / "shard")
    for _ in range(100):
        writer.write(os.urandom(10_000))
    writer.close()


def write_weights(folder: Path) -> None:
    with h5py.File(folder / "weights.h5", "w") as file:
        file["w"] = np.random.default_rng(0).random(200_000)


def write_database(folder: Path) -> None:
    with sqlite3.connect(folder / "store.db") as store:
        store.execute("create table t (x)")
        store.execute("insert into t values (randomblob(1000000))")
        store.commit()


def write_vaguely(folder: Path) -> None:
    """As DVC's cache of states does, through SQLite: with its shared memory on the full disk."""
    (folder / "rest").write_bytes(b"x" * 380_000)
    with sqlite3.connect(folder / "store.db") as store:
        store.execute("pragma journal_mode=wal")
        store.execute("create table t (x)")
        store.execute("insert into t values (randomblob(1000000))")


@pytest.mark.parametrize(
    "write", [write_text, write_parquet, write_shard, write_weights, write_database, write_vaguely]
)
def test_whatever_a_library_says_of_a_full_disk_is_one_line_that_names_it(
    small: Path, write: Callable[[Path], None]
) -> None:
    with pytest.raises(DiskFullError) as raised, full_disk_told(small):
        write(small)
    (line,) = raised.value.message.splitlines()
    assert re.match(rf"the disk of {small}\S* is full: 0\.\d of 0\.4 MB are free", line)
    assert "selftrain clean --keep-runs" in line


def test_an_error_of_another_kind_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), full_disk_told(tmp_path):
        (tmp_path / "missing").read_bytes()
    with pytest.raises(InputError, match="wrong"), full_disk_told(tmp_path):
        raise InputError("wrong")
    with pytest.raises(sqlite3.OperationalError), full_disk_told(tmp_path):
        raise sqlite3.OperationalError("disk I/O error")  # this disk has room


def test_an_error_that_was_told_keeps_its_line_and_one_that_hides_it_gets_it(tmp_path: Path) -> None:
    first = full_disk(OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "x")), [])
    assert first is not None
    assert full_disk(first, [Path("/")]) is first
    later = RuntimeError("the step failed")
    later.__cause__ = first
    assert full_disk(later, []) is first


@pytest.mark.slow
def test_collect_on_a_full_disk_says_so_leaves_nothing_half_written_and_goes_on(
    small: Path, disk: SmallDisk, tmp_path: Path, paint: Paint, selftrain: Callable[..., Ended]
) -> None:
    for index in range(40):
        paint(tmp_path / "inbox" / f"{index:02}.png", "red", side=100, seed=index)
    config = tmp_path / "full.yaml"
    config.write_text(
        f"parameters: {{experiment: {{name: full, workspace: {small}, source: {{kind: digits}}, "
        f"inbox: {{url: {tmp_path / 'inbox'}, settle_s: 0}}}}}}\n"
    )
    for _ in range(2):
        ended = selftrain("collect", "--config", config)
        assert ended.code == 1
        assert re.fullmatch(rf"Error: the disk of {small}\S* is full: .*\n", ended.err)
        kept = sum(path.stat().st_size for path in small.rglob("*") if path.is_file())
        assert kept < 20_000, "a broken part would keep the disk full"
    disk.resize("20m")
    ended = selftrain("collect", "--config", config)
    assert "taken in  40: 40 new" in ended.out
    assert read_intake(intake_path(small / "datasets" / "full")).num_rows == 40
