"""Saving a model: a `.keras` file and its contract, written together or not at all."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from selftrain.errors import ConfigError, UntrustedFileError
from selftrain.learn.models.contract import (
    CONTRACT_FILE,
    CURVE_FILE,
    FORECAST_FILE,
    MODEL_FILE,
    REASON_FILE,
    Contract,
    SavedModel,
    file_digest,
    read_contract,
)

if TYPE_CHECKING:
    import keras

_OURS = frozenset({MODEL_FILE, CONTRACT_FILE, CURVE_FILE, FORECAST_FILE, REASON_FILE})
_PARTS = tuple(f".{name}." for name in (CONTRACT_FILE, REASON_FILE))  # what a killed `divergence.leave` can leave


def save(model: keras.Model, contract: Contract, folder: Path) -> SavedModel:
    """Write `model` and `contract`, with the digests filled in, to `folder`, whole or not at all.

    An earlier model is replaced. Raises ConfigError for a folder that holds anything else.
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
        (part / CONTRACT_FILE).write_text(signed.text + "\n", encoding="utf-8")
        check_no_other_files(folder)
        _put(part, place, old=Path(scratch) / "old")
    return SavedModel(folder, signed)


def _put(part: Path, place: Path, *, old: Path) -> None:
    """Move an earlier model to `old`, and `part` to `place`; on failure, put the earlier model back."""
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
    """Raise ConfigError if `folder` is a file, or holds anything besides a saved model's own files."""
    if not os.path.lexists(os.path.realpath(folder)):
        return
    if not folder.is_dir():
        raise ConfigError(f"{str(folder)!r} is not a folder; it was left as it is, give another folder")
    others = sorted(path.name for path in folder.iterdir() if not _is_ours(path))
    if others:
        raise ConfigError(
            f"{str(folder)!r} holds other files ({', '.join(others[:3])}) and was left as it is; give an empty folder"
        )


def _is_ours(path: Path) -> bool:
    part = path.name.startswith(_PARTS) and path.suffix == ".part"
    return (path.name in _OURS or part) and not path.is_dir()


def check_replaceable(out: Path, *, lineage: tuple[str, ...], trained: bool) -> None:
    """Raise ConfigError unless `out` is empty or missing, or holds only an earlier model of the same `lineage`.

    A `trained` model has a curve; an ensemble does not. A student of the loop is never replaced.
    """
    check_no_other_files(out)
    if not out.is_dir() or not any(out.iterdir()):
        return
    try:
        earlier = read_contract(out)
    except UntrustedFileError as error:
        raise ConfigError(f"out={str(out)!r} is not empty; it was left as it is, give another folder") from error
    if earlier.lineage != lineage or earlier.churn is not None or (out / CURVE_FILE).is_file() != trained:
        raise ConfigError(
            f"out={str(out)!r} holds a model that was not made from the same models; "
            f"it was left as it is, give another folder"
        )


def values_digest(model: keras.Model) -> str:
    """sha256 (hex) of the types, shapes and values of a model's weights, in order."""
    import keras

    digest = hashlib.sha256()
    for weight in model.weights:
        values = np.ascontiguousarray(keras.ops.convert_to_numpy(weight))
        digest.update(f"{values.dtype} {values.shape};".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()
