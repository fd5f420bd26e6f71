"""Run records: what ZenML knows of our runs, finished or not, as RunRecords."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selftrain.adapters.process.console import logs_to_stderr
from selftrain.config import Experiment
from selftrain.errors import SourceError
from selftrain.selflabel.rounds.history import Round
from selftrain.selflabel.rounds.record import RunRecord

if TYPE_CHECKING:
    from zenml.models import PipelineRunResponse

PIPELINE = "ssl_pipeline"


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
            raise SourceError("there is no run yet; start one with `selftrain run`")
        return latest[0]
    try:
        return record_of(Client().get_pipeline_run(run_id))
    except KeyError as error:
        raise SourceError(f"there is no run {run_id!r}; `selftrain runs` lists them") from error


def record_of(run: PipelineRunResponse) -> RunRecord:
    """The record a finished run left; for one that failed or still runs, what its steps have shown so far."""
    steps = run.steps
    if "record" in steps and steps["record"].status.is_successful:
        done = steps["record"].outputs["record"][0].load()
        if isinstance(done, RunRecord):
            return done
    return RunRecord(
        run_id=str(run.id),
        name=str(_parameter(run, "name", "?")),
        title=str(_parameter(run, "title", "")),
        status=run.status.value,
        rounds=tuple(_rounds(steps)),
        error=run.get_body().status_reason or (run.exception_info.message if run.exception_info else None),
    )


def _rounds(steps: dict[str, Any]) -> list[Round]:
    """The rounds that `log_round` steps were given, in order."""
    logged = [step for name, step in steps.items() if name.startswith("log_round") and step.start_time]
    logged.sort(key=lambda step: step.start_time)
    found = []
    for step in logged:
        value = step.config.parameters.get("finished")
        if value is not None:
            found.append(value)
            continue
        inputs = step.inputs.get("finished") or []
        found += [each.load() for each in inputs[:1]]
    return found


def workspace_of(run_id: str) -> Path:
    """The workspace of the run with the id `run_id`, as its configuration names it."""
    from zenml.client import Client

    return Path(str(_parameter(Client().get_pipeline_run(run_id), "workspace", Experiment().workspace)))


def _parameter(run: PipelineRunResponse, key: str, default: str) -> object:
    experiment = (run.config.parameters or {}).get("experiment", {})
    return experiment.get(key, default) if isinstance(experiment, dict) else getattr(experiment, key, default)


def has_runs() -> bool:
    """Whether the pipeline was ever run with ZenML's store."""
    from zenml.client import Client

    logs_to_stderr()
    try:
        Client().get_pipeline(PIPELINE)
    except KeyError:
        return False
    return True
