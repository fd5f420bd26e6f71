"""Run records: what ZenML's store knows of each run, finished or not, as a RunRecord."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from pydantic import ValidationError

from selftrain.adapters.process.console import logs_to_stderr
from selftrain.adapters.process.zenml_database import answered
from selftrain.adapters.process.zenml_runs import (
    StoredRun,
    StoredStep,
    StoredValue,
    newest_runs,
    pipelines_are_known,
    run_of,
)
from selftrain.config import Experiment
from selftrain.errors import SourceError
from selftrain.selflabel.rounds.history import Round
from selftrain.selflabel.rounds.record import RunRecord

if TYPE_CHECKING:
    from zenml.models import ArtifactVersionResponse, PipelineRunResponse, StepRunResponse

RETRAINING = "retraining_pipeline"
UNROLLED = "unrolled_pipeline"
PIPELINES = ("ssl_pipeline", RETRAINING, UNROLLED)
NOTHING = "builtins.NoneType"  # the class of None, as ZenML names it
EARLIER = "made by an earlier version of selftrain"
T = TypeVar("T")


class _EarlierVersionError(Exception):
    """A value of a run is stored under a class that has another name now."""


def latest_runs(count: int) -> list[RunRecord]:
    """The records of the newest `count` runs, newest first."""
    stored = answered(lambda database: [_record_of(run) for run in newest_runs(database, PIPELINES, count)])
    return _asked_runs(count) if stored is None else stored


def _asked_runs(count: int) -> list[RunRecord]:
    """`latest_runs`, as ZenML itself answers."""
    runs = heapq.merge(*map(_runs_of, PIPELINES), key=lambda run: run.created, reverse=True)
    return [record_of(run) for run in islice(runs, count)]


def _runs_of(pipeline: str) -> Iterator[PipelineRunResponse]:
    """All runs of a pipeline, newest first, fetched as they are needed; without retrainings that were not due."""
    from zenml.client import Client
    from zenml.constants import PAGE_SIZE_MAXIMUM
    from zenml.utils.pagination_utils import depaginate_stream

    if is_known(pipeline):
        size = min(20, PAGE_SIZE_MAXIMUM)
        runs = Client().list_pipeline_runs
        for run in depaginate_stream(runs, pipeline=pipeline, size=size, sort_by="desc:created", hydrate=True):
            if pipeline != RETRAINING or run.status.value != "completed" or "record" in run.steps:
                yield run


def find_record(run_id: str | None) -> RunRecord:
    """The record of the run with the id, name or prefix `run_id`; None: the latest. Raises SourceError."""
    if run_id is None:
        latest = latest_runs(1)
        if not latest:
            raise SourceError("no run has been started yet; start one with `selftrain run`")
        return latest[0]
    stored = answered(lambda database: _record_of(run_of(database, UUID(run_id))))
    return _asked_record(run_id) if stored is None else stored


def _asked_record(run_id: str) -> RunRecord:
    """The record of the run `run_id`, as ZenML itself answers."""
    from zenml.client import Client

    logs_to_stderr()
    try:
        return record_of(Client().get_pipeline_run(run_id))
    except KeyError as error:
        raise SourceError(f"no run is called {run_id!r}; `selftrain runs` lists them") from error


def record_of(run: PipelineRunResponse) -> RunRecord:
    """The record that a finished run left; for one that failed or still runs, what its steps left so far.

    A run whose values this version cannot read has no rounds, and EARLIER as its error.
    """
    return _record_of(_stored(run))


def _record_of(run: StoredRun) -> RunRecord:
    try:
        return _finished_record(run.steps) or _record(run, rounds=_rounds(run.steps), error=run.error)
    except (_EarlierVersionError, ModuleNotFoundError, ValidationError):
        return _record(run, rounds=[], error=EARLIER)


def _stored(run: PipelineRunResponse) -> StoredRun:
    """`run` as ZenML answered it, with the steps that its record comes from."""
    steps = {name: step for name, step in run.steps.items() if name == "record" or name.startswith("log_round")}
    return StoredRun(
        id=str(run.id),
        status=run.status.value,
        parameters=run.config.parameters or {},
        error=run.get_body().status_reason or (run.exception_info.message if run.exception_info else None),
        steps=tuple(_stored_step(name, step) for name, step in steps.items()),
    )


def _stored_step(name: str, step: StepRunResponse) -> StoredStep:
    return StoredStep(
        name=name,
        succeeded=step.status.is_successful,
        start=step.start_time,
        parameters=step.config.parameters,
        inputs={key: tuple(map(_stored_value, values or ())) for key, values in step.inputs.items()},
        outputs={key: tuple(map(_stored_value, values or ())) for key, values in step.outputs.items()},
    )


def _stored_value(artifact: ArtifactVersionResponse) -> StoredValue:
    return StoredValue(artifact.data_type.import_path, lambda _: artifact.load())


def _finished_record(steps: Iterable[StoredStep]) -> RunRecord | None:
    """What the step `record` left; None where it has not ended well."""
    left = [step for step in steps if step.name == "record" and step.succeeded]
    return _load(left[-1].outputs["record"][0], RunRecord) if left else None


def _record(run: StoredRun, *, rounds: list[Round], error: str | None) -> RunRecord:
    return RunRecord(
        run_id=run.id,
        name=str(_parameter(run.parameters, "name", "?")),
        title=str(_parameter(run.parameters, "title", "")),
        status=run.status,
        rounds=tuple(rounds),
        metric="map" if _parameter(run.parameters, "task", "classification") == "detection" else "accuracy",
        validated_by="ap50" if _gate_metric(run.parameters) == "ap50" else None,
        error=error,
    )


def _gate_metric(parameters: Mapping[str, Any]) -> str:
    gate = _parameter(parameters, "gate", "")
    return str(gate.get("metric", "") if isinstance(gate, dict) else getattr(gate, "metric", ""))


def _rounds(steps: Iterable[StoredStep]) -> list[Round]:
    """The rounds that were passed to `log_round` steps, in order."""
    logged = [step for step in steps if step.name.startswith("log_round") and step.start]
    rounds = []
    for step in sorted(logged, key=lambda step: step.start):
        value = step.parameters.get("finished")
        if value is not None:
            rounds.append(Round.model_validate(value))
        else:
            given = step.inputs.get("finished", ())[:1]
            rounds += [_load(each, Round) for each in given if each.import_path != NOTHING]
    return rounds


def _load(value: StoredValue, kind: type[T]) -> T:
    """The value that ZenML stored with the path of its class.

    Raises _EarlierVersionError where that is not the path of `kind`; ZenML would log an error of its own.
    """
    if value.import_path != f"{kind.__module__}.{kind.__qualname__}":
        raise _EarlierVersionError
    found: T = value.read(kind)
    return found


def workspace_of(run_id: str) -> Path:
    """The workspace of the run with the id `run_id`, as its configuration names it."""
    stored = answered(lambda database: run_of(database, UUID(run_id)).parameters)
    return Path(
        str(_parameter(_asked_parameters(run_id) if stored is None else stored, "workspace", Experiment().workspace))
    )


def _asked_parameters(run_id: str) -> Mapping[str, Any]:
    from zenml.client import Client

    return Client().get_pipeline_run(run_id).config.parameters or {}


def _parameter(parameters: Mapping[str, Any], key: str, default: str) -> object:
    experiment = parameters.get("experiment", {})
    return experiment.get(key, default) if isinstance(experiment, dict) else getattr(experiment, key, default)


def has_runs() -> bool:
    """Whether ZenML's store has ever run one of our pipelines."""
    known = answered(lambda database: pipelines_are_known(database, PIPELINES))
    if known is not None:
        return known
    return any(map(is_known, PIPELINES))


def is_known(pipeline: str) -> bool:
    """Whether ZenML's store has ever run this pipeline, as ZenML itself answers."""
    from zenml.client import Client

    logs_to_stderr()
    try:
        Client().get_pipeline(pipeline)
    except KeyError:
        return False
    return True
