"""Significance: whether one model is better than another on the same images, beyond chance."""

from __future__ import annotations

from collections.abc import Sequence

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


def holm(p_values: Sequence[float]) -> list[float]:
    """`p_values` of several tests, in their order, adjusted so that at rate alpha any is below alpha by chance.

    Holm's step-down method (Scandinavian Journal of Statistics 6 (1979), 65-70). The tests may depend on each other.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
