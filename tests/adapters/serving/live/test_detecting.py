"""How sure a served detector is of an image, by which the inbox chooses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from selftrain.adapters.serving.live.detecting import LockedDetector
from selftrain.learn.detection.saving import DetectorContract


def blind(images: Sequence[object], *, batch_size: int) -> list[Any]:
    """A detector that finds nothing."""
    return []


@pytest.mark.parametrize(
    ("labels", "scores", "confidence"),
    [
        (["cat", "dog"], [0.9, 0.8], 0.8),
        (["cat", "dog", "cat"], [0.9, 0.8, 0.4], 0.8),  # .4 is below the threshold of cats: nobody would see that box
        (["cat"], [0.1], 1.0),
        ([], [], 1.0),
    ],
)
def test_an_image_is_as_sure_as_its_least_sure_object(
    labels: list[str], scores: list[float], confidence: float
) -> None:
    contract = DetectorContract(
        backbone="small_cnn", class_names=("cat", "dog"), strides=(8,), thresholds={"cat": 0.5, "dog": 0.6}
    )
    assert LockedDetector(blind, contract).confidence(labels, scores) == confidence  # type: ignore[arg-type]
