"""Significance: whether one model is better than another on the same images, beyond chance."""

from __future__ import annotations

from selftrain.errors import InputError


def mcnemar(only_first: int, only_second: int) -> float:
    """The two-sided p-value of McNemar's exact test (McNemar 1947; exact form: Edwards 1948).

    Only the first model is right on `only_first` images, and only the second on `only_second`. Images on which both are
    right, or both are wrong, say nothing. If there are no others, the p-value is 1. Counts of independent runs may be
    summed.

    >>> round(mcnemar(15, 3), 4), mcnemar(0, 0)
    (0.0075, 1.0)
    """
    if only_first < 0 or only_second < 0:
        raise InputError(f"{only_first} and {only_second} are not counts of images; give numbers from 0")
    if only_first + only_second == 0:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(only_first, only_first + only_second, 0.5).pvalue)
