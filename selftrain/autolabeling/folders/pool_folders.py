"""The folders of a pool: where they are named after classes, they show how often a model agrees with them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from selftrain.learn.adoption.preparation import is_better_than_chance

if TYPE_CHECKING:
    from selftrain.learn.models.predict_files import FilePredictions

_FEWEST: Final = 20  # images; fewer may well show another class than their folder
_CLASSES: Final = 2  # one folder alone may bear a class's name for another reason


def folders_noted(answered: FilePredictions, images: Path) -> list[str]:
    """What to say of images below `images` that lie in folders named after classes: how many get that class.

    The innermost such folder counts. Nothing is said of fewer than 20 images, or of one class alone.
    """
    classes = {name: index for index, name in enumerate(answered.class_names)}
    rows, labels = [], []
    for row, path in enumerate(answered.paths):
        parents = Path(path).relative_to(images).parts[:-1]
        label = next((classes[name] for name in reversed(parents) if name in classes), None)
        if label is not None:
            rows.append(row)
            labels.append(label)
    if len(rows) < _FEWEST or len(set(labels)) < _CLASSES:
        return []
    truth, answers = np.array(labels, np.int64), answered.probs[rows].argmax(axis=1)
    right = int((answers == truth).sum())
    said = f"{len(rows)} images lie in folders named after classes, and {right} of them get that class"
    if is_better_than_chance(answers, truth, len(classes)):
        return [said]
    return [
        f"{said}, not clearly better than chance: unless these folders mean something else, the model only guesses, or "
        "its classes are in another order. Images in class folders that are given as --labeled would refuse it"
    ]
