"""The entry of `zenml pipeline run`: a pipeline that reads its configuration file before ZenML does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zenml.pipelines.pipeline_definition import Pipeline

from selftrain.adapters.runs.process_lock import process_tag
from selftrain.config.text.file import read_experiment


def entry(pipeline: Pipeline) -> Pipeline:
    """`pipeline` with this process's signature; `with_options(config_path=...)` raises ConfigError for a wrong file.

    ZenML itself passes over unknown keys, and answers a wrong value with a traceback.
    """
    signed = pipeline.with_options(extra=process_tag())
    signed.__class__ = type(type(signed).__name__, (_ReadsItsFile, type(signed)), {})
    return signed


class _ReadsItsFile(Pipeline):  # type: ignore[misc]
    def with_options(self, *args: Any, config_path: str | None = None, **options: Any) -> Pipeline:
        if config_path is not None:
            read_experiment(Path(config_path))
        return super().with_options(*args, config_path=config_path, **options)
