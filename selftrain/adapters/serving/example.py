"""Examples: how an exported model is run with nothing of ours, as functions and as a script of ten lines."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

NEEDS = {"savedmodel": "tensorflow", "litert": "ai-edge-litert or tensorflow", "onnx": "onnxruntime"}


def run_savedmodel(file: Path, images: Any) -> Any:
    import tensorflow as tf

    served = tf.saved_model.load(str(file)).signatures["serving_default"]
    return served(image=tf.constant(images))["probabilities"].numpy()


def run_litert(file: Path, images: Any) -> Any:
    try:
        import ai_edge_litert.interpreter as litert  # type: ignore[import-not-found]  # not on every platform
    except ImportError:
        import tensorflow

        litert = tensorflow.lite
    runtime = litert.Interpreter(model_path=str(file))
    image, answer = runtime.get_input_details()[0]["index"], runtime.get_output_details()[0]["index"]
    runtime.resize_tensor_input(image, images.shape)
    runtime.allocate_tensors()
    runtime.set_tensor(image, images)
    runtime.invoke()
    return runtime.get_tensor(answer).copy()


def run_onnx(file: Path, images: Any) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(str(file)).run(["probabilities"], {"image": images})[0]


SCRIPT = '''\
"""Label image files: python example.py IMAGE...

It needs numpy, pillow and {needs}, and nothing of selftrain.
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

here = Path(__file__).parent
contract = json.loads((here / "contract.json").read_text())


def read(path):
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode.startswith("I"):  # 16 bits of grey, of which `bits` are filled
        values = np.asarray(image) >> (contract["bits"] or 16) - 8
        image = Image.fromarray(np.minimum(values, 255).astype(np.uint8))
    image = image.convert("RGB")
    return np.asarray(ImageOps.fit(image, [contract["image_size"]] * 2, Image.Resampling.BICUBIC))


{run}


probabilities = run(here / contract["file"], np.stack([read(path) for path in sys.argv[1:]]))
for path, row in zip(sys.argv[1:], probabilities):
    print(path, contract["class_names"][row.argmax()], f"{{row.max():.4f}}", sep="\\t")
'''


def script(form: str) -> str:
    """The example for a format: a whole Python file, whose `run` is the function above."""
    function = {"savedmodel": run_savedmodel, "litert": run_litert, "onnx": run_onnx}[form]
    source = inspect.getsource(function).rstrip()
    plain = re.sub(r"  # type: ignore.*", "", source)
    plain = plain.replace(f"def {function.__name__}(file: Path, images: Any) -> Any:", "def run(file, images):")
    return SCRIPT.format(needs=NEEDS[form], run=plain)
