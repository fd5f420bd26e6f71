"""Process settings: what ZenML, MLflow, TensorFlow and their loggers are told before they start.

An environment variable that is already set stays as it is: the user's own values win.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click

# With a server, MLflow writes the address of each run to stdout, where `--json` has its answer.
_MLFLOW = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
_PROCESS = {
    # ZenML uploads each larger parameter of a dynamic step as an artifact of its own, which takes 0.1 s.
    "ZENML_PARAMETER_SIZE_THRESHOLD": "65536",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TF_ENABLE_ONEDNN_OPTS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    **_MLFLOW,
}
_COMMAND = {"ZENML_ANALYTICS_OPT_IN": "false", "AUTO_OPEN_DASHBOARD": "false"}
_STACK = "ZENML_ACTIVE_STACK_ID"
_QUERY = {
    # The live view of a run reads ZenML's lines; in any other command they would mix with the answer.
    "ZENML_LOGGING_VERBOSITY": "ERROR",
    # By MLflow's default of 7 retries, a run waits four minutes for a registry that is down. A query fails soon.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
}

# Each logs many lines per run that tell a user nothing they can act on.
_NOISY = {
    "great_expectations": logging.WARNING,
    "tensorflow": logging.ERROR,
    "absl": logging.ERROR,
}


def prepare_process() -> None:
    """The settings of a process that trains, asks the registry, or runs the pipeline."""
    _set_defaults(_PROCESS)
    for name, level in _NOISY.items():
        logging.getLogger(name).setLevel(level)


def prepare_mlflow() -> None:
    """Turn off MLflow's telemetry, which it reads when it is imported, and its lines on stdout."""
    _set_defaults(_MLFLOW)


def prepare_command(*, runs: bool) -> None:
    """The settings of the `selftrain` command. `runs` is True if it starts a run, rather than only asks."""
    _set_defaults(_COMMAND if runs else {**_COMMAND, **_QUERY})


def zenml_folder() -> Path:
    """Where ZenML keeps its configuration, by ZenML's own rule: importing ZenML to ask it takes seconds."""
    return Path(os.environ.get("ZENML_CONFIG_PATH") or click.get_app_dir("zenml")).resolve()


def stack_is_set() -> bool:
    """Whether ZenML has an active stack. Where it was never used, there is no need to import it to ask."""
    if os.environ.get(_STACK) or os.environ.get("ZENML_STORE_URL"):
        return True
    files = (zenml_folder() / "config.yaml", Path(".zen") / "config.yaml")
    return any("active_stack_id" in file.read_text(errors="replace") for file in files if file.is_file())


@contextmanager
def stack_of_process(stack_id: str) -> Iterator[None]:
    """Let `stack_id` be ZenML's active stack in this process while the block runs; other processes keep theirs."""
    before = os.environ.get(_STACK)
    os.environ[_STACK] = stack_id
    try:
        yield
    finally:
        if before is None:
            del os.environ[_STACK]
        else:
            os.environ[_STACK] = before


def _set_defaults(variables: Mapping[str, str]) -> None:
    for name, value in variables.items():
        os.environ.setdefault(name, value)
