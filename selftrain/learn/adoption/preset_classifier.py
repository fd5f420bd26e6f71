"""Classifiers in the folder of a KerasHub preset: their parts are looked at before any of them is built."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from selftrain.errors import BackboneError
from selftrain.learn.adoption.keras2_layers import OldModelError

if TYPE_CHECKING:
    import keras

TASK_FILE: Final = "task.json"
_PACKAGES: Final = ("keras", "keras_hub", "builtins")
_ACTS: Final = "Lambda"


def load_classifier(folder: Path) -> keras.Model:
    """The image classifier in `folder`, as `save_to_preset` wrote it, with the preparation of its preprocessor.

    It reads pixels 0-255. Raises OldModelError for a preset without a classifier, or with others' parts.
    """
    import keras

    from selftrain.learn.foundation.encoders import prepared
    from selftrain.learn.foundation.presets import load_converter

    check_parts(folder)
    from keras_hub.models import ImageClassifier

    try:
        classifier = ImageClassifier.from_preset(str(folder.resolve()), dtype="float32")
        converter = load_converter(str(folder))
    except BackboneError as error:
        raise OldModelError(error.message) from error
    except Exception as error:  # KerasHub raises errors of many kinds, without a common class
        raise OldModelError((str(error).strip().splitlines() or [type(error).__name__])[0]) from error
    size = classifier.input_shape[1:3]
    wanted = tuple(converter.image_size or (None, None)) if None in size else size
    image = keras.Input((*wanted, 3))
    network = keras.Model(classifier.input, classifier.output)  # without the optimizer that KerasHub compiles in
    return keras.Model(image, network(prepared(converter, image, size=size)), name=name_of_classifier(folder))


def name_of_classifier(folder: Path) -> str:
    """The name of the classifier's class, such as "ResNetImageClassifier"."""
    return str(_read(folder / TASK_FILE).get("class_name", "classifier"))


def side_of_preset(folder: Path) -> int | None:
    """The longer side in pixels of the images that the classifier reads; None where it reads any, or is damaged."""
    try:
        size = _read(folder / "image_converter.json")["config"]["image_size"]
    except (OldModelError, KeyError, TypeError):
        return None
    sides = [side for side in size or () if isinstance(side, int)]
    return max(sides, default=None)


def check_parts(folder: Path) -> None:
    """Raise OldModelError where a part of the preset is not one of Keras's or KerasHub's own, or holds code."""
    if not (folder / TASK_FILE).is_file():
        raise OldModelError(f"it has no {TASK_FILE}: it holds an encoder, which names no classes")
    for path in sorted(folder.rglob("*.json")):
        for part in _objects(_read(path)):
            package = str(part.get("module") or "keras").partition(".")[0]
            if package not in _PACKAGES or part.get("class_name") == _ACTS:
                raise OldModelError(
                    f"its {path.name} names {part.get('module')}.{part.get('class_name')}, which is not one of the "
                    "layers of Keras and KerasHub; code in a file is never run"
                )


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if "class_name" in value or "module" in value:
            yield value
        for each in value.values():
            yield from _objects(each)
    elif isinstance(value, list):
        for each in value:
            yield from _objects(each)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OldModelError(f"its {path.name} is missing or damaged") from error
