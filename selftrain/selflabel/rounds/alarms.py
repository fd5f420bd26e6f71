"""Alarms: what guards report."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from selftrain.config import GuardAction, GuardName


class Alarm(BaseModel):
    """The alarm of a guard in round `round`: the measured value, its limit, the reason, and the run's action."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    guard: GuardName | Literal["worse_student", "nan", "memory", "not_ready", "empty_pool", "few_boxes", "many_boxes"]
    round: int
    value: float
    limit: float
    reason: str
    action: GuardAction

    def __str__(self) -> str:
        return f"round {self.round}: {self.reason} ({self.guard}: {_ACTS[self.action]})"


_ACTS: dict[GuardAction, str] = {
    "warn": "a warning only",
    "keep_teacher": "the student is not kept",
    "stop": "no further round",
}
