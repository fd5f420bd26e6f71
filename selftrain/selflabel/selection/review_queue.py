"""Review queues: which images of a labelled pool a person should look at first."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

import numpy as np
import numpy.typing as npt

from selftrain.errors import InputError
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels


class QueueName(StrEnum):
    """By what an image comes into a queue."""

    UNCERTAIN = "uncertain"
    DISAGREE = "disagree"
    RANDOM = "random"
    MIXED = "mixed"


@dataclass(frozen=True)
class Candidate:
    """An image to look at: `shown` is the class that the last round's teacher gave, `confidence` its probability."""

    image_id: str
    shown: str
    confidence: float


def review_queue(
    rounds: Sequence[PseudoLabels], name: QueueName, *, limit: int, seed: int, known: Collection[str] = ()
) -> tuple[Candidate, ...]:
    """At most `limit` images of the last of `rounds` (oldest first), without those in `known`, most urgent first.

    - `uncertain`: least margin between the two highest probabilities first.
    - `disagree`: images whose label the last two rounds give differently, the most confident first.
    - `random`: drawn with `seed`.
    - `mixed`: the three in turns.

    Raises InputError without a labelled round, or for a limit below 1.
    """
    if not rounds:
        raise InputError("the run has stored no pseudo-labels, so there is nothing to review; choose another run")
    if limit < 1:
        raise InputError(f"a limit of {limit} asks for no image; give 1 or more")
    last = rounds[-1]
    ids, labels = last.table["image_id"].to_pylist(), last.table["label"].to_pylist()
    confidence = last.table["confidence"].to_pylist()
    done = frozenset(known)
    found = [int(row) for row in _order(rounds, name, seed=seed) if ids[row] not in done][:limit]
    return tuple(Candidate(ids[row], last.class_names[labels[row]], confidence[row]) for row in found)


def _order(rounds: Sequence[PseudoLabels], name: QueueName, *, seed: int) -> Sequence[int] | npt.NDArray[np.int64]:
    """Row numbers of the last round, most urgent first."""
    match name:
        case QueueName.UNCERTAIN:
            return np.argsort(_margins(rounds[-1]), kind="stable")
        case QueueName.DISAGREE:
            return _flipped(rounds)
        case QueueName.RANDOM:
            return np.random.default_rng(seed).permutation(len(rounds[-1]))
        case QueueName.MIXED:
            orders = [_order(rounds, each, seed=seed) for each in QueueName if each is not QueueName.MIXED]
            longest = max(map(len, orders))
            return list(dict.fromkeys(int(each[at]) for at in range(longest) for each in orders if at < len(each)))
        case _:
            assert_never(name)


def _margins(labels: PseudoLabels) -> npt.NDArray[np.float32]:
    """Highest less second highest probability of each row, float32 (n,); 1 where there is one class only."""
    probs = labels.probs()
    if probs.shape[1] < 2:
        return np.ones(len(probs), np.float32)
    top = np.partition(probs, -2, axis=1)
    return np.asarray(top[:, -1] - top[:, -2], np.float32)


def _flipped(rounds: Sequence[PseudoLabels]) -> npt.NDArray[np.int64]:
    if len(rounds) < 2:
        return np.empty(0, np.int64)
    before, last = rounds[-2].table, rounds[-1].table
    said = dict(zip(before["image_id"].to_pylist(), before["label"].to_pylist(), strict=True))
    pairs = zip(last["image_id"].to_pylist(), last["label"].to_pylist(), strict=True)
    rows = np.array([row for row, (name, label) in enumerate(pairs) if said.get(name, label) != label], np.int64)
    return rows[np.argsort(-last["confidence"].to_numpy()[rows], kind="stable")]
