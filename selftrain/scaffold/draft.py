"""A draft: what the user asks for besides the folders, and the values chosen so far, each with its reason."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from selftrain.data.sources.survey import Survey

LABELED_SPLITS = 3
NO_GOOD_NAME = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class Wishes:
    """What the user asks for besides the images.

    `gpu` says whether the machine has one; `target` is the gate's, None for the task's own. `classes` are names
    that look like none, and are. `minutes` is the time that a run may train; None measures nothing.
    """

    name: str | None = None
    teacher_backbone: str | None = None
    teacher_weights: str | None = None
    student_backbone: str | None = None
    student_weights: str | None = None
    target: float | None = None
    gpu: bool = False
    classes: tuple[str, ...] = ()
    minutes: float | None = None

    @property
    def pretrained(self) -> bool:
        """Whether the teacher starts from weights."""
        return self.teacher_weights is not None


@dataclass
class Draft:
    """The values chosen so far, and the reasons for the dotted keys among them."""

    values: dict[str, Any]
    reasons: dict[str, str] = field(default_factory=dict)

    def set(self, key: str, value: object, reason: str = "") -> None:
        """Choose `value` for the dotted `key`."""
        *path, last = key.split(".")
        section = self.values
        for name in path:
            section = section.setdefault(name, {})
        section[last] = value
        self.reasons[key] = reason


def drawn_splits(seen: Survey) -> int:
    """How many of training, validation and test are drawn from the labelled folder."""
    return LABELED_SPLITS - (seen.validation_images is not None) - (seen.test_images is not None)


def training_labels(seen: Survey) -> int:
    """About how many labelled images are left to train on: a fifth goes to each other split that is drawn."""
    return max(len(seen.classes), round(seen.labeled_images * (1 - 0.2 * (drawn_splits(seen) - 1))))
