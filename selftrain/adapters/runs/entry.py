"""The entry of `zenml pipeline run`: a pipeline that reads its configuration file before ZenML does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zenml.pipelines.pipeline_definition import Pipeline

from selftrain.adapters.runs.process_lock import process_tag
from selftrain.config.text.file import read_experiment


class Entry(Pipeline):  # type: ignore[misc]  # zenml ships no types
    """`pipeline` as `zenml pipeline run` takes it, with this process's tag.

    That command expects a Pipeline, calls its `with_options(config_path=...)`, and runs the result. Here that call
    raises ConfigError for a wrong file. ZenML itself ignores unknown keys, and shows a traceback for a wrong value.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__(name=pipeline.name, entrypoint=pipeline.entrypoint)
        self._pipeline = pipeline.with_options(extra=process_tag())

    def with_options(self, *args: Any, config_path: str | None = None, **options: Any) -> Pipeline:
        """The pipeline itself, configured; raises ConfigError for a wrong file."""
        if config_path is not None:
            read_experiment(Path(config_path))
        return self._pipeline.with_options(*args, config_path=config_path, **options)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the pipeline itself."""
        return self._pipeline(*args, **kwargs)
