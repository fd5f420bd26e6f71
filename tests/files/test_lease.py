"""Leases: one holder at a time; a dead one's claim ends, a live one's does not, whatever the time of day says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from selftrain.errors import LeaseHeldError, LeaseLostError
from selftrain.files.lease import Claim, FileLease, held, is_over

CLAIM = Claim(holder="a", token="t", since="2026-12-01T00:00:00+00:00", ttl_s=30, boot="b", at=100)
ALIVE = {"boot": "b", "abandoned": False, "unchanged_s": 0.0}
ROOT = Path(__file__).parents[2]


@dataclass
class Clock:
    """A machine's clock since its boot, moved by hand."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_claim_ends_when_it_was_not_renewed_for_its_time() -> None:
    assert not is_over(CLAIM, now=130, **ALIVE)
    assert is_over(CLAIM, now=130.1, **ALIVE)


def test_the_claim_of_a_dead_process_ends_at_once_but_only_its_own_machine_knows_that() -> None:
    assert is_over(CLAIM, now=101, **{**ALIVE, "abandoned": True})
    assert not is_over(CLAIM, now=101, **{**ALIVE, "abandoned": True, "boot": "another"})


def test_the_clock_of_another_boot_says_nothing_and_time_that_the_reader_saw_pass_does() -> None:
    elsewhere = {**ALIVE, "boot": "another"}
    assert not is_over(CLAIM, now=1e9, **elsewhere)
    assert is_over(CLAIM, now=0, **{**elsewhere, "unchanged_s": 30.1})
    unknown = CLAIM.model_copy(update={"boot": ""})
    assert not is_over(unknown, now=1e9, **{**ALIVE, "boot": "", "abandoned": True})


def test_a_clock_that_goes_back_neither_frees_a_claim_nor_holds_it_for_ever() -> None:
    assert not is_over(CLAIM, now=-1e9, **ALIVE)
    assert is_over(CLAIM, now=-1e9, **{**ALIVE, "unchanged_s": 30.1})


def test_a_second_holder_is_told_who_is_first_and_gets_it_afterwards(tmp_path: Path) -> None:
    first, second = FileLease(tmp_path / "x.lease", "night 1"), FileLease(tmp_path / "x.lease", "night 2")
    with held(first):
        with pytest.raises(LeaseHeldError, match=r"night 1 is at it since 20.*; try again"), held(second):
            pass
        first.renew()
    assert second.take() is None
    second.release()
    assert [path.name for path in tmp_path.iterdir()] == ["x.lease.guard"]


def test_a_live_holder_is_never_replaced_while_a_thread_renews_its_claim(tmp_path: Path) -> None:
    first = FileLease(tmp_path / "x.lease", "first", ttl_s=0.3)
    second = FileLease(tmp_path / "x.lease", "second", ttl_s=0.3)
    with held(first):
        with pytest.raises(LeaseHeldError), held(second, wait_s=1.0):
            pass
        first.renew()


def test_a_holder_that_hung_is_replaced_and_finds_out_before_it_changes_anything(tmp_path: Path) -> None:
    clock = Clock()
    first = FileLease(tmp_path / "x.lease", "first", clock=clock)
    second = FileLease(tmp_path / "x.lease", "second", clock=clock)
    assert first.take() is None
    clock.now += 29
    assert second.take() is not None
    clock.now += 2
    assert second.take() is None
    with pytest.raises(LeaseLostError, match=r"first no longer holds .*: second has it since"):
        first.renew()
    first.release()
    second.renew()


def test_a_renewal_starts_the_time_anew(tmp_path: Path) -> None:
    clock = Clock()
    first = FileLease(tmp_path / "x.lease", "first", clock=clock)
    second = FileLease(tmp_path / "x.lease", "second", clock=clock)
    assert first.take() is None
    for _ in range(5):
        clock.now += 20
        first.renew()
        assert second.take() is not None


def test_a_holder_on_another_machine_is_watched_for_its_time_and_then_replaced(tmp_path: Path) -> None:
    there, here = Clock(9e9), Clock(5.0)
    first = FileLease(tmp_path / "x.lease", "first", clock=there, boot="there")
    second = FileLease(tmp_path / "x.lease", "second", clock=here, boot="here")
    assert first.take() is None
    assert second.take() is not None
    here.now += 20
    there.now += 1
    first.renew()
    assert second.take() is not None
    here.now += 29
    assert second.take() is not None
    here.now += 2
    assert second.take() is None


def test_a_record_of_no_use_and_a_folder_that_is_missing_hinder_nobody(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.lease"
    path.parent.mkdir()
    path.write_bytes(b"")
    lease = FileLease(path, "me")
    assert lease.take() is None
    lease.release()
    assert FileLease(tmp_path / "other" / "x.lease", "me").take() is None


def test_a_claim_that_cannot_be_renewed_is_said_to_be_lost(tmp_path: Path) -> None:
    lease = FileLease(tmp_path / "x.lease", "me")
    assert lease.take() is None
    lease.path.unlink()
    with pytest.raises(LeaseLostError, match="nobody has it now"):
        lease.renew()
    lease.path.mkdir()
    (lease.path / "in the way").touch()
    with pytest.raises(LeaseLostError, match="cannot be written"):
        lease.renew()


def test_a_place_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LeaseLostError, match="cannot be written"):
        FileLease(tmp_path / "file" / "x.lease", "me").take()


HOLDER = """
import sys, time
from pathlib import Path
from selftrain.files.lease import FileLease, held
with held(FileLease(Path(sys.argv[1]), "killed", ttl_s=3600)):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_claim_of_a_killed_process_is_taken_at_once_and_that_of_a_running_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "x.lease"
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        lease = FileLease(path, "next")
        assert lease.take() is not None
        os.kill(process.pid, signal.SIGKILL)
    with held(lease, wait_s=20):  # far less than the claim would run for
        lease.renew()
