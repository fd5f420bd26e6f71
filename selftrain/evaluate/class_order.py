"""Class order: whether a model's answers are those of another order of its classes."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from selftrain.evaluate.statistics.significance import mcnemar

Ints = npt.NDArray[np.int64]
FEWEST: Final = 5  # images of a class; fewer cannot tell
_SHARE: Final = 0.6  # of a class's images that get one other answer
_LEVEL: Final = 0.001  # of the test that the circle fits the labels better than the order given


def interchanged(answers: Ints, labels: Ints, classes: int) -> tuple[int, ...]:
    """Classes that are answered for one another in a circle, in its order; empty where there are none.

    `answers` and `labels` (n,) are class indices. A class of at least FEWEST images belongs to a circle if three in
    five of them are answered as the next one. The circle must also fit the labels significantly better than the order
    that was given (McNemar). A model that is only weak mixes classes up, but hardly ever both ways.

    >>> interchanged(np.repeat([1, 0, 2], 9), np.repeat([0, 1, 2], 9), 3)
    (0, 1)
    """
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (labels, answers), 1)
    images = counts.sum(axis=1)
    top = counts.argmax(axis=1)
    sure = (images >= FEWEST) & (counts.max(axis=1) >= _SHARE * images) & (top != np.arange(classes))
    for start in np.flatnonzero(sure).tolist():
        circle = [start]
        while sure[circle[-1]] and int(top[circle[-1]]) not in circle:
            circle.append(int(top[circle[-1]]))
        there = np.array(circle)
        gains, losses = int(counts[there, top[there]].sum()), int(counts[there, there].sum())
        if sure[circle[-1]] and top[circle[-1]] == start and mcnemar(gains, losses) < _LEVEL:
            return tuple(circle)
    return ()


def explained(circle: tuple[int, ...], class_names: tuple[str, ...]) -> str:
    """What `interchanged` found, in words.

    >>> explained((0, 1), ("cat", "dog"))
    "most images of 'cat' are answered as 'dog', and most of 'dog' as 'cat'"
    """
    pairs = zip(circle, (*circle[1:], circle[0]), strict=True)
    said = [f"{class_names[one]!r} {{}}as {class_names[other]!r}" for one, other in pairs]
    return "most images of " + ", and most of ".join(
        each.format("are answered " if place == 0 else "") for place, each in enumerate(said)
    )
