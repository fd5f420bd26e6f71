"""Reaping: a run that ZenML shows as running, though its Job in the cluster has failed or is gone, is marked failed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from selftrain.adapters.cluster.kube import ANSWER_S, api_client
from selftrain.adapters.cluster.registration import component_of
from selftrain.adapters.runs.records import PIPELINES, is_known
from selftrain.adapters.runs.run_lock import end
from selftrain.adapters.tracking.runs import close_dead_runs
from selftrain.adapters.tracking.store import open_existing
from selftrain.errors import StackError

if TYPE_CHECKING:
    from uuid import UUID

    from zenml.models import PipelineRunResponse

WORKSPACE = Path(".selftrain")  # of an embedded store; a cluster records its runs on a server
ORCHESTRATOR = "zenml.io/orchestrator"
"""Annotation of the Job that runs a pipeline; the Jobs of its steps have others."""
PAUSE_S = 600.0
"""How long a run without a Job is left alone: between both, ZenML uploads, and a queue may hold the Job back."""


@dataclass(frozen=True)
class Job:
    """What is asked of a Job: its name, the run it belongs to (empty: a schedule's), and how it stands."""

    name: str
    run_id: str
    runs_pipeline: bool
    ended: str  # "", "Complete" or "Failed"
    reason: str = ""


class Reaped(BaseModel):
    """A run that was marked failed, and why; `left` names Jobs of its steps that still run in `namespace`."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    name: str
    reason: str
    left: tuple[str, ...] = ()
    namespace: str = ""


def verdict(run_id: str, job_name: str, jobs: Sequence[Job], *, age_s: float) -> str | None:
    """Why the run `run_id` is dead, or None while it may be alive.

    `job_name` is the Job that ZenML knows it by ('' before it began), `age_s` its age in seconds.
    """
    mine = [job for job in jobs if job.runs_pipeline and (job.run_id == run_id or job.name == job_name != "")]
    if any(not job.ended for job in mine):
        return None
    if not mine:
        return "its Job is gone from the cluster" if age_s > PAUSE_S else None
    last = mine[-1]
    if last.ended == "Failed":
        return f"its Job {last.name} failed: {last.reason or 'no reason given'}"
    return f"its Job {last.name} has ended, and did not say so"


def reap(stack: str, *, dry_run: bool = False) -> list[Reaped]:
    """Mark the dead runs of `stack` as failed in ZenML; nothing in the cluster is changed.

    Raises StackError where the stack has no cluster, or the cluster does not answer: then nothing is known.
    """
    part = component_of(stack, "orchestrator")
    if part is None or part.flavor_name != "kubernetes":
        raise StackError(f"the stack {stack!r} runs on no cluster; local runs are ended by the next run")
    namespace = str(part.configuration["kubernetes_namespace"])
    jobs = jobs_in(part.configuration.get("kubernetes_context"), namespace)
    now = datetime.now(UTC)
    reaped = []
    for run in _unfinished(part.id):
        age_s = (now - run.created.replace(tzinfo=run.created.tzinfo or UTC)).total_seconds()
        reason = verdict(str(run.id), run.orchestrator_run_id or "", jobs, age_s=age_s)
        if reason is not None:
            left = tuple(job.name for job in jobs if job.run_id == str(run.id) and not job.ended)
            reaped.append(Reaped(run_id=str(run.id), name=run.name, reason=reason, left=left, namespace=namespace))
    if reaped and not dry_run:
        _end(reaped)
    return reaped


def _end(reaped: list[Reaped]) -> None:
    """Mark the runs as failed in ZenML, and in MLflow where they are recorded there."""
    for each in reaped:
        end(each.run_id, reason=each.reason)
    tracking = open_existing(WORKSPACE)
    if tracking is not None:
        close_dead_runs(tracking, [each.run_id for each in reaped])


def _unfinished(orchestrator: UUID) -> list[PipelineRunResponse]:
    from zenml.client import Client
    from zenml.enums import ExecutionStatus as Status
    from zenml.enums import StackComponentType
    from zenml.utils.pagination_utils import depaginate

    states = (Status.INITIALIZING, Status.PROVISIONING, Status.RUNNING, Status.RETRYING, Status.STOPPING)
    asked = "oneof:[" + ",".join(f'"{state.value}"' for state in states) + "]"
    found = []
    for pipeline in filter(is_known, PIPELINES):
        for run in depaginate(Client().list_pipeline_runs, pipeline=pipeline, status=asked, hydrate=True):
            parts = run.stack.components.get(StackComponentType.ORCHESTRATOR, []) if run.stack is not None else []
            if [part.id for part in parts] == [orchestrator]:
                found.append(run)
    return found


def jobs_in(context: str | None, namespace: str) -> list[Job]:
    """The Jobs of a namespace; `context` as in `api_client`. Raises StackError where the cluster does not answer.

    They are read as plain JSON. The library's own types refuse a Job whose failure policy has rules for exit codes
    alone, as ours have, although Kubernetes allows it.
    """
    from kubernetes.client import ApiException, BatchV1Api
    from urllib3.exceptions import HTTPError

    try:
        answer = BatchV1Api(api_client(context)).list_namespaced_job(
            namespace, _request_timeout=ANSWER_S, _preload_content=False
        )
        items = json.loads(answer.data)["items"]
    except (ApiException, HTTPError, OSError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        raise StackError(
            f"the Jobs of namespace {namespace} cannot be listed ({reason}), so no run was marked; "
            "`selftrain doctor --stack NAME` says what is wrong"
        ) from error
    return [_job(each) for each in items]


def _job(job: dict[str, Any]) -> Job:
    meta, conditions = job["metadata"], job.get("status", {}).get("conditions") or []
    over = [each for each in conditions if each["status"] == "True" and each["type"] in ("Complete", "Failed")]
    return Job(
        name=str(meta["name"]),
        run_id=str((meta.get("labels") or {}).get("run_id", "")),
        runs_pipeline=ORCHESTRATOR in (meta.get("annotations") or {}),
        ended=str(over[0]["type"]) if over else "",
        reason=" ".join(filter(None, (over[0].get("reason"), over[0].get("message")))) if over else "",
    )
