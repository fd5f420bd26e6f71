"""MLflow runs, one per pipeline run: begun, logged to and ended."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from selftrain.adapters.tracking.store import Tracking, first_line
from selftrain.errors import RegistryError

if TYPE_CHECKING:
    from mlflow.entities import Run
    from pydantic import BaseModel

    from selftrain.selflabel.rounds.history import Round

T = TypeVar("T")
RUN_TAG, ERROR_TAG = "selftrain.run_id", "selftrain.error"
VERSION_TAG, NAME_PARAM = "selftrain.registered_version", "registry.model_name"
RunStatus = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
PARAMS_A_BATCH, METRICS_A_BATCH = 100, 900  # MLflow refuses more than 100 and 1,000 (and 1,000 of all kinds)
LONGEST_VALUE = 6000  # characters of a param or tag


@dataclass(frozen=True)
class LoggedRun:
    """What one pipeline run leaves in MLflow. Logging the same again adds nothing.

    `config` becomes flattened params. `rounds` become metrics named `round_*`, with the round's index as step.
    """

    run_id: str
    name: str
    status: RunStatus = "FINISHED"
    config: BaseModel | None = None
    rounds: Sequence[Round] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    artifacts: Sequence[Path] = ()


def find_run(tracking: Tracking, run_id: str) -> str | None:
    """The MLflow run id of the pipeline run `run_id`, or None."""
    runs = _runs(tracking, run_id)
    return str(runs[0].info.run_id) if runs else None


def ensure_run(tracking: Tracking, run_id: str, name: str) -> str:
    """The MLflow run id of the pipeline run `run_id`; the run is made, with status RUNNING, if it is missing."""
    mlflow_id = find_run(tracking, run_id)
    if mlflow_id is not None:
        return mlflow_id
    run = tracking.client.create_run(tracking.experiment_id, run_name=name, tags={RUN_TAG: run_id})
    return str(run.info.run_id)


def log_run(tracking: Tracking, logged: LoggedRun) -> str:
    """Record `logged` and return the MLflow run id. A pipeline run is one MLflow run, however often it is logged.

    Raises RegistryError when MLflow refuses, as for a param that is logged again with another value.
    """
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.exceptions import MlflowException

    client = tracking.client
    mlflow_id = ensure_run(tracking, logged.run_id, logged.name)
    start = client.get_run(mlflow_id).info.start_time  # fixed, so that a metric logged again is the same row
    params = [Param(key, value[:LONGEST_VALUE]) for key, value in flat_params(logged.config)]
    tags = [RunTag(key, value[:LONGEST_VALUE]) for key, value in sorted(logged.tags.items())]
    points = [(key, value, 0) for key, value in sorted(logged.metrics.items())] + list(_round_points(logged.rounds))
    metrics = [Metric(key, value, start + step, step) for key, value, step in points]
    try:
        for part in _parts(params, PARAMS_A_BATCH):
            client.log_batch(mlflow_id, params=part)
        for part in _parts(tags, PARAMS_A_BATCH):
            client.log_batch(mlflow_id, tags=part)
        for part in _parts(metrics, METRICS_A_BATCH):
            client.log_batch(mlflow_id, metrics=part)
    except MlflowException as error:
        raise RegistryError(f"MLflow refused the record of run {logged.run_id}: {first_line(error)}") from error
    for path in logged.artifacts:
        if path.is_dir():
            client.log_artifacts(mlflow_id, str(path), path.name)
        else:
            client.log_artifact(mlflow_id, str(path))
    client.update_run(mlflow_id, status="RUNNING", name=logged.name)  # it may have been made under another name
    if logged.status != "RUNNING":
        client.set_terminated(mlflow_id, logged.status)
    return mlflow_id


def is_recorded(tracking: Tracking, *, model_name: str, version: int) -> bool:
    """Whether a finished run has recorded that its model is `version` of the model `model_name`."""
    where = (
        f"tags.`{VERSION_TAG}` = '{version}' and params.`{NAME_PARAM}` = '{model_name}' "
        "and attributes.status = 'FINISHED'"
    )
    return bool(tracking.client.search_runs([tracking.experiment_id], where, max_results=1))


def fail_run(tracking: Tracking, run_id: str, reason: str) -> None:
    """Mark the MLflow run of the pipeline run `run_id`, if there is one, as FAILED, with `reason` as a tag."""
    for run in _runs(tracking, run_id):
        tracking.client.set_tag(run.info.run_id, ERROR_TAG, reason[:LONGEST_VALUE])
        tracking.client.set_terminated(run.info.run_id, "FAILED")


def close_dead_runs(tracking: Tracking, run_ids: Iterable[str]) -> int:
    """Mark the MLflow runs that dead pipeline runs left open as KILLED; returns how many."""
    closed = 0
    for run_id in run_ids:
        for run in _runs(tracking, run_id):
            if run.info.status in ("RUNNING", "SCHEDULED"):
                tracking.client.set_terminated(run.info.run_id, "KILLED")
                closed += 1
    return closed


def flat_params(config: BaseModel | None) -> list[tuple[str, str]]:
    """`config` as sorted (dotted key, text) pairs; lists and empty sections stay JSON.

    >>> from selftrain.config import Quantile
    >>> flat_params(Quantile(start=0.25))
    [('kind', 'quantile'), ('start', '0.25'), ('step', '0.2')]
    """
    return sorted(_flat("", config.model_dump(mode="json"))) if config is not None else []


def numbers(values: BaseModel, prefix: str = "") -> dict[str, float]:
    """The fields of `values` that are single numbers, as metrics named `prefix` + field."""
    fields = values.model_dump()
    return {f"{prefix}{key}": float(value) for key, value in fields.items() if isinstance(value, int | float)}


def _flat(key: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _flat(f"{key}.{name}" if key else str(name), inner)
    else:
        yield key, value if isinstance(value, str) else json.dumps(value)


def _round_points(rounds: Sequence[Round]) -> Iterator[tuple[str, float, int]]:
    for one in rounds:
        values = numbers(one, "round_")
        values.pop("round_index", None)
        for key, value in sorted(values.items()):
            yield key, value, one.index


def _runs(tracking: Tracking, run_id: str) -> list[Run]:
    where = f"tags.`{RUN_TAG}` = '{run_id}'"
    return list(tracking.client.search_runs([tracking.experiment_id], where, order_by=["attributes.start_time ASC"]))


def _parts(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
