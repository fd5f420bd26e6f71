"""Models of past runs in ZenML's artifact store: copies that the cache would give to the same run again.

ZenML deletes an artifact only after the runs that used it, and their pseudo-labels would lose their origin. So the runs
stay. A step whose model goes is first taken out of ZenML's cache; the same run then trains again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from selftrain.adapters.process.settings import prepare_process
from selftrain.adapters.registry.recall_log import zenml_is_set_up
from selftrain.adapters.runs.records import workspace_of
from selftrain.files.disk_use import half_removed, remove_folder

if TYPE_CHECKING:
    from zenml.models import ArtifactVersionResponse, StepRunResponse

    from selftrain.files.workspace import Workspace

MODEL = "SavedModel"


@dataclass(frozen=True)
class RunModel:
    """A model that a step of a past run left: its folder, and the step's id."""

    step: UUID
    folder: Path


def unneeded_models(workspace: Workspace, runs: Iterable[str], kept: Set[str]) -> list[RunModel]:
    """The models that steps of `runs` left on this machine's disk, and that no run of `kept` has used.

    Runs that ran in another workspace, or that ZenML's store lacks, are left out.
    """
    if not zenml_is_set_up():
        return []
    prepare_process()
    in_use = {artifact.id for run in kept for step in _steps(run) for artifact in _artifacts(step)}
    return [
        RunModel(step.id, folder)
        for run in runs
        for step in _steps(run, workspace)
        for artifact in _artifacts(step)
        if _is_own_model(step, artifact) and artifact.id not in in_use
        for folder in _folders(Path(artifact.uri))
    ]


def remove_models(models: Iterable[RunModel]) -> None:
    """Take the steps out of ZenML's cache, then remove their folders."""
    from zenml.client import Client

    for model in models:
        Client().update_step_run(model.step, cache_expires_at=datetime.now(UTC).replace(tzinfo=None))
        remove_folder(model.folder)


def _steps(run_id: str, workspace: Workspace | None = None) -> list[StepRunResponse]:
    """The steps of a run; none where ZenML's store lacks it, or where it did not run in `workspace` (None: any)."""
    from zenml.client import Client

    try:
        run = Client().get_pipeline_run(UUID(run_id))
    except (KeyError, ValueError):
        return []
    elsewhere = workspace is not None and workspace_of(run_id).resolve() != workspace.root.resolve()
    return [] if elsewhere else list(run.steps.values())


def _folders(folder: Path) -> list[Path]:
    """The artifact's folder, if it is here, and what a killed removal left of it."""
    return [*([folder] if folder.is_dir() else []), *half_removed(folder.parent)]


def _artifacts(step: StepRunResponse) -> Iterator[ArtifactVersionResponse]:
    for values in (*step.outputs.values(), *step.inputs.values()):
        yield from values


def _is_own_model(step: StepRunResponse, artifact: ArtifactVersionResponse) -> bool:
    """Whether `artifact` is a model that `step` itself made, neither took as input nor from the cache."""
    return bool(artifact.data_type.attribute == MODEL and artifact.producer_step_run_id == step.id)
