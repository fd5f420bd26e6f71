"""A user's labels: class indices, one-hot rows or names, read as class indices."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from selftrain.errors import SourceError
from selftrain.naming import named_rows

Labels = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]
Whose = Literal["model", "class_names"]
"""Who names the classes."""

_SHOWN = 10
_SAYS: dict[Whose, str] = {"model": "the model answers", "class_names": "class_names has"}
_UNKNOWN: dict[Whose, str] = {"model": "is not a class", "class_names": "is not in class_names"}


class LabelForm(StrEnum):
    """How labels are written."""

    INDEX = "index"
    ONE_HOT = "one_hot"
    NAME = "name"


def label_form(labels: Labels, *, role: str) -> LabelForm:
    """The form of `labels` (n,), (n, 1) or (n, classes); in an array of text or objects, the values decide.

    Raises SourceError for what is not a label. It names the first rows of missing labels and of names among indices.
    """
    if labels.ndim == 2 and labels.shape[1] > 1:
        return LabelForm.ONE_HOT
    if labels.ndim not in (1, 2):
        raise SourceError(f"{role}: labels have the shape {labels.shape}; allowed are (n,) and one-hot (n, classes)")
    if labels.dtype.kind in "USO":
        return _form_of_values(labels.reshape(-1).tolist(), role)
    if labels.dtype.kind in "iubf":
        return LabelForm.INDEX
    raise SourceError(f"{role}: labels of type {labels.dtype}; give class indices, one-hot rows or names")


def class_indices(labels: Labels, *, role: str, class_names: tuple[str, ...], whose: Whose = "model") -> Ints:
    """`labels` of any form as indices into `class_names`: int64 (n,). Raises a SourceError that names bad rows."""
    if label_form(labels, role=role) is LabelForm.NAME:
        return _of_names(text(labels), role=role, class_names=class_names, whose=whose)
    return number_indices(labels, role=role, classes=len(class_names), whose=whose)


def number_indices(labels: Labels, *, role: str, classes: int | None, whose: Whose = "model") -> Ints:
    """Class indices or one-hot rows as int64 (n,) below `classes` (None: any). Raises SourceError."""
    if label_form(labels, role=role) is LabelForm.ONE_HOT:
        return _of_one_hot(labels, role=role, classes=classes, whose=whose)
    return _of_indices(labels.reshape(-1), role=role, classes=classes, whose=whose)


def text(labels: Labels) -> list[str]:
    """Names as text; TensorFlow gives bytes."""
    return [each.decode() if isinstance(each, bytes) else str(each) for each in labels.reshape(-1).tolist()]


def sorted_names(names: Iterable[str]) -> tuple[str, ...]:
    """Each of `names` once, sorted; by value if all are numbers.

    >>> sorted_names(["10", "9", "1", "9"]), sorted_names(["b10", "b9", "1"])
    (('1', '9', '10'), ('1', 'b10', 'b9'))
    """
    unique = sorted(set(names))
    return tuple(sorted(unique, key=int) if all(name.isdecimal() for name in unique) else unique)


def joined_labels(parts: Sequence[Labels], *, role: str) -> Labels:
    """The labels of several batches as one array; numbers among text stay numbers.

    Raises SourceError for batches of different forms.
    """
    shapes = sorted({part.shape[1:] for part in parts}, key=str)
    if len(shapes) > 1:
        raise SourceError(f"{role}: labels of shape (n, *{shapes[0]}) and (n, *{shapes[1]}); give all in one form")
    mixed = len({part.dtype.kind in "US" for part in parts}) > 1
    return np.concatenate([part.astype(object) for part in parts] if mixed else parts)


def _form_of_values(values: list[object], role: str) -> LabelForm:
    """NAME if all values are names, INDEX if all are whole numbers. Raises SourceError for anything else."""
    names = np.array([isinstance(value, str | bytes) and len(value) > 0 for value in values], np.bool_)
    whole = [_is_whole(value) for value in values]
    numbers = np.array(whole, np.bool_)
    none = np.flatnonzero(~names & ~numbers)
    if none.size:
        raise SourceError(
            f"{role}: labels of {named_rows(none)} are missing or not a label (row {none[0]}: {values[none[0]]!r}); "
            "give each image a class index or a name, and move images without a label to unlabeled"
        )
    if names.any() and numbers.any():
        few, form, others = (
            (names, "names", "numbers") if names.sum() < numbers.sum() else (numbers, "numbers", "names")
        )
        at = np.flatnonzero(few)
        raise SourceError(
            f"{role}: labels of {named_rows(at)} are {form} (row {at[0]}: {values[at[0]]!r}), the others {others}; "
            "give class indices or names, not both"
        )
    return LabelForm.INDEX if numbers.any() else LabelForm.NAME


def _is_whole(value: object) -> bool:
    if isinstance(value, bool | np.bool_):
        return False
    return isinstance(value, int | np.integer) or (isinstance(value, float | np.floating) and float(value).is_integer())


def _of_indices(labels: Labels, *, role: str, classes: int | None, whose: Whose) -> Ints:
    allowed = "0, 1, 2, ..." if classes is None else f"0..{classes - 1}"
    if labels.dtype.kind == "f":
        broken = np.flatnonzero(~np.isfinite(labels) | (labels != np.rint(labels)))
        if broken.size:
            first, more = int(broken[0]), f", nor are those of {named_rows(broken[1:])}" if broken.size > 1 else ""
            raise SourceError(f"{role}: label {labels[first]} (row {first}) is not a class index{more}; give {allowed}")
    indices = labels.astype(np.int64)
    wrong_rows = np.flatnonzero((indices < 0) | (False if classes is None else indices >= classes))
    if wrong_rows.size:
        shown = ", ".join(f"row {row}: {indices[row]}" for row in wrong_rows[:5])
        hint = "; indices start at 0" if indices.min() == 1 and indices.max() == classes else ""
        known = "" if classes is None else f", as {_SAYS[whose]} {classes} classes"
        raise SourceError(f"{role}: {wrong_rows.size} labels are not class indices {allowed} ({shown}){known}{hint}")
    return indices


def _of_one_hot(labels: Labels, *, role: str, classes: int | None, whose: Whose) -> Ints:
    if classes not in (None, labels.shape[1]):
        raise SourceError(
            f"{role}: labels are one-hot of {labels.shape[1]} classes, {_SAYS[whose]} {classes}; both must be the same"
        )
    hot = (labels == 1).sum(axis=1) == 1
    zero = (labels == 0).sum(axis=1) == labels.shape[1] - 1
    wrong = np.flatnonzero(~(hot & zero))
    if wrong.size:
        row, more = int(wrong[0]), f"; also {named_rows(wrong[1:])}" if wrong.size > 1 else ""
        raise SourceError(
            f"{role}: {wrong.size} rows of labels are not one-hot (row {row}: {labels[row][:_SHOWN].tolist()}{more}); "
            "a human label is one class"
        )
    return np.asarray((labels == 1).argmax(axis=1), np.int64)


def _of_names(names: list[str], *, role: str, class_names: tuple[str, ...], whose: Whose) -> Ints:
    index = {name: at for at, name in enumerate(class_names)}
    for row, name in enumerate(names):
        if name not in index:
            near = difflib.get_close_matches(name, class_names, n=1, cutoff=0.0)
            raise SourceError(
                f"{role}: label {name!r} (row {row}) {_UNKNOWN[whose]}; did you mean {near[0]!r}? "
                f"The classes: {', '.join(class_names[:_SHOWN])}{', ...' if len(class_names) > _SHOWN else ''}"
            )
    return np.array([index[name] for name in names], np.int64)
