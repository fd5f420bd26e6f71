"""`selftrain schedule`: from the command to a run that a timer starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from selftrain.adapters.schedule.history import ScheduledRun, note
from selftrain.adapters.schedule.store import schedule_of, schedules, update

Command = Callable[..., Any]  # tests/conftest.py, selftrain
WORKSPACE = Path(".selftrain")
ROOT = Path(__file__).resolve().parents[3]
CRONTAB = """#!/bin/sh
if [ "$1" = -l ]; then cat "$TABLE" 2>/dev/null || { echo "no crontab for you" >&2; exit 1; }; else cat > "$TABLE"; fi
"""


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which nothing starts schedules; the folder that is its PATH."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("ZENML_CONFIG_PATH", str(tmp_path / "zenml"))
    monkeypatch.setenv("TABLE", str(tmp_path / "table"))
    return tmp_path / "bin"


def with_cron(programs: Path) -> subprocess.Popen[bytes]:
    """Give the machine a crontab, and a process of cron's name."""
    (programs / "crontab").write_text(CRONTAB.replace("cat", "/bin/cat"))
    (programs / "crontab").chmod(0o755)
    (programs / "cron").symlink_to(sys.executable)
    return subprocess.Popen([programs / "cron", "-c", "import time; time.sleep(60)"])


def pets(**production: Any) -> str:
    Path("pets.yaml").write_text(yaml.safe_dump({"parameters": {"experiment": {"name": "pets", **production}}}))
    return "pets.yaml"


def test_a_machine_without_timers_is_told_how_to_start_runs(selftrain: Command, alone: Path) -> None:
    ended = selftrain("schedule", "--cron", "0 3 * * *", "--time-zone", "Europe/Berlin", "--config", pets())
    assert ended.code == 0
    assert "pets: 0 3 * * * Europe/Berlin; next at " in ended.out
    assert f"retrain --config {Path('pets.yaml').resolve()}" in ended.out
    assert "keep `selftrain schedule --foreground` running, or nothing starts" in ended.err
    (entry,) = schedules(WORKSPACE)
    assert (entry.name, entry.starter, entry.folder) == ("pets", "foreground", str(Path.cwd()))


def test_the_list_shows_what_is_next_and_what_is_wrong(selftrain: Command, alone: Path) -> None:
    assert "no schedule; add one" in selftrain("schedule", "list").out
    selftrain("schedule", "--cron", "0 3 * * *", "--time-zone", "UTC", "--config", pets())
    shown = selftrain("schedule", "list")
    assert "not started" in shown.out
    assert "pets: nothing starts it; keep `selftrain schedule --foreground` running" in shown.out
    (facts,) = json.loads(selftrain("schedule", "list", "--json").out)
    assert (facts["name"], facts["state"], facts["next"], facts["last"]) == ("pets", "not started", None, None)


def test_pause_resume_and_remove(selftrain: Command, alone: Path) -> None:
    selftrain("schedule", "--cron", "0 3 * * *", "--config", pets())
    update(WORKSPACE, "pets", armed=True)
    assert selftrain("schedule", "pause").out == "paused: pets\n"
    assert not schedule_of(WORKSPACE, "pets").armed
    assert json.loads(selftrain("schedule", "list", "--json").out)[0]["state"] == "paused"
    assert selftrain("schedule", "resume", "pets").out.startswith("resumed: pets; next at ")
    assert selftrain("schedule", "remove", "pets").out == "removed: pets\n"
    again = selftrain("schedule", "remove", "pets")
    assert (again.code, again.out) == (2, "")
    assert "holds no schedule" in again.err


def test_run_now_waits_for_the_run_and_ends_as_it_did(selftrain: Command, alone: Path) -> None:
    selftrain("schedule", "--cron", "0 3 * * *", "--config", pets())
    update(WORKSPACE, "pets", command=("/bin/sh", "-c", "echo it ran"))
    ended = selftrain("schedule", "run-now")
    assert ended.code == 0
    assert "ended well; log: " in ended.err
    (facts,) = json.loads(selftrain("schedule", "list", "--json").out)
    assert facts["last"]["exit_code"] == 0
    assert Path(facts["last"]["log"]).read_text() == "it ran\n"
    update(WORKSPACE, "pets", command=("/bin/false",))
    failed = selftrain("schedule", "run-now", "pets")
    assert failed.code == 1
    assert "failed (exit code 1)" in failed.err


def test_a_run_that_was_cut_off_with_its_machine_does_not_go_on_for_ever(selftrain: Command, alone: Path) -> None:
    selftrain("schedule", "--cron", "0 3 * * *", "--config", pets())
    note(WORKSPACE, ScheduledRun(schedule="pets", started=datetime(2026, 6, 1, 3, tzinfo=UTC), log="pets.log"))
    (facts,) = json.loads(selftrain("schedule", "list", "--json").out)
    assert (facts["running"], facts["last"]["ended"]) == (False, None)
    assert "failed" in selftrain("schedule", "list").out


def test_a_run_does_not_inherit_the_short_patience_of_a_query(selftrain: Command, alone: Path) -> None:
    selftrain("schedule", "--cron", "0 3 * * *", "--config", pets())
    update(WORKSPACE, "pets", command=("/usr/bin/env",))
    assert selftrain("schedule", "run-now").code == 0
    (log,) = (WORKSPACE / "logs" / "schedule" / "pets").iterdir()
    assert "ZENML_CONFIG_PATH=" in log.read_text()
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in log.read_text()


