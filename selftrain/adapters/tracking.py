"""Tracking: where runs are recorded in MLflow, one MLflow run a pipeline run, and how often test was looked at."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from selftrain.adapters.moved_store import follow_artifacts
from selftrain.adapters.process.console import logs_to_stderr
from selftrain.errors import RegistryError
from selftrain.files.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from pydantic import BaseModel

    from selftrain.selflabel.rounds.history import Round

T = TypeVar("T")
EXPERIMENT = "selftrain"
RUN_TAG = "selftrain.run_id"
ERROR_TAG = "selftrain.error"
VERSION_TAG, NAME_PARAM = "selftrain.registered_version", "registry.model_name"
LOOK_TAG = "selftrain.test_look."
RunStatus = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
PARAMS_A_BATCH, METRICS_A_BATCH = 100, 900  # MLflow refuses more than 100 and 1,000 (and 1,000 of all kinds)
LONGEST_VALUE = 6000  # characters of a param or tag


@dataclass(frozen=True)
class Tracking:
    """An open MLflow store: its client, its address and the experiment that runs go to."""

    client: MlflowClient
    uri: str
    experiment: str
    experiment_id: str


@dataclass(frozen=True)
class LoggedRun:
    """What one pipeline run leaves in MLflow; logging it again, or more of it later, adds nothing twice.

    `config` becomes flattened params, `rounds` metrics named `round_*` with the round's index as step.
    """

    run_id: str
    name: str
    status: RunStatus = "FINISHED"
    config: BaseModel | None = None
    rounds: Sequence[Round] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    artifacts: Sequence[Path] = ()


def stack_tracker_uri() -> str | None:
    """The address of the active ZenML stack's MLflow tracker, its credentials put in the environment; None: no such."""
    from zenml.client import Client
    from zenml.enums import StackComponentType

    logs_to_stderr()
    if StackComponentType.EXPERIMENT_TRACKER not in Client().active_stack_model.components:
        return None
    tracker = Client().active_stack.experiment_tracker
    if tracker is None or tracker.flavor != "mlflow":
        return None
    tracker.configure_mlflow()
    return str(tracker.get_tracking_uri())


def open_tracking(
    workspace_root: Path, *, experiment: str = EXPERIMENT, stack: Callable[[], str | None] = stack_tracker_uri
) -> Tracking:
    """The MLflow store to use: `MLFLOW_TRACKING_URI`, else the active stack's tracker, else one in the workspace.

    The embedded one is SQLite, with its artifacts in a folder beside it, wherever the workspace was moved. Raises
    RegistryError when the store cannot be reached.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or stack()
    artifacts: str | None = None
    if not uri:
        workspace = Workspace(workspace_root.resolve()).ensure()
        uri, artifacts = f"sqlite:///{workspace.mlflow_database}", workspace.mlflow_artifacts.as_uri()
        follow_artifacts(workspace.mlflow_database, experiment=experiment, artifacts=artifacts)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        with quiet():
            client = MlflowClient(tracking_uri=uri)
            experiment_id = _experiment(client, experiment, artifacts)
    except MlflowException as error:
        raise RegistryError(
            f"the MLflow store at {uri} does not answer ({_one_line(error)}); "
            "start its server, or unset MLFLOW_TRACKING_URI to use the store in the workspace"
        ) from error
    return Tracking(client, uri, experiment, experiment_id)


def open_existing(workspace_root: Path) -> Tracking | None:
    """The store that `open_tracking` opens, or None where there is none yet; nothing is created in the workspace."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or stack_tracker_uri()
    if not uri and not Workspace(workspace_root).mlflow_database.exists():
        return None
    return open_tracking(workspace_root, stack=lambda: uri)


def _experiment(client: MlflowClient, name: str, artifacts: str | None) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=artifacts))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)  # another process was faster
    if found is None:
        raise RegistryError(f"MLflow neither has nor creates the experiment {name!r}; check the store")
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


@contextmanager
def quiet() -> Iterator[None]:
    """Hide what MLflow says of its own work: database set-up, progress bars of copies, warnings about its own code."""
    from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR as BARS

    loggers = [logging.getLogger(name) for name in ("alembic", "mlflow.store.db.utils", "mlflow.pyfunc")]
    levels = [logger.level for logger in loggers]
    bars = BARS.get_raw()
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    BARS.set(False)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"mlflow\.")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars is None:
            BARS.unset()
        else:
            BARS.set(bars)


