"""Given labels: class indices, one-hot rows or names, as class indices."""

from __future__ import annotations

import difflib
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from selftrain.errors import SourceError

Labels = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]
_SHOWN = 10


class LabelForm(StrEnum):
    """How labels are written."""

    INDEX = "index"
    ONE_HOT = "one_hot"
    NAME = "name"


def label_form(labels: Labels, *, role: str) -> LabelForm:
    """The form of `labels` (n,), (n, 1) or (n, classes). Raises SourceError for what is none."""
    if labels.ndim == 2 and labels.shape[1] > 1:
        return LabelForm.ONE_HOT
    if labels.ndim not in (1, 2):
        raise SourceError(f"{role}: labels have the shape {labels.shape}; allowed are (n,) and one-hot (n, classes)")
    if labels.dtype.kind in "USO":
        return LabelForm.NAME
    if labels.dtype.kind in "iubf":
        return LabelForm.INDEX
    raise SourceError(f"{role}: labels of type {labels.dtype}; give class indices, one-hot rows or names")


def class_indices(labels: Labels, *, role: str, class_names: tuple[str, ...]) -> Ints:
    """`labels`, of any form, as indices into `class_names`: int64 (n,). Raises SourceError naming what does not fit."""
    match label_form(labels, role=role):
        case LabelForm.ONE_HOT:
            return _of_one_hot(labels, role=role, classes=len(class_names))
        case LabelForm.NAME:
            return _of_names(text(labels), role=role, class_names=class_names)
        case LabelForm.INDEX:
            return _of_indices(labels.reshape(-1), role=role, classes=len(class_names))


def text(labels: Labels) -> list[str]:
    """Names as text; TensorFlow gives bytes."""
    return [each.decode() if isinstance(each, bytes) else str(each) for each in labels.reshape(-1).tolist()]


def _of_indices(labels: Labels, *, role: str, classes: int) -> Ints:
    if labels.dtype.kind == "f" and not np.array_equal(labels, np.rint(labels)):
        wrong = int(np.flatnonzero(labels != np.rint(labels))[0])
        raise SourceError(f"{role}: label {labels[wrong]} (row {wrong}) is no class index; give 0..{classes - 1}")
    indices = labels.astype(np.int64)
    wrong_rows = np.flatnonzero((indices < 0) | (indices >= classes))
    if wrong_rows.size:
        shown = ", ".join(f"row {row}: {indices[row]}" for row in wrong_rows[:5])
        hint = "; indices start at 0" if indices.min() == 1 and indices.max() == classes else ""
        raise SourceError(
            f"{role}: {wrong_rows.size} labels are no class index 0..{classes - 1} ({shown}), "
            f"as the model answers {classes} classes{hint}"
        )
    return indices


def _of_one_hot(labels: Labels, *, role: str, classes: int) -> Ints:
    if labels.shape[1] != classes:
        raise SourceError(
            f"{role}: labels are one-hot of {labels.shape[1]} classes, the model answers {classes}; "
            "both must be the same"
        )
    hot = (labels == 1).sum(axis=1) == 1
    zero = (labels == 0).sum(axis=1) == classes - 1
    wrong = np.flatnonzero(~(hot & zero))
    if wrong.size:
        row = int(wrong[0])
        raise SourceError(
            f"{role}: {wrong.size} rows of labels are not one-hot (row {row}: {labels[row][:_SHOWN].tolist()}); "
            "a human label is one class"
        )
    return np.asarray(labels.argmax(axis=1), np.int64)


def _of_names(names: list[str], *, role: str, class_names: tuple[str, ...]) -> Ints:
    index = {name: at for at, name in enumerate(class_names)}
    for row, name in enumerate(names):
        if name not in index:
            near = difflib.get_close_matches(name, class_names, n=1, cutoff=0.0)
            raise SourceError(
                f"{role}: label {name!r} (row {row}) is no class; did you mean {near[0]!r}? "
                f"The classes: {', '.join(class_names[:_SHOWN])}{', ...' if len(class_names) > _SHOWN else ''}"
            )
    return np.array([index[name] for name in names], np.int64)
