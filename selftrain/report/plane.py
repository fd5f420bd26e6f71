"""Planes: vectors of images laid out in two dimensions, so that similar ones lie together."""

from __future__ import annotations

import warnings
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
NEIGHBOURS = 15
_REDUCED = 50
"""UMAP is given so many principal components: they hold nearly all, and are searched faster."""


def planes(vectors: Floats, *, seed: int = 0) -> dict[str, Doubles]:
    """The `vectors` (n, d) in the plane: (n, 2), from 0 to 1, by method.

    PCA is always there, by scikit-learn. UMAP (McInnes et al., 2018) comes first where `umap-learn` is installed and
    there are more images than neighbours. One seed gives one picture on one machine; on another processor, the last
    bits of a distance and so UMAP's picture may differ. Raises ValueError for fewer than three vectors.

    >>> list(planes(np.eye(4, 3, dtype=np.float32)))[-1]
    'PCA'
    """
    if len(vectors) < 3:
        raise ValueError(f"a plane takes three vectors or more (got {len(vectors)})")
    components = _principal(vectors, min(_REDUCED, len(vectors), vectors.shape[1]), seed)
    found = {"PCA": _between(_two(components))}
    if len(vectors) > NEIGHBOURS and has_umap():
        found = {"UMAP": _between(_umap(components, seed)), **found}
    return found


def has_umap() -> bool:
    """Whether `umap-learn` is installed."""
    return find_spec("umap") is not None


def _principal(vectors: Floats, components: int, seed: int) -> Doubles:
    from sklearn.decomposition import PCA

    with np.errstate(invalid="ignore"):  # all the same
        fitted = PCA(components, random_state=seed).fit_transform(np.asarray(vectors, np.float64))
    return np.asarray(fitted, np.float64)


def _two(components: Doubles) -> Doubles:
    missing = 2 - components.shape[1]
    return np.pad(components, ((0, 0), (0, missing))) if missing > 0 else components[:, :2]


def _umap(components: Doubles, seed: int) -> Doubles:
    import umap

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own libraries
        laid = umap.UMAP(n_neighbors=NEIGHBOURS, random_state=seed, n_jobs=1).fit_transform(components)
    return np.asarray(laid, np.float64)


def _between(at: Doubles) -> Doubles:
    """`at` (n, 2), moved and scaled to 0-1; a few far images do not squeeze the others: they lie on the edge."""
    low, high = np.percentile(at, [0.5, 99.5], axis=0)
    wide = np.where(high > low, high - low, 1.0)
    return np.asarray(np.clip((at - low) / wide, 0, 1))
