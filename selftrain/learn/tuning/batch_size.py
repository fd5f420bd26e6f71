"""The batch-size search: twice as many images a step, until memory fails or doubling no longer pays."""

from __future__ import annotations

import math
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass

from selftrain.errors import ConfigError
from selftrain.progress import Progress, silent

LEAST_GAIN = 0.1  # share of images per second that twice the batch must gain
_LEFT = 0.8  # share of the free memory that the next size may take


@dataclass(frozen=True)
class Speed:
    """Training images per second at a batch size, None if memory failed."""

    batch_size: int
    images_per_s: float | None


@dataclass(frozen=True)
class BatchSearch:
    """The batch size found, and every size tried, in order."""

    batch_size: int
    tried: tuple[Speed, ...]

    @property
    def images_per_s(self) -> float:
        """The speed at the batch size found."""
        return next(speed.images_per_s or 0.0 for speed in self.tried if speed.batch_size == self.batch_size)


def largest_batch(
    measure: Callable[[int], float],
    *,
    start: int = 8,
    most: int = 4096,
    least_gain: float = LEAST_GAIN,
    progress: Progress = silent,
) -> BatchSearch:
    """The largest batch size that is at least `least_gain` faster than half of it, by doubling from `start` to `most`.

    `measure` trains with a batch size and returns images per second; it raises MemoryError if memory fails. If `start`
    fails, half of it is tried, and so on. Raises ConfigError if not even one image fits.
    """
    tried: list[Speed] = []
    size = min(start, most)
    doublings = int(math.log2(most / size))

    def speed_of(size: int) -> float | None:
        try:
            speed: float | None = measure(size)
        except MemoryError:
            speed = None
        tried.append(Speed(size, speed))
        note = "memory fails" if speed is None else f"{speed:.0f} images/s"
        progress(min(len(tried), doublings + 1), doublings + 1, f"{size}: {note}")
        return speed

    best = speed_of(size)
    failed = best is None
    while best is None:
        if size == 1:
            raise ConfigError("memory fails for a batch of one image; take a smaller backbone or image_size")
        size //= 2
        best = speed_of(size)
    while not failed and size * 2 <= most:
        faster = speed_of(size * 2)
        if faster is None or faster < best * (1 + least_gain):
            break
        size, best = size * 2, faster
    return BatchSearch(size, tuple(tried))


def peak_bytes() -> int:
    """The most memory that this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class HostMemory:
    """Refuses a batch size that would not fit the machine's memory: the system kills the process without an error."""

    def __init__(self, peak_bytes: Callable[[], int] = peak_bytes) -> None:
        self._peak_bytes = peak_bytes
        self._before = peak_bytes()
        self._growth = 0

    def check(self, size: int) -> None:
        """Raise MemoryError if twice what the last size took is more than _LEFT of the free memory."""
        import psutil

        free = psutil.virtual_memory().available
        if 2 * self._growth > _LEFT * free:
            raise MemoryError(f"a batch of {size} would take about {2 * self._growth >> 20} MB of {free >> 20} MB free")

    def measured(self) -> None:
        """Call this after training with a size."""
        peak = self._peak_bytes()
        self._before, self._growth = peak, max(peak - self._before, self._growth)
