"""The entry of `zenml pipeline run`: the pipeline as that command takes it, with its configuration file read first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from selftrain.errors import ConfigError

pytestmark = pytest.mark.pipeline


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("ZENML_CONFIG_PATH", str(tmp_path / "zenml"))
    from zenml import pipeline

    from selftrain.adapters.runs.entry import Entry

    @pipeline(dynamic=True, name="tiny", enable_cache=False)
    def tiny(experiment: dict[str, str] | None = None) -> None: ...

    return Entry(tiny)


def test_zenml_takes_the_entry_for_a_pipeline_and_gets_a_dynamic_one(entry: Any) -> None:
    from zenml.pipelines.pipeline_definition import Pipeline

    assert isinstance(entry, Pipeline)
    configured = entry.with_options(config_path=None, build=None, prevent_build_reuse=False)
    assert configured.is_dynamic
    assert configured.name == "tiny"
    assert "selftrain_process" in configured.configuration.extra


def test_what_is_called_without_options_is_the_dynamic_pipeline_with_all_its_settings(entry: Any) -> None:
    assert entry.is_dynamic
    assert entry.enable_cache is False
    assert "selftrain_process" in entry.configuration.extra
    assert entry.configure(enable_cache=True).with_options().enable_cache is True


def test_a_wrong_configuration_file_is_refused_before_zenml_reads_it(entry: Any, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("parameters:\n  experiment:\n    nosuch: 1\n")
    with pytest.raises(ConfigError, match="nosuch"):
        entry.with_options(config_path=str(wrong), build=None, prevent_build_reuse=False)
