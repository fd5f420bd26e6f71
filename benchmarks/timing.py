"""Timing: seconds on the clock and of the processors, of alternatives that take turns."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from pydantic import JsonValue


@dataclass(frozen=True)
class Seconds:
    """What one call took: `wall` on the clock; `cpu` of all its threads and of the processes that it waited for."""

    wall: float
    cpu: float


def timed(call: Callable[[], object]) -> Seconds:
    """How long `call` takes."""
    cpu, wall = _cpu(), time.perf_counter()
    call()
    return Seconds(time.perf_counter() - wall, _cpu() - cpu)


def in_turns(calls: Mapping[str, Callable[[], object]], *, repetitions: int) -> dict[str, list[Seconds]]:
    """Each call `repetitions` times, one after the other, every other turn in reverse, so that drift hits all alike."""
    taken: dict[str, list[Seconds]] = {name: [] for name in calls}
    for turn in range(repetitions):
        for name in list(calls) if turn % 2 == 0 else list(reversed(list(calls))):
            taken[name].append(timed(calls[name]))
            print(f"    {name}: {taken[name][-1].wall:.2f} s, {taken[name][-1].cpu:.2f} s of processor", flush=True)
    return taken


def median(taken: list[Seconds]) -> Seconds:
    """The median wall time and the median processor time."""
    return Seconds(statistics.median(each.wall for each in taken), statistics.median(each.cpu for each in taken))


def as_json(taken: Mapping[str, list[Seconds]]) -> JsonValue:
    """All repetitions, rounded, for the record."""
    return {
        name: [{k: round(v, 4) for k, v in asdict(each).items()} for each in times] for name, times in taken.items()
    }


def _cpu() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
