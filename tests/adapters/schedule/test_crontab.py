"""The crontab: ours come and go, everyone else's lines stay byte for byte."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftrain.adapters.schedule import crontab
from selftrain.adapters.schedule.crontab import with_entry, without_entry
from selftrain.errors import ScheduleError

THEIRS = b"MAILTO=a@b.c\n# my own\n\n*/5 * * * * echo '50\\%'  # \xff\xe9 not UTF-8\n@reboot   keep\twhat is\n"
HOURLY = frozenset({0})


def test_an_entry_comes_and_goes_and_the_rest_stays_byte_for_byte(table: Path) -> None:
    table.write_bytes(THEIRS)
    crontab.put("pets", ("run", "it"), HOURLY)
    assert table.read_bytes() == THEIRS + b"# selftrain: begin pets\n0 * * * * run it\n# selftrain: end pets\n"
    assert crontab.holds("pets")
    crontab.take("pets")
    assert table.read_bytes() == THEIRS
    assert not crontab.holds("pets")


def test_a_user_without_a_crontab_gets_one(table: Path) -> None:
    crontab.put("pets", ("run",), HOURLY)
    assert crontab.holds("pets")
    crontab.take("pets")
    assert table.read_bytes() == b""


def test_an_entry_is_replaced_and_not_doubled(table: Path) -> None:
    for minutes in (HOURLY, frozenset({45, 5}), frozenset(range(60))):
        crontab.put("pets", ("run",), minutes)
    assert table.read_text() == "# selftrain: begin pets\n* * * * * run\n# selftrain: end pets\n"


def test_entries_of_two_workspaces_live_beside_each_other(table: Path) -> None:
    table.write_bytes(THEIRS)
    crontab.put("pets-1", ("one",), HOURLY)
    crontab.put("pets-12", ("two",), HOURLY)
    crontab.take("pets-1")
    assert b"two" in table.read_bytes()
    assert b"one" not in table.read_bytes()


def test_a_last_line_without_its_end_is_ended_as_cron_demands(table: Path) -> None:
    table.write_bytes(b"0 1 * * * theirs")
    crontab.put("pets", ("run",), HOURLY)
    assert table.read_bytes().startswith(b"0 1 * * * theirs\n# selftrain")


@pytest.mark.parametrize("part", ["a b", "100%", "it's", "$HOME", 'quo"te', "back\\slash", "é"])
def test_cron_hands_every_word_on_as_it_is(table: Path, tmp_path: Path, part: str) -> None:
    crontab.put("pets", ("printf", "%s", part), HOURLY)
    (line,) = [line for line in table.read_text().splitlines() if not line.startswith("#")]
    command = line.split(" ", 5)[5].replace("\\%", "%")  # as cron does
    assert subprocess.run(["sh", "-c", command], capture_output=True, check=True).stdout.decode() == part


def test_a_line_break_in_a_folder_is_refused(table: Path) -> None:
    with pytest.raises(ScheduleError, match="line break"):
        crontab.put("pets", ("run", "a\nb"), HOURLY)
    assert not table.exists()


@pytest.mark.parametrize("left", [b"# selftrain: begin pets\n0 * * * * x\n", b"# selftrain: end pets\n"])
def test_half_an_entry_is_refused_and_left(table: Path, left: bytes) -> None:
    table.write_bytes(THEIRS + left + b"0 4 * * * theirs too\n")
    for change in (lambda: crontab.put("pets", ("run",), HOURLY), lambda: crontab.take("pets")):
        with pytest.raises(ScheduleError, match="remove it with `crontab -e`"):
            change()
    assert table.read_bytes() == THEIRS + left + b"0 4 * * * theirs too\n"


def test_a_begin_without_its_end_does_not_swallow_the_entry_of_another(table: Path) -> None:
    broken = b"# selftrain: begin pets\n# selftrain: begin cats\n0 * * * * x\n# selftrain: end cats\n"
    with pytest.raises(ScheduleError, match="remove it"):
        without_entry(broken, "pets")


def test_a_crontab_that_cannot_be_read_is_not_written(programs: Path, table: Path) -> None:
    (programs / "crontab").write_text(f"#!/bin/sh\n[ $1 = - ] && touch {table}\necho 'disk: I/O error' >&2\nexit 1\n")
    with pytest.raises(ScheduleError, match="the crontab cannot be read: disk: I/O error"):
        crontab.put("pets", ("run",), HOURLY)
    assert not table.exists()


def test_a_refusal_of_cron_is_quoted(programs: Path, table: Path) -> None:
    (programs / "crontab").write_text("#!/bin/sh\n[ $1 = -l ] && exit 0\necho 'you (me) are not allowed' >&2\nexit 1\n")
    with pytest.raises(ScheduleError, match=r"you \(me\) are not allowed"):
        crontab.put("pets", ("run",), HOURLY)


def test_cron_runs_where_its_process_does(programs: Path, table: Path) -> None:
    sleep = shutil.which("sleep")
    assert sleep is not None
    shutil.copy(sleep, programs / "cron")
    daemon = subprocess.Popen([programs / "cron", "30"])
    try:
        assert crontab.runs()
        (programs / "crontab").unlink()
        assert crontab.runs() is (shutil.which("crontab") is not None)
    finally:
        daemon.kill()
        daemon.wait()


LINES = st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b" ")), max_size=6)


@given(LINES, LINES)
def test_whatever_stands_around_an_entry_stays(before: list[bytes], after: list[bytes]) -> None:
    around = b"".join(line + b"\n" for line in before)
    ours = with_entry(around, "pets", b"0 * * * * run")
    later = b"".join(line + b"\n" for line in after)
    assert without_entry(ours + later, "pets") == around + later
