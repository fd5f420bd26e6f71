"""News: which events a finished run is, and the facts that a notice of it carries."""

from __future__ import annotations

from selftrain.config import Event
from selftrain.errors import QuarantineError
from selftrain.selflabel.rounds.history import Verdict
from selftrain.selflabel.rounds.record import RunRecord

Facts = dict[str, str | int | float | None]


def events_of(record: RunRecord, *, auto_promote: bool) -> tuple[Event, ...]:
    """The events of a completed run, most important first.

    A run that missed its gate is refused too, with the reason. Without `auto_promote`, a version that waits for a
    person is not.
    """
    if record.promoted:
        return ("promoted", "passed")
    passed: tuple[Event, ...] = ("passed",) if record.verdict is Verdict.PASSED else ()
    return passed if passed and not auto_promote else ("refused", *passed)


def event_of(error: BaseException) -> Event:
    """The event of a run that ended in `error`."""
    return "quarantine" if isinstance(error, QuarantineError) else "failed"


def facts_of(record: RunRecord) -> Facts:
    """What a notice says of a run."""
    return {
        "experiment": record.name,
        "run": record.run_id,
        "verdict": record.verdict.value if record.verdict else None,
        "test_accuracy": record.test_accuracy,
        "difference": record.difference,
        "version": record.registered_version,
        "champion": record.champion_version,
        "reason": record.promotion_reason or record.error or "",
        "quarantined": record.quarantined,
    }
