"""Review queues: which images of a run's data set a person should look at first, and why each one."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice, zip_longest
from typing import TypeAlias, assert_never

import numpy as np
import numpy.typing as npt

from selftrain.errors import InputError
from selftrain.reviewing.left_out import LeftOutImages
from selftrain.reviewing.mislabelled import doubted_labels
from selftrain.reviewing.spreading import newest_first, spread
from selftrain.reviewing.typical import typical_first
from selftrain.reviewing.vectors import Vectors
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels

Found: TypeAlias = tuple[str, str]
"""The id of an image, and why it is in the queue."""
SPREAD_FROM, MOST_SPREAD = 4, 1000
"""A queue is spread over the most urgent `SPREAD_FROM` times its limit, and only up to this limit."""


class QueueName(StrEnum):
    """By what an image comes into a queue."""

    UNCERTAIN = "uncertain"
    DISAGREE = "disagree"
    MISLABELLED = "mislabelled"
    NEW = "new"
    TYPICAL = "typical"
    DUPLICATES = "duplicates"
    QUARANTINE = "quarantine"
    RANDOM = "random"
    MIXED = "mixed"


IN_TURNS = (QueueName.UNCERTAIN, QueueName.DISAGREE, QueueName.NEW, QueueName.RANDOM)

AS_THEY_COME = (QueueName.RANDOM, QueueName.DUPLICATES, QueueName.QUARANTINE)


@dataclass(frozen=True)
class Material:
    """What queues are made from.

    - `rounds`: the pseudo-labels of each round, oldest first.
    - `labels`: image_id -> class name of the images with human labels in training and validation.
    - `left_out`: the images that ingest left out, whose pixels are kept.
    - `vectors`: features of a frozen network for the pool and the labelled images; None where a run kept none.
    - `label_vectors`: the same, where they are kept for the labelled images at least.
    """

    rounds: tuple[PseudoLabels, ...]
    labels: dict[str, str] = field(default_factory=dict)
    left_out: LeftOutImages = field(default_factory=LeftOutImages)
    vectors: Vectors | None = None
    label_vectors: Vectors | None = None

    @property
    def last(self) -> PseudoLabels:
        """The last round. Raises InputError where the run has none."""
        if not self.rounds:
            raise InputError("the run has stored no pseudo-labels, so there is nothing to review; choose another run")
        return self.rounds[-1]


def review_queue(
    material: Material,
    name: QueueName,
    *,
    limit: int,
    seed: int = 0,
    known: Collection[str] = (),
    spread_out: bool = False,
) -> tuple[Found, ...]:
    """At most `limit` images without those in `known`, most urgent first, each with the reason in words.

    - `uncertain`: least margin between the two highest probabilities of the last round first.
    - `disagree`: the last two rounds give different labels; the most confident first.
    - `mislabelled`: out of fold, a classifier on frozen features gives another label than people did.
    - `new`: far from all that has a label, by the distance to its nearest neighbours.
    - `typical`: one of each kind of image, the largest kind without a label first; for the first labels of a set.
    - `duplicates`: nearly the same as another image, which is why ingest left it out.
    - `quarantine`: left out because labels contradict each other, or were taken back.
    - `random`: drawn with `seed`.
    - `mixed`: uncertain, disagree, new and random in turns.

    With `spread_out`, those chosen of the most urgent lie far apart (k-centre): alike images come once. Raises
    InputError for a limit below 1, and where the run has not stored what the queue needs.
    """
    if limit < 1:
        raise InputError(f"a limit of {limit} asks for no image; give 1 or more")
    done = frozenset(known)
    ranked = (each for each in _ranked(material, name, seed, limit, done) if each[0] not in done)
    if not spread_out or limit > MOST_SPREAD or name in (*AS_THEY_COME, QueueName.TYPICAL):
        return tuple(islice(ranked, limit))
    urgent = list(islice(ranked, SPREAD_FROM * limit))
    if len(urgent) <= limit:
        return tuple(urgent)
    chosen = spread(_vectors(material, name, [each[0] for each in urgent]), limit)
    return tuple(urgent[row] for row in sorted(chosen))


def order_of(material: Material, name: QueueName, *, count: int, limit: int, spread_out: bool) -> str:
    """How the `count` images of a queue were chosen, in words."""
    if name in AS_THEY_COME:
        return "as they come"
    if name is QueueName.TYPICAL:
        return "one of each kind, the largest kind without a label first"
    if not spread_out or count < limit or limit > MOST_SPREAD:
        return "most urgent first"
    by = "the model's answers" if _features(material, name) is None else "features of a frozen network"
    return f"most urgent first, spread out by {by}"


def _features(material: Material, name: QueueName) -> Vectors | None:
    """The features that a queue's images are compared by; labelled images may have some where the pool has none."""
    return material.label_vectors if name is QueueName.MISLABELLED else material.vectors


def _vectors(material: Material, name: QueueName, ids: Sequence[str]) -> npt.NDArray[np.float32]:
    """A vector (n, width) per image: its features, else what the last round answered; 0 for what is not known."""
    features = _features(material, name)
    if features is not None:
        return features.of(ids)
    rows = {each: row for row, each in enumerate(material.last.table["image_id"].to_pylist())}
    probs = material.last.probs()
    found = np.zeros((len(ids), probs.shape[1]), np.float32)
    for place, each in enumerate(ids):
        if each in rows:
            found[place] = probs[rows[each]]
    return found


