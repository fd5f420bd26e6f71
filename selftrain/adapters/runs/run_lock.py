"""Run locks: which pipeline runs are alive, by a file lock that each process holds, and an end for the dead ones."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO
from uuid import UUID


@contextmanager
def hold(folder: Path, run_id: str) -> Iterator[None]:
    """Hold the lock of `run_id` in `folder` while the block runs; the system lets go of it if the process dies."""
    lock = take(folder, run_id)
    try:
        yield
    finally:
        (folder / f"{run_id}.lock").unlink(missing_ok=True)
        os.close(lock)


def take(folder: Path, name: str) -> int:
    """Take the lock `name` in `folder`; it is held until the returned file descriptor is closed, or the process dead.

    A forked process inherits it: then both must have died.
    """
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{name}.part"
    lock = os.open(part, os.O_WRONLY | os.O_CREAT, 0o644)
    fcntl.flock(lock, fcntl.LOCK_EX)
    part.rename(folder / f"{name}.lock")  # locked before anyone can see it
    return lock


def dead_runs(folder: Path) -> list[str]:
    """Ids of the runs whose lock file is there but held by nobody, sorted."""
    return sorted(path.stem for path in folder.glob("*.lock") if _is_free(path))


def _is_free(path: Path) -> bool:
    try:
        with path.open() as handle:
            return _lockable(handle)
    except FileNotFoundError:  # its run ended between the listing and now
        return False


def _lockable(handle: IO[str]) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def end_dead_runs(folder: Path) -> list[str]:
    """Mark the runs of dead processes as failed in ZenML's store; returns their ids, whose locks are still there.

    A run that this store does not hold is left out: a run with its own store is to end it. One machine only: a lock
    says nothing of a process elsewhere.
    """
    return [run_id for run_id in dead_runs(folder) if end(run_id)]


def forget(folder: Path, run_ids: Iterable[str]) -> None:
    """Remove the locks of runs that were ended everywhere."""
    for run_id in run_ids:
        (folder / f"{run_id}.lock").unlink(missing_ok=True)


def end(run_id: str) -> bool:
    """Mark a run whose process is gone, and its unfinished steps, as failed in ZenML's store; False: it has no such."""
    from zenml.client import Client
    from zenml.enums import ExecutionStatus
    from zenml.models import PipelineRunUpdate, StepRunUpdate

    store = Client().zen_store
    try:
        run = Client().get_pipeline_run(run_id)
    except KeyError:  # it is in another store, or was deleted
        return False
    if run.status.is_finished:
        return True
    now = datetime.now(UTC).replace(tzinfo=None)
    for step in run.steps.values():
        if not step.status.is_finished:
            store.update_run_step(step.id, StepRunUpdate(status=ExecutionStatus.FAILED, end_time=now))
    update = PipelineRunUpdate(status=ExecutionStatus.FAILED, status_reason="its process is gone", end_time=now)
    store.update_run(UUID(run_id), update)
    return True
