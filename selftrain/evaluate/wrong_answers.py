"""Wrong answers: the images on which a model is wrong, the most confident first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

MOST_PER_PAIR = 12
MOST_WRONG = 500


class WrongAnswer(BaseModel):
    """An image with the class index `label` that was answered as `predicted`, with this `confidence` (0-1)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_id: str
    label: int
    predicted: int
    confidence: float


def wrong_answers(
    image_ids: Sequence[str], labels: npt.ArrayLike, probs: npt.ArrayLike, *, most: int = MOST_WRONG
) -> tuple[WrongAnswer, ...]:
    """The most confident wrong answers: up to 12 for each pair of label and prediction, up to `most` together.

    - `image_ids` (n,), `labels` (n,): the images and their human labels, as class indices.
    - `probs` (n, classes): the model's calibrated probabilities.

    >>> [each.image_id for each in wrong_answers(["a", "b", "c"], [0, 0, 1], [[.4, .6], [.1, .9], [.2, .8]])]
    ['b', 'a']
    """
    truth, table = np.asarray(labels), np.asarray(probs)
    predicted, confidence = table.argmax(axis=1), table.max(axis=1)
    wrong = np.flatnonzero(predicted != truth)
    counted: Counter[tuple[int, int]] = Counter()
    found: list[WrongAnswer] = []
    for row in wrong[np.argsort(-confidence[wrong], kind="stable")].tolist():
        pair = int(truth[row]), int(predicted[row])
        if counted[pair] < MOST_PER_PAIR and len(found) < most:
            counted[pair] += 1
            found.append(
                WrongAnswer(
                    image_id=str(image_ids[row]), label=pair[0], predicted=pair[1], confidence=float(confidence[row])
                )
            )
    return tuple(found)


def all_errors(image_ids: Sequence[str], labels: npt.ArrayLike, probs: npt.ArrayLike) -> dict[str, int]:
    """The class index that was answered for every wrong image, by its id; arguments as in `wrong_answers`.

    >>> all_errors(["a", "b", "c"], [0, 0, 1], [[.4, .6], [.9, .1], [.8, .2]])
    {'a': 1, 'c': 0}
    """
    truth, predicted = np.asarray(labels), np.asarray(probs).argmax(axis=1)
    return {str(image_ids[row]): int(predicted[row]) for row in np.flatnonzero(predicted != truth).tolist()}