def test_where_the_users_systemd_runs_a_timer_starts_the_runs(selftrain: Command, alone: Path) -> None:
    said = {"systemctl": 'case "$2" in is-system-running) echo running ;; esac', "loginctl": "echo no"}
    for name, script in said.items():
        (alone / name).write_text(f"#!/bin/sh\n{script}\n")
        (alone / name).chmod(0o755)
    ended = selftrain("schedule", "--cron", "20 3 * * *", "--time-zone", "UTC", "--config", pets())
    assert "started by: a systemd timer" in ended.out
    assert "`loginctl enable-linger` keeps them" in ended.err
    (timer,) = Path("config/systemd/user").glob("selftrain-pets-*.timer")
    assert "OnCalendar=*-*-* *:20:00\nPersistent=true" in timer.read_text()
    (facts,) = json.loads(selftrain("schedule", "list", "--json").out)
    assert (facts["state"], facts["starter"]) == ("on", "systemd")
    assert facts["next"] is not None
    assert selftrain("schedule", "remove").code == 0
    assert not list(Path("config/systemd/user").iterdir())


def test_what_cron_calls_runs_what_is_due_and_nothing_twice(selftrain: Command, alone: Path) -> None:
    daemon = with_cron(alone)
    try:
        ended = selftrain("schedule", "--cron", "0 3 * * *", "--time-zone", "UTC", "--config", pets())
    finally:
        daemon.kill()
        daemon.wait()
    assert "started by: a crontab entry" in ended.out
    (entry,) = schedules(WORKSPACE)
    assert entry.starter == "crontab"
    (line,) = [line for line in Path(os.environ["TABLE"]).read_text().splitlines() if not line.startswith("#")]
    update(
        WORKSPACE,
        "pets",
        command=("/bin/sh", "-c", f"echo ran >> {Path.cwd()}/runs"),
        since=datetime.now(UTC) - timedelta(days=9),
    )
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(Path.cwd()), "PYTHONPATH": str(ROOT)}
    for _ in range(2):
        called = subprocess.run(["sh", "-c", line.split(" ", 5)[5]], cwd="/", env=environment, capture_output=True)
        assert (called.returncode, called.stdout, called.stderr) == (0, b"", b"")
    assert Path("runs").read_text() == "ran\n"
    assert selftrain("schedule", "remove").code == 0
    assert Path(os.environ["TABLE"]).read_bytes() == b""


def test_an_entry_that_somebody_took_out_of_the_crontab_is_seen(selftrain: Command, alone: Path) -> None:
    daemon = with_cron(alone)
    try:
        selftrain("schedule", "--cron", "0 3 * * *", "--config", pets())
    finally:
        daemon.kill()
        daemon.wait()
    Path(os.environ["TABLE"]).write_text("")
    shown = selftrain("schedule", "list")
    assert "missing" in shown.out
    assert "pets: crontab has lost its entry" in shown.out


def test_a_schedule_that_is_given_again_is_replaced_and_leaves_its_old_starter(selftrain: Command, alone: Path) -> None:
    daemon = with_cron(alone)
    try:
        selftrain("schedule", "--cron", "0 3 * * *", "--config", pets())
        assert schedule_of(WORKSPACE, None).starter == "crontab"
    finally:
        daemon.kill()
        daemon.wait()
    selftrain("schedule", "--cron", "0 5 * * *", "--config", pets())
    (entry,) = schedules(WORKSPACE)
    assert (entry.cron, entry.starter) == ("0 5 * * *", "foreground")
    assert Path(os.environ["TABLE"]).read_bytes() == b""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "say when: selftrain schedule --cron"),
        (("--time-zone", "UTC", "--foreground"), "say when"),
        (("--cron", "soon"), "'soon' has 1 fields; give five fields"),
        (("--cron", "0 3 * * *", "--time-zone", "Mars"), "'Mars' is not a time zone"),
        (("--cron", "0 3 * * *", "--config", "gone.yaml"), "gone.yaml is not a file"),
        (("--cron", "0 3 * * *", "list"), "do not go with `schedule list`"),
        (("run-now",), "holds no schedule"),
        (("look", "pets"), "holds no schedule"),
    ],
)
def test_what_is_wrong_is_one_line_and_adds_nothing(
    selftrain: Command, alone: Path, arguments: tuple[str, ...], said: str
) -> None:
    ended = selftrain("schedule", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert len(ended.err.splitlines()) == 1
    assert schedules(WORKSPACE) == ()


def test_secrets_that_a_timer_would_not_find_are_named(
    selftrain: Command, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:s3cr3t@mlflow.test")
    daemon = with_cron(alone)
    try:
        config = pets(notify={"webhook": "env:HOOK"})
        ended = selftrain("schedule", "--cron", "0 3 * * *", "--config", config)
    finally:
        daemon.kill()
        daemon.wait()
    assert "crontab does not know your environment; use file: or zenml: for env:HOOK" in ended.err
    assert "MLFLOW_TRACKING_URI holds a password and is not kept" in ended.err
    assert "s3cr3t" not in (WORKSPACE / "schedules.json").read_text() + Path(os.environ["TABLE"]).read_text()


def test_the_commands_that_show_facts_import_no_heavy_library(alone: Path) -> None:
    code = (
        "import sys; from selftrain.cli.app import app; "
        "app(['schedule', 'list'], standalone_mode=False); "
        "print({'zenml', 'mlflow', 'tensorflow', 'keras', 'pandas', 'numpy', 'pyarrow'} & sys.modules.keys())"
    )
    command = [sys.executable, "-c", code]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert shown.stdout.splitlines()[-1] == "set()"
