"""The contract: what a saved model promises, beside its weights, checked before they are loaded."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from selftrain.errors import BackboneError, ConfigError, UntrustedFileError

if TYPE_CHECKING:
    import keras

FORMAT_VERSION: Literal[1] = 1
MODEL_FILE = "model.keras"
CONTRACT_FILE = "contract.json"
CURVE_FILE = "curve.parquet"
REASON_FILE = "diverged.txt"
_OURS = frozenset({MODEL_FILE, CONTRACT_FILE, CURVE_FILE, REASON_FILE, f".{CONTRACT_FILE}.part"})
UNREADABLE_ZIP = (  # what zipfile raises for a damaged archive
    OSError, EOFError, RuntimeError, KeyError, ValueError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


class Contract(BaseModel):
    """What a model reads and answers, and where it comes from.

    It reads uint8 images (n, image_size, image_size, 3) in `channel_order` and answers logits (n, classes);
    softmax(logits / temperature) are its calibrated probabilities. `thresholds` are the confidences per class name
    that its pseudo-labels were accepted above, `weights_sha256` is the digest of its .keras file, which differs each
    time that it is saved. `values_sha256`, of the weights' values, does not; `lineage` are the identities of the models
    whose answers it was taught or whose weights it began with, and of theirs, oldest first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = FORMAT_VERSION
    backbone: str
    image_size: int = Field(ge=1)
    channel_order: Literal["RGB"] = "RGB"
    class_names: tuple[str, ...] = Field(min_length=2)
    temperature: float = Field(1.0, gt=0)
    thresholds: dict[str, float] = Field(default_factory=dict)
    manifest_digest: str = ""
    weights_sha256: str = ""
    values_sha256: str = ""
    lineage: tuple[str, ...] = ()
    image_steps: int = Field(
        0, ge=0, description="training steps times batch size; in-training methods: (1 + 2 mu) times"
    )
    seconds: float = Field(0.0, ge=0, description="wall time of the training")
    churn: float | None = Field(
        None,
        ge=0,
        le=1,
        description="of a student: the share of the pool, or a sample, that its teacher called otherwise",
    )
    seed: int = 0

    @property
    def identity(self) -> str:
        """What the model is known by as a teacher: the same for the same weights, however often they were saved."""
        return self.values_sha256 or self.weights_sha256

    @property
    def taught(self) -> tuple[str, ...]:
        """The lineage of a model that learns from this one's answers."""
        return tuple(dict.fromkeys((*self.lineage, self.identity)))


@dataclass(frozen=True)
class SavedModel:
    """A folder with a model and its contract."""

    folder: Path
    contract: Contract

    @classmethod
    def read(cls, folder: Path) -> SavedModel:
        """The saved model in `folder`; its file is checked when it is loaded. Raises UntrustedFileError."""
        return cls(folder, read_contract(folder))

    @property
    def digest(self) -> str:
        """sha256 of the weights and of what the model promises, not of how its training went."""
        promised = self.contract.model_dump_json(exclude={"seconds", "churn"})
        return hashlib.sha256(promised.encode()).hexdigest()


def save(model: keras.Model, contract: Contract, folder: Path) -> SavedModel:
    """Writes `model` and `contract`, with the digests filled in, to `folder`, whole or not at all.

    A model that is there is replaced. Raises ConfigError for a folder that holds anything else, which is left alone.
    """
    place = Path(os.path.realpath(folder))
    check_no_other_files(folder)
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{place.name}-", dir=place.parent) as scratch:
        part = Path(scratch) / "new"
        part.mkdir()
        model.save(part / MODEL_FILE)
        digests = {"weights_sha256": file_digest(part / MODEL_FILE), "values_sha256": values_digest(model)}
        signed = contract.model_copy(update=digests)
        (part / CONTRACT_FILE).write_text(signed.model_dump_json(indent=2) + "\n", encoding="utf-8")
        check_no_other_files(folder)
        _put(part, place, old=Path(scratch) / "old")
    return SavedModel(folder, signed)


def _put(part: Path, place: Path, *, old: Path) -> None:
    """Moves `part` to `place`, and what was there to `old`; it is there again if that fails."""
    there = place.exists()
    if there:
        place.rename(old)
    try:
        part.rename(place)
    except BaseException:
        if there and not place.exists():
            old.rename(place)
        raise


def check_no_other_files(folder: Path) -> None:
    """Raise ConfigError where `folder` is there and is no folder, or holds anything but a saved model's own files."""
    if not os.path.lexists(os.path.realpath(folder)):
        return
    if not folder.is_dir():
        raise ConfigError(f"{str(folder)!r} is no folder; it was left as it is, give a folder")
    others = sorted(path.name for path in folder.iterdir() if path.name not in _OURS or path.is_dir())
    if others:
        raise ConfigError(
            f"{str(folder)!r} holds other files ({', '.join(others[:3])}) and was left as it is; give an empty folder"
        )


