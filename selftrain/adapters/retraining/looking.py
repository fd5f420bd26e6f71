"""Looking: takes in what is new in the inbox, and decides whether a retraining is due. It loads no model."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict

from selftrain.adapters.process.secrets import resolve
from selftrain.config import Experiment
from selftrain.data.intake_table import intake_path, read_intake
from selftrain.data.store.dataset import Dataset, open_dataset
from selftrain.retraining.collecting import Collected, collect
from selftrain.retraining.journal import JournalState, journal_of, state_of
from selftrain.retraining.newness import new_images
from selftrain.retraining.trigger import Decision, NotDue, TriggerFacts, due


class Look(BaseModel):
    """What a look found: whether a retraining is due, why, and how many new images there are.

    `stopped`: none will be before somebody resumes it. `collected`: what the inbox held; None where there is none.
    """

    model_config = ConfigDict(frozen=True)

    due: bool
    reason: str
    stopped: bool
    new: int
    collected: Collected | None = None


def look_at(e: Experiment, *, run: str = "", dry_run: bool = False, now: datetime | None = None) -> Look:
    """Take in what the inbox of `e` has, unless it is a `dry_run`, and decide; the journal keeps the line of why.

    `run` names the pipeline run that looks. Raises ConfigError, SecretError and InboxError.
    """
    now = now or datetime.now(UTC)
    dataset = open_dataset(e.place, e.machine)
    collected = collect(e, run=run, now=now, resolve=resolve, dry_run=dry_run) if e.inbox else None
    journal = journal_of(dataset.workspace, dataset.name)
    facts = _facts(dataset, state_of(journal.lines()), now, collected)
    look = _look(due(facts, e.retrain), facts.new, collected)
    if not dry_run:
        journal.append("look", now, run=run, **look.model_dump(exclude={"collected"}))
    return look


def _facts(dataset: Dataset, state: JournalState, now: datetime, collected: Collected | None) -> TriggerFacts:
    intake = read_intake(intake_path(dataset.store.root))
    would_be = collected.taken if collected and collected.dry_run else 0
    return TriggerFacts(
        now=now,
        new=len(new_images(intake, seen_rows=state.seen_rows)) + would_be,
        decided_at=state.watermark.when if state.watermark else None,
        failures=state.failures,
        requested=state.requested,
    )


def _look(decision: Decision, new: int, collected: Collected | None) -> Look:
    stopped = isinstance(decision, NotDue) and decision.stopped
    is_due = not isinstance(decision, NotDue)
    return Look(due=is_due, reason=decision.reason, stopped=stopped, new=new, collected=collected)
