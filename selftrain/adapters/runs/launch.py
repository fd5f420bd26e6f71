"""Launching: the pipeline run from Python, as `zenml pipeline run ssl_pipeline` runs it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from selftrain.adapters.process.settings import prepare_process
from selftrain.adapters.runs.process_lock import signature
from selftrain.config import Experiment
from selftrain.config.text import file
from selftrain.errors import ConfigError

if TYPE_CHECKING:
    from selftrain.selflabel.rounds.record import RunRecord


def launch(config: Path | None, *, stack: str | None = None, control: bool = False) -> RunRecord:
    """Run the pipeline with `config` on `stack` (None: the active one) and return its record.

    With `control` the supervised control is trained, whatever `config` says. On a stack that runs elsewhere and does
    not wait, the record is that of a run which goes on: `goes_on` tells. Raises SelftrainError (its kinds) for expected
    failures.
    """
    if config is not None:
        read_config(config)  # say what is wrong with it before ZenML starts
    if control:
        with file.overridden(config, {"control": "supervised"}) as changed:
            return launch(changed, stack=stack)
    prepare_process()
    from zenml.client import Client

    from selftrain.adapters.runs.records import record_of

    pipeline = importlib.import_module("pipelines.ssl_pipeline").ssl_pipeline
    with _on_stack(stack):
        configured = pipeline.with_options(config_path=str(config) if config else None, extra=signature())
        response = configured()
    return record_of(Client().get_pipeline_run(response.id))


def goes_on(record: RunRecord) -> bool:
    """Whether the run of `record` had not ended when it was read."""
    from zenml.enums import ExecutionStatus

    return not ExecutionStatus(record.status).is_finished


def read_config(path: Path) -> Experiment:
    """The Experiment in the YAML file `path`, under `parameters: experiment:`.

    Raises ConfigError naming the file for one that is missing, no YAML, or not an experiment.
    """
    return file.read(path)


@contextmanager
def _on_stack(name: str | None) -> Iterator[None]:
    """Activate the stack `name` for the block, then the one before."""
    if name is None:
        yield
        return
    from zenml.client import Client

    client = Client()
    before = client.active_stack_model.name
    try:
        client.activate_stack(name)
    except KeyError as error:
        known = ", ".join(stack.name for stack in client.list_stacks())
        raise ConfigError(f"there is no stack {name!r}; there are: {known}") from error
    try:
        yield
    finally:
        client.activate_stack(before)
