"""The entry of `zenml pipeline run`: a pipeline that reads its configuration file before ZenML does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from zenml.models import PipelineRunResponse
from zenml.pipelines.dynamic.pipeline_definition import DynamicPipeline

from selftrain.adapters.runs.process_lock import process_tag
from selftrain.config import Experiment
from selftrain.config.text.file import read_experiment


class Entry(DynamicPipeline):  # type: ignore[misc]  # zenml ships no types
    """`pipeline` as `zenml pipeline run` takes it, with this process's tag; every other call answers as its own.

    `then` is called with the configuration and the run's id once a run from a file has ended well.

    That command expects a Pipeline, calls its `with_options(config_path=...)`, and runs the result. Here that call
    raises ConfigError for a wrong file. ZenML itself ignores unknown keys, and shows a traceback for a wrong value.
    """

    def __init__(self, pipeline: DynamicPipeline, *, then: Callable[[Experiment, str], None] | None = None) -> None:
        super().__init__(name=pipeline.name, entrypoint=pipeline.entrypoint)
        self.__dict__.update(vars(pipeline.with_options(extra=process_tag())))  # all its settings, in a copy
        self._then = then
        self._experiment: Experiment | None = None

    def with_options(self, *args: Any, config_path: str | None = None, **options: Any) -> Entry:
        """A copy with other settings; raises ConfigError for a wrong file."""
        experiment = read_experiment(Path(config_path)) if config_path is not None else None
        configured: Entry = super().with_options(*args, config_path=config_path, **options)
        configured._experiment = experiment
        return configured

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Run it, here or on the active stack, as every pipeline is run."""
        run = super().__call__(*args, **options)
        if self._then and self._experiment and isinstance(run, PipelineRunResponse) and run.status.is_successful:
            self._then(self._experiment, str(run.id))
        return run
