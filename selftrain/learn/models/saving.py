"""Saving a model: a `.keras` file and its contract, put in place whole."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from selftrain.errors import ConfigError, UntrustedFileError

if TYPE_CHECKING:
    import keras
from selftrain.learn.models.contract import (
    CONTRACT_FILE,
    CURVE_FILE,
    MODEL_FILE,
    REASON_FILE,
    Contract,
    SavedModel,
    file_digest,
    read_contract,
)

_OURS = frozenset({MODEL_FILE, CONTRACT_FILE, CURVE_FILE, REASON_FILE, f".{CONTRACT_FILE}.part"})


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


def values_digest(model: keras.Model) -> str:
    """sha256 (hex) of the types, shapes and values of a model's weights, in their order."""
    import keras

    digest = hashlib.sha256()
    for weight in model.weights:
        values = np.ascontiguousarray(keras.ops.convert_to_numpy(weight))
        digest.update(f"{values.dtype} {values.shape};".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()
