"""Exact binomial bounds on a share, from k right answers on n images."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from selftrain.errors import InputError

Doubles = npt.NDArray[np.float64]


def lower_bound(right: npt.ArrayLike, images: npt.ArrayLike, *, alpha: float = 0.05) -> Doubles:
    """The one-sided lower bounds at level 1 - alpha for the shares `right` (k,) of `images` (k,); 0 without images.

    A bound is a quantile of the beta distribution (Clopper and Pearson 1934). If the true share were below the bound,
    this many right answers or more would have a probability of at most alpha. Raises InputError for more right answers
    than images.

    >>> lower_bound([29, 28, 0], [29, 29, 0]).round(4).tolist()
    [0.9019, 0.8466, 0.0]
    """
    from scipy.stats import beta

    k, n = _counts(right, images)
    bounds = np.zeros(k.shape)
    some = k > 0
    bounds[some] = beta.ppf(alpha, k[some], n[some] - k[some] + 1)
    return bounds


def upper_bound(right: npt.ArrayLike, images: npt.ArrayLike, *, alpha: float = 0.05) -> Doubles:
    """The one-sided upper bounds, computed as in `lower_bound`; 1 without images.

    >>> upper_bound([0, 29], [29, 29]).round(4).tolist()
    [0.0981, 1.0]
    """
    k, n = _counts(right, images)
    return 1.0 - lower_bound(n - k, n, alpha=alpha)


def fewest_images(target: float, *, alpha: float = 0.05) -> int:
    """The fewest images, all of them right, whose `lower_bound` reaches `target` (0-1, ends excluded).

    >>> fewest_images(0.9), fewest_images(0.95), fewest_images(0.99)
    (29, 59, 299)
    """
    if not 0 < target < 1:
        raise InputError(f"no number of images shows a precision of {target}; give a target between 0 and 1")
    return max(1, math.ceil(math.log(alpha) / math.log(target)))


def _counts(right: npt.ArrayLike, images: npt.ArrayLike) -> tuple[Doubles, Doubles]:
    k, n = np.atleast_1d(np.asarray(right, np.float64)), np.atleast_1d(np.asarray(images, np.float64))
    if k.shape != n.shape or (k < 0).any() or (k > n).any():
        raise InputError("right and images must have the same shape; give 0 <= right <= images in each place")
    return k, n
