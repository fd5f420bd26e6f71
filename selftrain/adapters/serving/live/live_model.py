"""The live model: the champion that answers now, replaced while requests go on when the alias moves."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from selftrain.adapters.serving.live.batching import BatchedModel
from selftrain.adapters.serving.live.detecting import LockedDetector
from selftrain.learn.detection.saving import DetectorContract
from selftrain.learn.models.contract import Contract

if TYPE_CHECKING:
    import keras

    from selftrain.adapters.serving.live.measures import Measures
    from selftrain.learn.detection.detect import Detector

log = logging.getLogger(__name__)
LONGEST_PAUSE_S = 300.0


@dataclass(frozen=True)
class LoadedVersion:
    """A registered version whose digest was checked, ready to predict; `concern`: a reason not to trust it."""

    number: int
    uri: str
    model: keras.Model
    contract: Contract
    concern: str | None = None


@dataclass(frozen=True)
class LoadedDetector:
    """A registered detector, as LoadedVersion."""

    number: int
    uri: str
    detector: Detector
    contract: DetectorContract
    concern: str | None = None


class Champion(Protocol):
    """What the registry is asked for."""

    def number(self) -> int | None:
        """The version that is champion now, None where there is none. One query."""

    def load(self, number: int) -> LoadedVersion | LoadedDetector:
        """That version, fetched and checked."""


@dataclass(frozen=True)
class ServedVersion:
    """A version that answers requests, warm: a classifier with its own batches, or a detector."""

    number: int
    uri: str
    answers: BatchedModel | LockedDetector
    concern: str | None
    since: str  # UTC

    @property
    def contract(self) -> Contract | DetectorContract:
        """What the version promises."""
        return self.answers.contract


@dataclass(frozen=True)
class FailedVersion:
    """A champion that could not be loaded, how often that was tried, and when it is tried again (monotonic s)."""

    number: int
    reason: str
    when: str  # UTC
    tries: int
    next_try: float


def to_load(serving: int, champion: int | None, failed: FailedVersion | None, *, now: float) -> int | None:
    """The version to load now, None to go on as before. `now` is in seconds, on the clock of `failed.next_try`.

    >>> to_load(1, 2, None, now=0.0)
    2
    >>> to_load(1, 2, FailedVersion(2, "damaged", "", 1, next_try=9.0), now=8.0) is None
    True
    """
    if champion is None or champion == serving:
        return None
    if failed is not None and failed.number == champion and now < failed.next_try:
        return None
    return champion


def pause_s(tries: int, poll_s: float) -> float:
    """Seconds before a version that failed `tries` times is loaded again: twice as long each time."""
    return float(min(LONGEST_PAUSE_S, poll_s * 2 ** min(tries, 16)))


class LiveModel:
    """The version that serves. One thread calls `look`; any thread reads `current` and `failed`."""

    def __init__(self, champion: Champion, first: int, *, poll_s: float, measures: Measures) -> None:
        """Load version `first`; raises what `champion.load` raises."""
        self._champion = champion
        self._poll_s = poll_s
        self._measures = measures
        self._trouble = ""
        self.failed: FailedVersion | None = None
        self.current = self._served(first)
        measures.now_serving(self.current.number)

    def watch(self, stop: threading.Event) -> None:
        """Look for a new champion every `poll_s` seconds until `stop` is set. Nothing that goes wrong ends it."""
        while not stop.wait(self._poll_s):
            self.look()

    def look(self) -> None:
        """Ask for the champion once, and replace the version that serves if it is another one that loads."""
        try:
            champion = self._champion.number()
        except Exception as error:  # whatever a registry raises, the present version goes on
            self._measures.registry_errors.inc()
            self._note(f"the registry does not answer: {_line(error)}")
            return
        if champion is None:
            self._note(f"there is no champion any more; {self.current.uri} goes on")
            return
        self._note("")
        if champion == self.current.number:
            self.failed = None
            self._measures.failed_version.set(0)
        number = to_load(self.current.number, champion, self.failed, now=time.monotonic())
        if number is not None:
            self._replace(number)

    def _replace(self, number: int) -> None:
        before = self.current
        try:
            self.current = self._served(number)
        except Exception as error:  # a damaged file may raise anything
            self._fail(number, _line(error))
            return
        self.failed = None
        self._measures.reloaded(number)
        log.info("%s serves in place of %s", self.current.uri, before.uri)
        if self.current.concern:
            log.warning("%s", self.current.concern)

    def _fail(self, number: int, reason: str) -> None:
        tries = 1 + (self.failed.tries if self.failed is not None and self.failed.number == number else 0)
        pause = pause_s(tries, self._poll_s)
        self.failed = FailedVersion(number, reason, _now(), tries, time.monotonic() + pause)
        self._measures.reload_failed(number)
        log.error(
            "version %s cannot be served (%s); %s goes on, next try in %.0f s", number, reason, self.current.uri, pause
        )

    def _served(self, number: int) -> ServedVersion:
        loaded = self._champion.load(number)
        answers: BatchedModel | LockedDetector
        match loaded:
            case LoadedVersion(model=model, contract=contract):
                answers = BatchedModel(model, contract)
            case LoadedDetector(detector=detector, contract=promised):
                answers = LockedDetector(detector, promised)
        return ServedVersion(loaded.number, loaded.uri, answers, loaded.concern, _now())

    def _note(self, trouble: str) -> None:
        """Log `trouble` once, and its end."""
        if trouble == self._trouble:
            return
        if trouble:
            log.warning("%s", trouble)
        else:
            log.info("the registry answers again")
        self._trouble = trouble

    @property
    def trouble(self) -> str:
        """What is wrong with the registry, empty if nothing is."""
        return self._trouble


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
