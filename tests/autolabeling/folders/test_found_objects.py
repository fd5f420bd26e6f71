"""Objects in images of many sizes: looked at together by size, and answered in the order of the files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from selftrain.autolabeling.folders.found_objects import Found, find_objects
from selftrain.autolabeling.folders.sources import ListedImage, read_file
from selftrain.learn.detection.detect import Choice, Detections, Detector
from selftrain.learn.detection.saving import SavedDetector
from selftrain.learn.detection.views import Pixels
from tests.learn.detection.blocks import block_detector, paint_blocks

# Keras 3.15 converts TensorFlow variables with numpy's older protocol.
pytestmark = [pytest.mark.keras, pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")]


class Counted(SavedDetector):
    """A detector that notes how many images it is given at once."""

    asked: ClassVar[list[int]] = []

    def open(self, choice: Choice | None = None) -> Detector:
        asked = self.asked

        class Noted(Detector):
            def __call__(self, images: Sequence[Pixels] | Pixels, **options: Any) -> list[Detections]:
                asked.append(len(images))
                return super().__call__(images, **options)

        opened = super().open(choice)
        return Noted(opened.model, opened.strides, opened.choice)


def test_images_of_one_size_are_looked_at_together_however_they_are_mixed(tmp_path: Path) -> None:
    made = block_detector(tmp_path / "model")
    saved = Counted(made.folder, made.contract)
    for k in range(32):
        blocks = [(0, 1, "red")] if k % 3 == 0 else []
        paint_blocks(tmp_path / f"{k:02}.png", *blocks, width=64 * (1 + k % 4), height=64)
    images = [ListedImage(str(tmp_path / f"{k:02}.png"), "", read_file) for k in range(32)]
    found = list(find_objects(saved, images, {"red": 0.5, "green": 0.5}, threads=2))
    assert saved.asked == [32]  # eight of each size
    assert [each.path for each in found] == [image.path for image in images]
    assert [len(each.objects) for each in found if isinstance(each, Found)] == [int(k % 3 == 0) for k in range(32)]
