"""Presets: KerasHub's encoders with their weights and preprocessing, by name or in a folder."""

from __future__ import annotations

import difflib
import hashlib
import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import keras

from selftrain.errors import BackboneError

_CONFIG_FILE = "config.json"
_CONVERTER_FILE = "image_converter.json"

Loaded = TypeVar("Loaded")


def load_backbone(preset: str, *, size: tuple[int, int] | None = None) -> keras.Model:
    """The backbone of `preset` with its weights, in float32; `size`: for images of that height and width.

    `preset` is a name that KerasHub ships ("vit_base_patch16_224_imagenet"), a handle (kaggle://, hf://), or a folder
    that `save_to_preset` wrote. All but a folder may be downloaded into the caches of kagglehub and huggingface_hub.
    Raises BackboneError for a preset that is unknown, damaged, or cannot be fetched.
    """
    from keras_hub.models import Backbone

    options = {} if size is None else {"image_shape": (*size, 3)}
    return _loaded(preset, "its backbone", lambda: Backbone.from_preset(located(preset), dtype="float32", **options))


def load_converter(preset: str) -> Any:
    """KerasHub's ImageConverter of `preset`: the size, range and mean of the images that its backbone learned from.

    Raises BackboneError as `load_backbone` does, and for a preset without one: its range would be a guess.
    """
    from keras_hub.layers import ImageConverter

    converter = _loaded(
        preset, f"its {_CONVERTER_FILE}", lambda: ImageConverter.from_preset(located(preset), dtype="float32")
    )
    if type(converter).call is not ImageConverter.call:
        raise BackboneError(
            f"keras_hub preset {preset!r} prepares images by {type(converter).__name__}, which does more than resize "
            "and rescale; such a preset is not supported: choose an image classifier's or a dual encoder's"
        )
    return converter


def load_preprocessor(preset: str) -> Any:
    """KerasHub's preprocessor of a dual encoder's `preset`, from prompts to tokens. Raises BackboneError as above."""
    from keras_hub.models import CausalLMPreprocessor  # the class that the dual encoders' preprocessors extend

    return _loaded(preset, "its preprocessor and tokenizer", lambda: CausalLMPreprocessor.from_preset(located(preset)))


def located(preset: str) -> str:
    """`preset` as KerasHub takes it: a folder by its whole path, a name or handle as it is. A folder goes first.

    Raises BackboneError for a folder that is not a preset, and for a name that is neither.
    """
    folder = Path(preset).expanduser()
    if folder.is_dir():
        missing = [name for name in (_CONFIG_FILE, _CONVERTER_FILE) if not (folder / name).is_file()]
        if missing:
            raise BackboneError(
                f"folder {preset!r} lacks {' and '.join(missing)}, so it is not a whole preset of KerasHub; write it "
                "with save_to_preset of the backbone and of its image converter or preprocessor"
            )
        return str(folder.resolve())
    if "://" in preset or preset in (known := published()):
        return preset
    nearest = difflib.get_close_matches(preset, known, n=1, cutoff=0.0)[0]
    raise BackboneError(
        f"{preset!r} is neither a preset of KerasHub nor a folder; did you mean {nearest!r}? Allowed: a name listed on "
        "keras.io/keras_hub/presets, a handle such as kaggle://..., or a folder that save_to_preset wrote"
    )


def content(preset: str) -> str:
    """What identifies the weights of `preset`: the sha256 of a folder's files, or the name and KerasHub's version.

    KerasHub pins the version of each preset that it names.
    """
    folder = Path(preset).expanduser()
    if not folder.is_dir():
        return f"{preset} of keras-hub {importlib.metadata.version('keras-hub')}"
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            part = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()} {part};".encode())
    return digest.hexdigest()


def published() -> list[str]:
    """The names of the presets that the installed KerasHub knows, of all its networks."""
    from keras_hub.models import Backbone

    return sorted(Backbone.presets)


def _loaded(preset: str, part: str, load: Callable[[], Loaded]) -> Loaded:
    """What `load` gives; any failure is a BackboneError that names the `part` of the preset."""
    try:
        return load()
    except (BackboneError, MemoryError):
        raise
    except Exception as error:  # KerasHub and the hubs raise errors of many kinds, without a common class
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BackboneError(
            f"keras_hub preset {preset!r}: {part} could not be loaded: {reason}. Check the name and the connection, or "
            "copy the preset to this machine and give its folder"
        ) from error
