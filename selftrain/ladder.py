"""The ladder: backbones in order of size, so that a student can be one rung larger than its teacher."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from selftrain.errors import BackboneError

Family = Literal["efficientnet", "efficientnet_v2", "mobilenet_v2", "wide_resnet", "application", "keras_hub"]

KERAS_HUB = "keras_hub:"
"""What the name of a preset of KerasHub begins with, as a backbone."""


@dataclass(frozen=True)
class Rung:
    """One backbone. `width` and `depth` multiply B0's filters and repeats; `resolution` is its usual side in pixels.

    The `depth` of a wide ResNet is its number of layers; its `width` multiplies 16, 32 and 64 channels. `application`
    is the keras.applications class with published weights for the backbone, or None.
    """

    name: str
    family: Family
    width: float
    depth: float
    resolution: int
    dropout: float
    application: str | None


def _efficientnet(tag: str, width: float, depth: float, resolution: int, dropout: float) -> Rung:
    published = f"EfficientNet{tag.upper()}" if "_" not in tag else None
    return Rung(f"efficientnet_{tag}", "efficientnet", width, depth, resolution, dropout, published)


def _efficientnet_v2(tag: str, resolution: int) -> Rung:
    return Rung(f"efficientnet_v2_{tag}", "efficientnet_v2", 1, 1, resolution, 0.2, f"EfficientNetV2{tag.upper()}")


def _mobilenet_v2(percent: int) -> Rung:
    return Rung(f"mobilenet_v2_{percent:03d}", "mobilenet_v2", percent / 100, 1, 224, 0.2, "MobileNetV2")


def _wide_resnet(depth: int, width: int) -> Rung:
    return Rung(f"wide_resnet_{depth}_{width}", "wide_resnet", width, depth, 32, 0.2, None)


# Compound scaling, Tan & Le 2019 (arXiv:1905.11946): values of its reference code. Two rungs below B0 follow its rule.
_EFFICIENTNET = (
    _efficientnet("b0_050", 0.5, 0.5, 160, 0.2),
    _efficientnet("b0_070", 0.7, 0.7, 192, 0.2),
    _efficientnet("b0", 1.0, 1.0, 224, 0.2),
    _efficientnet("b1", 1.0, 1.1, 240, 0.2),
    _efficientnet("b2", 1.1, 1.2, 260, 0.3),
    _efficientnet("b3", 1.2, 1.4, 300, 0.3),
    _efficientnet("b4", 1.4, 1.8, 380, 0.4),
    _efficientnet("b5", 1.6, 2.2, 456, 0.4),
    _efficientnet("b6", 1.8, 2.6, 528, 0.5),
    _efficientnet("b7", 2.0, 3.1, 600, 0.5),
)
_EFFICIENTNET_V2 = tuple(
    _efficientnet_v2(tag, side)
    for tag, side in (("b0", 224), ("b1", 240), ("b2", 260), ("b3", 300), ("s", 384), ("m", 480), ("l", 480))
)
_MOBILENET_V2 = tuple(_mobilenet_v2(percent) for percent in (35, 50, 75, 100, 130, 140))
_WIDE_RESNET = tuple(_wide_resnet(depth, width) for depth, width in ((16, 1), (16, 2), (28, 2), (28, 4), (28, 8)))

LADDERS: dict[str, tuple[Rung, ...]] = {
    "efficientnet": _EFFICIENTNET,
    "efficientnet_v2": _EFFICIENTNET_V2,
    "mobilenet_v2": _MOBILENET_V2,
    "wide_resnet": _WIDE_RESNET,
}
_RUNGS = {rung.name: rung for rungs in LADDERS.values() for rung in rungs}

# keras.applications classes by family, smallest first. A class alone in its family has no larger rung.
_APPLICATION_LADDERS: tuple[tuple[str, ...], ...] = (
    tuple(f"EfficientNetB{i}" for i in range(8)),
    tuple(f"EfficientNetV2{tag}" for tag in ("B0", "B1", "B2", "B3", "S", "M", "L")),
    ("ResNet50", "ResNet101", "ResNet152"),
    ("ResNet50V2", "ResNet101V2", "ResNet152V2"),
    ("DenseNet121", "DenseNet169", "DenseNet201"),
    tuple(f"ConvNeXt{size}" for size in ("Tiny", "Small", "Base", "Large", "XLarge")),
    ("MobileNetV3Small", "MobileNetV3Large"),
    ("NASNetMobile", "NASNetLarge"),
    ("VGG16", "VGG19"),
    ("MobileNet",),
    ("MobileNetV2",),
    ("InceptionV3",),
    ("InceptionResNetV2",),
    ("Xception",),
)
APPLICATIONS = tuple(name for ladder in _APPLICATION_LADDERS for name in ladder)


def preset_of(name: str) -> str | None:
    """The preset of KerasHub that the backbone `name` stands for; None for any other backbone.

    >>> preset_of("keras_hub:dinov2_small"), preset_of("ResNet50")
    ('dinov2_small', None)
    """
    return name.removeprefix(KERAS_HUB) if name.startswith(KERAS_HUB) else None


def resolve(name: str) -> Rung:
    """The rung called `name`: a name on a ladder, any class of keras.applications, or keras_hub:PRESET.

    Whether there is such a preset shows when it is loaded.

    Raises BackboneError naming the nearest known name.

    >>> resolve("efficientnet_b0_050").width
    0.5
    >>> resolve("ResNet50").family
    'application'
    """
    if name in _RUNGS:
        return _RUNGS[name]
    if name in APPLICATIONS:
        return Rung(name, "application", 1, 1, 224, 0.2, name)
    if preset := preset_of(name):
        return Rung(name, "keras_hub", 1, 1, 224, 0.2, None)
    if preset == "":
        raise BackboneError(f"backbone {name!r} names no preset; write it behind the colon, or the path of its folder")
    known = {known.lower(): known for known in (*_RUNGS, *APPLICATIONS)}
    nearest = known[difflib.get_close_matches(name.lower().replace("-", "_"), list(known), n=1, cutoff=0.0)[0]]
    raise BackboneError(
        f"unknown backbone {name!r}; did you mean {nearest!r}? Allowed: {', '.join(_RUNGS)}, "
        f"a keras.applications class such as {', '.join(APPLICATIONS[:3])}, or {KERAS_HUB}PRESET"
    )


def next_rung(name: str) -> str:
    """The backbone one rung above `name`; for the top of a ladder, or a class without sizes, `name` itself.

    Raises BackboneError for a preset of KerasHub, which is on no ladder.

    >>> next_rung("efficientnet_b0_050"), next_rung("efficientnet_b7"), next_rung("ResNet50")
    ('efficientnet_b0_070', 'efficientnet_b7', 'ResNet101')
    """
    if resolve(name).family == "keras_hub":
        raise BackboneError(f"{name!r} is on no ladder and has no next rung; name the student's backbone")
    for ladder in (*(tuple(rung.name for rung in rungs) for rungs in LADDERS.values()), *_APPLICATION_LADDERS):
        if name in ladder:
            return ladder[min(ladder.index(name) + 1, len(ladder) - 1)]
    return name
