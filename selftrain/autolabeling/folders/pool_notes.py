"""Notes on a pool: what its names, folders and labelled images show about the answers that a model gave."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from selftrain.data.sources.listing import find_images
from selftrain.learn.adoption.preparation import is_better_than_chance
from selftrain.learn.models.contract import file_digest

if TYPE_CHECKING:
    from selftrain.learn.models.predict_files import FilePredictions

_ENOUGH: Final = 8  # images; fewer may well show one class
_FEWEST: Final = 20  # images; fewer may well show another class than their folder
_CLASSES: Final = 2  # one folder alone may bear a class's name for another reason


def notes_on(answered: FilePredictions, images: Path, labeled: Path | None) -> tuple[str, ...]:
    """What to say of a model's answers to the images below `images`; people's labels are below `labeled`."""
    notes = [
        *_names_noted(images, answered.misnamed),
        *_strips_noted(answered),
        *_sameness_noted(answered),
        *_folders_noted(answered, images),
    ]
    return (*notes, *(_labeled_noted(answered, labeled) if labeled is not None else ()))


def _names_noted(images: Path, misnamed: int) -> list[str]:
    """What to say of files without an image, and of images with the name of another format."""
    ignored = find_images(str(images)).ignored
    notes = [f"{ignored} files or folders in {images} hold no image and were passed over"] if ignored else []
    if misnamed:
        notes.append(f"{misnamed} images have the name of another format; they were read by their content")
    return notes


def _strips_noted(answered: FilePredictions) -> list[str]:
    """What to say of images whose central square is at most half of them."""
    if not answered.strips:
        return []
    return [
        f"{answered.strips} images are twice as long as wide, or more: the model saw the central square of each. If "
        "the rest matters, cut them into squares first"
    ]


def _sameness_noted(answered: FilePredictions) -> list[str]:
    """What to say where all images get one class, as where a model is shown pixels in a range that it does not read."""
    found, count = set(answered.probs.argmax(axis=1).tolist()), len(answered.paths)
    if len(found) > 1 or count < _ENOUGH:
        return []
    name = answered.class_names[found.pop()]
    return [
        f"all {count} images get the class {name!r}: unless they show nothing else, the model does not read them as it "
        "should"
    ]


def _folders_noted(answered: FilePredictions, images: Path) -> list[str]:
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


def _labeled_noted(answered: FilePredictions, labeled: Path) -> list[str]:
    """What to say of images that are also below `labeled`, as the same file or as a copy of the same bytes."""
    known: dict[int, list[str]] = defaultdict(list)
    for path in find_images(str(labeled)).paths:
        known[_bytes_of(path)].append(path)
    digests = {size: {_digest(path) for path in paths} for size, paths in known.items() if size >= 0}
    among = [path for path in answered.paths if _is_among(path, digests)]
    if not among:
        return []
    return [
        f"{len(among)} images are among those of {labeled}, such as {among[0]}: the table holds the model's answers, "
        "not the labels of people"
    ]


def _is_among(path: str, digests: dict[int, set[str]]) -> bool:
    """Whether a file has one of the `digests` of labelled files by size; only files of such a size are read."""
    same = digests.get(_bytes_of(path), set())
    return bool(same) and _digest(path) in same


def _bytes_of(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def _digest(path: str) -> str:
    try:
        return file_digest(Path(path))
    except OSError:
        return path
