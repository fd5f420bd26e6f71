"""Tracking: opens the MLflow store that runs are recorded in."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from selftrain.adapters.process.console import logs_to_stderr
from selftrain.adapters.process.zenml_database import answered
from selftrain.adapters.tracking.moved_store import follow_artifacts
from selftrain.adapters.tracking.stored_registry import stored_experiment
from selftrain.errors import RegistryError
from selftrain.files.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "selftrain"


@dataclass(frozen=True)
class Tracking:
    """An open MLflow store: its client, its address and the experiment that runs go to."""

    client: MlflowClient
    uri: str
    experiment: str
    experiment_id: str


def stack_tracker_uri() -> str | None:
    """The address of the active ZenML stack's MLflow tracker, or None. Sets its credentials in the environment.

    ZenML takes seconds to load, and most stacks have no tracker. A process that has loaded it may run on another stack
    than the files name, and asks it.
    """
    kinds = answered(lambda database: database.component_kinds()) if "zenml" not in sys.modules else None
    if kinds is not None and "experiment_tracker" not in kinds:
        return None
    from zenml.client import Client
    from zenml.enums import StackComponentType

    logs_to_stderr()
    if StackComponentType.EXPERIMENT_TRACKER not in Client().active_stack_model.components:
        return None
    tracker = Client().active_stack.experiment_tracker
    if tracker is None or tracker.flavor != "mlflow":
        return None
    tracker.configure_mlflow()
    return str(tracker.get_tracking_uri())


def open_tracking(
    workspace_root: Path, *, experiment: str = EXPERIMENT, stack: Callable[[], str | None] = stack_tracker_uri
) -> Tracking:
    """The MLflow store to use: `MLFLOW_TRACKING_URI`, else the active stack's tracker, else one in the workspace.

    The last is SQLite with a folder of artifacts beside it, and may be moved with its workspace. Raises RegistryError
    when the store cannot be reached.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or stack()
    artifacts: str | None = None
    if not uri:
        workspace = Workspace(workspace_root.resolve()).ensure()
        uri, artifacts = f"sqlite:///{workspace.mlflow_database}", workspace.mlflow_artifacts.as_uri()
        follow_artifacts(workspace.mlflow_database, experiment=experiment, artifacts=artifacts)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        with quiet():
            client = MlflowClient(tracking_uri=uri)
            experiment_id = _experiment(client, experiment, artifacts)
    except MlflowException as error:
        raise RegistryError(
            f"the MLflow store at {uri} does not answer ({first_line(error)}); "
            "start its server, or unset MLFLOW_TRACKING_URI to use the store in the workspace"
        ) from error
    return Tracking(client, uri, experiment, experiment_id)


def open_existing(workspace_root: Path) -> Tracking | None:
    """The store that `open_tracking` opens, or None before its first use; nothing is created in the workspace."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or stack_tracker_uri()
    if not uri and not Workspace(workspace_root).mlflow_database.exists():
        return None
    return open_tracking(workspace_root, stack=lambda: uri)


def open_to_read(workspace_root: Path) -> Tracking | None:
    """`open_existing` for code that changes nothing. An embedded store is read in SQL, which takes no time to load."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or stack_tracker_uri()
    database = Workspace(workspace_root.resolve()).mlflow_database
    if not uri and not database.exists():
        return None
    address = uri or f"sqlite:///{database}"
    stored = stored_experiment(address, EXPERIMENT)
    if stored is None:
        return open_tracking(workspace_root, stack=lambda: uri)
    client, experiment_id = stored
    return Tracking(cast("MlflowClient", client), address, EXPERIMENT, experiment_id)


def _experiment(client: MlflowClient, name: str, artifacts: str | None) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=artifacts))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)  # another process was faster
    if found is None:
        raise RegistryError(f"MLflow neither has nor creates the experiment {name!r}; check the store")
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


@contextmanager
def quiet() -> Iterator[None]:
    """Hide MLflow's own output: database set-up, progress bars, warnings about its code."""
    from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR as BARS

    loggers = [logging.getLogger(name) for name in ("alembic", "mlflow.store.db.utils", "mlflow.pyfunc")]
    levels = [logger.level for logger in loggers]
    bars = BARS.get_raw()
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    BARS.set(False)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"mlflow\.")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars is None:
            BARS.unset()
        else:
            BARS.set(bars)


def first_line(error: Exception) -> str:
    """The first line of the error's message."""
    return str(error).strip().splitlines()[0]
