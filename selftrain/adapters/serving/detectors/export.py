"""Export of a detector: boxes, classes and scores without doubles, from images of any size, in another format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from selftrain.adapters.serving.detectors import example
from selftrain.adapters.serving.detectors.parity import DetectionParity, Found, check, measure
from selftrain.adapters.serving.export import (
    CONTRACT,
    EXAMPLE,
    FILES,
    Export,
    Format,
    Quantization,
    Serving,
    digest_of_export,
    in_one_line,
    packages_of,
    whole_folder,
    with_rescalings,
    write_form,
)
from selftrain.errors import ConfigError
from selftrain.files.writing import replace_text
from selftrain.learn.detection.saving import SavedDetector

if TYPE_CHECKING:
    import keras

    from selftrain.learn.detection.detect import Choice

Pixels = npt.NDArray[np.uint8]
BY_DEFAULT = 0.5
LEAST = 0.1
"""The score from which detections must be the same; the network answers them from .05 on."""
RESIZING = (
    "EXIF orientation applied, converted to RGB, made smaller (antialiased bicubic) where the longer side is above "
    "`longest`, put in the upper left corner of a ground of the grey `ground` whose sides are multiples of `step`"
)


class DetectorExportContract(BaseModel):
    """What the exported `file` reads and answers, what it was made from, and how it was checked.

    It reads `image`, uint8 0-255 (n, height, width, 3), RGB, as `resizing` says. It answers `boxes` float32 (n, k, 4)
    as x0, y0, x1, y1 in pixels of what it read, `classes` int32 (n, k) and `scores` float32 (n, k), the best first;
    a box with the score 0 does not count. `thresholds` are those per class from which boxes were taken as
    pseudo-labels.
    """

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    format: Format
    quantize: Quantization | None
    file: str
    sha256: str
    longest: int
    step: int
    ground: int
    resizing: str = RESIZING
    channel_order: Literal["RGB"] = "RGB"
    input: Literal["image"] = "image"
    outputs: tuple[str, ...] = ("boxes", "classes", "scores")
    class_names: tuple[str, ...]
    thresholds: dict[str, float]
    model: str
    backbone: str
    identity: str
    weights_sha256: str
    manifest_digest: str
    parity: DetectionParity
    made_with: dict[str, str]


def check_detector_export(wanted: Export) -> None:
    """Raise ConfigError for what a detector cannot be exported as, before it is loaded."""
    if wanted.quantize == "int8":
        raise ConfigError("--quantize int8: the boxes of a detector need more digits; give float16, or leave it out")


def export_detector(
    saved: SavedDetector, images: Sequence[Pixels], wanted: Export, *, called: str
) -> DetectorExportContract:
    """Write the detector as `wanted`, with a contract and an example, if it finds the same objects in `images`.

    `images` (h, w, 3) are of any size. Outlines stay behind: the new file answers boxes alone. Raises ExportError where
    the format cannot hold the model, its detections differ by more than is allowed, or there are none to compare. The
    folder is written whole or not at all.
    """
    from selftrain.learn.detection.detect import Choice
    from selftrain.learn.detection.views import GREY, shrunk

    choice = Choice(longest=saved.contract.longest, outlines=False)
    detector = saved.open(choice)
    step = max(64, *saved.contract.strides)
    own = [(each.boxes, each.classes, each.scores) for each in detector(images, batch_size=1)]
    grounds = [_ground(shrunk(image, choice.longest), step, GREY) for image in images]
    with whole_folder(wanted.out) as part:
        file = part / FILES[wanted.form]
        with in_one_line(f"{wanted.form} cannot hold this model"):
            served = _serving(with_rescalings(detector.model), saved, choice)
            write_form(served, wanted.form, file, quantize=wanted.quantize, images=np.zeros((0, 1, 1, 3), np.uint8))
        with in_one_line(f"{wanted.form} does not run this model"):
            answers = _RUNS[wanted.form](file, grounds)
        pairs = zip(answers, images, strict=True)
        parity = measure(own, [_in_image(each, image, choice.longest) for each, image in pairs], least=LEAST)
        check(parity, wanted.allowed, what=f"{called} as {wanted.form}")
        promised = _contract(saved, wanted, parity, file, called=called, step=step, ground=GREY)
        replace_text(part / CONTRACT, promised.model_dump_json(indent=2) + "\n")
        replace_text(part / EXAMPLE, example.script(wanted.form))
    return promised


_RUNS: dict[Format, Callable[[Path, Any], Any]] = {
    "savedmodel": example.run_savedmodel,
    "litert": example.run_litert,
    "onnx": example.run_onnx,
}


def _contract(
    saved: SavedDetector, wanted: Export, parity: DetectionParity, file: Path, *, called: str, step: int, ground: int
) -> DetectorExportContract:
    contract = saved.contract
    return DetectorExportContract(
        format=wanted.form,
        quantize=wanted.quantize,
        file=file.name,
        sha256=digest_of_export(file),
        longest=contract.longest,
        step=step,
        ground=ground,
        class_names=contract.class_names,
        thresholds={name: contract.thresholds.get(name, BY_DEFAULT) for name in contract.class_names},
        model=called,
        backbone=contract.backbone,
        identity=contract.identity,
        weights_sha256=contract.weights_sha256,
        manifest_digest=contract.manifest_digest,
        parity=parity,
        made_with=packages_of(wanted.form),
    )


def _ground(image: Pixels, step: int, grey: int) -> Pixels:
    height, width = (-(-side // step) * step for side in image.shape[:2])
    ground = np.full((height, width, 3), grey, np.uint8)
    ground[: image.shape[0], : image.shape[1]] = image
    return ground


def _in_image(answer: Found, image: Pixels, longest: int) -> Found:
    """An exported detector's answer in pixels of `image`, without boxes that have no area in it."""
    boxes, classes, scores = (np.asarray(each) for each in answer)
    height, width = image.shape[:2]
    scale = min(1.0, longest / max(height, width))
    inside = np.clip(boxes / scale, 0, np.array([width, height, width, height], np.float32))
    real = (inside[:, 2:] > inside[:, :2]).all(axis=1)
    return inside[real].astype(np.float32), classes[real].astype(np.int64), scores[real]


