"""Writing COCO: what is written is read back as a model's, and pycocotools takes it."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from selftrain.data.sources.objects.coco import read_coco
from selftrain.data.sources.objects.coco_writing import FoundObjects, write_coco


def test_boxes_are_read_back_with_their_scores_and_their_teacher(tmp_path: Path) -> None:
    Image.new("RGB", (60, 40)).save(tmp_path / "a.png")
    Image.new("RGB", (60, 40)).save(tmp_path / "ü b.png")
    images = [
        FoundObjects("a.png", 60, 40, [[1.25, 2.5, 11.25, 22.5], [20, 5, 30, 15]], [1, 0], [0.9, 0.4321]),
        FoundObjects("ü b.png", 60, 40, [], [], []),
    ]
    assert write_coco(tmp_path / "boxes.json", images, ("cat", "dog"), teacher="abc", round_index=2) == 2
    back = read_coco(tmp_path / "boxes.json", images=str(tmp_path))
    objects = back.annotations
    assert back.images["name"].to_pylist() == ["a.png", "ü b.png"]
    assert back.without_objects == 1
    assert objects.boxes.tolist() == [[20, 5, 30, 15], [1.25, 2.5, 11.25, 22.5]]  # sorted by class
    assert objects.scores == pytest.approx(np.array([0.4321, 0.9]), abs=1e-6)
    assert not objects.is_human.any()
    assert objects.table["teacher"].cast("string").to_pylist() == ["abc", "abc"]
    assert objects.table["round"].to_pylist() == [2, 2]
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = COCO(str(tmp_path / "boxes.json"))
    assert sorted(theirs.anns) == [1, 2]
    assert theirs.anns[1]["area"] == 200.0


def test_a_file_without_any_object_is_one(tmp_path: Path) -> None:
    Image.new("RGB", (60, 40)).save(tmp_path / "a.png")
    assert write_coco(tmp_path / "boxes.json", [FoundObjects("a.png", 60, 40, [], [], [])], ("cat",), teacher="t") == 0
    assert len(read_coco(tmp_path / "boxes.json", images=str(tmp_path)).annotations) == 0