def check_replaceable(out: Path, *, lineage: tuple[str, ...], trained: bool) -> None:
    """Raise ConfigError unless `out` is empty, not there, or holds an earlier model of the same `lineage` alone.

    It was `trained`, with a curve, or put together of others, without. A student of the loop is none of them.
    """
    check_no_other_files(out)
    if not out.is_dir() or not any(out.iterdir()):
        return
    try:
        found = read_contract(out)
    except UntrustedFileError as error:
        raise ConfigError(f"out={str(out)!r} is not empty; it was left as it is, give another folder") from error
    if found.lineage != lineage or found.churn is not None or (out / CURVE_FILE).is_file() != trained:
        raise ConfigError(
            f"out={str(out)!r} holds a model that was not made of the same ones; "
            f"it was left as it is, give another folder"
        )


def read_contract(folder: Path) -> Contract:
    """The contract in `folder`, without its model. Raises UntrustedFileError if there is none or it is malformed."""
    path = folder / CONTRACT_FILE
    try:
        return Contract.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UntrustedFileError(f"{folder} has no {CONTRACT_FILE}; give a folder that selftrain saved") from error
    except ValidationError as error:
        raise UntrustedFileError(f"{path} is no contract of format {FORMAT_VERSION}: {error.errors()[0]}") from error


def load(folder: Path) -> tuple[keras.Model, Contract]:
    """The model in `folder` and its contract.

    The file's digest is compared before anything of it is read, and Keras loads it in safe mode: no pickle, no
    code. Raises UntrustedFileError if the digest differs, the file is no whole .keras archive, or it holds code.
    """
    contract = read_contract(folder)
    path = folder / MODEL_FILE
    found = file_digest(path) if path.is_file() else "no file"
    if found != contract.weights_sha256:
        raise UntrustedFileError(
            f"{path} has sha256 {found}, its contract says {contract.weights_sha256}; it was changed after it was "
            f"saved and was not loaded: restore it or train again"
        )
    return _load_keras(path), contract


def adopt(path: Path, *, class_names: tuple[str, ...], image_size: int) -> tuple[keras.Model, Contract]:
    """A user's own .keras classifier as a model of ours: 0-255 images in, logits out, with a contract.

    It must do its own rescaling. Whether it answers logits or probabilities is found out by asking it; of
    probabilities the logarithm is taken. Raises UntrustedFileError as `load` does, BackboneError if its input or
    its number of classes differ from `image_size` and `class_names`, or these are not two or more different names.
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

    Raises UntrustedFileError for a path that is neither.
    """
    if path.is_dir():
        return read_contract(path).backbone
    try:
        with zipfile.ZipFile(path) as archive:
            return str(json.loads(archive.read("config.json"))["config"]["name"])
    except (*UNREADABLE_ZIP, TypeError) as error:
        raise _no_archive(path) from error


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def values_digest(model: keras.Model) -> str:
    """sha256 (hex) of the types, shapes and values of a model's weights, in their order."""
    import keras

    digest = hashlib.sha256()
    for weight in model.weights:
        values = np.ascontiguousarray(keras.ops.convert_to_numpy(weight))
        digest.update(f"{values.dtype} {values.shape};".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


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
        raise UntrustedFileError(
            f"{path} is damaged ({reason}) and was not loaded; copy it or save it again"
        ) from error
    if damaged is not None:
        raise UntrustedFileError(
            f"{path} is damaged ({damaged} differs from its checksum) and was not loaded; copy it or save it again"
        )


def _no_archive(path: Path) -> UntrustedFileError:
    return UntrustedFileError(
        f"{path} is no .keras archive; only the .keras format is loaded: save the model with model.save('x.keras')"
    )


def _check_class_names(class_names: tuple[str, ...]) -> None:
    listed = ", ".join(map(repr, class_names)) or "none"
    if len(class_names) < 2 or not all(class_names) or len(set(class_names)) < len(class_names):
        raise BackboneError(f"the classes are {listed}; give two or more, none empty and none twice, in output order")


def _check_shapes(model: keras.Model, path: Path, *, classes: int, image_size: int) -> None:
    inputs, outputs = model.input_shape, model.output_shape
    if not isinstance(inputs, tuple) or len(inputs) != 4 or inputs[3] != 3:
        raise BackboneError(f"{path} reads {inputs}; allowed is one input (n, height, width, 3)")
    if any(side not in (None, image_size) for side in inputs[1:3]):
        raise BackboneError(f"{path} reads {inputs[1]}x{inputs[2]} px; set image_size to it (it is {image_size})")
    if not isinstance(outputs, tuple) or len(outputs) != 2 or outputs[1] != classes:
        raise BackboneError(f"{path} answers {outputs}; allowed is (n, {classes}), one column a class name")


def _answers_probabilities(model: keras.Model, image_size: int) -> bool:
    """True if rows are non-negative and sum to 1 on random images."""
    import keras

    images = np.random.default_rng(0).integers(0, 256, (8, image_size, image_size, 3), np.uint8)
    answers = keras.ops.convert_to_numpy(model(images, training=False)).astype(np.float64)
    sums = answers.sum(axis=1)
    return bool((answers >= 0).all() and all(math.isclose(total, 1.0, abs_tol=1e-3) for total in sums))
