"""Drift: whether new images differ from what the champion knows, by effect sizes and the windows before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from selftrain.config.production import Drift
from selftrain.errors import DriftError
from selftrain.retraining.drift.distances import Against, Distance, Measure, distances
from selftrain.retraining.drift.summaries import Reference, Summary, pooled

_NAMES: dict[Measure, str] = {"embeddings": "embeddings", "confidence": "confidences", "class_mix": "predicted classes"}
_OTHERS: dict[Against, str] = {"training": "the training images", "recent": "the windows before"}


class DriftDecision(BaseModel):
    """Whether a window has drifted, and the measure that decided: the one farthest above its threshold, or nearest.

    Where nothing was decided, `decided` is False, and `reason` says what is missing. `p_values` are shown only.
    """

    model_config = ConfigDict(frozen=True)

    drifted: bool
    decided: bool
    reason: str
    measure: Measure | None = None
    against: Against | None = None
    distance: float | None = None
    threshold: float | None = None
    p_values: dict[str, float] = {}


class Window(BaseModel):
    """New images that were looked at together, how far they were, and what was decided; `name` is the caller's."""

    model_config = ConfigDict(frozen=True)

    name: str
    summary: Summary
    distances: tuple[Distance, ...]
    decision: DriftDecision

    @property
    def drifted(self) -> bool:
        """Whether these images had drifted."""
        return self.decision.drifted


class _Judged(NamedTuple):
    distance: Distance
    threshold: float

    @property
    def ratio(self) -> float:
        return self.distance.value / max(self.threshold, 1e-12)


def look(summary: Summary, *, name: str, reference: Reference, past: Sequence[Window], settings: Drift) -> Window:
    """The window of new images `summary`, compared with the training images and with the last calm windows.

    `past` is oldest first. Windows of another space, as of an earlier champion, are left out. Raises DriftError if
    `reference` is of another space than `summary`.
    """
    known = tuple(each for each in past if each.summary.space == summary.space)
    found = distances(summary, reference.summary, against="training")
    if last := [each.summary for each in calm(known, settings)][-settings.warmup :]:
        found += distances(summary, pooled(last), against="recent")
    decision = decide(found, known, settings, images=summary.images)
    return Window(name=name, summary=summary, distances=found, decision=decision)


def replay(summaries: Iterable[tuple[str, Summary]], *, reference: Reference, settings: Drift) -> tuple[Window, ...]:
    """The windows of past images (name, summary), oldest first, as a new champion sees them: its warm-up."""
    windows: tuple[Window, ...] = ()
    for name, summary in summaries:
        windows += (look(summary, name=name, reference=reference, past=windows, settings=settings),)
    return windows


def calm(past: Iterable[Window], settings: Drift) -> tuple[Window, ...]:
    """The past windows that thresholds come from: with enough images, and without drift."""
    return tuple(each for each in past if each.summary.images >= settings.min_images and not each.drifted)


def decide(found: Sequence[Distance], past: Sequence[Window], settings: Drift, *, images: int) -> DriftDecision:
    """Whether `images` new images with the distances `found` have drifted.

    A distance is drift above the largest of three: `floor`, `factor` times the same distance of any calm window of
    `past`, and what so few images differ by chance. `past` holds windows of the same space only. p-values do not
    decide: with many images, they call any difference a change. Nothing is decided with fewer than `min_images`
    images, or after fewer than `warmup` calm windows.
    """
    windows = calm(past, settings)
    p_values = {f"{each.measure} against {each.against}": each.p_value for each in found}
    judged = [each for distance in found if (each := _judged(distance, windows, settings))]
    if missing := _missing(images, len(windows), settings):
        return DriftDecision(drifted=False, decided=False, reason=f"no decision: {missing}", p_values=p_values)
    if not judged:
        raise DriftError("there is no distance that past windows have as well; describe the images with `look`")
    distance, threshold = max(judged, key=lambda each: each.ratio)
    drifted = distance.value > threshold
    return DriftDecision(
        drifted=drifted,
        decided=True,
        reason=_reason(distance, threshold, windows=len(windows), drifted=drifted),
        measure=distance.measure,
        against=distance.against,
        distance=distance.value,
        threshold=threshold,
        p_values=p_values,
    )


def _missing(images: int, windows: int, settings: Drift) -> str:
    """What a decision lacks; empty if nothing."""
    if images < settings.min_images:
        return f"{images} new images, and drift.min_images is {settings.min_images}"
    if windows < settings.warmup:
        return f"{windows} calm windows so far, and drift.warmup is {settings.warmup}"
    return ""


def _judged(distance: Distance, windows: Sequence[Window], settings: Drift) -> _Judged | None:
    """The distance with its threshold; None if no window has such a distance, as the very first has no recent one."""
    largest = max(
        (each.value for window in windows for each in window.distances if _same(each, distance)), default=None
    )
    if largest is None:
        return None
    return _Judged(distance, max(settings.floor, settings.factor * largest, distance.chance))


def _same(one: Distance, other: Distance) -> bool:
    return (one.measure, one.against) == (other.measure, other.against)


def _reason(distance: Distance, threshold: float, *, windows: int, drifted: bool) -> str:
    verdict, side = ("drift", "above") if drifted else ("no drift", "not above")
    return (
        f"{verdict}: {_NAMES[distance.measure]} are {distance.value:.3f} from {_OTHERS[distance.against]}, {side} "
        f"{threshold:.3f}, the threshold after {windows} calm windows"
    )
