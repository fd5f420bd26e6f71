"""Parity: whether an exported model answers real images as the model that it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field

from selftrain.data.images.decode import decode
from selftrain.data.sources.listing import find_images
from selftrain.data.store.image_store import ImageStore
from selftrain.errors import ConfigError, ExportError, ImageError
from selftrain.learn.models.calibrate import softmax
from selftrain.learn.models.contract import Contract

if TYPE_CHECKING:
    import keras

Images = npt.NDArray[np.uint8]
Probs = npt.NDArray[np.float32]
TIE = 1e-6
BATCH = 64


class Allowed(BaseModel):
    """The least share of images with the same answer, and the most by which a probability may differ."""

    model_config = ConfigDict(frozen=True)

    agreement: float = Field(ge=0, le=1)
    difference: float = Field(ge=0, le=1)


class Parity(BaseModel):
    """How an exported model's answers compare with the model's own, on `images` real images."""

    model_config = ConfigDict(frozen=True)

    images: int
    agreement: float = Field(description="share of images with the same most probable class")
    largest_difference: float = Field(description="of any probability")


EXACT = Allowed(agreement=1.0, difference=1e-3)
ROUNDED = {"float16": Allowed(agreement=0.98, difference=0.02), "int8": Allowed(agreement=0.95, difference=0.2)}


def probabilities(model: keras.Model, contract: Contract, images: Images) -> Probs:
    """The calibrated probabilities (n, classes) that evaluation gets from the model."""
    parts = [model.predict_on_batch(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    return softmax(np.concatenate(parts), contract.temperature)


def measure(wanted: Probs, answered: Probs) -> Parity:
    """`answered` against `wanted`, both (n, classes). Of two classes that are equally probable, either is right.

    Answers of another shape, or that are not numbers, agree nowhere.

    >>> measure(np.float32([[0.6, 0.4], [0.5, 0.5]]), np.float32([[0.5, 0.5], [0.4, 0.6]])).agreement
    1.0
    """
    if wanted.shape != answered.shape or not np.isfinite(answered).all():
        return Parity(images=len(wanted), agreement=0.0, largest_difference=1.0)
    chosen = np.take_along_axis(wanted, answered.argmax(axis=1)[:, None], axis=1)[:, 0]
    same = chosen >= wanted.max(axis=1) - TIE
    return Parity(
        images=len(wanted), agreement=float(same.mean()), largest_difference=float(np.abs(wanted - answered).max())
    )


def check(parity: Parity, allowed: Allowed, *, what: str) -> None:
    """Raise ExportError where `parity` is outside what is `allowed`; `what` names the exported model."""
    if parity.agreement >= allowed.agreement and parity.largest_difference <= allowed.difference:
        return
    raise ExportError(
        f"{what} gives {parity.agreement:.1%} of {parity.images} images the same class, at least "
        f"{allowed.agreement:.1%} is needed, and differs by up to {parity.largest_difference:.2g}, at most "
        f"{allowed.difference:g} is allowed; nothing was written: export without --quantize, or change the limits"
    )


def images_of_store(store: ImageStore, size: int, *, count: int, bits: int | None = None) -> Images:
    """Up to `count` images of a data set, spread over it, as uint8 (n, size, size, 3). See `pixels_of_store`."""
    return _stacked(pixels_of_store(store, size, count=count, bits=bits), size)


def pixels_of_store(store: ImageStore, size: int | None, *, count: int, bits: int | None = None) -> list[Images]:
    """Up to `count` images of a data set, spread over it, as `decode` gives them; none where it has none.

    `bits` is how many of 16 bits grey pictures fill. Only the pixels are read, and no label: whatever split they are
    in, this evaluates nothing.
    """
    index = store.intact(store.index())
    rows = index.filter(pc.is_valid(index["shard"]))
    rows = rows.take(_spread(rows.num_rows, count))
    encoded = store.read(np.asarray(rows["shard"].to_pylist(), object), rows["index"].to_numpy().astype(np.int64))
    return [decode(data, size, lenient=True, bits=bits) for data in encoded]


def images_of_folder(folder: Path, size: int, *, count: int, bits: int | None = None) -> Images:
    """Up to `count` images below `folder`, as uint8 (n, size, size, 3). See `pixels_of_folder`."""
    return _stacked(pixels_of_folder(folder, size, count=count, bits=bits), size)


def pixels_of_folder(folder: Path, size: int | None, *, count: int, bits: int | None = None) -> list[Images]:
    """Up to `count` images below `folder`, spread over it; those that cannot be read are left out.

    Raises ConfigError where none can.
    """
    if not folder.is_dir():
        raise ConfigError(f"--images {folder} is not a folder; give one with image files")
    paths = sorted(find_images(str(folder)).paths)
    read = [_decoded(paths[place], size, bits) for place in _spread(len(paths), count)]
    images = [each for each in read if each is not None]
    if not images:
        raise ConfigError(f"--images {folder} holds no image that can be read; give a folder with image files")
    return images


def _decoded(path: str, size: int | None, bits: int | None) -> Images | None:
    try:
        return decode(Path(path).read_bytes(), size, bits=bits)
    except (ImageError, OSError):
        return None


def _spread(there: int, count: int) -> list[int]:
    """Up to `count` of the places 0 to `there`, evenly spread."""
    places: list[int] = np.unique(np.linspace(0, there - 1, min(count, there)).astype(int)).tolist() if there else []
    return places


def _stacked(images: Sequence[Images], size: int) -> Images:
    return np.stack(images) if images else np.empty((0, size, size, 3), np.uint8)
