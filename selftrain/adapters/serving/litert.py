"""A LiteRT predictor: the network as LiteRT runs it on a processor, which is faster there than TensorFlow's own graph.

LiteRT's kernels (XNNPACK) take about 60 % of the processor time that TensorFlow takes for MobileNetV2. They answer one
image at a time, so an answer does not depend on the other images of its batch.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from selftrain.adapters.process.quiet_start import native_stderr_held
from selftrain.adapters.serving.frozen import frozen, frozen_predictor
from selftrain.data.workers import cores

if TYPE_CHECKING:
    import keras

UInt8s = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
LARGEST = 500_000_000  # bytes of weights; converting a model takes a few times as much memory
COPIES = 1_000_000_000  # bytes: each interpreter holds the weights again, in the order that its kernels read
TOLERANCE = 1e-3  # of the largest logit of a random image


def fast_predictor(model: keras.Model) -> Callable[[UInt8s], Floats]:
    """uint8 images (n, side, side, 3) to logits (n, classes): LiteRT where it can, else the frozen model."""
    return litert_predictor(model) or frozen_predictor(model)


def litert_predictor(model: keras.Model) -> Callable[[UInt8s], Floats] | None:
    """uint8 images (n, side, side, 3) to logits (n, classes), by one interpreter per core.

    None where LiteRT cannot stand in for Keras: Keras computes elsewhere or on a GPU, the model is very large, it has
    a layer that LiteRT lacks, or the two differ on a random image by more than TOLERANCE.
    """
    import keras

    weights = sum(variable.value.dtype.size * int(np.prod(variable.shape)) for variable in model.variables)
    if keras.config.backend() != "tensorflow" or keras.distribution.list_devices("gpu") or weights > LARGEST:
        return None
    try:
        with native_stderr_held(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content, image, wanted = _converted(model)
            count = max(1, min(cores(), COPIES // max(weights, 1)))
            interpreters = _Interpreters(content, count=count, threads=cores() // count)
            answer = interpreters(image)
    except Exception:  # the converter raises anything for a layer that it does not know; TensorFlow knows all
        return None
    close = np.abs(answer - wanted).max() <= TOLERANCE * max(1.0, float(np.abs(wanted).max()))
    return interpreters if close else None


def _converted(model: keras.Model) -> tuple[bytes, UInt8s, Floats]:
    """The model as LiteRT reads it, one random image (1, side, side, 3), and TensorFlow's logits for it."""
    import tensorflow as tf

    shape = (1, *model.input_shape[1:])
    network = tf.function(frozen(model), input_signature=[tf.TensorSpec(shape, tf.uint8)], autograph=False)
    concrete = network.get_concrete_function()
    content = tf.lite.TFLiteConverter.from_concrete_functions([concrete]).convert()
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    return content, image, np.asarray(concrete(tf.constant(image)))


class _Interpreters:
    """`count` interpreters of one model, which share each batch."""

    def __init__(self, content: bytes, *, count: int, threads: int) -> None:
        import tensorflow as tf

        self._all = [tf.lite.Interpreter(model_content=content, num_threads=threads) for _ in range(count)]
        for each in self._all:
            each.allocate_tensors()
        self._threads = ThreadPoolExecutor(count)

    def __call__(self, images: UInt8s) -> Floats:
        """Logits (n, classes) of uint8 images (n, side, side, 3)."""
        shares = np.array_split(images, len(self._all))
        return np.concatenate(list(self._threads.map(_answer, self._all, shares)))


def _answer(interpreter: Any, images: UInt8s) -> Floats:
    """Logits (n, classes) of `images`, one after the other. LiteRT computes without the lock of the interpreter."""
    takes, gives = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]
    logits = np.empty((len(images), gives["shape"][-1]), np.float32)
    for place, image in enumerate(images):
        interpreter.set_tensor(takes, np.ascontiguousarray(image)[None])
        interpreter.invoke()
        logits[place] = interpreter.get_tensor(gives["index"])[0]
    return logits
