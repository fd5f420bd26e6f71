"""Two real runs of a pipeline that is called as ours, and what ZenML and its database say of them, as JSON."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Annotated

from zenml import get_step_context, pipeline, step
from zenml.utils import source_utils

from selftrain.adapters.process.zenml_database import answered
from selftrain.adapters.runs.records import find_record, has_runs, latest_runs, workspace_of
from selftrain.adapters.tracking.store import stack_tracker_uri
from selftrain.config import Experiment
from selftrain.selflabel.rounds.history import Round, Verdict
from selftrain.selflabel.rounds.record import RunRecord

FIRST = Round(
    index=0, backbone="small", labeled=10, validation_accuracy=0.5, validation_metric=0.5, seconds=1, model_digest="m"
)


@step(enable_cache=False)
def made() -> Annotated[Round, "round"]:
    """A round that the next step takes as an artifact."""
    return FIRST.model_copy(update={"index": 1})


@step(enable_cache=False)
def log_round(finished: Round) -> None:
    """A round, logged."""


@step(enable_cache=False)
def record(experiment: Experiment) -> Annotated[RunRecord, "record"]:
    """The run's record."""
    run_id = str(get_step_context().pipeline_run.id)
    return RunRecord(run_id=run_id, name=experiment.name, status="completed", verdict=Verdict.PASSED, rounds=(FIRST,))


@pipeline(dynamic=True)
def ssl_pipeline(experiment: Experiment = Experiment(), ends: bool = True) -> None:  # noqa: B008 - zenml reads it
    """Two rounds, then a record or an error."""
    log_round(FIRST)
    log_round(made())
    if not ends:
        raise ValueError("the labels are gone")
    record(experiment)


def facts() -> dict[str, object]:
    """What the commands ask for."""
    runs = latest_runs(10)
    return {
        "runs": [run.model_dump(mode="json") for run in runs],
        "newest": [run.run_id for run in latest_runs(1)],
        "each": [find_record(run.run_id).model_dump(mode="json") for run in runs],
        "workspaces": [str(workspace_of(run.run_id)) for run in runs],
        "has_runs": has_runs(),
        "tracker": stack_tracker_uri(),
    }


if __name__ == "__main__":
    source_utils.set_custom_source_root(str(Path(__file__).parents[3]))
    before = has_runs()
    ssl_pipeline(Experiment(name="good"))
    with contextlib.suppress(ValueError):
        ssl_pipeline(Experiment(name="bad", workspace="elsewhere"), ends=False)
    kinds = answered(lambda database: sorted(database.component_kinds()))
    read = facts()
    os.environ["ZENML_ACTIVE_STACK_NAME"] = "as it is"  # not one of the variables that the database's reader knows
    asked = {"kinds": answered(lambda database: 1), **facts()}
    json.dump({"before": before, "kinds": kinds, "read": read, "asked": asked}, sys.stdout)
