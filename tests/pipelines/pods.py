"""Pods as processes: an orchestrator whose isolated steps run as on Kubernetes, each with a disk of its own.

`python -m tests.pipelines.pods CONFIG FOLDER` runs the pipeline on it. Each isolated step is a process that ZenML's own
entry point starts. Its home and temporary files lie in an empty folder below FOLDER, but ZenML moves it to /app, where
a relative workspace lies. The pod of the step that the variable KILLED names is killed at once.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

from zenml.enums import ExecutionStatus
from zenml.models import StepRunResponse
from zenml.orchestrators import BaseOrchestratorConfig, BaseOrchestratorFlavor
from zenml.orchestrators.local.local_orchestrator import LocalOrchestrator, LocalOrchestratorConfig
from zenml.orchestrators.utils import get_step_entrypoint_command
from zenml.step_operators.step_operator_entrypoint_configuration import StepOperatorEntrypointConfiguration

FOLDER, KILLED = "PODS", "KILLED"
ISOLATED = ("train_teacher", "train_student", "train_control", "pseudo_label", "label_shard", "score", "read_test")
KEPT = ("PATH", "PYTHONPATH", "ZENML_CONFIG_PATH", "MLFLOW_TRACKING_URI", "SELFTRAIN_DVC_REMOTE", "AWS_ENDPOINT_URL")
KEPT += ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")


class ProcessPods(LocalOrchestrator):
    """Runs isolated steps in processes, and the others in its own."""

    processes: ClassVar[dict[str, subprocess.Popen[bytes]]] = {}

    def submit_isolated_step(self, step_run_info, environment) -> None:  # type: ignore[no-untyped-def]
        command, arguments = get_step_entrypoint_command(
            invocation_id=step_run_info.pipeline_step_name,
            config=step_run_info.config,
            entrypoint_config_class=StepOperatorEntrypointConfiguration,
            snapshot_id=step_run_info.snapshot.id,
            step_run_id=str(step_run_info.step_run_id),
        )
        pod = Path(os.environ[FOLDER]) / f"{step_run_info.pipeline_step_name}-{str(step_run_info.step_run_id)[:8]}"
        (pod / "tmp").mkdir(parents=True)
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        with (pod / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *command[1:], *arguments],
                cwd=pod,
                env={**kept, **environment, "HOME": str(pod), "TMPDIR": str(pod / "tmp")},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.processes[str(step_run_info.step_run_id)] = process
        if os.environ.get(KILLED) == step_run_info.pipeline_step_name:
            process.kill()

    def get_isolated_step_status(self, step_run: StepRunResponse) -> ExecutionStatus:
        ended = self.processes[str(step_run.id)].poll()
        if ended is None:
            return ExecutionStatus.RUNNING
        return ExecutionStatus.COMPLETED if ended == 0 else ExecutionStatus.FAILED

    def wait_for_isolated_step(self, step_run: StepRunResponse) -> ExecutionStatus:
        self.processes[str(step_run.id)].wait()
        return self.get_isolated_step_status(step_run)


class ProcessPodsFlavor(BaseOrchestratorFlavor):
    """The flavor `pods`."""

    @property
    def name(self) -> str:
        return "pods"

    @property
    def config_class(self) -> type[BaseOrchestratorConfig]:
        return LocalOrchestratorConfig

    @property
    def implementation_class(self) -> type[ProcessPods]:
        return ProcessPods


def _add_stack() -> None:
    from zenml.client import Client
    from zenml.enums import StackComponentType as Kind

    client = Client()
    if client.list_stacks(name="pods"):
        return
    client.create_flavor("tests.pipelines.pods.ProcessPodsFlavor", Kind.ORCHESTRATOR)
    client.create_stack_component("pods", "pods", Kind.ORCHESTRATOR, {})
    parts = {kind: found[0].name for kind, found in client.active_stack_model.components.items()}
    client.create_stack("pods", {**parts, Kind.ORCHESTRATOR: "pods"})


def main(config: Path, folder: Path) -> None:
    """Run the pipeline, and print the run's record as JSON."""
    from importlib import import_module

    from zenml.utils import source_utils

    from selftrain.adapters.runs.launch import launch

    source_utils.set_custom_source_root(str(Path(__file__).parents[2]))
    os.environ[FOLDER] = str(folder)
    _add_stack()
    pipeline = import_module("pipelines.ssl_pipeline")
    for name in ISOLATED:
        if hasattr(pipeline, name):
            getattr(pipeline, name).configure(runtime="isolated")
    sys.stdout.write(launch(lambda: pipeline.ssl_pipeline, config, stack="pods").model_dump_json())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
