"""Networks that predict: saved models to measure prediction with; their weights make no difference to its speed."""

from __future__ import annotations

from pathlib import Path

from selftrain.learn.models.contract import Contract, SavedModel
from selftrain.learn.models.saving import save

CLASSES = 10


def saved_model(backbone: str, image_size: int, folder: Path) -> SavedModel:
    """A model of `backbone` as it is before training, saved in `folder` with its contract."""
    from selftrain.learn.networks import backbones

    names = tuple(f"class_{k}" for k in range(CLASSES))
    model = backbones.build(backbone, image_size=image_size, classes=CLASSES)
    return save(model, Contract(backbone=backbone, image_size=image_size, class_names=names), folder)
