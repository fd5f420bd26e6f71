"""Scores: the numbers of one model on validation."""

from __future__ import annotations

from typing import assert_never

from pydantic import BaseModel, ConfigDict

from selftrain.config import Metric
from selftrain.errors import ConfigError


class Scores(BaseModel):
    """A model's scores on validation: accuracy and macro-F1 for the gate, log loss and calibration errors.

    Log loss and `calibration_error` use cross-fitted temperatures. All scores are NaN if the training diverged; JSON
    stores this as "NaN".
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    images: int
    accuracy: float
    macro_f1: float
    log_loss: float
    calibration_error: float
    calibration_error_uncalibrated: float

    def metric(self, name: Metric) -> float:
        """The gate's metric called `name`."""
        match name:
            case "accuracy":
                return self.accuracy
            case "macro_f1":
                return self.macro_f1
            case "map" | "ap50":
                raise ConfigError(f"{name} is a detector's metric; a classifier has accuracy and macro_f1")
            case _:
                assert_never(name)
