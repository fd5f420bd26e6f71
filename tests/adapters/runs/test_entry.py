"""The entry of `zenml pipeline run`: the pipeline as that command takes it, with its configuration file read first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from selftrain.errors import ConfigError

# passlib, which ZenML imports, still tries the standard library's crypt.
pytestmark = [pytest.mark.pipeline, pytest.mark.filterwarnings("ignore:'crypt' is deprecated:DeprecationWarning")]


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("ZENML_CONFIG_PATH", str(tmp_path / "zenml"))
    from zenml import pipeline

    from selftrain.adapters.runs.entry import Entry

    @pipeline(dynamic=True, name="tiny")
    def tiny(experiment: dict[str, str] | None = None) -> None: ...

    return Entry(tiny)


def test_zenml_takes_the_entry_for_a_pipeline_and_gets_the_pipeline_itself(entry: Any) -> None:
    from zenml.pipelines.dynamic.pipeline_definition import DynamicPipeline
    from zenml.pipelines.pipeline_definition import Pipeline

    assert isinstance(entry, Pipeline)
    configured = entry.with_options(config_path=None, build=None, prevent_build_reuse=False)
    assert type(configured) is DynamicPipeline
    assert configured.name == "tiny"
    assert "selftrain_process" in configured.configuration.extra


def test_a_wrong_configuration_file_is_refused_before_zenml_reads_it(entry: Any, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("parameters:\n  experiment:\n    nosuch: 1\n")
    with pytest.raises(ConfigError, match="nosuch"):
        entry.with_options(config_path=str(wrong), build=None, prevent_build_reuse=False)
