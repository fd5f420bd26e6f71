"""Settings of the decisions: when a run ends, what stops it, and which models are registered and promoted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal

from pydantic import Field, field_validator, model_validator

from selftrain.config.section import Section, Share
from selftrain.errors import ConfigError

Metric = Literal["accuracy", "macro_f1", "map", "ap50"]
"""Of a classifier: accuracy, macro-F1. Of a detector: COCO's mAP, and the AP at an overlap of .5."""
METRIC_NAMES: Final[Mapping[str, str]] = {
    "accuracy": "accuracy",
    "macro_f1": "macro f1",
    "map": "mAP",
    "ap50": "AP50",
}
"""What people read for each metric."""
GuardName = Literal["acceptance", "class_mix", "empty_classes", "churn"]
GuardAction = Literal["warn", "keep_teacher", "stop"]


class Gate(Section):
    """When the loop stops; it reads validation only."""

    metric: Metric = "accuracy"
    target: Share = 0.95
    min_rounds: int = Field(1, ge=0)
    max_rounds: int = Field(2, ge=0)
    patience: int = Field(1, ge=1, description="rounds without `min_gain` before the loop is stalled")
    min_gain: Share = 0.002
    budget_minutes: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _rounds_can_be_run(self) -> Gate:
        if self.min_rounds > self.max_rounds:
            raise ConfigError(
                f"gate.min_rounds is {self.min_rounds} and gate.max_rounds {self.max_rounds}; "
                "no run could pass: allow at least as many rounds as you ask for"
            )
        return self


class Guards(Section):
    """Limits whose crossing shows that self-training is going wrong; None switches a guard off."""

    acceptance: Share | None = Field(0.01, description="smallest share of the pool that must be accepted")
    class_mix: Share | None = Field(
        0.3, description="largest distance (0-1) of the accepted class mix from that of the labels"
    )
    empty_classes: int | None = Field(0, ge=0, description="most classes without an accepted image")
    churn: Share | None = Field(
        0.3, description="largest share of the pool on which a student disagrees with its teacher"
    )
    actions: dict[GuardName, GuardAction] = Field(
        default_factory=dict,
        description="guard -> warn | keep_teacher (discard its student) | stop; unnamed guards warn",
    )

    def limit(self, guard: GuardName) -> float | None:
        """The limit of `guard`, or None if it is off."""
        value: float | None = getattr(self, guard)
        return value


_NO_MODEL_NAME = re.compile(r"""[/:.%@'"\\\x00-\x1f]""")


def model_name_of(experiment: str) -> str:
    """The name of an experiment's model: MLflow allows fewer characters than we do.

    >>> model_name_of("flowers.v2")
    'flowers-v2'
    """
    return _NO_MODEL_NAME.sub("-", experiment)[:200]


def check_model_name(name: str, *, given_as: str) -> None:
    """Raise ConfigError for a model name that MLflow would refuse; the error says where it was `given_as`."""
    if name != name.strip() or len(name) > 200 or _NO_MODEL_NAME.search(name):
        raise ConfigError(f"{given_as} is {name!r}; MLflow allows 200 characters, without / : . % @ \\ and quotes")


class ServingLimits(Section):
    """What serving a version may take; None: any. Both are measured in a fresh process on the machine that promotes."""

    latency_ms: float | None = Field(None, gt=0, description="of 95 % of the requests with one image")
    memory_mb: float | None = Field(None, gt=0, description="peak memory of the process; its libraries alone take 900")


class Registry(Section):
    """What a passed run registers, and the floors a champion must pass."""

    model_name: str = Field("", description="empty: the experiment's name, with hyphens for dots")
    floors: dict[Metric, Share] = Field(default={"accuracy": 0.5}, description="on test")
    alpha: float = Field(0.05, gt=0, lt=1, description="significance level of the paired test against the champion")
    auto_promote: bool = True
    first_champion: Literal["better", "any"] = Field(
        "better",
        description="without a champion: better: only a model that is better on test than its run's first teacher, or "
        "is that teacher; any: any model above the floors",
    )
    limits: ServingLimits = ServingLimits()
    trial_images: int = Field(
        16, ge=0, le=64, description="images that a version answers in a fresh process before it is champion; 0: none"
    )
    calibration_margin: Share | None = Field(
        0.01, description="how much further than the champion's its mean confidence may be from its accuracy"
    )

    @field_validator("model_name", mode="before")
    @classmethod
    def _name_is_accepted(cls, name: object) -> object:
        if isinstance(name, str):
            check_model_name(name, given_as="registry.model_name")
        return "" if name is None else name
