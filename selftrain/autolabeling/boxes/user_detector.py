"""User detectors: any callable from a batch of images to boxes, classes and scores, whose answers are checked."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from selftrain.errors import ConfigError, PredictionError
from selftrain.learn.detection.saving import SavedDetector, holds_detector

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
_ASK = "answer a list with (boxes, classes, scores) for each image, or a tuple of three such lists"
_NAMES = {"boxes": ("boxes",), "classes": ("classes", "labels"), "scores": ("scores",)}


@dataclass(frozen=True, eq=False)
class Answer:
    """A detector's answer to one image: `boxes` (k, 4) as it gave them, `classes` (k,) indices, `scores` (k,) 0-1.

    Boxes of score 0 are left out: they fill an answer up to a fixed length.
    """

    boxes: Floats
    classes: npt.NDArray[np.int64]
    scores: Floats


@dataclass(frozen=True)
class UserDetector:
    """A callable from images (h, w, 3) uint8 to answers, its classes, and its name for the labels that it makes."""

    ask: Callable[[list[Pixels]], object]
    class_names: tuple[str, ...]
    called: str

    def answers(self, images: Sequence[Pixels], names: Sequence[str]) -> list[Answer]:
        """The checked answer to each of `images`, which errors call by `names`.

        Raises PredictionError where the detector fails, or answers something else.
        """
        try:
            raw = self.ask([image.copy() for image in images])  # a user's preparation may change them
        except Exception as error:  # a user's own code may raise anything
            line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise PredictionError(
                f"the detector failed on {len(images)} images ({names[0]} first): {type(error).__name__}: {line}"
            ) from error
        parts = [_parts(each, name) for each, name in zip(_per_image(raw, len(images)), names, strict=True)]
        return [self._checked(*part, name) for part, name in zip(parts, names, strict=True)]

    def _checked(self, boxes: object, classes: object, scores: object, name: str) -> Answer:
        box = _numbers(boxes, "boxes", name)
        box = box.reshape(0, 4) if box.size == 0 else box
        score = _numbers(scores, "scores", name).reshape(-1)
        label = _plain(classes).reshape(-1)
        if box.ndim != 2 or box.shape[1] != 4 or not len(box) == len(score) == len(label):
            raise PredictionError(
                f"{name}: the detector answers boxes {box.shape}, {len(label)} classes and {len(score)} scores; "
                "they must be (k, 4), (k,) and (k,)"
            )
        real = ~_padding(box, score)
        box, label, score = box[real], label[real], score[real]
        if not np.isfinite(box).all():
            raise PredictionError(f"{name}: a box is NaN or infinite; look at the detector, or leave such boxes out")
        if not ((score >= 0) & (score <= 1)).all():
            raise PredictionError(
                f"{name}: the scores lie between {score.min():.3g} and {score.max():.3g}; give them as 0 to 1, such as "
                "the sigmoid of a logit"
            )
        return Answer(box, self._labels(label, name), score)

    def _labels(self, values: npt.NDArray[Any], name: str) -> npt.NDArray[np.int64]:
        """Indices (k,) of `values` (k,), which are indices or names. Raises PredictionError for another class."""
        if values.dtype.kind in "US" or (values.dtype == object and all(isinstance(each, str) for each in values)):
            known = {each: index for index, each in enumerate(self.class_names)}
            texts = [str(value) for value in values.tolist()]
            other = sorted({text for text in texts if text not in known})
            if other:
                raise PredictionError(
                    f"{name}: the detector answers the class {other[0]!r}, which class_names lacks: "
                    f"{', '.join(self.class_names)}"
                )
            return np.array([known[text] for text in texts], np.int64)
        if values.size and (values.dtype.kind not in "iuf" or not (values == np.floor(values)).all()):
            raise PredictionError(f"{name}: classes are {values.dtype} such as {values[0]}; give indices or names")
        labels = values.astype(np.int64)
        if labels.size and (labels.min() < 0 or labels.max() >= len(self.class_names)):
            count = len(self.class_names)
            raise PredictionError(
                f"{name}: the detector answers the class {labels.max() if labels.max() >= count else labels.min()}; "
                f"with {count} class_names, classes are 0 to {count - 1} (torchvision's count from 1: take 1 off)"
            )
        return labels


def open_detector(model: object, class_names: tuple[str, ...] | None) -> UserDetector:
    """A callable, or the folder of a saved detector, whose classes are its own.

    Raises PredictionError for anything else, and ConfigError where the classes of a callable are not named.
    """
    if isinstance(model, str | os.PathLike):
        return _saved(Path(model), class_names)
    if not callable(model):
        raise PredictionError(
            f"model is {type(model).__name__}; give a callable from a list of images (h, w, 3) to boxes, classes and "
            "scores, or the folder of a saved detector"
        )
    if class_names is None:
        raise ConfigError("class_names is None; give a name for each class of the detector, in order")
    return UserDetector(model, class_names, getattr(model, "__name__", type(model).__name__))


def _saved(folder: Path, class_names: tuple[str, ...] | None) -> UserDetector:
    if not holds_detector(folder):
        raise PredictionError(f"{str(folder)!r} is not the folder of a saved detector; give one, or a callable")
    saved = SavedDetector.read(folder)
    own = saved.contract.class_names
    if class_names is not None and class_names != own:
        raise ConfigError(f"{folder} names its classes itself: {', '.join(own)}; leave out class_names")
    return UserDetector(saved.open(), own, saved.contract.identity)


def _per_image(raw: object, count: int) -> Sequence[object]:
    """The answer for each image: of a list as it is, of a tuple of three lists their columns.

    Three answers in a tuple are not columns: each is a dict, or holds boxes, classes and scores of its own.
    """
    if isinstance(raw, tuple) and len(raw) == 3 and not (count == 3 and all(_is_answer(each) for each in raw)):
        columns = [_listed(each) for each in raw]
        if all(len(each) == count for each in columns):
            return list(zip(*columns, strict=True))
        raise PredictionError(
            f"the detector answers a tuple of lists of {[len(each) for each in columns]} to {count} images; {_ASK}"
        )
    if isinstance(raw, Mapping):
        raise PredictionError(f"the detector answers one dict of {', '.join(map(str, raw))}; {_ASK}")
    rows = _listed(raw)
    if len(rows) != count:
        raise PredictionError(f"the detector answers {len(rows)} times to {count} images; {_ASK}")
    return rows


def _is_answer(value: object) -> bool:
    """Whether this is one image's answer, not a column of boxes, classes or scores of three images."""
    if not isinstance(value, tuple | list):
        return all(any(_field(value, key) is not None for key in keys) for keys in _NAMES.values())
    if len(value) != 3:
        return False
    try:
        boxes, classes, scores = (_plain(part) for part in value)
    except (TypeError, ValueError):  # of unequal lengths: boxes of three images
        return False
    if classes.ndim != 1 or not boxes.shape[:1] == classes.shape == scores.shape:
        return False
    return boxes.size == 0 or (boxes.ndim == 2 and boxes.shape[1] == 4)


