"""Loading a model: a `.keras` file and its contract, checked before anything in it runs."""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from selftrain.errors import BackboneError, UntrustedFileError
from selftrain.learn.models.contract import MODEL_FILE, Contract, file_digest, read_contract

if TYPE_CHECKING:
    import keras

UNREADABLE_ZIP = (  # what zipfile raises for a damaged archive
    OSError, EOFError, RuntimeError, KeyError, ValueError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def load(folder: Path) -> tuple[keras.Model, Contract]:
    """The model in `folder` and its contract.

    The file's digest is checked before anything in it is loaded. Keras loads it in safe mode: no pickle, no code.
    Raises UntrustedFileError if the digest differs, the .keras archive is not whole, or it holds code.
    """
    contract = read_contract(folder)
    path = folder / MODEL_FILE
    digest = file_digest(path) if path.is_file() else "no file"
    if digest != contract.weights_sha256:
        raise UntrustedFileError(
            f"{path} has sha256 {digest}, but its contract says {contract.weights_sha256}; it was changed after it was "
            f"saved and was not loaded: restore it or train again"
        )
    return _load_keras(path), contract


def adopt(path: Path, *, class_names: tuple[str, ...], image_size: int) -> tuple[keras.Model, Contract]:
    """A user's own .keras classifier as one of our models: 0-255 images in, logits out, with a contract.

    It must rescale its input itself. Its answers to random images tell whether it gives logits or probabilities. The
    logarithm of probabilities serves as logits. Raises UntrustedFileError as `load` does. Raises BackboneError if its
    input does not fit `image_size`, its outputs do not fit `class_names`, or these are not two or more different names.
    """
    import keras

    _check_class_names(class_names)
    inner = _load_keras(path)
    _check_shapes(inner, path, classes=len(class_names), image_size=image_size)
    images = keras.Input((image_size, image_size, 3), name="image")
    answers = inner(images)
    if _answers_probabilities(inner, image_size):
        answers = keras.ops.log(keras.ops.maximum(answers, 1e-7))
    model = keras.Model(images, answers, name=inner.name)
    return model, Contract(backbone=inner.name, image_size=image_size, class_names=class_names)


def backbone_of(path: Path) -> str:
    """The backbone of a saved model's folder, or the name of a user's .keras model, without loading it.

    Raises UntrustedFileError for any other path.
    """
    if path.is_dir():
        return read_contract(path).backbone
    try:
        with zipfile.ZipFile(path) as archive:
            return str(json.loads(archive.read("config.json"))["config"]["name"])
    except (*UNREADABLE_ZIP, TypeError) as error:
        raise _no_archive(path) from error


def _load_keras(path: Path) -> keras.Model:
    import keras

    if path.suffix != ".keras" or not zipfile.is_zipfile(path):
        raise _no_archive(path)
    _check_whole(path)
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, KeyError, OSError, json.JSONDecodeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UntrustedFileError(
            f"{path} was refused: {reason}; only models of stock Keras layers without code are loaded"
        ) from error
    return model


def _check_whole(path: Path) -> None:
    """Raise UntrustedFileError unless every member of the archive can be unpacked and has its checksum."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except UNREADABLE_ZIP as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UntrustedFileError(f"{path} is damaged ({reason}) and was not loaded; copy or save it again") from error
    if damaged is not None:
        raise UntrustedFileError(
            f"{path} is damaged ({damaged} differs from its checksum) and was not loaded; copy or save it again"
        )


def _no_archive(path: Path) -> UntrustedFileError:
    return UntrustedFileError(
        f"{path} is not a .keras archive; only the .keras format is loaded: save the model with model.save('x.keras')"
    )


def _check_class_names(class_names: tuple[str, ...]) -> None:
    listed = ", ".join(map(repr, class_names)) or "none"
    if len(class_names) < 2 or not all(class_names) or len(set(class_names)) < len(class_names):
        raise BackboneError(
            f"the classes are {listed}; give two or more names in output order, all different and not empty"
        )


def _check_shapes(model: keras.Model, path: Path, *, classes: int, image_size: int) -> None:
    inputs, outputs = model.input_shape, model.output_shape
    if not isinstance(inputs, tuple) or len(inputs) != 4 or inputs[3] != 3:
        raise BackboneError(f"{path} reads {inputs}; allowed is one input (n, height, width, 3)")
    if any(side not in (None, image_size) for side in inputs[1:3]):
        raise BackboneError(f"{path} reads {inputs[1]}x{inputs[2]} px; set image_size to that (it is {image_size})")
    if not isinstance(outputs, tuple) or len(outputs) != 2 or outputs[1] != classes:
        raise BackboneError(f"{path} answers {outputs}; allowed is (n, {classes}), one column per class name")


def _answers_probabilities(model: keras.Model, image_size: int) -> bool:
    """True if rows are non-negative and sum to 1 on random images."""
    import keras

    images = np.random.default_rng(0).integers(0, 256, (8, image_size, image_size, 3), np.uint8)
    answers = keras.ops.convert_to_numpy(model(images, training=False)).astype(np.float64)
    sums = answers.sum(axis=1)
    return bool((answers >= 0).all() and all(math.isclose(total, 1.0, abs_tol=1e-3) for total in sums))
