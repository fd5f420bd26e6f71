"""Typical images: one of each kind that has no label yet, for budgets that are too small for doubt to be told well."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from selftrain.reviewing.spreading import Floats, Ints, mean_distance

MOST_KINDS, FEWEST_IMAGES, NEIGHBOURS, MOST_COMPARED = 500, 5, 20, 2_000
_REDUCED = 64  # principal components, in which kinds are looked for


def typical_first(
    values: Floats, labelled: npt.NDArray[np.bool_], *, budget: int, seed: int
) -> Iterator[tuple[int, int]]:
    """Rows of `values` (n, width) that are not `labelled` (n,), and how many images each one's kind has.

    TypiClust (Hacohen et al., arXiv:2202.02794): k-means finds as many kinds as there will be labels, at most 500. The
    kind with the fewest labels comes first, of those the largest; of it, the image that is nearest to its 20 nearest
    neighbours, by the mean distance. Kinds of fewer than 5 images come last. Two things differ from the paper, so that
    100,000 images take seconds: kinds are looked for in 64 principal components, and of a large kind, each image is
    compared with 2,000.
    """
    kinds = _kinds(values, min(MOST_KINDS, int(labelled.sum()) + budget, len(values)), seed)
    members = [np.flatnonzero(kinds == kind) for kind in range(int(kinds.max(initial=-1)) + 1)]
    given = [int(labelled[rows].sum()) for rows in members]
    left = {kind: len(rows) - given[kind] for kind, rows in enumerate(members) if len(rows) > given[kind]}
    ranked: dict[int, list[int]] = {}
    while left:
        kind = min(left, key=lambda each: (len(members[each]) < FEWEST_IMAGES, given[each], -len(members[each]), each))
        if kind not in ranked:
            order = _most_typical(values[members[kind]], seed)
            ranked[kind] = [int(row) for row in members[kind][order] if not labelled[row]][::-1]
        given[kind] += 1
        left[kind] -= 1
        if not left[kind]:
            del left[kind]
        yield ranked[kind].pop(), len(members[kind])


def _kinds(values: Floats, count: int, seed: int) -> Ints:
    """The kind of each row, from 0 (n,)."""
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.decomposition import PCA

    if count < 2:
        return np.zeros(len(values), np.int64)
    reduced = values
    if min(values.shape) > _REDUCED:
        reduced = PCA(_REDUCED, svd_solver="randomized", random_state=seed).fit_transform(values)
    found = MiniBatchKMeans(count, random_state=seed, n_init=1, batch_size=4096).fit_predict(reduced)
    return np.asarray(found, np.int64)


def _most_typical(own: Floats, seed: int) -> Ints:
    """The rows of a kind's vectors, the most typical one first; of a large kind, each is compared with a part of it."""
    count = min(NEIGHBOURS, len(own) // 2)
    if not count:
        return np.arange(len(own))
    part = np.arange(len(own))
    if len(own) > MOST_COMPARED:
        part = np.sort(np.random.default_rng(seed).choice(len(own), MOST_COMPARED, replace=False))
    return np.argsort(mean_distance(own, own[part], count=count, same=part), kind="stable")
