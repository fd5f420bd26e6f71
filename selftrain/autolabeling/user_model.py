"""User models: any Keras model or callable, whose answers are checked and turned into logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from selftrain.data.inputs.images import Array, to_array
from selftrain.errors import PredictionError
from selftrain.evaluate.probabilities import SUM_TOLERANCE
from selftrain.naming import named_rows

Floats = npt.NDArray[np.float32]
Named = Callable[[npt.NDArray[np.int64]], str]
"""A function that names rows (k,) of the images shown to a model, for an error."""
OutputKind = Literal["logits", "probabilities"]
SMALLEST_PROBABILITY = 1e-7
_ROUNDED = 1e-6  # rounding may take a probability below 0 by this much
_SHOWN = 5
_WITH_CONFIDENCE = "give one that answers probabilities or logits (n, classes), such as predict_proba"
_WAYS_OUT = "end the model with a softmax, or give its logits"


@dataclass(frozen=True)
class UserModel:
    """A model that answers batches of images.

    `input_shape` is the shape of one image, with None for a side of any length. It is None where the model does not
    say. A model with `even` gets batches of one size only: the last one is filled up. So it is compiled once. `bits` is
    how many of 16 bits the grey pictures fill that it was trained on, if it says so.
    """

    answer: Callable[[Array], object]
    input_shape: tuple[int | None, ...] | None = None
    even: bool = False
    bits: int | None = None

    @property
    def side(self) -> int | None:
        """The side in pixels of the square images that it reads; None where it does not say."""
        shape = self.input_shape
        return shape[0] if shape is not None and len(shape) == 3 and shape[0] == shape[1] else None

    @property
    def channels(self) -> int:
        """How many channels it reads: 1 for grey images, otherwise 3."""
        shape = self.input_shape
        return 1 if shape is not None and len(shape) == 3 and shape[2] == 1 else 3


def open_model(model: Any) -> UserModel:
    """A Keras model, or a callable that takes a numpy batch, as a UserModel. Raises PredictionError for any other."""
    predict = getattr(model, "predict_on_batch", None)
    if callable(predict):
        shape = getattr(model, "input_shape", None)
        states_shape = (
            isinstance(shape, tuple) and bool(shape) and all(each is None or isinstance(each, int) for each in shape)
        )
        return UserModel(predict, tuple(shape[1:]) if states_shape and shape is not None else None, even=True)
    if callable(model):
        return UserModel(model)
    raise PredictionError(
        f"model is {type(model).__name__}; give a Keras model, or a callable from a batch of images to logits or "
        "probabilities (n, classes)"
    )


def answers_of(
    model: UserModel, images: Array, *, batch_size: int, role: str = "images", named: Named = named_rows
) -> Floats:
    """The model's answers to `images` (n, ...): float32 (n, columns). The model gets copies of the images.

    Raises PredictionError where the model fails on the images, or answers another shape, NaN or infinity. The error
    calls the images `role` and names their rows with `named`.
    """
    _refuse_other_shape(model, images.shape[1:])
    parts = [
        _ask_once(model, images[start : start + batch_size], batch_size if model.even else 0)
        for start in range(0, len(images), batch_size)
    ]
    columns = sorted({part.shape[1] for part in parts})
    if len(columns) > 1:
        raise PredictionError(
            f"{role}: the model answers {columns[0]} columns to one batch and {columns[-1]} to another; it must answer "
            "(n, classes), the same classes each time"
        )
    answers = np.concatenate(parts)
    bad = np.flatnonzero(~np.isfinite(answers).all(axis=1))
    if bad.size:
        raise PredictionError(
            f"{role}: the model answers NaN or infinity to {bad.size} of {len(answers)} images ({named(bad)}); look at "
            "them, or train it again"
        )
    return answers


def refuse_no_probabilities(answers: Floats, *, role: str, named: Named = named_rows) -> None:
    """Raise PredictionError unless all rows of `answers` (n, columns) are probabilities; `named` names the bad rows.

    >>> refuse_no_probabilities(np.float32([[0.25, 0.75], [-1, 2]]), role="labeled")
    Traceback (most recent call last):
    ...
    selftrain.errors.PredictionError: labeled: the model's answers to 1 of 2 images are not probabilities ...
    """
    wrong = ((answers < -_ROUNDED) | (answers > 1 + SUM_TOLERANCE)).any(axis=1)
    if answers.shape[1] > 1:
        wrong |= np.abs(answers.sum(axis=1, dtype=np.float64) - 1) > SUM_TOLERANCE
    rows = np.flatnonzero(wrong)
    if rows.size:
        first = ", ".join(f"{value:.3g}" for value in answers[rows[0]][:_SHOWN])
        raise PredictionError(
            f"{role}: the model's answers to {rows.size} of {len(answers)} images are not probabilities (0 to 1, "
            f"with sum 1): {named(rows)}, the first: {first}{', ...' if answers.shape[1] > _SHOWN else ''}. "
            "End the model with a softmax, or say outputs='logits' if they are logits"
        )


def outputs_of(answers: Floats) -> OutputKind:
    """Whether `answers` (n, columns) are logits or probabilities. Raises PredictionError where they are neither.

    >>> outputs_of(np.float32([[0.1, 0.9], [0.5, 0.5]])), outputs_of(np.float32([[-1, 3], [0, 2]]))
    ('probabilities', 'logits')
    """
    low, high = float(answers.min()), float(answers.max())
    inside = low >= 0 and high <= 1 + SUM_TOLERANCE
    if answers.shape[1] == 1:
        return "probabilities" if inside else "logits"
    sums = answers.sum(axis=1, dtype=np.float64)
    if inside and bool((np.abs(sums - 1) <= SUM_TOLERANCE).all()):
        return "probabilities"
    if inside:
        raise PredictionError(
            f"the model answers numbers in 0-1 whose rows sum to {sums.min():.3g}..{sums.max():.3g}: neither "
            f"probabilities nor, it seems, logits (are they sigmoids?); {_WAYS_OUT}, or say outputs='logits'"
        )
    if low >= 0 and bool((np.abs(sums - 100) <= 100 * SUM_TOLERANCE).all()):
        raise PredictionError(
            f"the model answers numbers whose rows all sum to 100: percentages; divide them by 100, {_WAYS_OUT}, "
            "or say outputs='logits'"
        )
    return "logits"


def as_logits(answers: Floats, outputs: OutputKind) -> Floats:
    """Answers (n, columns) as logits (n, classes).

    Probabilities become their logarithms. One column becomes two classes.

    >>> as_logits(np.float32([[2.0]]), "logits").tolist()
    [[0.0, 2.0]]
    """
    if answers.shape[1] == 1:
        answers = np.concatenate(
            [1 - answers if outputs == "probabilities" else np.zeros_like(answers), answers], axis=1
        )
    if outputs == "logits":
        return answers
    logits: Floats = np.log(np.maximum(answers, np.float32(SMALLEST_PROBABILITY)))
    return logits


def classes_of(answers: Floats) -> int:
    """How many classes answers (n, columns) have: two where there is one column."""
    return max(2, int(answers.shape[1]))


def _refuse_other_shape(model: UserModel, shape: tuple[int, ...]) -> None:
    wanted = model.input_shape
    if wanted is None:
        return
    fits = len(wanted) == len(shape) and all(want in (None, side) for want, side in zip(wanted, shape, strict=True))
    if not fits:
        raise PredictionError(f"the model reads images of shape {wanted}, these have {shape}; resize or convert them")


def _ask_once(model: UserModel, images: Array, fill_to: int) -> Floats:
    count = len(images)
    batch = images[np.resize(np.arange(count), max(count, fill_to))]  # a copy, since preprocess_input changes floats
    try:
        answer = model.answer(batch)
    except Exception as error:  # a user's own code may raise anything
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise PredictionError(
            f"the model failed on a batch of shape {batch.shape}, type {batch.dtype}: {type(error).__name__}: {line}"
        ) from error
    if isinstance(answer, list | tuple | dict):
        raise PredictionError(
            f"the model answers a {type(answer).__name__}; it must answer one array (n, classes); a "
            "detector's boxes are for selftrain.autolabel_boxes"
        )
    answers = _numbers(to_array(answer), len(batch))
    if answers.ndim == 1 and len(answers) == len(batch):
        answers = answers[:, None]
    if answers.ndim != 2 or len(answers) != len(batch) or answers.shape[1] == 0:
        raise PredictionError(f"the model answers {answers.shape} to {len(batch)} images; it must answer (n, classes)")
    return answers[:count]


def _numbers(answer: Array, images: int) -> Floats:
    """An answer as float32. Raises PredictionError for values that are not numbers, and for one class per image."""
    if answer.dtype.kind in "biuUSO" and answer.shape in ((images,), (images, 1)):
        what = "class index" if answer.dtype.kind in "biu" else "name"
        raise PredictionError(
            f"the model answers one {what} per image ({answer.reshape(-1)[0]}), without its confidence; "
            f"{_WITH_CONFIDENCE}"
        )
    if answer.dtype.kind in "USMmc":  # not bfloat16: numpy has no kind for it, but it holds numbers
        raise PredictionError(f"the model answers values of type {answer.dtype}; {_WITH_CONFIDENCE}")
    try:
        return np.asarray(answer, np.float32)
    except (TypeError, ValueError) as error:
        raise PredictionError(f"the model does not answer numbers ({error}); {_WITH_CONFIDENCE}") from error
