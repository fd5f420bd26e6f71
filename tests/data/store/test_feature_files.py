"""Feature files: rows that are computed once, whoever else writes, and whatever a kill or a full disk leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from selftrain.data.store.feature_files import FeatureFiles, feature_files, prune

WIDTH = 5
IDS = [f"image {number}" for number in range(20)]
VALUES = np.random.default_rng(0).normal(size=(20, WIDTH)).astype(np.float32)


def files_in(folder: Path, budget_mb: int = 1) -> FeatureFiles:
    return FeatureFiles(folder / "features", budget_mb)


def test_features_come_back_by_image_and_in_the_order_asked(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    assert files.keep("net", WIDTH, IDS[:10], VALUES[:10])
    assert files.keep("net", WIDTH, IDS[10:], VALUES[10:])
    values, found = files.read("net", WIDTH, [IDS[17], "a stranger", IDS[2]])
    assert found.tolist() == [True, False, True]
    np.testing.assert_array_equal(values, [VALUES[17], np.zeros(WIDTH), VALUES[2]])


def test_another_network_or_width_has_none_of_them(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    files.keep("net", WIDTH, IDS, VALUES)
    assert not files.read("other", WIDTH, IDS)[1].any()
    assert not files.read("net", WIDTH + 1, IDS)[1].any()


def test_an_image_is_kept_once(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    files.keep("net", WIDTH, IDS, VALUES)
    before = sum(path.stat().st_size for path in feature_files(files.folder))
    files.keep("net", WIDTH, IDS, VALUES)
    assert sum(path.stat().st_size for path in feature_files(files.folder)) == before


@pytest.mark.parametrize(("suffix", "cut"), [("rows", 7), ("index", 3), ("rows", 2 * WIDTH * 4), ("index", 41)])
def test_a_kill_in_the_middle_of_a_write_costs_only_what_was_not_whole(tmp_path: Path, suffix: str, cut: int) -> None:
    files = files_in(tmp_path)
    files.keep("net", WIDTH, IDS, VALUES)
    (path,) = files.folder.glob(f"*.{suffix}")
    os.truncate(path, path.stat().st_size - cut)
    _, found = files.read("net", WIDTH, IDS)
    assert 17 <= found.sum() < 20
    assert found[:17].all()
    files.keep("net", WIDTH, IDS, VALUES)
    values, found = files.read("net", WIDTH, IDS)
    assert found.all()
    np.testing.assert_array_equal(values, VALUES)


def test_a_damaged_row_is_not_handed_out(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    files.keep("net", WIDTH, IDS, VALUES)
    (path,) = files.folder.glob("*.rows")
    data = bytearray(path.read_bytes())
    data[4 * WIDTH * 3] ^= 1
    path.write_bytes(data)
    _, found = files.read("net", WIDTH, IDS)
    assert np.flatnonzero(~found).tolist() == [3]


def test_processes_that_write_at_once_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from selftrain.data.store.feature_files import FeatureFiles\n"
        "files = FeatureFiles(Path(sys.argv[1]), 1)\n"
        "for number in range(int(sys.argv[2]), 120):\n"
        "    assert files.keep('net', 5, [f'image {number}'], np.full((1, 5), number, np.float32))\n"
    )
    folder = tmp_path / "features"
    both = [subprocess.Popen([sys.executable, "-c", code, str(folder), start]) for start in ("0", "40")]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    values, found = FeatureFiles(folder, 1).read("net", 5, [f"image {number}" for number in range(120)])
    assert found.all()
    assert values[:, 0].tolist() == list(range(120))
    (rows,) = folder.glob("*.rows")
    assert rows.stat().st_size == 120 * 5 * 4


def test_room_is_made_by_removing_what_was_used_longest_ago(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    wide = np.zeros((100, 1000), np.float32)  # .4 MB
    for age, key in enumerate(("newest", "older", "oldest")):
        files.keep(key, 1000, [f"image {number}" for number in range(100)], wide)
        (index,) = files.folder.glob(f"{key}-*.index")
        os.utime(index, (1_000_000 - age, 1_000_000 - age))
    assert files.has_room(["new"], 1000, 100)
    assert {path.name.split("-")[0] for path in feature_files(files.folder)} == {"newest"}
    assert not files.has_room(["new"], 1000, 300)
    assert feature_files(files.folder)


def test_pruning_to_nothing_leaves_no_features_and_no_error_where_there_were_none(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    prune(files.folder, budget_bytes=0)
    files.keep("net", WIDTH, IDS, VALUES)
    prune(files.folder, budget_bytes=0)
    assert feature_files(files.folder) == []
    assert files.keep("net", WIDTH, IDS, VALUES)
    assert files.read("net", WIDTH, IDS)[1].all()


def test_a_disk_that_takes_nothing_is_told_and_not_an_error(tmp_path: Path) -> None:
    (tmp_path / "features").write_text("a file where the folder should be")
    files = files_in(tmp_path)
    assert not files.keep("net", WIDTH, IDS, VALUES)
    assert not files.read("net", WIDTH, IDS)[1].any()
