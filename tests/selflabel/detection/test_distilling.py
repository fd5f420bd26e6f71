"""Data distillation: the images that are labelled for the coming steps, and the boxes that they get."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from selftrain.learn.detection.mirrored import MirroredDetector
from selftrain.learn.detection.network import DetectorShape, build_detector
from selftrain.learn.detection.scenes import Scenes
from selftrain.learn.detection.training import DetectorRecipe
from selftrain.learn.detection.unbiased_teacher import UnbiasedTeacher, Watch
from selftrain.learn.shapes.objects import Objects
from selftrain.selflabel.detection.distilling import VIEWS_OF_IMAGE, labelled_by, learn_from_teacher
from tests.learn.detection.blocks import BLOCKS, block_detector, box_of, paint_blocks

# Keras 3.15 converts TensorFlow variables with numpy's older protocol.
pytestmark = [pytest.mark.keras, pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")]

BLOCK = (1, 2, "green")


def scenes(count: int) -> Scenes:
    none = Objects.of(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    return Scenes([paint_blocks(None, BLOCK, width=128) for _ in range(count)], [none] * count)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> MirroredDetector:
    return MirroredDetector(block_detector(tmp_path_factory.mktemp("blocks")).open(), 2)


def test_each_image_gets_the_boxes_that_all_its_views_show(teacher: MirroredDetector) -> None:
    found = labelled_by(teacher, scenes(3), UnbiasedTeacher((0.5, 0.5)), count=100, seed=(0,))
    assert len(found) == 3
    x, y, width, height = box_of(BLOCK)
    for each in found.objects:
        np.testing.assert_allclose(each.boxes, [[x, y, x + width, y + height]], atol=0.1)
        assert [BLOCKS[label] for label in each.classes] == ["green"]
        assert each.ignored.tolist() == [False]
        assert each.box_weights.tolist() == [0.0]  # where a box ends is taught by people alone


def test_a_box_below_the_threshold_of_its_class_is_ignored(teacher: MirroredDetector) -> None:
    found = labelled_by(teacher, scenes(1), UnbiasedTeacher((0.5, 1.1)), count=100, seed=(0,))
    assert found.objects[0].ignored.tolist() == [True]


def test_only_as_many_images_are_labelled_as_the_views_need(teacher: MirroredDetector) -> None:
    pool = scenes(10)
    some = labelled_by(teacher, pool, UnbiasedTeacher((0.5, 0.5)), count=3 * VIEWS_OF_IMAGE, seed=(0, 1))
    assert len(some) == len(some.images) == len(some.objects) == 3
    assert all(any(image is each for each in pool.images) for image in some.images)


@pytest.mark.slow
def test_a_new_network_learns_the_boxes_that_its_teacher_finds(tmp_path: Path) -> None:
    teacher, watch = block_detector(tmp_path / "blocks").open(), Watch()
    shape = DetectorShape("mobilenet_v2_035", 2, strides=(16,))
    recipe = DetectorRecipe(steps=4, batch_size=2, size=128)
    method = UnbiasedTeacher((0.5, 0.5))
    student, empty = build_detector(shape, seed=0), scenes(2)
    learn_from_teacher(student, shape, recipe, method, empty, scenes(3), teacher=teacher, seed=1, watch=watch)
    assert len(watch.kept) == 4
    assert 0 < watch.kept_lately() <= 1  # a view may cut the block away
