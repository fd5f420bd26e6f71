"""selftrain.fit_detector: a COCO file of drawn scenes, a folder of others, and what comes out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import selftrain
from selftrain.errors import ConfigError, SourceError
from selftrain.learn.detection.saving import SavedDetector
from tests.learn.detection.drawn import NAMES
from tests.learn.detection.drawn_coco import coco, pool

# Keras 3.15 converts TensorFlow variables with numpy's older protocol.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.mark.keras
@pytest.mark.slow
def test_boxes_and_images_without_labels_give_a_detector_and_an_answer(tmp_path: Path) -> None:
    labels, more = coco(tmp_path / "labelled", images=60, seed=0, broken=True), pool(tmp_path / "more", images=40)
    (more / "copy.png").write_bytes((tmp_path / "labelled" / "photos" / "0.png").read_bytes())
    (more / "broken.png").write_bytes((more / "1.png").read_bytes()[:60])
    result = selftrain.fit_detector(
        labeled=labels,
        images=tmp_path / "labelled" / "photos",
        unlabeled=more,
        out=tmp_path / "out",
        weights=None,
        view=64,
        teacher_steps=100,
        student_steps=20,
    )
    record = result.record
    assert record.images == {"images for training": 36, "for validation": 12, "for test": 12, "without labels": 40}
    assert record.left_out == {"with an empty box": 1}
    assert [Path(path).name for path in record.unreadable] == ["broken.png"]
    assert record.test["first teacher"] > 0.1
    if record.gain is not None:
        assert (record.low or 0) <= record.gain <= (record.high or 0)
        assert record.gain == pytest.approx(record.test["final"] - record.test["control"])
    assert json.loads((tmp_path / "out" / "record.json").read_text())["kept"] == record.kept
    saved = SavedDetector.read(result.model)
    assert saved.contract.class_names == NAMES
    [found] = saved.open()([np.asarray(Image.open(more / "3.png"))])
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()


@pytest.mark.keras
@pytest.mark.slow
def test_outlines_are_learned_and_measured_unless_they_are_turned_off(tmp_path: Path) -> None:
    labels, more = coco(tmp_path / "labelled", images=20, seed=0, outlines=True), pool(tmp_path / "more", images=4)
    call = {
        "labeled": labels,
        "images": tmp_path / "labelled" / "photos",
        "unlabeled": more,
        "weights": None,
        "view": 64,
        "teacher_steps": 4,
        "student_steps": 2,
    }
    with_outlines = selftrain.fit_detector(out=tmp_path / "with", **call)
    assert with_outlines.record.masks is not None
    assert with_outlines.record.masks.images == 4
    assert any("mAP of the outlines" in line for line in with_outlines.record.lines())
    assert json.loads((tmp_path / "with" / "record.json").read_text())["masks"]["images"] == 4
    assert SavedDetector.read(with_outlines.model).contract.masks
    boxes = selftrain.fit_detector(out=tmp_path / "without", masks=False, **call)
    assert (boxes.record.masks, SavedDetector.read(boxes.model).contract.masks) == (None, 0)


@pytest.mark.parametrize(
    ("changed", "error", "why"),
    [
        ({"view": 100}, ConfigError, "multiple of 32"),
        ({"validation": 0.0}, ConfigError, "between 0 and 1"),
        ({"student_steps": 0}, ConfigError, "is below 1"),
        ({"class_names": ["cat"]}, Exception, "cat"),
    ],
)
def test_what_cannot_work_is_told_before_anything_is_trained(
    tmp_path: Path, changed: dict[str, object], error: type[Exception], why: str
) -> None:
    labels, more = coco(tmp_path / "labelled", images=12, seed=0), pool(tmp_path / "more", images=2)
    call = {"labeled": labels, "images": tmp_path / "labelled" / "photos", "unlabeled": more, "out": tmp_path / "out"}
    with pytest.raises(error, match=why):
        selftrain.fit_detector(**{**call, **changed})
    assert not (tmp_path / "out").exists()


def test_too_few_labelled_images_are_told_with_what_each_split_would_get(tmp_path: Path) -> None:
    labels, more = coco(tmp_path / "labelled", images=5, seed=0), pool(tmp_path / "more", images=2)
    with pytest.raises(SourceError, match=r"5 labelled images leave \d for train, \d for .*; each needs 2"):
        selftrain.fit_detector(
            labeled=labels, images=tmp_path / "labelled" / "photos", unlabeled=more, out=tmp_path / "out"
        )


def test_a_pool_of_labelled_images_alone_and_a_folder_that_is_full_are_refused(tmp_path: Path) -> None:
    labels = coco(tmp_path / "labelled", images=12, seed=0)
    photos = tmp_path / "labelled" / "photos"
    with pytest.raises(SourceError, match="12 are labelled ones"):
        selftrain.fit_detector(labeled=labels, images=photos, unlabeled=photos, out=tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("kept")
    with pytest.raises(ConfigError, match="is not empty"):
        selftrain.fit_detector(labeled=labels, images=photos, unlabeled=photos, out=tmp_path / "full")
    assert (tmp_path / "full" / "mine.txt").read_text() == "kept"
