"""Where a model is wrong: the confusion matrix of a page, and the pairs of classes that are confused most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from selftrain.evaluate.evaluation import EvaluationReport
from selftrain.evaluate.wrong_answers import WrongAnswer

MOST_CLASSES = 30
MOST_PAIRS = 12


@dataclass(frozen=True)
class Cell:
    """A count of the matrix. `share` (0-1) is that of its true class; `link` names the pair's images, if shown."""

    count: int
    share: float
    kind: Literal["hit", "miss", "none"]
    link: str


@dataclass(frozen=True)
class Pair:
    """`count` of the `support` images of the class `true` were answered as `answer`; `wrong` are some of them."""

    true: str
    answer: str
    count: int
    support: int
    link: str
    wrong: tuple[WrongAnswer, ...]


def hardest_pairs(report: EvaluationReport | None) -> tuple[Pair, ...]:
    """The up to 12 pairs with the most errors."""
    if report is None:
        return ()
    counts = [
        (count, true, answer)
        for true, row in enumerate(report.confusion)
        for answer, count in enumerate(row)
        if count and true != answer
    ]
    ranked = sorted(counts, key=lambda each: (-each[0], each[1:]))[:MOST_PAIRS]
    names = report.class_names
    return tuple(
        Pair(
            true=names[true],
            answer=names[answer],
            count=count,
            support=report.per_class[true].support,
            link=f"pair-{true}-{answer}",
            wrong=tuple(each for each in report.wrong if (each.label, each.predicted) == (true, answer)),
        )
        for count, true, answer in ranked
    )


def matrix(report: EvaluationReport | None) -> list[list[Cell]]:
    """The confusion matrix, one row per true class; empty for more than 30 classes, which no page can hold."""
    if report is None or len(report.confusion) > MOST_CLASSES:
        return []
    linked = {pair.link for pair in hardest_pairs(report)}
    rows = []
    for true, row in enumerate(report.confusion):
        support = max(1, sum(row))
        links = [f"pair-{true}-{answer}" for answer in range(len(row))]
        rows.append(
            [
                Cell(
                    count,
                    count / support,
                    "none" if not count else "hit" if answer == true else "miss",
                    links[answer] if links[answer] in linked else "",
                )
                for answer, count in enumerate(row)
            ]
        )
    return rows
