"""The journal: what its lines add up to, and that a torn line costs nothing but itself."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from selftrain.retraining.journal import Journal, state_of

WHEN = datetime(2026, 12, 1, 3, tzinfo=UTC)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "photos.retraining.jsonl")


def test_a_journal_that_does_not_exist_is_empty(journal: Journal) -> None:
    state = state_of(journal.lines())
    assert (state.watermark, state.failures, state.requested, state.missed) == (None, 0, False, False)
    assert state.seen_rows == 0


def test_lines_come_back_as_they_were_appended(journal: Journal) -> None:
    journal.append("look", WHEN, reason="3 new images of 100", new=3)
    journal.append("decided", WHEN, run="a", intake_rows=7)
    look, decided = journal.lines()
    assert (look.kind, look.when, look.facts) == ("look", WHEN, {"reason": "3 new images of 100", "new": 3})
    assert state_of([look, decided]).seen_rows == 7


def test_failures_count_in_a_row_and_a_request_lasts_until_a_run_starts(journal: Journal) -> None:
    for kind in ("failed", "requested", "failed"):
        journal.append(kind)
    assert state_of(journal.lines()).failures == 2
    assert state_of(journal.lines()).requested
    journal.append("started")
    assert not state_of(journal.lines()).requested
    journal.append("resumed")
    assert state_of(journal.lines()).failures == 0


def test_whoever_finds_it_busy_arms_one_more_look_and_asks_for_no_run(journal: Journal) -> None:
    for kind in ("look", "started", "missed", "missed"):
        journal.append(kind)
    state = state_of(journal.lines())
    assert (state.missed, state.requested) == (True, False)
    journal.append("look")
    assert not state_of(journal.lines()).missed


def test_the_watermark_moves_with_a_decision_and_with_nothing_else(journal: Journal) -> None:
    journal.append("decided", run="a", intake_rows=7)
    journal.append("started", run="b")
    journal.append("failed", reason="no space")
    state = state_of(journal.lines())
    assert state.watermark is not None
    assert (state.watermark.facts["run"], state.seen_rows) == ("a", 7)


@pytest.mark.parametrize("torn", ['{"kind": "look", "wh', "\0\0\0\0"])
def test_a_line_that_was_never_finished_is_skipped_and_the_next_one_is_whole(journal: Journal, torn: str) -> None:
    journal.append("decided", WHEN, run="a", intake_rows=7)
    with journal.path.open("a") as file:
        file.write(torn)
    assert [line.kind for line in journal.lines()] == ["decided"]
    journal.append("failed", WHEN, reason="x")
    first, damaged, last = journal.lines()
    assert (first.kind, last.kind) == ("decided", "failed")
    assert "line 2 is damaged" in damaged.facts["reason"]
    assert state_of(journal.lines()).failures == 1