def _ranked(material: Material, name: QueueName, seed: int, limit: int, done: Collection[str] = ()) -> Iterator[Found]:
    """All images of a queue, most urgent first. Some are chosen for a `limit`, or beside those `done`."""
    match name:
        case QueueName.UNCERTAIN:
            return _uncertain(material.last)
        case QueueName.DISAGREE:
            material.last  # noqa: B018 - a run without rounds is an error, one with a single round an empty queue
            return _flipped(material.rounds)
        case QueueName.MISLABELLED:
            return iter(doubted_labels(material.labels, material.label_vectors, seed=seed))
        case QueueName.NEW:
            return _new(material, seed)
        case QueueName.TYPICAL:
            return _typical(material, limit, seed, done)
        case QueueName.DUPLICATES:
            return iter(material.left_out.copies)
        case QueueName.QUARANTINE:
            return iter(material.left_out.disputed)
        case QueueName.RANDOM:
            return _random(material.last, seed)
        case QueueName.MIXED:
            return _in_turns([_ranked(material, each, seed, limit) for each in IN_TURNS])
        case _:
            assert_never(name)


def _typical(material: Material, limit: int, seed: int, done: Collection[str]) -> Iterator[Found]:
    """Pool images by kinds, which are found among the labelled images too; what is `done` counts as labelled."""
    pool, labels = material.last.table["image_id"].to_pylist(), list[str]()
    if material.vectors is not None:
        pool, labels = ([each for each in ids if material.vectors.holds(each)] for ids in (pool, material.labels))
    every = [*pool, *labels]
    labelled = np.array([each in done for each in pool] + [True] * len(labels), np.bool_)
    values = _vectors(material, QueueName.TYPICAL, every)
    for row, size in typical_first(values, labelled, budget=limit, seed=seed):
        yield every[row], f"typical: near the others of its kind, which has {size:,} images"


def _in_turns(queues: Sequence[Iterator[Found]]) -> Iterator[Found]:
    seen: set[str] = set()
    for turn in zip_longest(*queues):
        for found in turn:
            if found is not None and found[0] not in seen:
                seen.add(found[0])
                yield found


def _uncertain(last: PseudoLabels) -> Iterator[Found]:
    ids, margins = last.table["image_id"], margins_of(last.probs())
    for row in np.argsort(margins, kind="stable").tolist():
        yield ids[row].as_py(), f"uncertain: the two best classes are {margins[row]:.2f} apart"


def _random(last: PseudoLabels, seed: int) -> Iterator[Found]:
    ids = last.table["image_id"]
    for row in np.random.default_rng(seed).permutation(len(last)).tolist():
        yield ids[row].as_py(), "drawn at random"


def margins_of(probs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Highest less second highest probability of each row, float32 (n,); 1 where there is one class only."""
    if probs.shape[1] < 2:
        return np.ones(len(probs), np.float32)
    top = np.partition(probs, -2, axis=1)
    return np.asarray(top[:, -1] - top[:, -2], np.float32)


def _flipped(rounds: Sequence[PseudoLabels]) -> Iterator[Found]:
    if len(rounds) < 2:
        return
    before, last = rounds[-2].table, rounds[-1].table
    said = dict(zip(before["image_id"].to_pylist(), before["label"].to_pylist(), strict=True))
    ids, labels = last["image_id"].to_pylist(), last["label"].to_pylist()
    pairs = enumerate(zip(ids, labels, strict=True))
    rows = np.array([row for row, (name, label) in pairs if said.get(name, label) != label], np.int64)
    for row in rows[np.argsort(-last["confidence"].to_numpy()[rows], kind="stable")].tolist():
        was, now = rounds[-2].class_names[said[ids[row]]], rounds[-1].class_names[labels[row]]
        yield ids[row], f"round {rounds[-2].round} said {was}, round {rounds[-1].round} {now}"


def _new(material: Material, seed: int) -> Iterator[Found]:
    """Pool images by their distance to what has a label; without features, to the answers that were accepted."""
    last = material.last
    ids = last.table["image_id"].to_pylist()
    if material.vectors is not None and material.labels:
        known = material.vectors.known(ids)
        pool = [each for each, there in zip(ids, known.tolist(), strict=True) if there]
        labelled = material.vectors.of([each for each in material.labels if material.vectors.holds(each)])
        if pool and len(labelled):
            order, distance = newest_first(material.vectors.of(pool), labelled, seed=seed)
            for row in order.tolist():
                yield pool[row], f"new: {distance[row]:.2f} from the nearest labelled images, by frozen features"
            return
    probs, accepted = last.probs(), last.table["accepted"].to_numpy()
    if not accepted.any():
        return
    order, distance = newest_first(probs, probs[accepted], seed=seed)
    for row in order.tolist():
        yield ids[row], f"new: its answer is {distance[row]:.2f} from the nearest accepted ones (no features are kept)"
