"""The cache of decoded images: what fits the budget stays, what killed processes left goes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from selftrain.data.store.decoded_files import prune, written_whole

WRITER = """
import sys, time
from pathlib import Path
from selftrain.data.store.decoded_files import written_whole
with written_whole(Path(sys.argv[1]) / "new.npy") as part:
    part.write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(600)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def decoded(folder: Path, name: str, *, mb: int, used: int) -> None:
    path = folder / name
    path.write_bytes(bytes(mb * 1_000_000))
    os.utime(path, (used, used))


def test_the_files_used_last_stay_as_far_as_the_budget_goes(tmp_path: Path) -> None:
    for name, mb, used in (("a.npy", 1, 3), ("b.npy", 2, 1), ("c.npy", 1, 2)):
        decoded(tmp_path, name, mb=mb, used=used)
    (tmp_path / "notes.txt").write_text("not ours")
    prune(tmp_path, budget_mb=4)
    assert names(tmp_path) == ["a.npy", "b.npy", "c.npy", "notes.txt"]
    prune(tmp_path, budget_mb=3)
    assert names(tmp_path) == ["a.npy", "c.npy", "notes.txt"]
    prune(tmp_path, budget_mb=0)
    assert names(tmp_path) == ["notes.txt"]
    prune(tmp_path / "gone", budget_mb=1)


def test_what_a_living_process_writes_stays_and_what_a_killed_one_wrote_goes(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "writing"
        prune(tmp_path, budget_mb=0)
        (part,) = tmp_path.iterdir()
        assert part.read_bytes() == b"half"
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    prune(tmp_path, budget_mb=0)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), written_whole(tmp_path / "x.npy") as part:
        part.write_bytes((tmp_path / "gone").read_bytes())
    assert names(tmp_path) == []
    with written_whole(tmp_path / "x.npy") as part:
        part.write_bytes(b"whole")
    assert names(tmp_path) == ["x.npy"]
