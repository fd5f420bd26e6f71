"""The batch-size search, with a machine that does what the test says."""

import pytest

from selftrain.errors import ConfigError
from selftrain.learn.tuning.batch_size import HostMemory, Speed, largest_batch


class Machine:
    """Trains `speeds` images a second by batch size; above `memory` images memory fails."""

    def __init__(self, speeds: dict[int, float], memory: int = 10**9) -> None:
        self.speeds, self.memory, self.asked = speeds, memory, []

    def __call__(self, size: int) -> float:
        self.asked.append(size)
        if size > self.memory:
            raise MemoryError
        return self.speeds.get(size, 10.0 * size)


def test_doubling_stops_where_memory_fails_and_takes_the_last_that_fitted() -> None:
    machine = Machine({}, memory=40)
    found = largest_batch(machine, start=8, most=4096)
    assert found.batch_size == 32
    assert machine.asked == [8, 16, 32, 64]
    assert found.tried[-1] == Speed(64, None)
    assert found.images_per_s == 320


def test_doubling_stops_where_it_gains_less_than_a_tenth() -> None:
    machine = Machine({8: 100.0, 16: 150.0, 32: 166.0, 64: 180.0, 128: 900.0})
    found = largest_batch(machine, start=8)
    assert found.batch_size == 32  # 64 is 8.4 % faster
    assert machine.asked == [8, 16, 32, 64]


def test_the_most_is_never_passed() -> None:
    machine = Machine({})
    assert largest_batch(machine, start=8, most=50).batch_size == 32
    assert machine.asked == [8, 16, 32]
    assert largest_batch(Machine({}), start=8, most=5).batch_size == 5


@pytest.mark.parametrize(("memory", "size"), [(5, 4), (1, 1)])
def test_where_the_first_size_does_not_fit_its_halves_are_tried(memory: int, size: int) -> None:
    machine = Machine({}, memory=memory)
    assert largest_batch(machine, start=16).batch_size == size
    assert machine.asked[:3] == [16, 8, 4]
    assert machine.asked.count(2 * size) == 1  # what failed is not tried again


def test_not_even_one_image_is_said() -> None:
    with pytest.raises(ConfigError, match="a batch of one image"):
        largest_batch(Machine({}, memory=0))


def test_other_errors_are_not_taken_for_memory() -> None:
    def broken(size: int) -> float:
        raise ValueError("shapes differ")

    with pytest.raises(ValueError, match="shapes differ"):
        largest_batch(broken)


def test_a_size_that_would_outgrow_the_host_is_refused_before_it_is_tried() -> None:
    peaks = iter([1 << 30, 2 << 30, 1 << 50])
    host = HostMemory(peak_bytes=lambda: next(peaks))
    host.measured()
    host.check(16)  # a gigabyte more is there
    host.measured()
    with pytest.raises(MemoryError, match="a batch of 32 would take"):
        host.check(32)
