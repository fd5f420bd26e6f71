"""What the tests of schedules share: a schedule to start with, and programs that behave as crontab and systemctl do."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from selftrain.adapters.schedule.store import Entry, change

CRONTAB = """#!/bin/sh
case "$1" in
-l) if [ -f "$TABLE" ]; then cat "$TABLE"; else echo "no crontab for $USER" >&2; exit 1; fi ;;
-)
  cat > "$TABLE.new"
  if [ -s "$TABLE.new" ] && [ -n "$(tail -c 1 "$TABLE.new")" ]; then
    echo "new crontab file is missing newline before EOF, can't install." >&2
    exit 1
  fi
  mv "$TABLE.new" "$TABLE" ;;
*) exit 2 ;;
esac
"""


@pytest.fixture(autouse=True)
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked of, or told to, the user's own stack."""
    monkeypatch.setenv("ZENML_CONFIG_PATH", str(tmp_path / "zenml"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is first on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return folder


@pytest.fixture
def table(programs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a crontab that is read and written as cron's own program does, refusals included."""
    (programs / "crontab").write_text(CRONTAB)
    (programs / "crontab").chmod(0o755)
    monkeypatch.setenv("TABLE", str(programs / "table"))
    return programs / "table"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return tmp_path / ".selftrain"


@pytest.fixture
def planned(tmp_path: Path, workspace: Path) -> Callable[..., Entry]:
    """planned("pets", command=("true",)): a schedule in the workspace, at 03:00 UTC."""

    def make(name: str = "pets", **given: Any) -> Entry:
        fields: dict[str, Any] = {
            "cron": "0 3 * * *",
            "time_zone": "UTC",
            "config": None,
            "command": ("true",),
            "folder": str(tmp_path),
            "starter": "foreground",
            "since": datetime(2026, 6, 1, 12, tzinfo=UTC),
        }
        entry = Entry.model_validate({"name": name, **fields, **given})
        change(workspace, name, lambda _: entry)
        return entry

    return make