def find_run(tracking: Tracking, run_id: str) -> str | None:
    """The MLflow run id of the pipeline run `run_id`, or None."""
    found = _runs(tracking, run_id)
    return str(found[0].info.run_id) if found else None


def ensure_run(tracking: Tracking, run_id: str, name: str) -> str:
    """The MLflow run id of the pipeline run `run_id`; the run is made, with status RUNNING, if there is none."""
    found = find_run(tracking, run_id)
    if found is not None:
        return found
    run = tracking.client.create_run(tracking.experiment_id, run_name=name, tags={RUN_TAG: run_id})
    return str(run.info.run_id)


def log_run(tracking: Tracking, logged: LoggedRun) -> str:
    """Record `logged` and return the MLflow run id; the same pipeline run is one MLflow run however often it is logged.

    Raises RegistryError when a param is logged again with another value.
    """
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.exceptions import MlflowException

    client = tracking.client
    mlflow_id = ensure_run(tracking, logged.run_id, logged.name)
    start = client.get_run(mlflow_id).info.start_time  # a fixed time: the same metric again is the same row
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
        raise RegistryError(f"MLflow refused the record of run {logged.run_id}: {_one_line(error)}") from error
    for path in logged.artifacts:
        if path.is_dir():
            client.log_artifacts(mlflow_id, str(path), path.name)
        else:
            client.log_artifact(mlflow_id, str(path))
    client.update_run(mlflow_id, status="RUNNING", name=logged.name)  # who opened it may not have known the name
    if logged.status != "RUNNING":
        client.set_terminated(mlflow_id, logged.status)
    return mlflow_id


def is_recorded(tracking: Tracking, *, model_name: str, version: int) -> bool:
    """Whether a run that came to its end has recorded that its model is `version` of the model `model_name`."""
    where = (
        f"tags.`{VERSION_TAG}` = '{version}' and params.`{NAME_PARAM}` = '{model_name}' "
        "and attributes.status = 'FINISHED'"
    )
    return bool(tracking.client.search_runs([tracking.experiment_id], where, max_results=1))


def fail_run(tracking: Tracking, run_id: str, reason: str) -> None:
    """End as FAILED the MLflow run of the pipeline run `run_id`, if it was opened, with `reason` as a tag."""
    for run in _runs(tracking, run_id):
        tracking.client.set_tag(run.info.run_id, ERROR_TAG, reason[:LONGEST_VALUE])
        tracking.client.set_terminated(run.info.run_id, "FAILED")


def close_dead_runs(tracking: Tracking, run_ids: Iterable[str]) -> int:
    """End as KILLED the MLflow runs that dead pipeline runs left open; returns how many."""
    closed = 0
    for run_id in run_ids:
        for run in _runs(tracking, run_id):
            if run.info.status in ("RUNNING", "SCHEDULED"):
                tracking.client.set_terminated(run.info.run_id, "KILLED")
                closed += 1
    return closed


def count_test_look(tracking: Tracking, *, test_digest: str, run_id: str, model_digest: str) -> int:
    """Record that `run_id` scored the model `model_digest` on the test set `test_digest`; returns all looks at it.

    A look is a model's: the same model on the same images tells nothing new, so a step that was killed and repeated,
    or a run that the cache answered, counts once. Looks are only ever added.
    """
    key = f"{LOOK_TAG}{_short(test_digest)}.{_short(model_digest)}"
    experiment = tracking.client.get_experiment(tracking.experiment_id)
    if key not in experiment.tags:
        look = {
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "test": test_digest,
            "run": run_id,
            "model": model_digest,
        }
        tracking.client.set_experiment_tag(tracking.experiment_id, key, json.dumps(look))
    return looks_at_test(tracking, test_digest)


def looks_at_test(tracking: Tracking, test_digest: str) -> int:
    """How many models any experiment in this store has scored on the test set `test_digest`."""
    from mlflow.entities import ViewType

    prefix = f"{LOOK_TAG}{_short(test_digest)}."
    looks: set[str] = set()
    token: str | None = None
    while True:
        page = tracking.client.search_experiments(view_type=ViewType.ALL, page_token=token)
        looks |= {key for experiment in page for key in experiment.tags if key.startswith(prefix)}
        token = page.token
        if not token:
            return len(looks)


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
    found = tracking.client.search_runs([tracking.experiment_id], where, order_by=["attributes.start_time ASC"])
    return list(found)


def _parts(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _one_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
