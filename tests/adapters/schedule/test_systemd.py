"""The systemd timer: units that systemd itself accepts, and a systemctl that refuses as the real one does."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from selftrain.adapters.schedule import systemd
from selftrain.adapters.schedule.systemd import service_text, timer_text, unit_folder
from selftrain.errors import ScheduleError

SYSTEMCTL = """#!/bin/sh
# What the tests need of systemctl: it keeps what is enabled, and refuses a unit that is not there.
echo "$@" >> "$STATE.calls"
[ "$1" = --user ] || exit 2
case "$2" in
is-system-running) echo "$(cat "$STATE.is")"; [ "$(cat "$STATE.is")" = running ] ;;
daemon-reload) [ "$(cat "$STATE.is")" = running ] || { echo "Failed to connect to bus" >&2; exit 1; } ;;
enable) [ -f "$UNITS/$4" ] || { echo "Unit file $4 does not exist." >&2; exit 1; }; echo "$4" >> "$STATE.on" ;;
disable) grep -v "^$4$" "$STATE.on" > "$STATE.new"; mv "$STATE.new" "$STATE.on" ;;
esac
"""
HOURLY = frozenset({0})
analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


@pytest.fixture
def state(programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (programs / "systemctl").write_text(SYSTEMCTL)
    (programs / "systemctl").chmod(0o755)
    monkeypatch.setenv("STATE", str(tmp_path / "state"))
    monkeypatch.setenv("UNITS", str(unit_folder()))
    (tmp_path / "state.is").write_text("running")
    (tmp_path / "state.on").touch()
    return tmp_path


def test_a_timer_is_enabled_and_goes_with_its_files(state: Path) -> None:
    systemd.put("selftrain-pets", ("/bin/run", "it"), HOURLY)
    assert (state / "state.on").read_text() == "selftrain-pets.timer\n"
    assert systemd.holds("selftrain-pets")
    systemd.take("selftrain-pets")
    assert (state / "state.on").read_text() == ""
    assert not list(unit_folder().iterdir())


def test_other_units_stay_as_they_are(state: Path) -> None:
    unit_folder().mkdir(parents=True)
    (unit_folder() / "theirs.timer").write_text("theirs")
    systemd.put("selftrain-pets", ("/bin/run",), HOURLY)
    systemd.take("selftrain-pets")
    assert [path.name for path in unit_folder().iterdir()] == ["theirs.timer"]


@pytest.mark.parametrize(("said", "runs"), [("running", True), ("degraded", True), ("offline", False), ("", False)])
def test_systemd_runs_where_it_says_so(state: Path, said: str, runs: bool) -> None:
    (state / "state.is").write_text(said)
    assert systemd.runs() is runs


def test_a_refusal_is_quoted_and_leaves_no_unit_behind(state: Path) -> None:
    (state / "state.is").write_text("offline")
    with pytest.raises(ScheduleError, match="Failed to connect to bus; mend that, or use --foreground"):
        systemd.put("selftrain-pets", ("/bin/run",), HOURLY)
    assert not systemd.holds("selftrain-pets")


def test_a_timer_that_is_gone_is_removed_without_a_word(state: Path) -> None:
    systemd.take("selftrain-pets")
    assert not (state / "state.calls").exists()


@analyze
@pytest.mark.parametrize("minutes", [HOURLY, frozenset({5, 20, 35, 50}), frozenset(range(60))])
def test_systemd_understands_the_times_of_a_timer(minutes: frozenset[int]) -> None:
    (when,) = [line.partition("=")[2] for line in timer_text(minutes).splitlines() if line.startswith("OnCalendar")]
    command = ["systemd-analyze", "calendar", f"--iterations={len(minutes)}", when]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    times = [line for line in shown.splitlines() if "UTC" in line or ":" in line]
    assert all(any(f":{minute:02}:00" in line for line in times) for minute in minutes)


@analyze
@pytest.mark.parametrize("part", ["plain", "a b", "100%", "$HOME", 'quo"te', "back\\slash", "it's", "é"])
def test_systemd_accepts_the_units(tmp_path: Path, part: str) -> None:
    (tmp_path / "selftrain-x.service").write_text(service_text(("/bin/echo", part)))
    (tmp_path / "selftrain-x.timer").write_text(timer_text(HOURLY))
    command = [
        "systemd-analyze",
        "verify",
        "--man=no",
        tmp_path / "selftrain-x.timer",
        tmp_path / "selftrain-x.service",
    ]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert "selftrain-x" not in checked.stderr


def test_a_line_break_in_a_command_is_refused() -> None:
    with pytest.raises(ScheduleError, match="line break"):
        service_text(("/bin/echo", "a\nb"))
