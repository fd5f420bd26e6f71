"""Runs: what is done around a pipeline's steps - set-up, the lock, an end for dead runs, the run's key."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from selftrain.adapters.process import code_digest
from selftrain.adapters.process.settings import prepare_process
from selftrain.adapters.runs import process_lock, run_lock
from selftrain.adapters.tracking.runs import close_dead_runs, fail_run
from selftrain.adapters.tracking.store import open_tracking
from selftrain.config import Experiment, Machine, Place
from selftrain.data.store import decoded_files
from selftrain.data.store.dataset import open_dataset
from selftrain.learn.training.checkpoint import prune

UNSEEN = {"title", "workspace", "machine"}  # change where and how, not what


@contextmanager
def pipeline_run(place: Place, machine: Machine) -> Iterator[None]:
    """Around the body of a pipeline: tidy the workspace, end runs of dead processes, hold this run's lock."""
    from zenml.execution.pipeline.dynamic.run_context import DynamicPipelineRunContext

    prepare_process()
    run = DynamicPipelineRunContext.get().run
    workspace = open_dataset(place).workspace
    prune(workspace.checkpoints)
    decoded_files.prune(workspace.decoded_cache, budget_mb=machine.decoded_mb)
    dead = run_lock.end_dead_runs(workspace.locks)
    process_lock.end_orphaned_runs()
    if dead:
        close_dead_runs(open_tracking(workspace.root), dead)
        run_lock.forget(workspace.locks, dead)
    with run_lock.hold(workspace.locks, str(run.id)):
        try:
            yield
        except Exception as error:
            fail_run(open_tracking(workspace.root), str(run.id), str(error))
            raise
        except BaseException:  # interrupted too: its MLflow run must not stay open
            close_dead_runs(open_tracking(workspace.root), [str(run.id)])
            raise


def run_key(experiment: Experiment, manifest_digest: str, model_digest: str) -> str:
    """sha256 (hex) of configuration, data, code and model: what is registered once."""
    settings = experiment.model_dump_json(exclude=UNSEEN)
    text = "\n".join([settings, manifest_digest, code_digest.everything(), model_digest])
    return hashlib.sha256(text.encode()).hexdigest()
