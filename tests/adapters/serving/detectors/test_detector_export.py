"""Exports of a detector: each format finds the same boxes, run by the example beside it, which knows nothing of us."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selftrain.adapters.serving.detectors.export import export_detector
from selftrain.adapters.serving.detectors.parity import EXACT, Found, check, measure
from selftrain.adapters.serving.export import Export, Format
from selftrain.errors import ExportError
from selftrain.learn.detection.saving import SavedDetector
from tests.learn.detection.blocks import Block, block_detector, box_of, paint_blocks

pytestmark = [
    pytest.mark.keras,
    # Keras 3.15 converts TensorFlow variables with numpy's older protocol.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    # TensorFlow announces its interpreter's successor, which is not on every platform.
    pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated:UserWarning"),
]

Command = Callable[..., Any]  # tests/conftest.py, selftrain
RED, GREEN = (0, 1, "red"), (3, 2, "green")
FORMATS: list[Format] = ["savedmodel", "litert", "onnx"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> SavedDetector:
    return block_detector(tmp_path_factory.mktemp("blocks") / "model", masks=True)


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Two images of different sizes, neither of them a multiple of 64."""
    paint_blocks(tmp_path / "photos" / "a.png", RED, GREEN, width=100, height=70)
    paint_blocks(tmp_path / "photos" / "b.png", (5, 0, "red"), width=200, height=64)
    return [tmp_path / "photos" / name for name in ("a.png", "b.png")]


@pytest.mark.parametrize(
    "form", [pytest.param("savedmodel", marks=pytest.mark.slow), pytest.param("litert", marks=pytest.mark.slow), "onnx"]
)
def test_the_example_finds_what_the_detector_finds(
    form: Format, saved: SavedDetector, photos: list[Path], tmp_path: Path
) -> None:
    images = [paint_blocks(None, RED, GREEN, width=100, height=70), paint_blocks(None, (5, 0, "red"), width=200)]
    made = export_detector(saved, images, Export(form, None, tmp_path / "out", EXACT), called="blocks")
    assert (made.parity.images, made.parity.objects, made.parity.agreement) == (2, 3, 1.0)
    assert made.parity.largest_difference < 1e-5
    command = [sys.executable, "-I", "example.py", *map(str, photos)]
    done = subprocess.run(command, cwd=tmp_path / "out", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    found = {(Path(path).name, name): [float(value) for value in box] for path, name, _, *box in rows}
    blocks: dict[tuple[str, str], Block] = {
        ("a.png", "red"): RED,
        ("a.png", "green"): GREEN,
        ("b.png", "red"): (5, 0, "red"),
    }
    assert found == {key: box_of(block) for key, block in blocks.items()}
    assert json.loads((tmp_path / "out" / "contract.json").read_text())["outputs"] == ["boxes", "classes", "scores"]


def test_the_command_exports_checks_and_says_what_stays_behind(
    saved: SavedDetector, photos: list[Path], selftrain: Command
) -> None:
    call = ["export", "--format", "onnx", "--model", saved.folder]
    done = selftrain(*call, "--images", "photos", "--out", "phone")
    assert done.code == 0, done.err
    assert "100.0% of the objects in 2 images are found by both" in done.out
    assert "outlines come from" in done.out
    none = selftrain(*call, "--out", "other")
    assert "give a folder of some: --images FOLDER" in none.err
    rounded = selftrain("export", "--format", "litert", "--quantize", "int8", "--model", saved.folder, "--out", "int8")
    assert "the boxes of a detector need more digits; give float16" in rounded.err
    compared = selftrain("compare", saved.folder, saved.folder)
    assert "is a detector, and `selftrain compare` knows classifiers" in compared.err


def test_images_without_objects_show_nothing_and_nothing_is_written(saved: SavedDetector, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no object is found in 1 images"):
        export_detector(
            saved, [paint_blocks(None)], Export("savedmodel", None, tmp_path / "out", EXACT), called="blocks"
        )
    assert list(tmp_path.iterdir()) == []


BOX = np.float32([[0, 0, 10, 10]])


def found(box: np.ndarray = BOX, label: int = 1, score: float = 0.9) -> Found:
    return box, np.array([label]), np.float32([score])


@pytest.mark.parametrize(
    ("other", "agreement"),
    [
        (found(score=0.85), 1.0),
        (found(label=0), 0.0),
        (found(box=BOX + 2), 0.0),
        ((np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32)), 0.0),
    ],
)
def test_a_detection_is_the_same_with_its_class_its_box_and_about_its_score(other: Found, agreement: float) -> None:
    parity = measure([found()], [other], least=0.1)
    assert parity.agreement == agreement
    with pytest.raises(ExportError, match="are found by both"):
        check(parity, EXACT, what="it")  # a score that is .05 off is too much as well
