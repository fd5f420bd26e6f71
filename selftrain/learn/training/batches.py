"""Batches: the examples that a training step sees, chosen by the seed and the step alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import grain

    from selftrain.data.store.pixels import Pixels

Batch = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]
T = TypeVar("T")
_HUMAN, _PSEUDO, _FINISH, _POOL = range(4)


@dataclass(frozen=True)
class Examples:
    """Images with targets: `rows` (n,) into `pixels`, `targets` (n, classes), `weights` (n,), `human` (n,).

    A target row is one-hot (a label) or soft (a teacher's probabilities). `human` marks the labels of people. `hard`
    (n,) marks the rows that name a class without probabilities; None means the human ones. A teacher's probabilities
    are soft even where they round to 1. A pseudo-label stored without probabilities is hard.
    """

    pixels: Pixels
    rows: NDArray[np.int64]
    targets: NDArray[np.float32]
    weights: NDArray[np.float32]
    human: NDArray[np.bool_]
    hard: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        lengths = {len(part) for part in (self.rows, self.targets, self.weights, self.human, self.named)}
        if len(lengths) != 1 or self.targets.ndim != 2 or len(self.rows) == 0:
            raise ValueError(
                f"rows, targets (n, classes), weights, human and hard need one length above 0, got {lengths}"
            )

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def named(self) -> NDArray[np.bool_]:
        """Which rows (n,) name a class without probabilities."""
        return self.human if self.hard is None else self.hard

    @property
    def digest(self) -> str:
        """sha256 over rows, targets, weights and `human`. The pixels are not read: the store guarantees them."""
        parts = (self.rows, self.targets, self.weights, self.human)
        return sha256(b"|".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()


def smooth(targets: NDArray[np.float32], amount: float, *, hard: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Label smoothing (Szegedy et al. 2016, section 7) of the rows that are `hard` (n,).

    A soft row already expresses its doubt, even where a teacher's probability is 1 in float32.

    >>> smooth(np.array([[1, 0], [0.7, 0.3]], np.float32), 0.1, hard=np.array([True, False])).round(3).tolist()
    [[0.949999988079071, 0.05000000074505806], [0.699999988079071, 0.30000001192092896]]
    """
    smoothed = targets * np.float32(1 - amount) + np.float32(amount / targets.shape[1])
    mixed: NDArray[np.float32] = np.where(hard[:, None], smoothed, targets).astype(np.float32)
    return mixed


def balanced_weights(targets: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """`weights` times each example's inverse class share, scaled to the same sum.

    >>> balanced_weights(np.array([[1, 0], [1, 0], [0, 1]], np.float32), np.ones(3, np.float32)).tolist()
    [0.75, 0.75, 1.5]
    """
    mass = (targets * weights[:, None]).sum(axis=0)
    inverse = np.divide(1.0, mass, out=np.zeros_like(mass), where=mass > 0)
    balanced = weights * (targets @ inverse)
    scaled: NDArray[np.float32] = (balanced * (weights.sum() / balanced.sum())).astype(np.float32)
    return scaled


@dataclass(frozen=True)
class Batches:
    """The batch of each step. Human labels and pseudo-labels are two endless streams, each of its own permutations.

    A batch holds at least ceil(min_human_share * batch_size) human-labelled examples, if there are any. If their
    natural share is higher, they have that share over the steps. If that is not a whole number per batch, some batches
    hold one more than others. From step `labels_only_from` on, batches hold human-labelled examples alone.
    """

    examples: Examples
    batch_size: int
    seed: int
    min_human_share: float = 0.0
    labels_only_from: int | None = None

    def humans_before(self, step: int) -> int:
        """How many human-labelled examples the steps before `step` see, if none sees labels alone."""
        human = int(self.examples.human.sum())
        if human == 0:
            return 0
        floor = math.ceil(self.min_human_share * self.batch_size)
        return max(step * floor, step * self.batch_size * human // len(self.examples))

    def positions(self, step: int) -> NDArray[np.int64]:
        """Positions (batch_size,) into the examples that step `step` sees."""
        human, pseudo = np.flatnonzero(self.examples.human), np.flatnonzero(~self.examples.human)
        if self.labels_only_from is not None and step >= self.labels_only_from and len(human):
            begin = (step - self.labels_only_from) * self.batch_size
            return human[_stream(self.seed, _FINISH, len(human), begin, self.batch_size)]
        begin = self.humans_before(step)
        humans = self.humans_before(step + 1) - begin
        pseudos, pseudo_begin = self.batch_size - humans, step * self.batch_size - begin
        drawn_human = human[_stream(self.seed, _HUMAN, len(human), begin, humans)]
        drawn_pseudo = pseudo[_stream(self.seed, _PSEUDO, len(pseudo), pseudo_begin, pseudos)]
        return np.concatenate([drawn_human, drawn_pseudo])

    def __call__(self, step: int) -> Batch:
        """Pixels (b, s, s, 3) uint8, targets (b, classes) and weights (b,) of step `step`."""
        at = self.positions(int(step))
        return self.examples.pixels.gather(self.examples.rows[at]), self.examples.targets[at], self.examples.weights[at]

    def dataset(self, start: int, stop: int) -> grain.IterDataset[Batch]:
        """Steps `start` to `stop` (exclusive) as a Grain pipeline that gathers ahead in a thread."""
        return gathered_ahead(self, start, stop)


def gathered_ahead(batch: Callable[[int], T], start: int, stop: int) -> grain.IterDataset[T]:
    """The results of `batch` for steps `start` to `stop` (exclusive), gathered ahead in a thread."""
    import grain

    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
    return grain.MapDataset.range(start, stop).map(batch).to_iter_dataset(options)


def pool_positions(seed: int, n: int, step: int, count: int) -> NDArray[np.int64]:
    """Positions (count,) into `n` unlabelled images for step `step`; each pass sees every image once."""
    return _stream(seed, _POOL, n, step * count, count)


def _stream(seed: int, source: int, n: int, start: int, count: int) -> NDArray[np.int64]:
    """Elements `start` to `start + count` of the endless stream of seeded permutations of range(n)."""
    if count == 0:
        return np.empty(0, np.int64)
    at = np.arange(start, start + count)
    epochs = range(int(at[0] // n), int(at[-1] // n) + 1)
    shuffled = np.concatenate([_permutation(seed, source, n, epoch) for epoch in epochs])
    return shuffled[at - epochs[0] * n]


@lru_cache(maxsize=8)
def _permutation(seed: int, source: int, n: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, source, epoch)).permutation(n)
