"""What is the order of `selftrain review` worth: 100 labels that a queue chose, against 100 drawn at random?

A head on frozen features is fitted to 100 labels of flowers and of CIFAR-10, as many of each class, and labels the
rest. Each queue then names 100 images of the pool, whose true labels are added, and the head is fitted again, the
same way as with 100 at random. All heads are asked about the same 1,000 images, which no queue sees. The difference is
paired by draw; its interval is a t interval over draws.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue
from scipy import stats

from benchmarks.more_labels import balanced, cifar10_features, fit, flowers_features
from benchmarks.record import Check, Result
from selftrain.config import Fixed, PseudoLabel
from selftrain.learn.heads.logistic import Linear
from selftrain.reviewing.queues import Material, QueueName, review_queue
from selftrain.reviewing.vectors import Vectors, unit
from selftrain.selflabel.selection.pseudo_labels import select

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

LABELS, MORE, TEST, DRAWS = 100, 100, 1_000, 5
QUEUES = (QueueName.UNCERTAIN, QueueName.NEW, QueueName.TYPICAL, QueueName.MIXED)
_RANDOM = 5  # random choices a draw, whose mean is compared: one alone would add its own luck


def measure(*, quick: bool) -> Result:
    """All draws of both sets, each queue spread out as the page does it."""
    sets = {"flowers": flowers_features(quick=quick), "cifar10": cifar10_features(quick=quick)}
    details: dict[str, JsonValue] = {}
    checks: list[Check] = []
    for name, (features, labels) in sets.items():
        draws = [
            _draw(features, labels, seed=seed, test=200 if quick else TEST) for seed in range(2 if quick else DRAWS)
        ]
        for queue in QUEUES:
            gains = np.array([100 * (found[queue] - found["random"]) for found in draws])
            low, high = stats.t.interval(0.95, len(gains) - 1, gains.mean(), stats.sem(gains))
            details[f"{name}, {queue}"] = {"points": gains.tolist(), "low": float(low), "high": float(high)}
            checks.append(
                Check(
                    what=f"{name}, 100 labels by the queue {queue} over 100 at random",
                    measured=float(gains.mean()),
                    relation=">",
                    target=0.0,
                    unit="points",
                )
            )
        for known in ("before", "random"):
            details[f"{name}, {known}"] = float(100 * np.mean([found[known] for found in draws]))
    return Result(checks=tuple(checks), details=details)


def _draw(features: Floats, labels: Ints, *, seed: int, test: int) -> dict[str, float]:
    """The accuracy with 100 labels, with 100 more at random, and with 100 more by each queue."""
    classes = int(labels.max()) + 1
    order = np.random.default_rng(seed).permutation(len(labels))
    held_out, order = order[:test], order[test:]
    own, pool = balanced(order, labels, LABELS // classes)
    before = fit(features[own], labels[own], classes)

    def with_more(chosen: Ints) -> float:
        rows = np.concatenate([own, chosen])
        return _accuracy(fit(features[rows], labels[rows], classes), features[held_out], labels[held_out])

    material = _material(before, features, labels, own, pool)
    by_random = [with_more(np.random.default_rng((seed, each)).permutation(pool)[:MORE]) for each in range(_RANDOM)]
    found = {"before": _accuracy(before, features[held_out], labels[held_out]), "random": float(np.mean(by_random))}
    for queue in QUEUES:
        asked = review_queue(material, queue, limit=MORE, seed=seed, spread_out=True)
        found[queue] = with_more(np.array([int(each, 16) for each, _ in asked]))
    return found


def _material(head: Linear, features: Floats, labels: Ints, own: Ints, pool: Ints) -> Material:
    """What a run would have stored: the head's answers for the pool, the human labels, and the features of both."""
    logits = head.logits(features[pool])
    probs = np.exp(logits - logits.max(axis=1, keepdims=True))
    probs /= probs.sum(axis=1, keepdims=True)
    names = tuple(f"class {k}" for k in range(probs.shape[1]))
    settings = PseudoLabel(threshold=Fixed(value=0.9))
    labelled = select(_ids(pool), probs, settings, round_index=1, teacher="t", class_names=names)
    human = {each: names[label] for each, label in zip(_ids(own), labels[own].tolist(), strict=True)}
    vectors = Vectors((*_ids(pool), *_ids(own)), unit(features[np.concatenate([pool, own])]))
    return Material(rounds=(labelled,), labels=human, vectors=vectors, label_vectors=vectors)


def _ids(rows: Ints) -> list[str]:
    return [f"{row:064x}" for row in rows.tolist()]


def _accuracy(head: Linear, features: Floats, labels: Ints) -> float:
    return float((head.logits(features).argmax(axis=1) == labels).mean())
