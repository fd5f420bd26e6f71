"""What the benchmarks of kills count as lost."""

from __future__ import annotations

import signal
from pathlib import Path

from benchmarks.interruptions import lost, moments
from benchmarks.lost_nodes import Facts
from benchmarks.pod_training import Reached, reached

STEPS = [Reached(10.0, 5), Reached(10.5, 6), Reached(11.5, 7), Reached(12.0, 8)]


def test_the_steps_after_the_one_that_was_kept_are_lost_with_the_time_they_took() -> None:
    kill = lost(signal.SIGKILL, STEPS, kept=6)
    assert (kill.signal, kill.step, kill.steps, kill.seconds) == ("SIGKILL", 8, 2, 1.5)


def test_all_steps_of_a_training_that_kept_none_are_lost_at_their_usual_pace_for_the_first() -> None:
    kill = lost(signal.SIGKILL, STEPS, kept=4)
    assert (kill.steps, kill.seconds) == (4, 2.5)


def test_nothing_is_lost_if_the_step_after_the_last_one_seen_was_kept() -> None:
    assert lost(signal.SIGTERM, STEPS, kept=9).seconds == 0.0
    assert lost(signal.SIGTERM, STEPS, kept=9).steps == 0


def test_moments_are_the_same_for_a_seed_in_order_and_half_of_each_signal() -> None:
    planned = moments(1000, 10, 17)
    assert planned == moments(1000, 10, 17) != moments(1000, 10, 18)
    assert [at for at, _ in planned] == sorted(at for at, _ in planned)
    assert [by for _, by in planned].count(signal.SIGKILL) == 5


def test_a_line_that_a_kill_cut_off_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "steps.txt").write_text("10.0 5\n10.5 6\n11.")
    assert reached(tmp_path / "steps.txt") == STEPS[:2]
    assert reached(tmp_path / "none.txt") == []


def facts(**more: object) -> Facts:
    whole = {"paths": ["a", "b"], "images": ["1", "2"], "seen": 2, "decided": [(1, "x"), (2, "y")]}
    return Facts(**{**whole, "lines": [], "registered": ["x", "y"], "runs": [], **more})  # type: ignore[arg-type]  # as each field wants it


def test_what_is_consumed_twice_is_a_file_an_image_or_a_decision_without_news() -> None:
    assert facts().twice == 0
    assert facts(paths=["a", "a"]).twice == 1
    assert facts(images=["1", "1"]).twice == 1
    assert facts(decided=[(2, "x"), (2, "y")]).twice == 1


def test_registrations_are_counted_for_each_decided_state() -> None:
    assert facts().registrations == [1, 1]
    assert sorted(facts(registered=["x", "x"]).registrations) == [0, 2]
