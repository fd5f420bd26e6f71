"""Launching: the pipeline run from Python, as `zenml pipeline run ssl_pipeline` runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from selftrain.adapters.process.keras_settings import check_backend
from selftrain.adapters.process.settings import prepare_process, stack_of_process
from selftrain.adapters.runs.process_lock import process_tag
from selftrain.config.text.file import overridden_copy, read_experiment
from selftrain.errors import ConfigError, StackError

if TYPE_CHECKING:
    from zenml.pipelines.pipeline_definition import Pipeline

    from selftrain.selflabel.rounds.record import RunRecord


def launch(
    load_pipeline: Callable[[], Pipeline], config: Path | None, *, stack: str | None = None, control: bool = False
) -> RunRecord:
    """Run a pipeline with `config` on `stack` (None: the active one) and return its record.

    `load_pipeline` imports the pipeline and returns it; it is called after the process is prepared for ZenML.

    With `control` the supervised control is trained, whatever `config` says. A stack that runs elsewhere may not wait:
    then the run has not ended, and `goes_on` is true. Raises a SelftrainError for expected failures.
    """
    if config is not None:
        read_experiment(config)  # a wrong file is reported before ZenML starts
    if control:
        with overridden_copy(config, {"control": "supervised"}) as changed:
            return launch(load_pipeline, changed, stack=stack)
    check_backend()
    prepare_process()
    from zenml.client import Client

    from selftrain.adapters.runs.records import record_of

    with on_stack(stack):
        configured = load_pipeline().with_options(config_path=str(config) if config else None, extra=process_tag())
        response = configured()
    return record_of(Client().get_pipeline_run(response.id))


def knows_loops() -> bool:
    """Whether the active stack runs pipelines that loop. Kubeflow's orchestrator, for one, needs a fixed graph.

    Raises StackError where the library of the stack's orchestrator is missing.
    """
    from zenml.client import Client

    try:
        return bool(Client().active_stack.orchestrator.supports_dynamic_pipelines)
    except ImportError as error:
        name = Client().active_stack_model.name
        reason = str(error).splitlines()[0]
        raise StackError(
            f"the stack {name!r} needs a library that is not installed here ({reason}); for Kubeflow, install what "
            "docker/kubeflow.lock lists"
        ) from error


def goes_on(record: RunRecord) -> bool:
    """Whether the run of `record` had not ended when it was read."""
    from zenml.enums import ExecutionStatus

    return not ExecutionStatus(record.status).is_finished


@contextmanager
def on_stack(name: str | None) -> Iterator[None]:
    """Let the stack `name` (None: as it is) be the active one of this process while the block runs.

    Everything in the block asks this stack's tracker and alerter. Raises ConfigError for a stack that is not there.
    """
    if name is None:
        yield
        return
    prepare_process()
    from zenml.client import Client

    client = Client()
    try:
        chosen = client.get_stack(name, allow_name_prefix_match=False)
    except KeyError as error:
        known = ", ".join(stack.name for stack in client.list_stacks())
        raise ConfigError(f"no stack is called {name!r}; there are: {known}") from error
    with stack_of_process(str(chosen.id)):
        yield
