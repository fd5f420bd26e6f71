"""The life of a retraining: one at a time, failures counted, people told."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Literal

from selftrain.adapters.cluster.contenders import alone_with, data_set_lease
from selftrain.adapters.notices.sending import check_command, notify
from selftrain.adapters.runs.continuing import refuse_cut_off
from selftrain.adapters.runs.lifecycle import pipeline_run
from selftrain.config import Event, Experiment
from selftrain.data.intake_table import intake_path, read_intake
from selftrain.data.manifest import Manifest
from selftrain.data.sources.listing import Listing
from selftrain.data.store.dataset import open_dataset
from selftrain.errors import RunCutOffError
from selftrain.files.full_disk import full_disk_told
from selftrain.files.lease import Lease
from selftrain.files.locks import let_go, try_lock
from selftrain.files.workspace import Workspace
from selftrain.retraining.journal import Journal, journal_of, state_of
from selftrain.retraining.newness import rows_seen
from selftrain.retraining.news import Facts, event_of, events_of, facts_of
from selftrain.selflabel.rounds.record import RunRecord


@contextmanager
def retraining_run(
    e: Experiment, state: Callable[[Lease | None], AbstractContextManager[None]] | None = None
) -> Iterator[bool]:
    """Hold the retraining of this data set while the block runs; false, and a line in the journal, if another does.

    An error in the block is counted as a failure. Whoever finds the workspace busy arms one follow-up, however often
    that happens: the command that runs looks again when its run has ended well. `state` is entered by the one that
    holds it alone, by a lease where others may share it: it brings what the night before left, and keeps what this one
    leaves.
    """
    with lost_told(e):
        refuse_cut_off()
    workspace = open_dataset(e.place).workspace
    journal = journal_of(workspace, e.name)
    path = workspace.locks / f"{e.name}.retraining"
    lock = try_lock(path)
    if lock is None:
        journal.append("missed", reason="another retraining is running; it looks again when it has ended")
        yield False
        return
    try:
        lease = data_set_lease(path, "retraining")
        with alone_with(lease) as alone:
            if not alone:
                journal.append("missed", reason="another machine is at this data set; look again when it has ended")
                yield False
                return
            # The outer one tells of a state that cannot be brought; the inner one counts in the journal that was.
            bringing = state(lease) if state is not None else nullcontext()
            with told(e, "run"), bringing, told(e, "run"), pipeline_run(e.place, e.machine):
                check_command(e.notify)
                yield True
    finally:
        let_go(path, lock)


@contextmanager
def lost_told(e: Experiment) -> Iterator[None]:
    """Tell people that a run was lost with its pod. It does not count as a failure: the next run continues it."""
    try:
        yield
    except RunCutOffError as error:
        tell(e, event_of(error), {"experiment": e.name, "reason": error.message})
        raise


def is_busy(workspace: Workspace, dataset: str) -> bool:
    """Whether a retraining of the data set is running on this machine."""
    path = workspace.locks / f"{dataset}.retraining"
    if not path.exists():
        return False
    lock = try_lock(path)
    if lock is None:
        return True
    os.close(lock)
    return False


def owes_look(e: Experiment, run_id: str) -> bool:
    """Whether the run `run_id`, which has ended well, must be followed by one more look.

    It must if it held the retraining of the data set, and somebody asked meanwhile. A run that found the data set busy
    owes nothing: the one that was running does.
    """
    lines = journal_of(open_dataset(e.place).workspace, e.name).lines()
    return state_of(lines).owed and any(line.facts.get("run") == run_id for line in lines)


def look_again(e: Experiment, run_id: str) -> None:
    """After ZenML's own command: if a look is owed, run that command once more. Then it does not return."""
    if Path(sys.argv[0]).name == "zenml" and owes_look(e, run_id):
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *sys.argv])


@contextmanager
def told(e: Experiment, stage: Literal["look", "run"]) -> Iterator[None]:
    """Count an error of the block as a failure of this `stage`, once, and tell people.

    An interruption is not a failure. An error that was counted further inside is not counted again.
    """
    journal = journal_of(open_dataset(e.place).workspace, e.name)
    before = _failed(journal)
    try:
        with full_disk_told(journal.path.parent):
            yield
    except Exception as error:
        if _failed(journal) == before:
            _count(e, journal, stage, error)
        raise


def _failed(journal: Journal) -> int:
    return sum(line.kind == "failed" for line in journal.lines())


def _count(e: Experiment, journal: Journal, stage: str, error: Exception) -> None:
    facts: Facts = {"experiment": e.name, "reason": str(error)}
    tell(e, event_of(error), facts)
    with contextlib.suppress(OSError):  # a full disk must not hide what went wrong
        journal.append("failed", stage=stage, reason=str(error))
        state = state_of(journal.lines())
        if state.failures >= e.retrain.max_failures and not state.stopped:
            tell(e, "stopped", {**facts, "failures": state.failures})
            journal.append("stopped", failures=state.failures)


def tell(e: Experiment, event: Event, facts: Facts) -> None:
    """Tell people of `event`, as `notify:` says; a notice that cannot be delivered is recorded, and nothing more."""
    root = open_dataset(e.place).workspace.root
    notify(event, facts, settings=e.notify, record=root / "notices.jsonl")


def started(e: Experiment, reason: str, drift: str) -> None:
    """Write down that a due retraining begins, for `reason`, with what is known of `drift`, and tell people.

    `e` is the experiment as the retraining runs it.
    """
    from zenml.execution.pipeline.dynamic.run_context import DynamicPipelineRunContext

    run = str(DynamicPipelineRunContext.get().run.id)
    workspace = open_dataset(e.place).workspace
    journal_of(workspace, e.name).append(
        "started", run=run, reason=reason, drift=drift, from_version=e.retrain.from_version
    )
    events: tuple[Event, ...] = ("due", "started")
    for event in events:
        tell(e, event, {"experiment": e.name, "run": run, "reason": reason, "drift": drift})


def decided(e: Experiment, record: RunRecord, manifest: Manifest, listing: Listing) -> None:
    """Move the watermark to what a run with a verdict has seen, once, and tell people of it."""
    dataset = open_dataset(e.place)
    journal = journal_of(dataset.workspace, dataset.name)
    if any(line.kind == "decided" and line.facts.get("run") == record.run_id for line in journal.lines()):
        return
    intake = read_intake(intake_path(dataset.store.root))
    rows = rows_seen(intake, listing.table)
    journal.append(
        "decided",
        run=record.run_id,
        verdict=record.verdict.value if record.verdict else None,
        reason=record.promotion_reason,
        intake_rows=rows,
        last_image=intake["image_id"][rows - 1].as_py() if rows else None,
        dataset_version=record.dataset_version,
        manifest_digest=manifest.digest,
    )
    for event in events_of(record, auto_promote=e.registry.auto_promote):
        tell(e, event, facts_of(record))
