"""The file of schedules: kept whole, changed by one process at a time, refused when damaged."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from selftrain.adapters.schedule.store import Entry, file_of, look, schedule_of, schedules, update
from selftrain.errors import InputError

Planned = Callable[..., Entry]


def test_what_was_stored_is_read_back(workspace: Path, planned: Planned) -> None:
    pets, cats = planned("pets", paused=True), planned("cats", environment={"PATH": "/bin"})
    assert schedules(workspace) == (cats, pets)


def test_the_only_schedule_needs_no_name_and_two_do(workspace: Path, planned: Planned) -> None:
    with pytest.raises(InputError, match="holds no schedule; add one"):
        schedule_of(workspace, None)
    planned("pets")
    assert schedule_of(workspace, None).name == "pets"
    planned("cats")
    with pytest.raises(InputError, match="name one of: cats, pets"):
        schedule_of(workspace, None)
    with pytest.raises(InputError, match="'dogs'; there are: cats, pets"):
        schedule_of(workspace, "dogs")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schedules": [{"name": "x"}]}', '{"schedules": [], "more": 1}'])
def test_a_damaged_file_is_refused_in_one_line_and_stays(workspace: Path, planned: Planned, text: str) -> None:
    planned()
    file_of(workspace).write_text(text)
    with pytest.raises(InputError, match="mend it, or move it away") as error:
        update(workspace, "pets", paused=True)
    assert "\n" not in error.value.message
    assert file_of(workspace).read_text() == text


def test_two_who_change_at_once_lose_nothing(workspace: Path, planned: Planned) -> None:
    names = [f"s{k}" for k in range(12)]
    threads = [threading.Thread(target=planned, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [entry.name for entry in schedules(workspace)] == sorted(names)


def test_a_paused_schedule_is_not_due_and_makes_nothing_up_when_resumed(workspace: Path, planned: Planned) -> None:
    planned(paused=True)
    look(workspace, ("pets",), datetime(2026, 6, 3, 3, tzinfo=UTC))
    update(workspace, "pets", paused=False)
    look(workspace, ("pets",), datetime(2026, 6, 3, 4, tzinfo=UTC))
    assert not schedule_of(workspace, "pets").armed
    look(workspace, ("pets",), datetime(2026, 6, 4, 3, tzinfo=UTC))
    assert schedule_of(workspace, "pets").armed


def test_a_schedule_that_was_removed_meanwhile_is_not_made_again(workspace: Path) -> None:
    assert update(workspace, "pets", armed=False) is None
    look(workspace, ("pets",), datetime(2026, 6, 3, 3, tzinfo=UTC))
    assert schedules(workspace) == ()
