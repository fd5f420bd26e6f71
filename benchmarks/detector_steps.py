"""What do a detector's training step, its lesson on images without labels, and its answers cost?

Nuclei images of 256 px, MobileNetV2 0.35, views of 128 px, 8 a step. A step is measured by what 100 more take, so
that compiling does not count. Answers are compared with a plain script: `predict` on an array of all images and
TensorFlow's own non-maximum suppression; from the arrays, and from PNG files' bytes, as a run has them.
"""

from __future__ import annotations

import io
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from pydantic import JsonValue

from benchmarks.nuclei import VIEW, written
from benchmarks.photos import archive
from benchmarks.pretrained import TEACHER, TEACHER_WEIGHTS
from benchmarks.record import Check, Result
from benchmarks.timing import as_json, in_turns, median

if TYPE_CHECKING:
    import keras

    from selftrain.learn.detection.network import DetectorShape
    from selftrain.learn.detection.scenes import Scenes

SIDE = 256  # of the photos that are taken
FEW, MANY, REPETITIONS = 20, 120, 3
SCORE, OVERLAP, MOST = 0.05, 0.6, 300


def measure(*, quick: bool) -> Result:
    """The processor seconds of a step of each training, and the images a second of each way to ask."""
    with tempfile.TemporaryDirectory() as scratch:
        photos, scenes, shape = _prepared(written(Path(scratch), limit=60 if quick else None))
        model = _built(shape)
        turns = 1 if quick else REPETITIONS
        steps = in_turns(_trainings(model, shape, scenes, many=FEW + 2 if quick else MANY), repetitions=turns)
        asked = in_turns(_ways_to_ask(model, shape, photos), repetitions=turns + 1)
    extra = 2 if quick else MANY - FEW
    cost = {
        name: (median(steps[f"{name}, more"]).cpu - median(steps[name]).cpu) / extra for name in ("plain", "teacher")
    }
    rate = {name: len(photos) / median(taken[1:]).wall for name, taken in asked.items()}  # the first one compiles
    checks = (
        Check(what="a step", measured=cost["plain"], relation="<=", target=0.5, unit="processor s"),
        Check(what="a step of Unbiased Teacher, in plain steps", measured=cost["teacher"] / cost["plain"],
              relation="<=", target=1.4),
        Check(what="images/s from arrays, of the script's", measured=rate["arrays"] / rate["script"],
              relation=">=", target=0.85),
        Check(what="images/s from encoded images, of the script's", measured=rate["encoded"] / rate["script"],
              relation=">=", target=0.85),
    )  # fmt: skip
    details: dict[str, JsonValue] = {"steps": as_json(steps), "asked": as_json(asked), "images": len(photos)}
    return Result(checks=checks, details=details)


def _prepared(labels: Path) -> tuple[np.ndarray, Scenes, DetectorShape]:
    """The photos of one size (n, SIDE, SIDE, 3), their scenes, and the detector's shape."""
    from selftrain.data.sources.objects.coco import read_coco
    from selftrain.learn.detection.network import DetectorShape, levels_for
    from selftrain.selflabel.detection.photos import scenes_of

    labelled = read_coco(labels, images=str(labels.parent))
    sizes = zip(labelled.images["width"].to_pylist(), labelled.images["height"].to_pylist(), strict=True)
    scenes = scenes_of(labelled, [row for row, size in enumerate(sizes) if size == (SIDE, SIDE)], longest=SIDE)
    strides = levels_for(scenes.longer_sides())
    shape = DetectorShape(TEACHER, 1, weights=str(archive(TEACHER_WEIGHTS)), strides=strides)
    return np.stack(list(scenes.images)), scenes, shape


def _built(shape: DetectorShape) -> keras.Model:
    from selftrain.learn.detection.network import build_detector

    return build_detector(shape, seed=0)


def _trainings(model: keras.Model, shape: DetectorShape, scenes: Scenes, *, many: int) -> dict[str, Any]:
    """Both trainings, with few steps and with more."""
    from selftrain.learn.detection.scenes import Scenes
    from selftrain.learn.detection.training import DetectorRecipe, train_detector
    from selftrain.learn.detection.unbiased_teacher import UnbiasedTeacher, learn_from_unlabelled
    from selftrain.learn.networks.copies import copied

    hidden = Scenes(scenes.images, [each.at(np.zeros(0, np.int64)) for each in scenes.objects])

    def plain(steps: int) -> None:
        train_detector(copied(model), shape, DetectorRecipe(steps=steps, size=VIEW), scenes, seed=0)

    def teacher(steps: int) -> None:
        recipe, method = DetectorRecipe(steps=steps, size=VIEW), UnbiasedTeacher((0.3,))
        learn_from_unlabelled(copied(model), shape, recipe, method, scenes, hidden, seed=0)

    return {
        "plain": partial(plain, FEW),
        "plain, more": partial(plain, many),
        "teacher": partial(teacher, FEW),
        "teacher, more": partial(teacher, many),
    }


def _ways_to_ask(model: keras.Model, shape: DetectorShape, photos: np.ndarray) -> dict[str, Any]:
    """Our detector on arrays and on encoded images, and a plain script."""
    import keras
    import tensorflow as tf

    from selftrain.learn.detection.detect import Choice, Detector
    from selftrain.learn.shapes.boxes import decoded, grid
    from selftrain.selflabel.detection.photos import Photos

    detector = Detector(model, shape.strides, Choice(score=SCORE, overlap=OVERLAP, most=MOST, outlines=False))
    where = grid(SIDE, SIDE, shape.strides)
    model.compile(jit_compile=False)

    def script() -> list[tf.Tensor]:
        answers = model.predict(photos, batch_size=8, verbose=0)
        boxes, scores = decoded(answers[..., -4:], where), keras.ops.sigmoid(answers[..., 0])
        return [
            tf.image.non_max_suppression(own, sure, MOST, iou_threshold=OVERLAP, score_threshold=SCORE)
            for own, sure in zip(boxes, scores, strict=True)
        ]

    files = [encoded_png(each) for each in photos]
    return {
        "script": script,
        "arrays": lambda: detector(photos),
        "encoded": lambda: detector(Photos(len(files), files.__getitem__, longest=SIDE)),
    }


def encoded_png(image: np.ndarray) -> bytes:
    """The image as PNG."""
    written_to = io.BytesIO()
    Image.fromarray(image).save(written_to, "PNG")
    return written_to.getvalue()
