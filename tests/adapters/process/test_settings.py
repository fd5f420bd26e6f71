"""Process settings: defaults in the environment, and never over the user's own."""

import os

import pytest

from selftrain.adapters.process.settings import prepare_command, prepare_mlflow, prepare_process


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment of its own, in which only one variable is set."""
    own = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "9"}
    monkeypatch.setattr(os, "environ", own)
    return own


def test_a_users_own_setting_wins(environment: dict[str, str]) -> None:
    prepare_command(runs=False)
    assert environment["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "9"
    assert environment["ZENML_LOGGING_VERBOSITY"] == "ERROR"


def test_a_run_keeps_zenmls_own_lines_for_its_live_view(environment: dict[str, str]) -> None:
    prepare_command(runs=True)
    assert "ZENML_LOGGING_VERBOSITY" not in environment
    assert environment["ZENML_ANALYTICS_OPT_IN"] == environment["AUTO_OPEN_DASHBOARD"] == "false"


def test_asking_the_recall_log_changes_nothing_but_mlflows_telemetry(environment: dict[str, str]) -> None:
    before = dict(environment)
    prepare_mlflow()
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
    assert environment == {**before, **quiet}
    prepare_process()
    assert {"TF_CPP_MIN_LOG_LEVEL", "GX_ANALYTICS_ENABLED", "MLFLOW_DISABLE_TELEMETRY"} <= environment.keys()
