"""Zero-shot models: a dual encoder's answers to class names as a saved model, found again by what it was made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from selftrain.errors import ConfigError
from selftrain.ladder import KERAS_HUB
from selftrain.learn.foundation.presets import content
from selftrain.learn.models.contract import Contract, SavedModel
from selftrain.learn.models.saving import save


@dataclass(frozen=True)
class ZeroShot:
    """What a zero-shot model is made of: a `preset` of KerasHub, the `prompts`, and what classes are `called` there."""

    preset: str
    prompts: Sequence[str]
    called: Mapping[str, str] = field(default_factory=dict)

    @property
    def backbone(self) -> str:
        """The name of its network."""
        return f"{KERAS_HUB}{self.preset}"

    def digest(self, class_names: Sequence[str]) -> str:
        """sha256 (hex) of the preset's content, the prompts and the classes in their order."""
        parts = {**asdict(self), "preset": content(self.preset), "class_names": list(class_names)}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def save_zero_shot(
    made_of: ZeroShot,
    *,
    class_names: tuple[str, ...],
    folder: Path,
    image_size: int | None = None,
    bits: int | None = None,
) -> SavedModel:
    """Save the zero-shot classifier of `class_names` in `folder`; `image_size` None: what the encoder reads.

    `bits` is how many of 16 bits its grey pictures fill.

    No label taught it, and none calibrated it: its temperature is 1. Raises ConfigError for a class in `called` that is
    not one of `class_names`, and BackboneError as `zero_shot_classifier` does.
    """
    from selftrain.learn.foundation.zero_shot import zero_shot_classifier

    strangers = sorted(set(made_of.called) - set(class_names))
    if strangers:
        raise ConfigError(
            f"called names {', '.join(map(repr, strangers))}, which is not a class; allowed: {', '.join(class_names)}"
        )
    model = zero_shot_classifier(
        made_of.preset,
        class_names=class_names,
        prompts=made_of.prompts,
        called=made_of.called,
        image_size=image_size,
    )
    contract = Contract(backbone=made_of.backbone, image_size=model.input_shape[1], class_names=class_names, bits=bits)
    return save(model, contract, folder)
