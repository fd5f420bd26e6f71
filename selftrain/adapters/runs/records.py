"""Run records: what ZenML's store knows of each run, finished or not, as a RunRecord."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from selftrain.adapters.process.console import logs_to_stderr
from selftrain.config import Experiment
from selftrain.errors import SourceError
from selftrain.selflabel.rounds.history import Round
from selftrain.selflabel.rounds.record import RunRecord

if TYPE_CHECKING:
    from zenml.models import ArtifactVersionResponse, PipelineRunResponse, StepRunResponse

PIPELINE = "ssl_pipeline"
EARLIER = "made by an earlier version of selftrain"
T = TypeVar("T")


class _EarlierVersionError(Exception):
    """A value of a run is stored under a class that has another name now."""


def latest_runs(count: int) -> list[RunRecord]:
    """The records of the newest `count` runs, newest first."""
    from zenml.client import Client
    from zenml.constants import PAGE_SIZE_MAXIMUM
    from zenml.utils.pagination_utils import depaginate_stream

    if not has_runs():
        return []
    runs = depaginate_stream(
        Client().list_pipeline_runs,
        pipeline=PIPELINE,
        size=max(1, min(count, PAGE_SIZE_MAXIMUM)),
        sort_by="desc:created",
        hydrate=True,
    )
    return [record_of(run) for run in islice(runs, count)]


def find_record(run_id: str | None) -> RunRecord:
    """The record of the run with the id, name or prefix `run_id`; None: the latest. Raises SourceError."""
    from zenml.client import Client

    logs_to_stderr()
    if run_id is None:
        latest = latest_runs(1)
        if not latest:
            raise SourceError("no run has been started yet; start one with `selftrain run`")
        return latest[0]
    try:
        return record_of(Client().get_pipeline_run(run_id))
    except KeyError as error:
        raise SourceError(f"no run is called {run_id!r}; `selftrain runs` lists them") from error


def record_of(run: PipelineRunResponse) -> RunRecord:
    """The record that a finished run left; for one that failed or still runs, what its steps left so far.

    A run whose values this version cannot read has no rounds, and EARLIER as its error.
    """
    try:
        return _finished_record(run.steps) or _record(run, rounds=_rounds(run.steps), error=_error_of(run))
    except (_EarlierVersionError, ModuleNotFoundError, ValidationError):
        return _record(run, rounds=[], error=EARLIER)


def _finished_record(steps: dict[str, StepRunResponse]) -> RunRecord | None:
    """What the step `record` left; None where it has not ended well."""
    if "record" not in steps or not steps["record"].status.is_successful:
        return None
    return _load(steps["record"].outputs["record"][0], RunRecord)


def _record(run: PipelineRunResponse, *, rounds: list[Round], error: str | None) -> RunRecord:
    return RunRecord(
        run_id=str(run.id),
        name=str(_parameter(run, "name", "?")),
        title=str(_parameter(run, "title", "")),
        status=run.status.value,
        rounds=tuple(rounds),
        error=error,
    )


def _error_of(run: PipelineRunResponse) -> str | None:
    return run.get_body().status_reason or (run.exception_info.message if run.exception_info else None)


def _rounds(steps: dict[str, StepRunResponse]) -> list[Round]:
    """The rounds that were passed to `log_round` steps, in order."""
    logged: list[Any] = [step for name, step in steps.items() if name.startswith("log_round") and step.start_time]
    rounds = []
    for step in sorted(logged, key=lambda step: step.start_time):
        value = step.config.parameters.get("finished")
        if value is not None:
            rounds.append(Round.model_validate(value))
        else:
            rounds += [_load(artifact, Round) for artifact in (step.inputs.get("finished") or [])[:1]]
    return rounds


def _load(artifact: ArtifactVersionResponse, kind: type[T]) -> T:
    """The value of `artifact`, which ZenML stored with the path of its class.

    Raises _EarlierVersionError where that is not the path of `kind`; ZenML would log an error of its own.
    """
    if artifact.data_type.import_path != f"{kind.__module__}.{kind.__qualname__}":
        raise _EarlierVersionError
    value: T = artifact.load()
    return value


def workspace_of(run_id: str) -> Path:
    """The workspace of the run with the id `run_id`, as its configuration names it."""
    from zenml.client import Client

    return Path(str(_parameter(Client().get_pipeline_run(run_id), "workspace", Experiment().workspace)))


def _parameter(run: PipelineRunResponse, key: str, default: str) -> object:
    experiment = (run.config.parameters or {}).get("experiment", {})
    return experiment.get(key, default) if isinstance(experiment, dict) else getattr(experiment, key, default)


def has_runs() -> bool:
    """Whether ZenML's store has ever run the pipeline."""
    from zenml.client import Client

    logs_to_stderr()
    try:
        Client().get_pipeline(PIPELINE)
    except KeyError:
        return False
    return True
