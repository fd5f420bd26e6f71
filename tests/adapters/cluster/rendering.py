"""What Kubernetes is asked for: our configurations, compiled and submitted by ZenML itself to an API on loopback.

`python -m tests.adapters.cluster.rendering` prints it as JSON, on the ZenML store of its environment.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

from zenml.client import Client
from zenml.config.schedule import Schedule
from zenml.config.step_run_info import StepRunInfo
from zenml.enums import StackComponentType as Kind
from zenml.integrations.kubernetes.orchestrators import KubernetesOrchestrator
from zenml.models import PipelineSnapshotResponse
from zenml.pipelines.run_utils import create_placeholder_run
from zenml.utils import env_utils, source_utils

from pipelines.retraining_pipeline import retraining_pipeline
from pipelines.ssl_pipeline import ssl_pipeline
from selftrain.adapters.cluster.addresses import Addresses, Site, addresses_of
from selftrain.adapters.cluster.checks import check_stack
from selftrain.adapters.cluster.components import components_of
from selftrain.adapters.cluster.reaping import reap
from selftrain.adapters.cluster.registration import register, registered, unregister
from selftrain.adapters.schedule.zenml import settings_for
from selftrain.errors import SelftrainError
from tests.adapters.cluster.api_server import Api, served

ROOT = Path(__file__).resolve().parents[3]
BATCH = "/apis/batch/v1/namespaces/selftrain"
TOKEN = {"ZENML_STORE_API_TOKEN": "a-token"}


def main() -> None:
    """All that was rendered, as JSON on the standard output."""
    images = {
        "SELFTRAIN_IMAGE": "registry.example/selftrain:1-cpu",
        "SELFTRAIN_GPU_IMAGE": "registry.example/selftrain:1-gpu",
    }
    os.environ |= {**images, "KEY": "the-key", "WORD": "the-word"}
    answers: dict[str, Any] = {"stack": registrations()}
    with served(Path(os.environ["KUBECONFIG"]).parent) as (api, _):
        register(addresses())
        answers |= rendered(api, activated())
    sys.stdout.write(json.dumps(answers))


def addresses(**more: str | None) -> Addresses:
    """Addresses whose keys are in the environment."""
    keys = {"s3_key": "env:KEY", "s3_secret": "env:WORD", "mlflow_user": "env:KEY", "mlflow_password": "env:WORD"}
    return addresses_of(Site.KUBERNETES, **{"context": "loopback", **keys, **more})


def registrations() -> dict[str, Any]:
    """A stack registered twice, changed, and taken back; and what is refused."""
    steps = {
        "first": addresses(),
        "second": addresses(),
        "moved": addresses(bucket="elsewhere"),
        "keyless": addresses(s3_key=None, s3_secret=None, mlflow_user=None, mlflow_password=None),
    }
    done = {name: [(each.what, each.done) for each in register(step)] for name, step in steps.items()}
    register(addresses())
    client = Client()
    held = {part.kind: client.get_stack_component(Kind(part.kind), part.name) for part in components_of(addresses())}
    secrets = {each.name: client.get_secret(each.id).secret_values for each in client.list_secrets().items}
    refused = [refusal(lambda: unregister("default")), refusal(lambda: unregister("nowhere"))]
    shown = [each.model_dump() for each in registered("selftrain")]
    gone = [(each.what, each.done) for each in unregister("selftrain")]
    left = client.list_stacks().total, client.list_secrets().total, client.list_stack_components().total
    client.create_stack_component("selftrain-store", "local", Kind.ARTIFACT_STORE, {})
    refused.append(refusal(lambda: register(addresses())))
    client.delete_stack_component("selftrain-store", Kind.ARTIFACT_STORE)
    return {
        **done,
        "configuration": {kind: part.configuration for kind, part in held.items()},
        "secrets": secrets,
        "shown": shown,
        "gone": gone,
        "left": left,
        "refused": refused,
    }


def refusal(call: Any) -> str:
    """What the one line says."""
    try:
        call()
    except SelftrainError as error:
        return error.message
    return ""


def activated() -> KubernetesOrchestrator:
    """The registered orchestrator, on an active stack whose store needs no server."""
    client = Client()
    parts = {kind: found[0].name for kind, found in client.get_stack("selftrain").components.items()}
    kept = {kind: name for kind, name in parts.items() if kind is not Kind.EXPERIMENT_TRACKER}
    here = {"skip_local_validations": True}
    client.update_stack_component("selftrain-orchestrator", Kind.ORCHESTRATOR, configuration=here)
    client.create_stack("rendering", {**kept, Kind.ARTIFACT_STORE: "default"})
    client.activate_stack("rendering")
    orchestrator = client.active_stack.orchestrator
    assert isinstance(orchestrator, KubernetesOrchestrator)
    return orchestrator


def rendered(api: Api, orchestrator: KubernetesOrchestrator) -> dict[str, Any]:
    """The Jobs of a run and of each of its isolated steps, and the CronJob of a schedule."""
    config = str(ROOT / "configs" / "gpu-k8s.yaml")
    run = ssl_pipeline.with_options(config_path=config).create_snapshot("a-run")
    placeholder = create_placeholder_run(run)
    submit(orchestrator, run, placeholder)
    (job,) = jobs(api)
    steps = {}
    for name in run.step_configurations:
        steps[name] = submit_step(api, orchestrator, run, placeholder.id, name)
    forbid = settings_for("kubernetes", orchestrator.settings_class)
    schedule = Schedule(name="nightly", cron_expression="0 3 * * *", catchup=False)
    nightly = retraining_pipeline.with_options(config_path=config, schedule=schedule, settings=forbid)
    nightly.prepare()
    night = nightly._create_snapshot(**nightly._run_args)
    submit(orchestrator, night, None)
    (cron,) = (each for path, each in api.objects.items() if path.startswith(f"{BATCH}/cronjobs/"))
    secrets = [each for path, each in api.objects.items() if path.startswith("/api/v1/namespaces/selftrain/secrets/")]
    checks = [each.model_dump(mode="json") for each in check_stack("selftrain")]
    reaped = reaping(api, str(placeholder.id))
    jobs_asked = {"job": job, "steps": steps, "cron": cron, "secrets": len(secrets)}
    return {**jobs_asked, "checks": checks, "reaped": reaped}


def reaping(api: Api, run: str) -> dict[str, Any]:
    """What `runs reap` does while the run's Job lives, after it failed, and where the API does not answer."""
    told: dict[str, Any] = {"alive": [each.run_id for each in reap("selftrain")]}
    condition = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}
    for path, each in list(api.objects.items()):
        if path.startswith(f"{BATCH}/jobs/") and "zenml.io/orchestrator" in each["metadata"]["annotations"]:
            api.put(path, {**each, "status": {"conditions": [condition]}})
    api.down = True
    told["down"] = refusal(lambda: reap("selftrain"))
    api.down = False
    told["dry"] = [each.run_id == run for each in reap("selftrain", dry_run=True)]
    told["before"] = Client().get_pipeline_run(run).status.value
    told["reaped"] = [each.model_dump() for each in reap("selftrain")]
    told["again"] = [each.run_id for each in reap("selftrain")]
    told["after"] = Client().get_pipeline_run(run).status.value
    told["local"] = refusal(lambda: reap("default"))
    return told


