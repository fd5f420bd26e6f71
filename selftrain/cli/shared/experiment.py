"""What a command takes from the configuration of an experiment: its workspace, and the name of its model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from selftrain.cli.shared.options import DEFAULT_WORKSPACE

if TYPE_CHECKING:
    from selftrain.config import Experiment

FOR_PODS = "orchestrator.kubernetes"
"""A key of settings in the file of an experiment that runs in pods."""


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


def say_if_apart(config: Path | None) -> None:
    """Say on stderr that a change stays on this machine, where the runs of `config` keep their state elsewhere.

    Pods have the variable SELFTRAIN_STATE from their stack; a person's machine has it only from that person.
    """
    from selftrain.adapters.cluster.contenders import STATE_VARIABLE

    if config is None or os.environ.get(STATE_VARIABLE) or FOR_PODS not in config.read_text(encoding="utf-8"):
        return
    typer.echo(
        f"WARNING: {config} is for pods, and {STATE_VARIABLE} is not set here: what is changed stays on this machine, "
        'and no pod sees it. docs/cluster.md, "From your own machine", has the variables',
        err=True,
    )
