"""An orchestrator that takes a run and returns, as those do that run elsewhere; what it took never starts."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from zenml.models import PipelineRunResponse, PipelineSnapshotResponse
from zenml.orchestrators import BaseOrchestrator, BaseOrchestratorFlavor, SubmissionResult
from zenml.stack import Stack


class LaterOrchestrator(BaseOrchestrator):
    """Takes runs."""

    def submit_dynamic_pipeline(
        self,
        snapshot: PipelineSnapshotResponse,
        stack: Stack,
        environment: dict[str, str],
        placeholder_run: PipelineRunResponse | None = None,
    ) -> SubmissionResult | None:
        return None

    def get_orchestrator_run_id(self) -> str:
        return str(uuid4())


class LaterFlavor(BaseOrchestratorFlavor):
    """The flavor `later`."""

    @property
    def name(self) -> str:
        return "later"

    @property
    def implementation_class(self) -> type[LaterOrchestrator]:
        return LaterOrchestrator


def add_stack(name: str = "later") -> None:
    """A stack with this orchestrator, beside the active one."""
    from zenml.client import Client
    from zenml.enums import StackComponentType as Kind

    client = Client()
    client.create_flavor("tests.adapters.runs.later.LaterFlavor", Kind.ORCHESTRATOR)
    client.create_stack_component(name, "later", Kind.ORCHESTRATOR, {})
    parts = {kind: found[0].name for kind, found in client.active_stack_model.components.items()}
    client.create_stack(name, {**parts, Kind.ORCHESTRATOR: name})


if __name__ == "__main__":
    from zenml.utils import source_utils

    source_utils.set_custom_source_root(str(Path(__file__).parents[3]))  # the flavour is found from there
    add_stack()
