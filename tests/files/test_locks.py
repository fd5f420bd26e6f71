"""File locks: one holder at a time, and none of a file that was removed meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from selftrain.files.locks import is_abandoned, take_new, try_lock


def test_a_held_file_is_refused_and_free_once_its_descriptor_is_closed(tmp_path: Path) -> None:
    first = try_lock(tmp_path / "lock")
    assert first is not None
    assert try_lock(tmp_path / "lock") is None
    os.close(first)
    second = try_lock(tmp_path / "lock")
    assert second is not None
    os.close(second)


def test_a_lock_whose_file_was_removed_while_it_was_taken_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    opened = os.open

    def removed_after_opening(*arguments: object, **options: object) -> int:
        monkeypatch.setattr(os, "open", opened)
        lock = opened(*arguments, **options)  # type: ignore[arg-type]
        path.unlink()
        return lock

    monkeypatch.setattr(os, "open", removed_after_opening)
    lock = try_lock(path)
    assert lock is not None
    assert os.path.samestat(os.fstat(lock), path.stat())
    os.close(lock)


def test_no_folder_is_made_for_a_lock(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        try_lock(tmp_path / "gone" / "lock")


def test_a_new_lock_file_is_held_as_soon_as_it_is_seen_and_abandoned_once_it_is_let_go(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "run.lock"
    assert not is_abandoned(path)
    lock = take_new(path)
    assert [each.name for each in path.parent.iterdir()] == ["run.lock"]
    assert not is_abandoned(path)
    os.close(lock)
    assert is_abandoned(path)
