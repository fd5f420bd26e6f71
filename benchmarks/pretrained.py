"""The local ImageNet weights of MobileNetV2: a small network, 0.35, and a larger one, 1.0."""

from __future__ import annotations

from typing import Any

from benchmarks.photos import archive

TEACHER, TEACHER_WEIGHTS = "mobilenet_v2_035", "mobilenet_v2_0.35_224_notop.h5"
STUDENT, STUDENT_WEIGHTS = "mobilenet_v2_100", "mobilenet_v2_1.0_224_tf1qat_notop.h5"


def teacher() -> dict[str, Any]:
    """The recipe's keys for the small network. Raises SkippedError where its weights are missing."""
    return {"backbone": TEACHER, "weights": str(archive(TEACHER_WEIGHTS)), "augmentation": "natural"}


def student() -> dict[str, Any]:
    """Likewise for the larger one, which is the control's as well."""
    return {"backbone": STUDENT, "weights": str(archive(STUDENT_WEIGHTS)), "augmentation": "natural"}
