"""News: a run that ends without a new champion is told too."""

from __future__ import annotations

import pytest

from selftrain.errors import QuarantineError, SourceError
from selftrain.retraining.news import event_of, events_of
from selftrain.selflabel.rounds.record import RunRecord


@pytest.mark.parametrize(
    ("facts", "auto", "events"),
    [
        ({"verdict": "passed", "promoted": True, "registered_version": 2}, True, ("promoted", "passed")),
        ({"verdict": "passed", "registered_version": 2}, True, ("refused", "passed")),
        ({"verdict": "passed", "registered_version": 2}, False, ("passed",)),
        ({"verdict": "exhausted"}, True, ("refused",)),
        ({"verdict": "stalled"}, False, ("refused",)),
    ],
)
def test_every_verdict_is_told(facts: dict[str, object], auto: bool, events: tuple[str, ...]) -> None:
    record = RunRecord.model_validate({"run_id": "r", "name": "n", "title": "", "status": "completed", **facts})
    assert events_of(record, auto_promote=auto) == events


def test_too_many_broken_files_are_an_event_of_their_own() -> None:
    assert event_of(QuarantineError("x")) == "quarantine"
    assert event_of(SourceError("x")) == "failed"
