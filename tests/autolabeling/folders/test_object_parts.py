"""Objects of many files, written by a command that is killed, and by the one that continues."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from selftrain.autolabeling.folders.object_parts import PART
from selftrain.autolabeling.folders.object_tables import check_object_table, write_objects
from selftrain.autolabeling.folders.sources import ListedImage, ListedSources
from selftrain.errors import ConfigError
from selftrain.learn.detection.saving import SavedDetector
from tests.learn.detection.blocks import block_detector, paint_blocks

# Keras 3.15 converts TensorFlow variables with numpy's older protocol.
pytestmark = [pytest.mark.keras, pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")]

RED = (0, 1, "red")
KILLED_AT = PART + 20


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> SavedDetector:
    return block_detector(tmp_path_factory.mktemp("blocks") / "model", masks=True)


class Disk:
    """Images by path, of which every tenth is broken; a read of the image `killed` ends the command."""

    def __init__(self, folder: Path, *, killed: int | None = None) -> None:
        paint_blocks(folder / "red.png", RED, width=32, height=32)
        self.data, self.killed, self.reads = (folder / "red.png").read_bytes(), killed, Counter[str]()

    def listed(self, *, changed: frozenset[int] = frozenset()) -> ListedSources:
        images = (ListedImage(f"/photos/{k:03}.png", f"{k in changed}", self.read) for k in range(PART + 40))
        return ListedSources(tuple(images), 1)

    def read(self, path: str) -> bytes:
        self.reads[path] += 1
        number = int(Path(path).stem)
        if number == self.killed:
            raise KeyboardInterrupt
        return b"no image" if number % 10 == 9 else self.data


@pytest.mark.parametrize("suffix", [".json", ".csv"])
def test_a_killed_command_continues_after_its_last_part(detector: SavedDetector, tmp_path: Path, suffix: str) -> None:
    disk, out, whole = Disk(tmp_path, killed=KILLED_AT), tmp_path / f"boxes{suffix}", tmp_path / f"whole{suffix}"
    with pytest.raises(KeyboardInterrupt):
        write_objects(detector, disk.listed(), out, called="blocks")
    assert not out.exists()
    check_object_table(out)
    disk.killed = None
    disk.reads.clear()
    done = write_objects(detector, disk.listed(), out, called="blocks")
    assert (done.found, done.images) == (PART, PART + 40)
    assert len(disk.reads) == 40
    at_once = write_objects(detector, disk.listed(), whole, called="blocks")
    assert (at_once.found, at_once.objects, at_once.errors) == (0, done.objects, done.errors)
    assert out.read_text() == whole.read_text()
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.endswith(".parts")) == []


def test_images_that_changed_or_another_threshold_are_looked_at_again(detector: SavedDetector, tmp_path: Path) -> None:
    disk, out = Disk(tmp_path, killed=KILLED_AT), tmp_path / "boxes.csv"
    with pytest.raises(KeyboardInterrupt):
        write_objects(detector, disk.listed(), out, called="blocks")
    disk.killed = None
    done = write_objects(detector, disk.listed(changed=frozenset([3])), out, called="blocks")
    assert done.found == 0
    other = replace(detector, contract=detector.contract.model_copy(update={"thresholds": {"red": 0.7}}))
    disk, out = Disk(tmp_path, killed=KILLED_AT), tmp_path / "more.csv"
    with pytest.raises(KeyboardInterrupt):
        write_objects(detector, disk.listed(), out, called="blocks")
    disk.killed = None
    assert write_objects(other, disk.listed(), out, called="blocks").found == 0


def test_a_table_of_unread_files_that_a_kill_left_is_not_in_the_way(detector: SavedDetector, tmp_path: Path) -> None:
    """The table is written first: a kill between the two files leaves it alone beside the parts."""
    disk, out = Disk(tmp_path, killed=KILLED_AT), tmp_path / "boxes.json"
    with pytest.raises(KeyboardInterrupt):
        write_objects(detector, disk.listed(), out, called="blocks")
    (tmp_path / "boxes.quarantine.csv").write_text("path,reason,detail\n")
    check_object_table(out)
    disk.killed = None
    write_objects(detector, disk.listed(), out, called="blocks")
    assert len((tmp_path / "boxes.quarantine.csv").read_text().splitlines()) == 1 + (PART + 40) // 10
    assert len(json.loads(out.read_text())["images"]) == PART + 40 - (PART + 40) // 10
    with pytest.raises(ConfigError, match="exists, and was left as it is"):
        check_object_table(out)


def test_files_that_could_not_be_opened_are_looked_at_again(detector: SavedDetector, tmp_path: Path) -> None:
    disk, gone = Disk(tmp_path, killed=KILLED_AT), True

    def read(path: str) -> bytes:
        if gone and path == "/photos/003.png":
            raise PermissionError(path)
        return disk.read(path)

    def listed() -> ListedSources:
        images = tuple(replace(each, read=read) for each in disk.listed().images)
        return ListedSources(images, 1)

    out = tmp_path / "boxes.csv"
    with pytest.raises(KeyboardInterrupt):
        write_objects(detector, listed(), out, called="blocks")
    disk.killed, gone = None, False
    disk.reads.clear()
    assert write_objects(detector, listed(), out, called="blocks").found == 0  # its part is open again
    assert disk.reads["/photos/003.png"] == 1
    [row] = [line for line in out.read_text().splitlines() if "/photos/003.png" in line]
    assert "red" in row
