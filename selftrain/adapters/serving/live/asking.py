"""Asking: from the images of a request to a row for each, by the version that serves at that moment."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from selftrain.adapters.serving.live.batching import BatchedModel
from selftrain.adapters.serving.live.detecting import AT_ONCE, LockedDetector
from selftrain.adapters.serving.live.live_model import LiveModel, ServedVersion
from selftrain.adapters.serving.live.measures import Measures
from selftrain.adapters.serving.live.requests import AskedImage, RequestLimits
from selftrain.adapters.serving.live.samples import Sampler
from selftrain.data.images.decode import decode
from selftrain.data.images.reasons import QuarantineReason
from selftrain.data.workers import cores
from selftrain.errors import ImageError, OverloadedError


@dataclass(frozen=True)
class Row:
    """One image's label, calibrated confidence and probability per class, or its error instead.

    A detector's row has boxes (x, y, width, height in pixels), labels, scores and, if it knows them, masks instead.
    """

    label: str | None = None
    confidence: float | None = None
    probabilities: list[float] | None = None
    boxes: list[list[float]] | None = None
    labels: list[str] | None = None
    scores: list[float] | None = None
    masks: list[dict[str, object]] | None = None
    error: str | None = None
    too_large: bool = False


@dataclass(frozen=True)
class _Image:
    """A decoded image, and the bytes that it came from."""

    data: bytes
    pixels: npt.NDArray[np.uint8]


class Asking:
    """Decodes with one thread per core, and lets the live model answer. Any thread may ask."""

    def __init__(self, live: LiveModel, measures: Measures, limits: RequestLimits, sampler: Sampler | None) -> None:
        self._live = live
        self._measures = measures
        self._limits = limits
        self._sampler = sampler
        self._decoders = ThreadPoolExecutor(cores(), "decode")
        self._lock = threading.Lock()
        self.waiting = 0

    def ask(self, images: Sequence[AskedImage]) -> tuple[ServedVersion, list[Row]]:
        """The version that answers, and a row per image in their order. Raises OverloadedError."""
        self._enter()
        try:
            version = self._live.current
            size, bits = _reading(version)
            rows: list[Row] = []
            step = AT_ONCE if size is None else len(images)
            for start in range(0, len(images), step):
                part = images[start : start + step]
                read = list(self._decoders.map(lambda image: self._read(image, size, bits), part))
                rows += self._rows(version, read)
        finally:
            self._leave()
        refused = sum(row.error is not None for row in rows)
        self._measures.images.labels("refused").inc(refused)
        self._measures.images.labels("answered").inc(len(rows) - refused)
        return version, rows

    def _enter(self) -> None:
        with self._lock:
            if self.waiting >= self._limits.waiting:
                raise OverloadedError(f"{self.waiting} requests wait already; send this one again later")
            self.waiting += 1
        self._measures.waiting.inc()

    def _leave(self) -> None:
        with self._lock:
            self.waiting -= 1
        self._measures.waiting.dec()

    def _read(self, image: AskedImage, size: int | None, bits: int | None) -> _Image | ImageError:
        from selftrain.adapters.serving.served import encoded  # it imports MLflow

        try:
            data = encoded(image.content)
            return _Image(data, decode(data, size, max_pixels=self._limits.image_pixels, bits=bits))
        except ImageError as error:
            return error

    def _rows(self, version: ServedVersion, read: Sequence[_Image | ImageError]) -> list[Row]:
        good = [image for image in read if isinstance(image, _Image)]
        match version.answers:
            case BatchedModel() as model:
                answers = iter(self._answers(version, model, good))
            case LockedDetector() as detector:
                found = detector.found([image.pixels for image in good])
                answers = iter([Row(boxes=b, labels=n, scores=s, masks=m) for b, n, s, m in found])
                if self._sampler is not None:
                    for image, (_, labels, scores, _) in zip(good, found, strict=True):
                        sure = detector.confidence(labels, scores)
                        self._sampler.offer(image.data, label=None, confidence=sure, model_version=version.uri)
        return [_refused(image) if isinstance(image, ImageError) else next(answers) for image in read]

    def _answers(self, version: ServedVersion, model: BatchedModel, images: Sequence[_Image]) -> list[Row]:
        rows: list[Row] = []
        names = model.contract.class_names
        largest = model.largest
        for start in range(0, len(images), largest):
            batch = images[start : start + largest]
            for probs in model.probabilities(np.stack([image.pixels for image in batch])):
                rows.append(Row(names[int(probs.argmax())], float(probs.max()), probs.tolist()))
        if self._sampler is not None:
            for image, row in zip(images, rows, strict=True):
                self._offer(self._sampler, image.data, row, version)
        return rows

    def _offer(self, sampler: Sampler, data: bytes, row: Row, version: ServedVersion) -> None:
        if row.label is not None and row.confidence is not None:
            sampler.offer(data, label=row.label, confidence=row.confidence, model_version=version.uri)


def _reading(version: ServedVersion) -> tuple[int | None, int | None]:
    """The pixels a side at which images are decoded, and how many of 16 bits grey ones fill.

    A detector takes images as they are: None.
    """
    match version.answers:
        case BatchedModel(contract=contract):
            return contract.image_size, contract.bits
        case LockedDetector():
            return None, None


def _refused(error: ImageError) -> Row:
    return Row(error=f"{error.reason}: {error.message}", too_large=error.reason == QuarantineReason.TOO_LARGE)
