"""Does the digits run beat its first teacher on test, over several draws of the labels?

The loops are those of digits_labels at 10 labels a class, controls included: what one has measured, the other reads.
"""

from __future__ import annotations

import statistics

from benchmarks import digits_labels
from benchmarks.protocol import Asked, result, rows
from benchmarks.record import Check, Result
from selftrain.evaluate.statistics.significance import mcnemar

PER_CLASS = 10
ACCURACY, MEAN_ACCURACY, P_VALUE = 0.95, 0.96, 0.05


def measure(asked: Asked) -> Result:
    """The default draw, which is the first, and what all draws say together; a GPU is given the same to do."""
    every = rows("digits_labels", digits_labels.task(PER_CLASS, quick=asked.quick), asked)
    first = every[0]
    mean = statistics.mean(each.accuracy for each in every)
    pooled = mcnemar(sum(each.teacher.n10 for each in every), sum(each.teacher.n01 for each in every))
    checks = (
        Check(
            what="default seed: test accuracy over the first teacher's",
            measured=first.teacher.difference,
            relation=">",
            target=0,
        ),
        Check(what="default seed: test accuracy", measured=first.accuracy, relation=">", target=ACCURACY),
        Check(what="mean test accuracy", measured=mean, relation=">", target=MEAN_ACCURACY),
        Check(what="pooled McNemar p", measured=pooled, relation="<", target=P_VALUE),
    )
    return result(checks, every)
