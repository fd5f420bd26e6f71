"""Looking: takes in what is new in the inbox, and decides whether a retraining is due. It loads no model."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from selftrain.config import Experiment
from selftrain.data.ingest.intake import read_intake
from selftrain.data.store.dataset import open_dataset
from selftrain.data.store.image_store import ImageStore
from selftrain.retraining.journal import JournalState, journal_of, state_of
from selftrain.retraining.newness import new_images
from selftrain.retraining.trigger import Due, TriggerFacts, due


class Look(BaseModel):
    """What a look found: whether a retraining is due, why, and how many new images there are.

    `taken` counts the files that this look took in, `waiting` those that it left for a later one.
    """

    model_config = ConfigDict(frozen=True)

    due: bool
    reason: str
    stopped: bool = False
    new: int = 0
    taken: int = 0
    waiting: int = 0
    quarantined: int = 0


def look_at(e: Experiment, *, run: str = "", dry_run: bool = False, now: datetime | None = None) -> Look:
    """Take in what the inbox of `e` has, unless it is a `dry_run`, and decide; the journal keeps the line of why.

    `run` names the pipeline run that looks. Raises SelftrainError for an inbox that cannot be read.
    """
    from selftrain.adapters.retraining.collecting import Collected, collect

    now = now or datetime.now(UTC)
    dataset = open_dataset(e.place, e.machine)
    journal = journal_of(dataset.workspace, dataset.name)
    collected = collect(e, run=run, now=now, dry_run=dry_run) if e.inbox else Collected()
    state = state_of(journal.lines())
    facts = _facts(dataset.store, state, now)
    decision = due(facts, e.retrain)
    look = Look(
        due=isinstance(decision, Due),
        reason=decision.reason,
        stopped=not isinstance(decision, Due) and decision.stopped,
        new=facts.new,
        taken=collected.taken,
        waiting=collected.waiting,
        quarantined=collected.quarantined,
    )
    if not dry_run:
        journal.append("look", now, run=run, **look.model_dump())
    return look


def _facts(store: ImageStore, state: JournalState, now: datetime) -> TriggerFacts:
    intake = read_intake(store)
    new = new_images(intake, seen_rows=state.seen_rows, elsewhere=_elsewhere(store, intake))
    return TriggerFacts(
        now=now,
        new=len(new),
        decided_at=state.watermark.when if state.watermark else None,
        failures=state.failures,
        requested=state.requested,
    )


def _elsewhere(store: ImageStore, intake: pa.Table) -> pa.ChunkedArray:
    """The image_ids of files that the experiment's own source holds."""
    index = store.index()
    own = pc.invert(pc.is_in(index["path"], value_set=intake["path"].combine_chunks()))
    return index.filter(own)["image_id"]
