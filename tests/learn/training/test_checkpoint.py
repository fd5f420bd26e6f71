"""Checkpoints on disk."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftrain.errors import TrainingHeldError
from selftrain.evaluate.statistics.intervals import standard_error
from selftrain.learn.training.checkpoint import Checkpoints, Look, Position, prune

HOLDER = """
import sys, time
from pathlib import Path
from selftrain.learn.training.checkpoint import Checkpoints
with Checkpoints(Path(sys.argv[1])).held():
    print("held", flush=True)
    time.sleep(600)
"""


@contextmanager
def held_elsewhere(folder: Path) -> Iterator[None]:
    """Another process holds the training in `folder` while the block runs, and is killed after it."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "held"
        yield
    finally:
        process.kill()
        process.communicate()


def look(step: int, accuracy: float, error: float = 0.0) -> Look:
    return Look(
        step=step,
        loss=0.5,
        validation_loss=1.0,
        validation_accuracy=accuracy,
        learning_rate=0.1,
        standard_error=error,
    )


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    position = Position("print", seconds=2.0, loss_sum=1.5).after(look(4, 0.5))
    checkpoints.save_best(4, [np.ones(3)])
    checkpoints.save(position, [np.arange(12.0).reshape(3, 4), np.array(7)])
    loaded, arrays = checkpoints.load("print") or (None, [])
    assert loaded == position
    assert [array.shape for array in arrays] == [(3, 4), ()]
    np.testing.assert_array_equal(checkpoints.load_best(4)[0], np.ones(3))


def test_another_trainings_checkpoint_is_not_continued(tmp_path: Path) -> None:
    Checkpoints(tmp_path).save(Position("one"), [np.ones(1)])
    assert Checkpoints(tmp_path).load("other") is None


def test_a_torn_or_absent_file_is_no_checkpoint(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.load("print") is None
    checkpoints.save(Position("print"), [np.ones(1000)])
    data = (tmp_path / "state.npz").read_bytes()
    for end in (0, 10, len(data) // 2, len(data) - 1):
        (tmp_path / "state.npz").write_bytes(data[:end])
        assert checkpoints.load("print") is None


def test_best_weights_no_longer_named_are_removed(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    first = Position("print").after(look(1, 0.5))
    checkpoints.save_best(1, [np.ones(1)])
    checkpoints.save(first, [])
    checkpoints.save_best(2, [np.zeros(1)])
    assert len(list(tmp_path.glob("best-*"))) == 2
    checkpoints.save(first.after(look(2, 0.6)), [])
    assert [path.name for path in tmp_path.glob("best-*")] == ["best-000000002.npz"]


def test_a_finished_training_keeps_its_position_and_best_weights_alone(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    position = Position("print").after(look(4, 0.5))
    checkpoints.save_best(4, [np.ones(3)])
    checkpoints.save(position, [np.zeros(1000)])
    checkpoints.finish(position)
    assert checkpoints.load("print") == (position, [])
    assert checkpoints.load("other") is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best-000000004.npz", "finished.npz"]
    checkpoints.save(Position("other"), [np.ones(1)])  # another training in the same folder
    assert checkpoints.load("print") is None
    assert [path.name for path in tmp_path.iterdir()] == ["state.npz"]


def test_of_finished_trainings_the_last_few_are_kept_and_unfinished_ones_all(tmp_path: Path) -> None:
    for number in range(4):
        checkpoints = Checkpoints(tmp_path / "code").of(f"finished-{number}")
        checkpoints.finish(Position("print"))
        os.utime(checkpoints.folder / "finished.npz", (number, number))
    Checkpoints(tmp_path).of("unfinished").save(Position("print"), [np.ones(1)])
    os.utime(tmp_path / "unfinished" / "state.npz", (0, 0))
    prune(tmp_path, keep=2)
    assert sorted(path.name for path in (tmp_path / "code").iterdir()) == ["finished-2", "finished-3"]
    assert (tmp_path / "unfinished" / "state.npz").exists()
    prune(tmp_path, keep=2)
    prune(tmp_path / "gone")
    assert len(list((tmp_path / "code").iterdir())) == 2


def test_a_state_whose_best_weights_are_gone_is_no_checkpoint(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(Position("print").after(look(1, 0.5)), [])
    assert checkpoints.load("print") is None


@pytest.mark.parametrize(
    ("accuracies", "error", "step"),
    [
        ([0.5, 0.7, 0.7], 0.0, 3),
        ([0.5, 0.7, 0.6], 0.0, 2),
        ([0.5, 0.75, 0.625], 0.125, 3),  # one standard error below the highest
        ([0.5, 0.75, 0.6], 0.125, 2),
        ([0.5, 0.75, 0.7, 0.3], 0.125, 3),  # collapsed at the end
        ([0.75, 0.65, 0.6], 0.125, 2),  # of the highest, not of the one before
    ],
)
def test_the_newest_look_within_one_standard_error_of_the_highest_is_kept(
    accuracies: list[float], error: float, step: int
) -> None:
    looks = tuple(look(index, value, error) for index, value in enumerate(accuracies, start=1))
    best = replace(Position("print"), looks=looks).best
    assert best is not None
    assert best.step == step


def test_the_luckiest_look_is_not_kept_for_one_image_of_150() -> None:
    looks = [look(step, right / 150, standard_error(right / 150, 150)) for step, right in enumerate((150, 149, 149))]
    assert replace(Position("print"), looks=tuple(looks)).best == looks[-1]


@given(st.lists(st.integers(0, 20), min_size=1, max_size=12))
def test_the_kept_look_is_the_newest_or_the_one_that_was_kept_before(right: list[int]) -> None:
    position = Position("print")
    for step, count in enumerate(right, start=1):
        before, taken = position.best, look(step, count / 20, standard_error(count / 20, 20))
        position = position.after(taken)
        assert position.best in (taken, before)


def test_a_training_that_another_process_is_at_is_refused_by_its_folder_and_open_again_after_a_kill(
    tmp_path: Path,
) -> None:
    checkpoints = Checkpoints(tmp_path / "one")
    with held_elsewhere(checkpoints.folder):
        with pytest.raises(TrainingHeldError, match="runs in another process") as error, checkpoints.held():
            pass
        assert str(checkpoints.folder) in error.value.message
        with Checkpoints(tmp_path / "two").held():
            pass
    with checkpoints.held():
        assert (checkpoints.folder / "training.lock").exists()
    assert list(checkpoints.folder.iterdir()) == []


def test_a_held_training_is_not_pruned_and_one_that_was_killed_is(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "one")
    checkpoints.finish(Position("print"))
    with held_elsewhere(checkpoints.folder):
        prune(tmp_path, keep=0)
        assert checkpoints.load("print") == (Position("print"), [])
    assert (checkpoints.folder / "training.lock").exists()
    prune(tmp_path, keep=0)
    assert not checkpoints.folder.exists()


def test_two_processes_write_apart_and_what_a_killed_one_was_writing_is_removed(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    torn = tmp_path / "state.1.part"
    torn.write_bytes(b"torn")
    checkpoints.save(Position("print"), [np.ones(1)])
    assert torn.read_bytes() == b"torn"
    with checkpoints.held():
        assert not torn.exists()
        assert checkpoints.load("print") is not None
