"""Loading a model: a `.keras` file and its contract, checked before anything in it runs."""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

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
    return load_keras(path), contract


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


def load_keras(path: Path) -> keras.Model:
    """The model in a `.keras` file, in safe mode. Raises UntrustedFileError as `load` does."""
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


def check_class_names(class_names: tuple[str, ...]) -> None:
    """Raise BackboneError unless these are two or more different names."""
    listed = ", ".join(map(repr, class_names)) or "none"
    if len(class_names) < 2 or not all(class_names) or len(set(class_names)) < len(class_names):
        raise BackboneError(
            f"the classes are {listed}; give two or more names in output order, all different and not empty"
        )
