"""What a command takes from the configuration of an experiment: its workspace, and the name of its model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from selftrain.cli.shared.options import DEFAULT_WORKSPACE

if TYPE_CHECKING:
    from selftrain.config import Experiment


def read_if_given(config: Path | None) -> Experiment | None:
    """The experiment of the file `config`; None without one."""
    from selftrain.config.text.file import read_experiment

    return None if config is None else read_experiment(config)


def place_of(experiment: Experiment | None, workspace: Path, model_name: str | None) -> tuple[Path, str | None]:
    """The workspace and the model that are meant: what the options name comes before what `experiment` says."""
    if experiment is None:
        return workspace, model_name
    root = Path(experiment.workspace) if workspace == DEFAULT_WORKSPACE else workspace
    return root, model_name or experiment.registry.model_name
