"""A process that makes ZenML's own calls of the Kubernetes API, one line on standard input at a time.

    python -m tests.k8s.zenml_calls KUBECONFIG

A line is `orchestrator`, `submitter` or `reap`: what the pod that runs a pipeline asks, what the machine asks that
starts it, and what our own look for dead runs asks. The answer is a line of JSON: how each call ended. ZenML's
configuration must be one with a store of its own.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

NAMESPACE = "selftrain"
REAP = "system:serviceaccount:selftrain:selftrain-reap"
IMAGE = "registry.example/selftrain:0.1.0"
FAST = {"max_api_retries": 0, "job_monitoring_interval": 0.001}
SNAPSHOT = UUID(int=7)
POD = "system:serviceaccount:selftrain:selftrain-orchestrator"  # who a run's own pod is for the API


def orchestrator(context: str, account: str, **settings: Any) -> Any:
    """ZenML's Kubernetes orchestrator, as a stack has it, for one user of the kubeconfig."""
    from zenml.enums import StackComponentType
    from zenml.integrations.kubernetes.flavors import KubernetesOrchestratorConfig
    from zenml.integrations.kubernetes.orchestrators import KubernetesOrchestrator

    config = KubernetesOrchestratorConfig(
        kubernetes_context=context, kubernetes_namespace=NAMESPACE, service_account_name=account, **FAST, **settings
    )
    known = {"flavor": "kubernetes", "type": StackComponentType.ORCHESTRATOR, "user": None}
    now = datetime.now(UTC)
    return KubernetesOrchestrator(name="k8s", id=uuid4(), config=config, created=now, updated=now, **known)


def snapshot(schedule: Any = None) -> Any:
    """What ZenML knows of a pipeline that is to start, as far as the orchestrator looks at it."""
    from zenml.config.pipeline_configurations import PipelineConfiguration

    return SimpleNamespace(
        id=SNAPSHOT,
        project_id=uuid4(),
        schedule=schedule,
        pipeline_configuration=PipelineConfiguration(name="ssl_pipeline"),
        step_configurations={},
        is_dynamic=True,
        build=SimpleNamespace(get_image=lambda component_key, step=None: IMAGE),
    )


def step_info(run_id: UUID) -> Any:
    """What ZenML knows of an isolated step that is to start."""
    from zenml.config.pipeline_configurations import PipelineConfiguration
    from zenml.config.step_configurations import StepConfiguration
    from zenml.config.step_run_info import StepRunInfo

    whole = snapshot()
    return StepRunInfo.model_construct(
        config=StepConfiguration(name="train_student", settings={}),
        snapshot=whole,
        pipeline=PipelineConfiguration(name="ssl_pipeline"),
        run_name="run",
        pipeline_step_name="train_student",
        run_id=run_id,
        step_run_id=uuid4(),
        step_run=SimpleNamespace(),
        get_image=lambda key: IMAGE,
    )


def lease(k8s: Any) -> list[tuple[str, Callable[[], Any]]]:
    """The calls of whoever does alone what only one may do at a time."""
    from kubernetes import client

    leases, name = client.CoordinationV1Api(k8s.get_kube_client()), f"champion-{uuid4().hex}"
    body = {"metadata": {"name": name}, "spec": {"holderIdentity": "a", "leaseDurationSeconds": 30}}
    return [
        ("take the lease", lambda: leases.create_namespaced_lease(NAMESPACE, body) and None),
        ("read the lease", lambda: leases.read_namespaced_lease(name, NAMESPACE) and None),
        ("renew the lease", lambda: leases.replace_namespaced_lease(name, NAMESPACE, body) and None),
        ("give it back", lambda: leases.delete_namespaced_lease(name, NAMESPACE) and None),
    ]