def _serving(model: keras.Model, saved: SavedDetector, choice: Choice) -> Serving:
    """The TensorFlow function from images to the best `choice.most` boxes, those that others suppress with score 0."""
    import tensorflow as tf

    from selftrain.learn.shapes.boxes import decoded, suppressed

    masks, most, count = saved.contract.masks, choice.most, len(saved.contract.class_names)

    def serve(image: Any) -> dict[str, Any]:
        answers = model(tf.cast(image, tf.float32), training=False)
        every = answers[0][..., masks:] if masks else answers
        size = tf.shape(image)
        scores = tf.sigmoid(tf.cast(every[..., :-4], tf.float32))
        flat = tf.pad(tf.reshape(scores, (size[0], -1)), [[0, 0], [0, most]])  # a small image has fewer than `most`
        best, at = tf.math.top_k(flat, most)
        location = tf.minimum(at // count, tf.shape(scores)[1] - 1)
        where = _grid(size[1], size[2], saved.contract.strides)
        boxes = tf.gather(decoded(tf.cast(every[..., -4:], tf.float32), where), location, batch_dims=1)
        apart = boxes + tf.cast(at % count, tf.float32)[..., None] * 1e5  # boxes of two classes never overlap
        kept = suppressed(tf.ensure_shape(apart, (None, most, 4)), threshold=choice.overlap) & (best >= choice.score)
        return {"boxes": boxes, "classes": tf.cast(at % count, tf.int32), "scores": tf.where(kept, best, 0.0)}

    images = tf.TensorSpec((None, None, None, 3), tf.uint8, name="image")
    return Serving(tf.function(serve, input_signature=[images]), [variable.value for variable in model.variables])


def _grid(height: Any, width: Any, strides: tuple[int, ...]) -> Any:
    """`boxes.grid` for sides that are known only when the network runs."""
    import tensorflow as tf

    from selftrain.learn.shapes.boxes import Grid

    centres, steps = [], []
    for stride in strides:
        y, x = ((tf.cast(tf.range(side // stride), tf.float32) + 0.5) * stride for side in (height, width))
        rows, columns = tf.meshgrid(y, x, indexing="ij")
        centres.append(tf.reshape(tf.stack([columns, rows], axis=-1), (-1, 2)))
        steps.append(tf.fill([tf.shape(centres[-1])[0]], float(stride)))
    return Grid(tf.concat(centres, 0), tf.concat(steps, 0))
