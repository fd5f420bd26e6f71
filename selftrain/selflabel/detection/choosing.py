"""Choices for pseudo-boxes, by the objects that people marked on validation images: pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from selftrain.learn.detection.matching import Matches

ENOUGH_OBJECTS = 30
"""Of a class on validation, so that it gets a threshold of its own."""


@dataclass(frozen=True)
class BurnIn:
    """What a teacher must reach on validation before it may teach: `precision`, with at least `recall`.

    While a burn-in still raises the average precision there by `gain`, another follows: as long as labels teach, they
    teach more than a pool.
    """

    precision: float = 0.8
    recall: float = 0.3
    gain: float = 0.01


@dataclass(frozen=True)
class Readiness:
    """Whether a teacher may teach; if so, the `thresholds` of its classes' scores. `why` says it in words."""

    thresholds: tuple[float, ...] | None
    why: str


def readiness(matches: Matches, needed: BurnIn) -> Readiness:
    """What a teacher with these `matches` on validation may do.

    The threshold of all classes is the lowest score with the needed precision. A class with ENOUGH_OBJECTS has one of
    its own, if it reaches that precision at all.
    """
    objects = int(matches.objects.sum())
    if not objects:
        return Readiness(None, "the validation images hold no object, so a teacher cannot be judged")
    common = matches.lowest_score(needed.precision)
    if common is None:
        return Readiness(None, f"no score gives a precision of {needed.precision:.0%} on {objects} validation objects")
    precision, recall = matches.precision_and_recall(common)
    reached = (
        f"precision {precision:.0%} at recall {recall:.0%} from score {common:.2f} on {objects} validation objects"
    )
    if recall < needed.recall:
        return Readiness(None, f"{reached}: the recall is below {needed.recall:.0%}")
    each = tuple(_own(matches, name, needed, common) for name in range(len(matches.objects)))
    return Readiness(each, reached)


@dataclass(frozen=True)
class BurntIn:
    """A teacher after one more burn-in: whether it may teach, and its average precision on validation."""

    ready: Readiness
    average_precision: float


def burnt_in_enough(tried: Sequence[BurntIn], needed: BurnIn) -> bool:
    """Whether no further burn-in is needed after those `tried`: one may teach, and the last gained too little.

    A first one alone is never enough, because nothing shows what a second would gain.
    """
    *earlier, last = tried
    before = max((each.average_precision for each in earlier), default=0.0)
    may_teach = any(each.ready.thresholds is not None for each in tried)
    return may_teach and bool(earlier) and last.average_precision < before + needed.gain


def best_of(tried: Sequence[BurntIn]) -> int:
    """The place of the best one in `tried`: of those that may teach, or of all, the one of highest precision."""
    ranks = [(each.ready.thresholds is not None, each.average_precision) for each in tried]
    return ranks.index(max(ranks))


def _own(matches: Matches, name: int, needed: BurnIn, common: float) -> float:
    if matches.objects[name] < ENOUGH_OBJECTS:
        return common
    own = matches.lowest_score(needed.precision, name)
    return 1.0 if own is None else own


@dataclass(frozen=True)
class Alarm:
    """Something that is wrong with the pseudo-labels of a training, in words."""

    kind: str
    why: str


def alarms(kept: float, marked: float, *, least: float = 0.2, most: float = 1.5) -> tuple[Alarm, ...]:
    """The alarms for `kept` pseudo-boxes a view, where people marked `marked` objects a view."""
    found = f"the teacher found {kept:.1f} objects in a view, where people marked {marked:.1f}"
    if kept < least * marked:
        return (Alarm("few_boxes", f"{found}: it teaches next to nothing"),)
    if kept > most * marked:
        return (Alarm("many_boxes", f"{found}: many are not there"),)
    return ()
