"""The served model: raw images in; label, calibrated confidence and all probabilities, or an error, out per image.

A copy of this module and of the core modules it imports travels with each registered model (frozen_code.py). So
images are decoded exactly as in training. This module imports no other adapter.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow.pyfunc
import numpy as np
import numpy.typing as npt
import pandas as pd

from selftrain.data.images.decode import decode
from selftrain.data.images.formats import sniff
from selftrain.errors import ImageError
from selftrain.learn.models.calibrate import softmax
from selftrain.learn.models.contract import Contract
from selftrain.learn.models.loading import load

if TYPE_CHECKING:
    import keras

Pixels = npt.NDArray[np.uint8]
COLUMNS = ("label", "confidence", "probabilities", "error")
IMAGES_A_BATCH = 64
EMPTY_ROW = "the row holds no image; send a file's bytes, or base64 of them"
_NOTHING = ("", "None", "nan", "null")  # what a missing value becomes on its way through a text column
_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4})+(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_WRAPPED = re.compile(r"""data:[^,]*;base64,(.*)|\{['"]b64['"]: *['"](.*)['"]\}""", re.DOTALL)
MAX_PIXELS = 64_000_000  # per image, by its header: a larger one is refused before it is decoded


class ServedModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # mlflow ships no types
    """An MLflow pyfunc around a saved model folder (`.keras` and contract), named `model` among its artifacts."""

    def load_context(self, context: mlflow.pyfunc.PythonModelContext) -> None:
        """Load the model, check its digest against the contract, and compile it before the first request.

        Raises UntrustedFileError where the file is not the registered one.
        """
        self._model, self._contract = load(Path(context.artifacts["model"]))
        side = self._contract.image_size
        predict_logits(self._model, np.zeros((1, side, side, 3), np.uint8))

    def predict(
        self, context: mlflow.pyfunc.PythonModelContext, model_input: pd.DataFrame, params: object = None
    ) -> pd.DataFrame:
        """Answer each row of the column `image`: encoded bytes, base64 text, or a uint8 array (h, w), (h, w, 3|4).

        Text may also be a `data:` address, or `{"b64": TEXT}` as TensorFlow Serving takes it.

        Columns: `label`, `confidence` (0-1, calibrated), `probabilities` (classes,) and `error`. Either `error` is
        null, or the other three are.
        """
        return answer(self._model, self._contract, model_input["image"].tolist())


def answer(model: keras.Model, contract: Contract, images: Sequence[object]) -> pd.DataFrame:
    """One row per image, in order. For an image that cannot be read, only `error` is set, to the reason."""
    rows: list[tuple[str | None, float | None, list[float] | None, str | None]] = []
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        for start in range(0, len(images), IMAGES_A_BATCH):
            batch = images[start : start + IMAGES_A_BATCH]
            read = list(pool.map(lambda image: _read(image, contract.image_size, contract.bits), batch))
            pixels = [one for one in read if not isinstance(one, ImageError)]
            probs = iter(_probs(model, contract, pixels))
            for one in read:
                if isinstance(one, ImageError):
                    rows.append((None, None, None, f"{one.reason}: {one.message}"))
                else:
                    row = next(probs)
                    rows.append((contract.class_names[int(row.argmax())], float(row.max()), row.tolist(), None))
    columns = zip(*rows, strict=True) if rows else ((),) * len(COLUMNS)
    return pd.DataFrame(
        {name: pd.Series(list(column), dtype=object) for name, column in zip(COLUMNS, columns, strict=True)}
    )


def read_image(image: object, size: int, bits: int | None = None) -> Pixels:
    """`image` as uint8 (size, size, 3), as training saw it, with its `bits` of 16; raises ImageError."""
    return decode(encoded(image), size, max_pixels=MAX_PIXELS, bits=bits)


def predict_logits(model: keras.Model, pixels: Pixels) -> npt.NDArray[np.float32]:
    """Logits (n, classes) of at most IMAGES_A_BATCH images. Padding to powers of two limits the compiled shapes."""
    count = len(pixels)
    padded = np.zeros((1 << (count - 1).bit_length(), *pixels.shape[1:]), np.uint8)
    padded[:count] = pixels
    return np.asarray(model.predict_on_batch(padded), dtype=np.float32)[:count]


def _probs(model: keras.Model, contract: Contract, pixels: list[Pixels]) -> npt.NDArray[np.floating]:
    if not pixels:
        return np.empty((0, len(contract.class_names)), np.float32)
    return softmax(predict_logits(model, np.stack(pixels)), contract.temperature)


def _read(image: object, size: int, bits: int | None) -> Pixels | ImageError:
    try:
        return read_image(image, size, bits)
    except ImageError as error:
        return error


def encoded(image: object) -> bytes:
    """The bytes of an image file that holds `image`."""
    match image:
        case bytes() | bytearray() | memoryview():
            return _file(bytes(image))
        case str():
            return _from_text(image)
        case {"b64": str(text)}:
            return _from_text(text)
        case list():
            return _bitmap(_array(image))
        case np.ndarray():
            return _bitmap(image)
    if image is None or image is pd.NA or (isinstance(image, float) and math.isnan(image)):
        raise ImageError("not_an_image", EMPTY_ROW)
    raise ImageError(
        "not_an_image", f"got {type(image).__name__}; allowed are a file's bytes, base64 text or a uint8 array"
    )


def _file(data: bytes) -> bytes:
    """`data`, or what it is the base64 of: for a binary column, MLflow makes bytes of text and may not decode it."""
    if sniff(data) is None and _BASE64.fullmatch(data):
        return base64.b64decode(data)
    return data


def _from_text(text: str) -> bytes:
    """The bytes of base64 `text`, which may be a `data:` address or the text of `{"b64": ...}`."""
    if text.strip() in _NOTHING:
        raise ImageError("not_an_image", EMPTY_ROW)
    wrapped = _WRAPPED.fullmatch(text.strip())
    bare = next(group for group in wrapped.groups() if group is not None) if wrapped else text
    try:
        return base64.b64decode("".join(bare.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError("not_an_image", f"the text is not base64 ({error}); send base64 of a file") from error


def _array(nested: list[object]) -> npt.NDArray[np.generic]:
    """JSON's nested lists as an array, of uint8 where all are integers 0-255."""
    try:
        array = np.asarray(nested)
    except ValueError as error:
        raise ImageError("not_an_image", "the lists are ragged; send rows of equal length") from error
    whole = array.dtype.kind in "iu" and array.size > 0 and int(array.min()) >= 0 and int(array.max()) <= 255
    return array.astype(np.uint8) if whole else array


def _bitmap(array: npt.NDArray[np.generic]) -> bytes:
    """A lossless image file of `array`, so that arrays are decoded as files are."""
    from PIL import Image

    shaped = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    if array.dtype != np.uint8 or not shaped or array.size == 0:
        raise ImageError(
            "unsupported_mode",
            f"got an array of {array.dtype} with shape {array.shape}; allowed is uint8 0-255, (h, w), (h, w, 3|4)",
        )
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(file, "PNG", compress_level=0)
    return file.getvalue()
