"""The life of a run: its set-up, its lock, the end of dead runs, and the run's key."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from selftrain.adapters.process import code_digest
from selftrain.adapters.process.result_key import result_key
from selftrain.adapters.process.settings import prepare_process
from selftrain.adapters.runs import process_lock, run_lock
from selftrain.adapters.runs.continuing import refuse_cut_off
from selftrain.adapters.runs.records import workspace_of
from selftrain.adapters.tracking.runs import close_dead_runs, fail_run
from selftrain.adapters.tracking.store import first_line, open_tracking
from selftrain.config import Experiment, Machine, Place
from selftrain.data.store import decoded_files, feature_files
from selftrain.data.store.dataset import open_dataset
from selftrain.files.full_disk import full_disk_told
from selftrain.files.workspace import Workspace
from selftrain.learn.training.checkpoint import prune


@contextmanager
def pipeline_run(place: Place, machine: Machine) -> Iterator[None]:
    """Clean up the workspace and end dead runs, then hold this run's lock while the pipeline's body runs.

    Raises RunCutOffError where a step of this run was lost with the pod that ran it.
    """
    from zenml.execution.pipeline.dynamic.run_context import DynamicPipelineRunContext

    refuse_cut_off()
    run_id = str(DynamicPipelineRunContext.get().run.id)
    workspace = clean_up(place, machine)
    with run_lock.hold(workspace.locks, run_id) as lock:
        try:
            with full_disk_told(workspace.root):
                yield
        except Exception as error:
            reason = str(error)
            lock.owed = not _told(lambda: fail_run(open_tracking(workspace.root), run_id, reason))
            raise
        except BaseException:  # an interrupted run must not leave its MLflow run open
            lock.owed = not _told(lambda: close_dead_runs(open_tracking(workspace.root), [run_id]))
            raise


def clean_up(place: Place, machine: Machine) -> Workspace:
    """Prepare the process, remove what earlier runs left and no run needs, and end dead runs; returns the workspace."""
    prepare_process()
    workspace = open_dataset(place, machine).workspace
    prune(workspace.checkpoints)
    decoded_files.prune(workspace.decoded_cache, budget_mb=machine.decoded_mb)
    feature_files.prune(workspace.features_cache, budget_bytes=machine.features_mb * 1_000_000)
    end_dead_runs(workspace)
    return workspace


def run_failed(error: BaseException) -> None:
    """Mark this run as failed in MLflow. ZenML calls it in a step of an unrolled pipeline that raised `error`."""
    from zenml import get_step_context

    run_id = str(get_step_context().pipeline_run.id)
    _told(lambda: fail_run(open_tracking(workspace_of(run_id)), run_id, str(error)))


def _told(tell: Callable[[], object]) -> bool:
    """Whether MLflow could be told. A server that is down or a full disk must not hide why the run failed."""
    try:
        tell()
    except Exception as error:  # whatever MLflow and its stores raise
        reason = first_line(error) if str(error).strip() else type(error).__name__
        logging.getLogger(__name__).warning("MLflow is not told yet how the run ended: %s", reason)
        return False
    return True


def end_dead_runs(workspace: Workspace) -> None:
    """Mark runs whose process died as failed. Only if a lock file shows that there are any, ZenML is loaded."""
    dead = run_lock.end_dead_runs(workspace.locks)
    process_lock.end_orphaned_runs()
    if dead:
        close_dead_runs(open_tracking(workspace.root), dead)
        run_lock.forget(workspace.locks, dead)


def run_key(experiment: Experiment, manifest_digest: str, model_digest: str) -> str:
    """sha256 (hex) of configuration, data, code and model. Each key is registered once."""
    return result_key(experiment, manifest_digest, code_digest.everything(), model_digest)
