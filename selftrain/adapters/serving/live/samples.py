"""Samples: requests that go to the inbox with what was answered, so that the next training can learn from them.

They are written by a thread of their own. A full disk or a bucket that refuses is counted, and no request fails.
"""

from __future__ import annotations

import hashlib
import json
import logging
import queue
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final, cast

from selftrain.adapters.process.secrets import resolve
from selftrain.adapters.serving.live.measures import Measures
from selftrain.config import Inbox, Sampling
from selftrain.data.images.formats import sniff
from selftrain.files.remote import Bucket, Folder, open_remote
from selftrain.files.writing import replace
from selftrain.retraining.inbox import in_control_slice

log = logging.getLogger(__name__)
WAITING: Final = 256  # samples; more are dropped
REMEMBERED: Final = 10_000  # names, so that an image that is sent again and again is written once
Write = Callable[[str, bytes], object]


@dataclass(frozen=True)
class Sample:
    """An image as it was sent, and what was answered. A detector's answer has no `label`, and is not written."""

    data: bytes
    label: str | None
    confidence: float
    model_version: str
    when: datetime

    @cached_property
    def name(self) -> str:
        """Its place in the inbox: a folder per day, and the digest of its bytes."""
        form, digest = sniff(self.data), hashlib.sha256(self.data).hexdigest()
        return f"{self.when:%Y-%m-%d}/{digest[:32]}.{form.lower() if form else 'image'}"

    @property
    def sidecar(self) -> bytes:
        """What was answered, as JSON."""
        answer = {
            "label": self.label,
            "confidence": self.confidence,
            "model_version": self.model_version,
            "when": self.when.isoformat(timespec="seconds"),
        }
        return json.dumps(answer).encode()


def is_sampled(sampling: Sampling, path: str, confidence: float) -> bool:
    """Whether an image goes to the inbox as `path`: by the rule, or into the random control slice.

    `path` is what a listing of the inbox will show, whose hash decides there again, with the same result.

    >>> is_sampled(Sampling(rule="low_confidence", below=0.9, control=0.0), "in/a.jpg", 0.95)
    False
    """
    if sampling.rule == "all" or confidence < sampling.below:
        return True
    return in_control_slice(path, sampling)


@dataclass(frozen=True)
class InboxPlace:
    """Where samples are written: `root` as a listing shows it, and how one file below it is written whole."""

    root: str
    write: Write


class Sampler:
    """Takes samples from any thread and writes them, one after the other, by a thread of its own."""

    def __init__(self, sampling: Sampling, place: InboxPlace, measures: Measures) -> None:
        self._sampling = sampling
        self._place = place
        self._measures = measures
        self._waiting: queue.Queue[Sample | None] = queue.Queue(WAITING)
        self._known: OrderedDict[str, None] = OrderedDict()
        self._trouble = False
        self._thread = threading.Thread(target=self._work, name="samples", daemon=True)
        self._thread.start()

    def offer(self, data: bytes, *, label: str | None, confidence: float, model_version: str) -> None:
        """Keep one answered image if the rules say so. It never waits and never raises."""
        sample = Sample(data, label, confidence, model_version, datetime.now(UTC))
        if not is_sampled(self._sampling, f"{self._place.root}/{sample.name}", confidence):
            return
        try:
            self._waiting.put_nowait(sample)
        except queue.Full:
            self._measures.sample("dropped")

    @property
    def waiting(self) -> int:
        """Samples that the thread has not begun."""
        return self._waiting.qsize()

    def close(self, timeout_s: float) -> None:
        """Write what waits, for up to `timeout_s` seconds."""
        try:
            self._waiting.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(timeout_s)

    def _work(self) -> None:
        while (sample := self._waiting.get()) is not None:
            try:
                self._keep(sample)
            except Exception as error:  # a full disk, a bucket that refuses: anything a file system raises
                self._measures.sample("failed")
                if not self._trouble:
                    log.warning("samples cannot be written: %s: %s", type(error).__name__, error)
                self._trouble = True

    def _keep(self, sample: Sample) -> None:
        name = sample.name
        if name in self._known:
            self._known.move_to_end(name)
            self._measures.sample("known")
            return
        self._place.write(name, sample.data)
        if sample.label is not None:
            self._place.write(f"{name}.json", sample.sidecar)
        self._known[name] = None
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        self._measures.sample("written")
        if self._trouble:
            log.info("samples are written again")
        self._trouble = False


def open_inbox(inbox: Inbox) -> InboxPlace:
    """The inbox to write to: aside and renamed in a folder, with one PUT in a bucket. Nothing is written yet.

    Raises ConfigError for a URL that cannot be opened, and SecretError.
    """
    secrets = {option: resolve(reference) for option, reference in inbox.secrets.items()}
    remote = open_remote(inbox.url, {**inbox.storage, **secrets})
    if isinstance(remote, Folder):
        folder = Path(remote.root)
        return InboxPlace(remote.root, lambda name, data: replace(folder / name, lambda part: part.write_bytes(data)))
    bucket = cast(Bucket, remote)
    put = cast(Any, bucket.system).pipe_file
    return InboxPlace(bucket.url, lambda name, data: put(f"{bucket.root}/{name}", data))
