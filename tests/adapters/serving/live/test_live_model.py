"""The live model: when a champion is loaded, when not, and that too many requests are sent away."""

from __future__ import annotations

from pathlib import Path

import pytest

from selftrain.adapters.serving.live.asking import Asking
from selftrain.adapters.serving.live.live_model import (
    LONGEST_PAUSE_S,
    FailedVersion,
    LiveModel,
    LoadedVersion,
    pause_s,
    to_load,
)
from selftrain.adapters.serving.live.measures import Measures
from selftrain.adapters.serving.live.requests import AskedImage, RequestLimits
from selftrain.errors import OverloadedError, RegistryError
from selftrain.learn.models.loading import load

pytestmark = [
    pytest.mark.keras,
    # Keras 3.15 converts TensorFlow variables with numpy's older protocol.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    # mlflow's own modules set it off while they are imported.
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]


class Registry:
    """A registry that answers by script."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.champion: int | None = 1
        self.down = False
        self.broken: set[int] = set()
        self.loads: list[int] = []

    def number(self) -> int | None:
        if self.down:
            raise RegistryError("503")
        return self.champion

    def load(self, number: int) -> LoadedVersion:
        self.loads.append(number)
        if number in self.broken:
            raise MemoryError("too large")
        return LoadedVersion(number, f"models:/colours/{number}", *load(self.folder))


@pytest.mark.parametrize(
    ("champion", "failed", "now", "loaded"),
    [
        (1, None, 0.0, None),
        (None, None, 0.0, None),
        (2, None, 0.0, 2),
        (2, 2, 9.0, None),
        (2, 2, 10.0, 2),
        (3, 2, 9.0, 3),
    ],
)
def test_a_champion_is_loaded_unless_it_serves_or_failed_just_now(
    champion: int | None, failed: int | None, now: float, loaded: int | None
) -> None:
    before = None if failed is None else FailedVersion(failed, "damaged", "", 1, next_try=10.0)
    assert to_load(1, champion, before, now=now) == loaded


def test_each_failure_doubles_the_pause_up_to_five_minutes() -> None:
    assert [pause_s(tries, 5.0) for tries in (1, 2, 3)] == [10.0, 20.0, 40.0]
    assert pause_s(1000, 5.0) == LONGEST_PAUSE_S


def test_looks_survive_a_registry_that_is_down_and_a_version_that_breaks(colour_model: Path) -> None:
    registry, measures = Registry(colour_model), Measures()
    live = LiveModel(registry, 1, poll_s=1000.0, measures=measures)
    registry.down = True
    live.look()
    assert "the registry does not answer: 503" in live.trouble
    registry.down, registry.champion, registry.broken = False, 2, {2}
    live.look()
    live.look()  # within the pause
    assert registry.loads == [1, 2]
    assert (live.current.number, live.trouble) == (1, "")
    assert live.failed is not None
    assert (live.failed.number, live.failed.reason, live.failed.tries) == (2, "too large", 1)
    registry.champion = 3
    live.look()
    assert (live.current.number, live.failed) == (3, None)


def test_more_requests_than_may_wait_are_sent_away(colour_model: Path) -> None:
    measures = Measures()
    live = LiveModel(Registry(colour_model), 1, poll_s=1.0, measures=measures)
    asking = Asking(live, measures, RequestLimits(waiting=1), None)
    asking.waiting = 1
    with pytest.raises(OverloadedError, match="1 requests wait already"):
        asking.ask([AskedImage("", b"no image")])
    asking.waiting = 0
    version, (row,) = asking.ask([AskedImage("", b"no image")])
    assert (version.number, row.label, asking.waiting) == (1, None, 0)
    assert row.error is not None
