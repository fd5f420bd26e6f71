"""Run locks: one file lock per pipeline run shows whether it is alive; dead runs are marked as failed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from selftrain.errors import BusyError
from selftrain.files.locks import is_abandoned, let_go, locked, take_new

CLEANING = "cleaning.lock"  # beside the folder of the run locks


class Lock:
    """The lock of a run. It is `owed` where a store could not be told how the run ended: then its file stays."""

    owed = False


@contextmanager
def hold(folder: Path, run_id: str) -> Iterator[Lock]:
    """Hold the lock of `run_id` in `folder` while the block runs; the system frees it if the process dies.

    The file of a lock that is `owed` stays. So the next start ends the run in every store, as it does for a dead one.
    """
    held = Lock()
    with locked(folder.with_name(CLEANING)):  # no run begins while a workspace is cleaned
        lock = take(folder, run_id)
    try:
        yield held
    finally:
        os.close(lock) if held.owed else let_go(_path(folder, run_id), lock)


@contextmanager
def no_run(folder: Path) -> Iterator[None]:
    """Keep runs from beginning while the block runs. Raises BusyError where one is alive.

    It waits for another such block to end.
    """
    with locked(folder.with_name(CLEANING)):
        alive = [path.stem for path in folder.glob("*.lock") if path.exists() and not is_abandoned(path)]
        if alive:
            raise BusyError(
                f"run {', '.join(sorted(alive))} is alive and may need what would be removed; wait until it has "
                "ended, or stop it, then repeat the command"
            )
        yield


def take(folder: Path, name: str) -> int:
    """Take the lock `name` in `folder`. It is held until the returned descriptor is closed or the process dies.

    A forked process inherits the lock, which is then held until both have died.
    """
    return take_new(_path(folder, name))


def dead_runs(folder: Path) -> list[str]:
    """Ids of the runs whose lock file exists but is not held, sorted."""
    return sorted(path.stem for path in folder.glob("*.lock") if is_abandoned(path))


def end_dead_runs(folder: Path) -> list[str]:
    """Mark the runs of dead processes as failed in ZenML's store; returns their ids, whose locks stay.

    A run of another store is left out, and must be ended from there. Runs of another machine are not found: a lock says
    nothing about a process elsewhere.
    """
    return [run_id for run_id in dead_runs(folder) if end(run_id)]


def forget(folder: Path, run_ids: Iterable[str]) -> None:
    """Remove the locks of runs that are marked as ended in every store."""
    for run_id in run_ids:
        _path(folder, run_id).unlink(missing_ok=True)


def end(run_id: str, *, reason: str = "its process is gone") -> bool:
    """Mark a dead run and its unfinished steps as failed, for this `reason`; False where ZenML's store lacks it."""
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
    update = PipelineRunUpdate(status=ExecutionStatus.FAILED, status_reason=reason, end_time=now)
    store.update_run(UUID(run_id), update)
    return True


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.lock"
