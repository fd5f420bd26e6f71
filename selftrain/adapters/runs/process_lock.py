"""Process locks: they show which process started a run, by a name that the run carries from its start.

A run's own lock (`run_lock`) is held while the pipeline's function runs. A process may be killed before that, or after
it and before ZenML has written the run's end. Its run then looks alive and has no lock. The process's lock shows that
it is dead.
"""

from __future__ import annotations

import functools
import secrets
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from selftrain.adapters.process.settings import zenml_folder
from selftrain.adapters.runs import run_lock
from selftrain.adapters.runs.records import PIPELINES, has_runs, is_known

if TYPE_CHECKING:
    from zenml.models import PipelineRunResponse

FIELD = "selftrain_process"


def process_tag() -> dict[str, str]:
    """What goes into a pipeline's `extra`: the name of this process, whose lock is held until the process dies.

    Empty where ZenML's folder cannot hold a lock. Dead runs are then only found by their own locks.
    """
    try:
        return {FIELD: _name()}
    except OSError:
        return {}


def end_orphaned_runs() -> list[str]:
    """Mark unfinished runs of this machine's dead processes as failed in ZenML's store; returns their ids.

    Only runs on the local orchestrator are ended. On any other, a run may outlive the process that started it.
    """
    names = _dead_names()
    orphans = _unfinished_runs_of(names) if names else []
    for run_id in orphans:
        run_lock.end(run_id)
    run_lock.forget(_folder(), names)
    return orphans


@functools.cache
def _name() -> str:
    """The name of this process: the machine's, and a random one. Takes the lock of that name."""
    name = f"{socket.gethostname()}.{secrets.token_hex(8)}"
    run_lock.take(_folder(), name)
    return name


def _dead_names() -> set[str]:
    """Names of this machine's dead processes. Locks say nothing about another machine's, even on a shared disk."""
    return {name for name in run_lock.dead_runs(_folder()) if name.rpartition(".")[0] == socket.gethostname()}


def _unfinished_runs_of(names: set[str]) -> list[str]:
    from zenml.client import Client
    from zenml.enums import ExecutionStatus as Status
    from zenml.utils.pagination_utils import depaginate

    if not has_runs():
        return []
    states = ",".join(f'"{status.value}"' for status in (Status.INITIALIZING, Status.PROVISIONING, Status.RUNNING))
    running = functools.partial(Client().list_pipeline_runs, status=f"oneof:[{states}]", hydrate=True)
    runs = [run for pipeline in filter(is_known, PIPELINES) for run in depaginate(running, pipeline=pipeline)]
    return sorted(str(run.id) for run in runs if run.config.extra.get(FIELD) in names and _ran_in_process(run))


def _folder() -> Path:
    return zenml_folder() / "selftrain" / "processes"


def _ran_in_process(run: PipelineRunResponse) -> bool:
    from zenml.enums import StackComponentType

    components = run.stack.components if run.stack is not None else {}
    orchestrators = components.get(StackComponentType.ORCHESTRATOR, [])
    return [component.flavor_name for component in orchestrators] == ["local"]