def as_orchestrator() -> list[tuple[str, Callable[[], Any]]]:
    """The calls of a dynamic run's own pod, and those of one retraining at a time."""
    k8s = orchestrator(POD, "selftrain-step")
    info = step_info(uuid4())
    step = SimpleNamespace(id=info.step_run_id)
    return [
        ("find its Job", k8s.get_orchestrator_run_id),
        ("start a step", lambda: k8s.submit_isolated_step_with_allocation(info, {"A": "b"}, None)),
        ("ask how it goes until it has ended", lambda: _ended(lambda: k8s.get_isolated_step_status(step).value)),
        ("stop it", lambda: k8s.stop_isolated_step(step)),
        *lease(k8s),
    ]


def _ended(ask: Callable[[], str]) -> str:
    ends = time.monotonic() + 10
    while (said := ask()) == "running" and time.monotonic() < ends:
        time.sleep(0.01)
    return said


def as_submitter() -> list[tuple[str, Callable[[], Any]]]:
    """The calls of the machine from which runs are started, watched, stopped and scheduled."""
    from zenml.models.v2.core.schedule import ScheduleUpdate

    k8s = orchestrator("ann", "selftrain-orchestrator", pass_zenml_token_as_secret=True)
    run = SimpleNamespace(
        id=uuid4(),
        name="run",
        status=SimpleNamespace(is_finished=False),
        steps={},
        pipeline_configuration=snapshot().pipeline_configuration,
    )
    nightly = SimpleNamespace(cron_expression="0 3 * * *")
    cron_job: dict[str, str] = {}

    def start(schedule: Any = None, placeholder: Any = run) -> Any:
        token = {"ZENML_STORE_API_TOKEN": "a-token"}
        return k8s.submit_dynamic_pipeline(snapshot(schedule), None, token, placeholder)

    def plan() -> None:
        cron_job["cron_job_name"] = next(iter(start(nightly, None).metadata.values()))

    def planned() -> Any:
        from zenml.integrations.kubernetes.constants import KUBERNETES_CRON_JOB_METADATA_KEY

        return SimpleNamespace(
            name="nightly", run_metadata={KUBERNETES_CRON_JOB_METADATA_KEY: cron_job.get("cron_job_name", "x")}
        )

    def stop() -> None:
        """A run is stopped by its steps: one is there, made by the run's own pod."""
        orchestrator(POD, "selftrain-step").submit_isolated_step_with_allocation(step_info(run.id), {}, None)
        k8s._stop_run(run, graceful=False)

    def fail_to_start() -> None:
        with suppress(RuntimeError):  # a schedule without a cron expression: the token's secret is taken back
            start(SimpleNamespace(cron_expression=None))

    return [
        ("start a run and wait for it", lambda: start().wait_for_completion()),
        ("start it again", lambda: start() and None),
        ("ask how it goes", lambda: k8s.fetch_status(run)),
        ("stop it", stop),
        ("schedule it", plan),
        ("pause the schedule", lambda: k8s.update_schedule(planned(), ScheduleUpdate(active=False))),
        ("end the schedule", lambda: k8s.delete_schedule(planned())),
        ("fail to start", fail_to_start),
        *lease(k8s),
    ]


def as_reap() -> list[tuple[str, Callable[[], Any]]]:
    """The call of the CronJob that looks for dead runs."""
    from selftrain.adapters.cluster.reaping import jobs_in

    return [("see which Jobs there are", lambda: jobs_in(REAP, NAMESPACE) and None)]


def outcomes(calls: list[tuple[str, Callable[[], Any]]]) -> dict[str, str]:
    """Make the calls; each one's value, or the error it ended with."""
    ended = {}
    for name, call in calls:
        try:
            value = call()
            ended[name] = "" if value is None else str(value)[:200]
        except Exception as error:
            ended[name] = f"{type(error).__name__}: {error}"[:300]
    return ended


def main() -> None:
    os.environ["KUBECONFIG"] = sys.argv[1]
    logging.disable(logging.CRITICAL)
    sequences = {"orchestrator": as_orchestrator, "submitter": as_submitter, "reap": as_reap}
    for line in sys.stdin:
        answer = json.dumps(outcomes(sequences[line.strip()]()))
        sys.__stdout__.write(f"{answer}\n")  # type: ignore[union-attr]
        sys.__stdout__.flush()  # type: ignore[union-attr]


if __name__ == "__main__":
    main()
