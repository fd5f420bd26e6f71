"""Looking: takes in what is new in the inbox, and decides whether a retraining is due; a model measures drift only."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from selftrain.adapters.process.secrets import resolve
from selftrain.adapters.registry import versions
from selftrain.adapters.tracking.store import open_to_read
from selftrain.config import Experiment
from selftrain.data.intake_table import intake_path, read_intake
from selftrain.data.label_log import read_log, standing
from selftrain.data.store.dataset import Dataset, dataset_at, open_dataset
from selftrain.retraining.collecting import Collected, collect
from selftrain.retraining.journal import JournalState, journal_of, seen_rows, state_of
from selftrain.retraining.newness import new_images
from selftrain.retraining.performance import performance
from selftrain.retraining.trigger import Decision, NotDue, TriggerFacts, due, wants_drift


class RetrainingLook(BaseModel):
    """What a look found: whether a retraining is due, why, and how many new images there are.

    `stopped`: none will be before somebody resumes it. `collected`: what the inbox held; None where there is none.
    """

    model_config = ConfigDict(frozen=True)

    due: bool
    reason: str
    stopped: bool
    new: int
    collected: Collected | None = None


def look_at(e: Experiment, *, run: str = "", dry_run: bool = False, now: datetime | None = None) -> RetrainingLook:
    """Take in what the inbox of `e` has, unless it is a `dry_run`, and decide; the journal keeps the line of why.

    `run` names the pipeline run that looks. Raises ConfigError, SecretError and InboxError.
    """
    now = now or datetime.now(UTC)
    dataset = dataset_at(e.place, e.machine) if dry_run else open_dataset(e.place, e.machine)
    collected = collect(e, run=run, now=now, resolve=resolve, dry_run=dry_run) if e.inbox else None
    journal = journal_of(dataset.workspace, dataset.name)
    lines = journal.lines()
    state, intake = state_of(lines), read_intake(intake_path(dataset.store.root))
    images = new_images(intake, seen_rows=seen_rows(lines, intake))
    facts = _facts(state, len(images), now, collected, has_inbox=e.inbox is not None)
    if e.retrain.any_of.performance is not None or e.retrain.all_of.performance is not None:
        facts = replace(facts, accuracy=_accuracy(e, dataset, intake))
    if not dry_run and wants_drift(facts, e.retrain, min_images=e.drift.min_images):
        facts = _with_drift(e, facts, images)
    look = _look(due(facts, e.retrain), facts.new, collected)
    if not dry_run:
        journal.append("look", now, run=run, **look.model_dump(exclude={"collected"}))
    return look


def _with_drift(e: Experiment, facts: TriggerFacts, images: list[str]) -> TriggerFacts:
    """`facts` with what the champion says of the new images; only here is a model loaded."""
    from selftrain.adapters.retraining.watching import watch

    window = watch(e, images)
    if window is None:
        return facts
    return replace(facts, measured=True, drift=window.decision.reason if window.drifted else None)


def _accuracy(e: Experiment, dataset: Dataset, intake: pa.Table) -> float | None:
    """The champion's accuracy on labelled production images, by its recorded answers; None where it is unknown."""
    tracking = open_to_read(dataset.workspace.root)
    champion = versions.champion(tracking, e.registry.model_name) if tracking else None
    if champion is None:
        return None
    labels = standing(read_log(dataset.store.root)).agreed
    found = performance(intake, labels, version=champion.uri)
    return found.accuracy if found else None


def _facts(
    state: JournalState, new: int, now: datetime, collected: Collected | None, *, has_inbox: bool
) -> TriggerFacts:
    """Without drift. A dry run takes nothing in: it counts what it would take as new."""
    would_be = collected.taken if collected and collected.dry_run else 0
    return TriggerFacts(
        now=now,
        new=new + would_be,
        decided_at=state.decided_at,
        failures=state.failures,
        requested=state.requested,
        inbox=has_inbox,
    )


def _look(decision: Decision, new: int, collected: Collected | None) -> RetrainingLook:
    stopped = isinstance(decision, NotDue) and decision.stopped
    is_due = not isinstance(decision, NotDue)
    return RetrainingLook(due=is_due, reason=decision.reason, stopped=stopped, new=new, collected=collected)
