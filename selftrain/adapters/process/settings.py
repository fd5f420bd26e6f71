"""Process settings: what ZenML, MLflow and their loggers are told before they start."""

from __future__ import annotations

import logging
import os

# ZenML uploads each larger parameter of a dynamic step as an artifact of its own, 0.1 s apiece.
PARAMETER_BYTES = "65536"


# Each logs many lines a run that tell a user nothing they can act on.
NOISY = {
    "great_expectations": logging.WARNING,
    "tensorflow": logging.ERROR,
    "absl": logging.ERROR,
}


def prepare_process() -> None:
    """Settings of this process that TensorFlow and ZenML read from the environment; the user's own go before."""
    os.environ.setdefault("ZENML_PARAMETER_SIZE_THRESHOLD", PARAMETER_BYTES)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    for name, level in NOISY.items():
        logging.getLogger(name).setLevel(level)
