"""A run whose pod was replaced: whether the new pod can go on with it."""

from __future__ import annotations

from selftrain.adapters.runs.continuing import Begun, cut_off


def done(name: str) -> Begun:
    return Begun(name, inline=True, running=False, finished_well=True)


def running(name: str, *, inline: bool) -> Begun:
    return Begun(name, inline=inline, running=True, finished_well=False)


def test_a_run_that_begins_is_not_cut_off() -> None:
    assert cut_off([]) is None


def test_a_step_that_ran_in_the_lost_pod_is_named() -> None:
    assert cut_off([done("look"), running("scan", inline=True)]) == "scan"


def test_a_step_in_a_pod_of_its_own_goes_on_without_the_one_that_was_lost() -> None:
    finished = [done(name) for name in ("scan", "ingest", "snapshot")]
    assert cut_off([*finished, running("train_student", inline=False)]) is None


def test_images_that_no_snapshot_has_pushed_are_lost_with_the_disk() -> None:
    assert cut_off([done("scan"), done("ingest")]) == "ingest"
    assert cut_off([done("scan"), done("ingest"), done("snapshot")]) is None


def test_a_step_that_failed_is_not_one_that_was_lost() -> None:
    assert cut_off([Begun("validate", inline=True, running=False, finished_well=False)]) is None
