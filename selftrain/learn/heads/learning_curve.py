"""The learning curve: heads fitted to parts of the human labels, each asked about labels that it did not see."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from selftrain.learn.heads.logistic import Floats, Ints, Targets, fit_logistic

_FOLDS = 5
_SHARES = (0.125, 0.25, 0.5, 1.0)  # of the labels that are not held out
_REPEATS = (4, 3, 2, 1)  # subsamples of each share, in each fold
_MOST = 1_500  # labels; more would not change the curve's shape
_MOST_WORK = 4e11  # multiplications of all fits, some two minutes on two cores


@dataclass(frozen=True, eq=False)
class HeldOutAnswers:
    """Answers on held-out labels. `right` (sizes, repeats, n) is 1 where a head fitted to `sizes` labels was right.

    `labels` (n,) are the true classes of the images that were asked about. `luck` is how much the accuracy of a head
    depends on which labels it happened to be given: the variance (0-1) of heads on m labels is luck / m.
    """

    sizes: tuple[int, ...]
    right: Floats
    labels: Ints
    luck: float


def held_out_answers(
    features: Floats, labels: Ints, *, classes: int, inverse_penalty: float, seed: int
) -> HeldOutAnswers | None:
    """Fit heads to an eighth, a quarter, half and all of `labels` (n,) that a fold leaves, and ask about the fold.

    `inverse_penalty` is the one that a head on all labels was fitted with. `features` (n, d) must come from a network
    that was not trained on these labels, or the curve shows what it knows already. Of more than 1,500 labels, that many
    are used. Returns None where no fold can hold out labels, or where the fits would take minutes.
    """
    from sklearn.model_selection import StratifiedKFold

    rng = np.random.default_rng(seed)
    kept = np.sort(rng.permutation(len(labels))[:_MOST])
    features, labels = features[kept], labels[kept]
    counts = np.bincount(labels, minlength=classes)
    folds = min(_FOLDS, int(counts[counts > 0].min(initial=len(labels))))
    if folds < 2 or (counts > 0).sum() < 2 or _work(features, classes) > _MOST_WORK:
        return None
    splits = list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(features, labels))
    smallest = min(len(rest) for rest, _ in splits)
    sizes = [round(share * smallest) for share in _SHARES]
    usable = [at for at, size in enumerate(sizes) if size >= (counts > 0).sum()]
    right = np.empty((len(usable), max(_REPEATS), len(labels)), np.float32)
    lucks = []
    for rest, held_out in splits:
        for place, at in enumerate(usable):
            answers = np.empty((_REPEATS[at], len(held_out)), np.float32)
            for repeat in range(_REPEATS[at]):
                chosen = _subsample(rest, labels, sizes[at], rng)
                targets = _hard(labels[chosen], classes)
                head = fit_logistic(features[chosen], targets, seed=seed, inverse_penalty=inverse_penalty)
                answers[repeat] = head.logits(features[held_out]).argmax(axis=1) == labels[held_out]
            lucks += [sizes[at] * _between_heads(answers)] if _REPEATS[at] > 1 else []
            repeated = np.resize(np.arange(_REPEATS[at]), max(_REPEATS))
            right[place][:, held_out] = answers[repeated]
    return HeldOutAnswers(tuple(sizes[at] for at in usable), right, labels, max(0.0, float(np.mean(lucks or [0.0]))))


def _between_heads(answers: Floats) -> float:
    """The variance of the accuracy between heads, from `answers` (heads, k): 1 where one of k images was named right.

    Heads that are equally good differ on so few images as well; that part is taken off.
    """
    by_image, by_head = answers.var(axis=0, ddof=1), answers.mean(axis=1)
    between, chance = float(np.var(by_head, ddof=1)), float(by_image.mean()) / len(answers.T)
    return between - chance


def _work(features: Floats, classes: int) -> float:
    """About how many multiplications all fits need; each looks some 100 times at its labels."""
    part = sum(share * repeats for share, repeats in zip(_SHARES, _REPEATS, strict=True))
    return 100.0 * _FOLDS * part * features.size * classes


def _hard(labels: Ints, classes: int) -> Targets:
    ones = np.ones(len(labels), np.float32)
    return Targets(np.eye(classes, dtype=np.float32)[labels], ones, ones.astype(bool))


def _subsample(rows: Ints, labels: Ints, size: int, rng: np.random.Generator) -> Ints:
    """`size` of `rows`, each class by its share of them, and one image of each class at least."""
    shuffled = rng.permutation(rows)
    if size >= len(rows):
        return shuffled
    place = np.empty(len(rows))
    for name in np.unique(labels[rows]):
        here = np.flatnonzero(labels[shuffled] == name)
        place[here] = (np.arange(len(here)) + rng.random()) / len(here)
        place[here[0]] = -1.0
    return shuffled[np.argsort(place, kind="stable")[:size]]