def submit(orchestrator: KubernetesOrchestrator, snapshot: PipelineSnapshotResponse, run: Any) -> None:
    """The pipeline's own Job, or its CronJob."""
    stack = Client().active_stack
    orchestrator.submit_dynamic_pipeline(snapshot, stack, dict(TOKEN), placeholder_run=run)


def submit_step(
    api: Api, orchestrator: KubernetesOrchestrator, snapshot: PipelineSnapshotResponse, run: Any, name: str
) -> dict[str, Any]:
    """The Job of one isolated step."""
    before = {each["metadata"]["name"] for each in jobs(api)}
    info = StepRunInfo.model_construct(  # all but the step's run, which only a run in progress has
        step_run_id=uuid4(),
        run_id=run,
        run_name="a-run",
        pipeline_step_name=name,
        config=snapshot.step_configurations[name].config,
        spec=snapshot.step_configurations[name].spec,
        pipeline=snapshot.pipeline_configuration,
        snapshot=snapshot,
        force_write_logs=lambda: None,
    )
    configured = env_utils.get_runtime_environment(config=info.config, stack=Client().active_stack)
    orchestrator.submit_isolated_step_with_allocation(info, {**TOKEN, **configured}, None)
    (job,) = (each for each in jobs(api) if each["metadata"]["name"] not in before)
    return {"job": job, "runtime": str(snapshot.step_configurations[name].config.runtime)}


def jobs(api: Api) -> list[dict[str, Any]]:
    """The Jobs that were made so far."""
    return [each for path, each in api.objects.items() if path.startswith(f"{BATCH}/jobs/")]


if __name__ == "__main__":
    source_utils.set_custom_source_root(str(ROOT))
    main()
