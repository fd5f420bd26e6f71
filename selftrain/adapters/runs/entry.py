"""The entry of `zenml pipeline run`: a pipeline that reads its configuration file before ZenML does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zenml.pipelines.dynamic.pipeline_definition import DynamicPipeline

from selftrain.adapters.runs.process_lock import process_tag
from selftrain.config.text.file import read_experiment


class Entry(DynamicPipeline):  # type: ignore[misc]  # zenml ships no types
    """`pipeline` as `zenml pipeline run` takes it, with this process's tag; every other call answers as its own.

    That command expects a Pipeline, calls its `with_options(config_path=...)`, and runs the result. Here that call
    raises ConfigError for a wrong file. ZenML itself ignores unknown keys, and shows a traceback for a wrong value.
    """

    def __init__(self, pipeline: DynamicPipeline) -> None:
        super().__init__(name=pipeline.name, entrypoint=pipeline.entrypoint)
        self.__dict__.update(vars(pipeline.with_options(extra=process_tag())))  # all its settings, in a copy

    def with_options(self, *args: Any, config_path: str | None = None, **options: Any) -> Entry:
        """A copy with other settings; raises ConfigError for a wrong file."""
        if config_path is not None:
            read_experiment(Path(config_path))
        configured: Entry = super().with_options(*args, config_path=config_path, **options)
        return configured