def _listed(value: Any) -> Sequence[object]:
    try:
        return list(value)
    except TypeError as error:
        raise PredictionError(f"the detector answers {type(value).__name__}; {_ASK}") from error


def _parts(each: object, name: str) -> tuple[object, object, object]:
    """Boxes, classes and scores of one image's answer: a tuple, a dict, or an object with these attributes."""
    if isinstance(each, tuple | list) and len(each) == 3:
        return each[0], each[1], each[2]
    found = []
    for keys in _NAMES.values():
        value = next((v for key in keys if (v := _field(each, key)) is not None), None)
        if value is None:
            raise PredictionError(f"{name}: the answer ({type(each).__name__}) has no {' or '.join(keys)}; {_ASK}")
        found.append(value)
    return found[0], found[1], found[2]


def _field(each: object, key: str) -> object:
    return each.get(key) if isinstance(each, Mapping) else getattr(each, key, None)


def _plain(value: Any) -> npt.NDArray[Any]:
    """A list, array or tensor as an array; a tensor leaves its device and its gradient."""
    for method in ("detach", "cpu"):
        if hasattr(value, method):
            value = getattr(value, method)()
    return np.asarray(value)


def _padding(boxes: Floats, scores: Floats) -> npt.NDArray[np.bool_]:
    """The rows (k,) that only fill an answer up to a fixed length: of score 0, or of -1 throughout (KerasHub)."""
    return np.asarray((scores == 0) | ((scores == -1) & (boxes == -1).all(axis=1)))


def _numbers(value: object, what: str, name: str) -> Floats:
    try:
        return np.asarray(_plain(value), np.float32)
    except (TypeError, ValueError) as error:
        raise PredictionError(f"{name}: the {what} are not numbers ({error})") from error
