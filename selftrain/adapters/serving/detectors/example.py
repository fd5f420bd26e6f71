"""Examples for detectors: how an exported one is run with nothing of ours, as functions and as a short script."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

from selftrain.adapters.serving.example import NEEDS


def run_savedmodel(file: Path, images: Any) -> Any:
    import tensorflow as tf

    served = tf.saved_model.load(str(file)).signatures["serving_default"]
    answers = [served(image=tf.constant(image[None])) for image in images]
    return [tuple(each[name].numpy()[0] for name in ("boxes", "classes", "scores")) for each in answers]


def run_litert(file: Path, images: Any) -> Any:
    try:
        import ai_edge_litert.interpreter as litert  # type: ignore[import-not-found]  # not on every platform
    except ImportError:
        import tensorflow

        litert = tensorflow.lite
    runtime = litert.Interpreter(model_path=str(file))
    (image_at,) = [each["index"] for each in runtime.get_input_details()]
    answers = []
    for image in images:
        runtime.resize_tensor_input(image_at, (1, *image.shape))
        runtime.allocate_tensors()
        runtime.set_tensor(image_at, image[None])
        runtime.invoke()
        given = [runtime.get_tensor(each["index"]) for each in runtime.get_output_details()]
        boxes = next(each for each in given if each.ndim == 3)
        classes = next(each for each in given if each.ndim == 2 and each.dtype.kind == "i")
        scores = next(each for each in given if each.ndim == 2 and each.dtype.kind == "f")
        answers.append((boxes[0], classes[0], scores[0]))
    return answers


def run_onnx(file: Path, images: Any) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file))
    answers = [session.run(["boxes", "classes", "scores"], {"image": image[None]}) for image in images]
    return [(boxes[0], classes[0], scores[0]) for boxes, classes, scores in answers]


SCRIPT = '''\
"""Find objects in image files: python example.py IMAGE...

It needs numpy, pillow and {needs}, and nothing of selftrain. A line per object: path, class, score, and x, y, width
and height in pixels of the image.
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

here = Path(__file__).parent
contract = json.loads((here / "contract.json").read_text())


def read(path):
    """The pixels on a grey ground whose sides are multiples of `step`, their scale, and the size of the image."""
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode.startswith("I"):  # 16 bits of grey, of which the upper 8 count
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image = image.convert("RGB")
    scale = min(1.0, contract["longest"] / max(image.size))
    size = tuple(max(round(side * scale), 1) for side in image.size)
    small = image if scale == 1 else image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
    step = contract["step"]
    ground = np.full((-(-size[1] // step) * step, -(-size[0] // step) * step, 3), contract["ground"], np.uint8)
    ground[: size[1], : size[0]] = small
    return ground, scale, image.size


{run}


images = [read(path) for path in sys.argv[1:]]
for path, (_, scale, size), answer in zip(
    sys.argv[1:], images, run(here / contract["file"], [ground for ground, _, _ in images])
):
    for box, label, score in zip(*answer):
        name = contract["class_names"][label]
        x0, y0, x1, y1 = np.clip(box / scale, 0, size * 2)
        if score >= contract["thresholds"][name] and x1 > x0 and y1 > y0:
            numbers = (f"{{value:.1f}}" for value in (x0, y0, x1 - x0, y1 - y0))
            print(path, name, f"{{score:.4f}}", *numbers, sep="\\t")
'''


def script(form: str) -> str:
    """The example for a format: a whole Python file, whose `run` is the function above."""
    function = {"savedmodel": run_savedmodel, "litert": run_litert, "onnx": run_onnx}[form]
    source = re.sub(r"  # type: ignore.*", "", inspect.getsource(function).rstrip())
    plain = source.replace(f"def {function.__name__}(file: Path, images: Any) -> Any:", "def run(file, images):")
    return SCRIPT.format(needs=NEEDS[form], run=plain)
