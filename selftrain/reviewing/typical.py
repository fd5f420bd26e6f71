"""Typical images: one of each kind that has no label yet, for budgets that are too small for doubt to be told well."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from selftrain.reviewing.spreading import Floats, Ints, nearest

MOST_KINDS, FEWEST_IMAGES, NEIGHBOURS = 500, 5, 20
_REDUCED = 64  # principal components, in which kinds are looked for


def typical_first(
    values: Floats, labelled: npt.NDArray[np.bool_], *, budget: int, seed: int
) -> Iterator[tuple[int, int]]:
    """Rows of `values` (n, width) that are not `labelled` (n,), and how many images each one's kind has.

    TypiClust (Hacohen et al., arXiv:2202.02794): k-means finds as many kinds as there will be labels, at most 500. The
    kind with the fewest labels comes first, of those the largest; of it, the image that is nearest to its 20 nearest
    neighbours, by the mean distance. Kinds of fewer than 5 images come last.
    """
    kinds = _kinds(values, min(MOST_KINDS, int(labelled.sum()) + budget, len(values)), seed)
    members = [np.flatnonzero(kinds == kind) for kind in range(int(kinds.max(initial=-1)) + 1)]
    waiting = {kind: _most_typical(values, rows, labelled) for kind, rows in enumerate(members)}
    given = {kind: int(labelled[rows].sum()) for kind, rows in enumerate(members)}
    while waiting := {kind: rows for kind, rows in waiting.items() if rows}:
        size = {kind: len(members[kind]) for kind in waiting}
        kind = min(waiting, key=lambda each: (size[each] < FEWEST_IMAGES, given[each], -size[each], each))
        given[kind] += 1
        yield waiting[kind].pop(0), size[kind]


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


def _most_typical(values: Floats, rows: Ints, labelled: npt.NDArray[np.bool_]) -> list[int]:
    """Those of `rows` without a label, the most typical one first."""
    if not len(rows):
        return []
    own = values[rows]
    count = max(1, min(NEIGHBOURS, len(rows) // 2))
    near = own[nearest(own, own, count=count + 1)[:, 1:]]  # the nearest one is the image itself
    distance = np.linalg.norm(near - own[:, None], axis=2).mean(axis=1) if near.shape[1] else np.zeros(len(rows))
    order = rows[np.argsort(distance, kind="stable")]
    return [int(row) for row in order if not labelled[row]]
