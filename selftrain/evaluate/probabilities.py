"""Class probabilities and labels, checked before anything is decided from them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from selftrain.errors import PredictionError

Floats = npt.NDArray[np.float32]
SUM_TOLERANCE = 1e-2
"""How far a row's sum may be from one. Float16 probabilities of a thousand classes are off by a few 1e-3."""


def checked_probs(probs: npt.ArrayLike, *, classes: int | None = None) -> Floats:
    """`probs` as float32 (n, classes), each row finite, within 0 and 1, and summing to one.

    `classes` is the required number of columns; None accepts any. Raises PredictionError that names the first invalid
    rows.

    >>> checked_probs([[0.25, 0.75]], classes=2)
    array([[0.25, 0.75]], dtype=float32)
    """
    table = np.asarray(probs, dtype=np.float32)
    if table.ndim != 2 or table.shape[1] == 0 or (classes is not None and table.shape[1] != classes):
        wanted = "classes" if classes is None else classes
        raise PredictionError(f"probabilities have shape {table.shape}; allowed is (images, {wanted})")
    _refuse_rows(~np.isfinite(table).all(axis=1), "are not finite; the model has diverged, train it again")
    _refuse_rows((table < 0).any(axis=1) | (table > 1).any(axis=1), "lie outside 0..1; apply softmax to logits first")
    off = np.abs(table.sum(axis=1, dtype=np.float64) - 1.0) > SUM_TOLERANCE
    _refuse_rows(off, "do not sum to one; apply softmax to logits first")
    return table


def checked_labels(labels: npt.ArrayLike, *, images: int, classes: int) -> npt.NDArray[np.int64]:
    """`labels` as int64 (images,), each a class index; at least one.

    Raises PredictionError for no labels, another number or type of labels, a missing label (-1), or an index outside
    the classes.
    """
    values = np.asarray(labels)
    if values.shape != (images,):
        raise PredictionError(f"labels have shape {values.shape} for {images} images; give one label per image")
    if images == 0:
        raise PredictionError("no labelled images to measure on; give at least one")
    if values.dtype.kind not in "iu":
        raise PredictionError(f"labels have the type {values.dtype}; allowed are class indices 0..{classes - 1}")
    wrong = np.flatnonzero((values < 0) | (values >= classes))
    if wrong.size:
        shown = ", ".join(f"row {row}: {values[row]}" for row in wrong[:5])
        raise PredictionError(
            f"{wrong.size} labels are not a class index 0..{classes - 1} ({shown}); score only labelled rows"
        )
    return values.astype(np.int64)


def _refuse_rows(bad: npt.ArrayLike, complaint: str) -> None:
    rows = np.flatnonzero(bad)
    if rows.size:
        shown = ", ".join(str(row) for row in rows[:5])
        raise PredictionError(f"the probabilities of {rows.size} images (rows {shown}) {complaint}")
