"""The journal: what its lines add up to, and that a torn line costs nothing but itself."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from selftrain.retraining.journal import Journal, JournalState, seen_rows, state_of, unfinished_start

WHEN = datetime(2026, 12, 1, 3, tzinfo=UTC)
INTAKE = pa.table({"image_id": pa.array(["A", "B", None, "C"], pa.string())})


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "photos.retraining.jsonl")


def test_a_journal_that_does_not_exist_is_empty(journal: Journal) -> None:
    assert state_of(journal.lines()) == JournalState()
    assert seen_rows(journal.lines(), INTAKE) == 0


def test_lines_come_back_as_they_were_appended(journal: Journal) -> None:
    journal.append("look", WHEN, reason="3 new images of 100", new=3)
    journal.append("decided", WHEN, run="a", intake_rows=2, last_image="B")
    look, decided = journal.lines()
    assert (look.kind, look.when, look.facts) == ("look", WHEN, {"reason": "3 new images of 100", "new": 3})
    assert state_of([look, decided]).decided_at == WHEN
    assert seen_rows([look, decided], INTAKE) == 2


def test_failed_runs_count_until_one_is_decided_and_failed_looks_until_one_goes_well(journal: Journal) -> None:
    for kind, facts in (("failed", {"stage": "run"}), ("look", {}), ("failed", {"stage": "look"})):
        journal.append(kind, **facts)
    assert state_of(journal.lines()).failures == 2
    journal.append("look")
    assert state_of(journal.lines()).failures == 1
    journal.append("stopped")
    assert state_of(journal.lines()).stopped
    journal.append("resumed")
    assert (state_of(journal.lines()).failures, state_of(journal.lines()).stopped) == (0, False)
    journal.append("failed", stage="run")
    journal.append("decided", WHEN, run="a")
    assert state_of(journal.lines()) == JournalState(decided_at=WHEN)


def test_a_request_lasts_until_a_run_is_decided_or_fails_so_that_a_kill_does_not_lose_it(journal: Journal) -> None:
    for kind in ("requested", "look", "started"):
        journal.append(kind)
    assert state_of(journal.lines()).requested
    journal.append("failed", stage="run")
    assert not state_of(journal.lines()).requested
    journal.append("requested")
    journal.append("decided", run="a")
    assert not state_of(journal.lines()).requested


def test_whoever_finds_it_busy_arms_one_more_look_and_asks_for_no_run(journal: Journal) -> None:
    for kind in ("look", "started", "missed", "missed", "decided"):
        journal.append(kind)
    state = state_of(journal.lines())
    assert (state.owed, state.requested) == (True, False)
    journal.append("look")
    assert not state_of(journal.lines()).owed


def test_the_watermark_moves_with_a_decision_and_never_back(journal: Journal) -> None:
    journal.append("decided", run="a", intake_rows=4, last_image="C")
    journal.append("started", run="b")
    journal.append("failed", stage="run", reason="no space")
    journal.append("decided", run="without an inbox", intake_rows=0, last_image=None)
    journal.append("decided", run="began before a", intake_rows=2, last_image="B")
    assert seen_rows(journal.lines(), INTAKE) == 4


def test_a_restored_data_set_goes_back_to_the_newest_decision_that_fits_its_rows(journal: Journal) -> None:
    journal.append("decided", run="a", intake_rows=2, last_image="B")
    journal.append("decided", run="b", intake_rows=4, last_image="C")
    assert seen_rows(journal.lines(), INTAKE.slice(0, 3)) == 2
    other = pa.table({"image_id": pa.array(["X", "Y", "Z", "Z"], pa.string())})
    assert seen_rows(journal.lines(), other) == 0


def test_a_killed_retraining_is_begun_again_from_the_version_that_it_had_started_from(journal: Journal) -> None:
    journal.append("started", from_version=3)
    start = unfinished_start(journal.lines())
    assert start is not None
    assert start.facts["from_version"] == 3
    journal.append("decided", run="a")
    assert unfinished_start(journal.lines()) is None
    journal.append("started", from_version=4)
    journal.append("look")
    assert unfinished_start(journal.lines()) is not None
    journal.append("failed", stage="run")
    assert unfinished_start(journal.lines()) is None


@pytest.mark.parametrize("torn", [b'{"kind": "look", "wh', b"\0\0\0\0", b"\xff\xfe"])
def test_a_line_that_was_never_finished_is_skipped_and_the_next_one_is_whole(journal: Journal, torn: bytes) -> None:
    journal.append("failed", WHEN, stage="look")
    with journal.path.open("ab") as file:
        file.write(torn)
    assert [line.kind for line in journal.lines()] == ["failed"]
    journal.append("failed", WHEN, stage="look")
    assert [line.kind for line in journal.lines()] == ["failed", "damaged", "failed"]
    assert "line 2 is damaged" in journal.lines()[1].facts["reason"]
    assert state_of(journal.lines()).failures == 2
