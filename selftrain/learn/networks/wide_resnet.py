"""Wide residual networks, the usual networks of the literature for small images."""

from __future__ import annotations

import keras
from keras import layers

_CHANNELS = (16, 32, 64)
_MOMENTUM = 0.9  # of batch norm's averages, as in KerasHub's EfficientNet: slower ones lag behind in short trainings


def wide_resnet(*, depth: int, width: int, image_size: int) -> keras.Model:
    """WRN-`depth`-`width` (arXiv:1605.07146, table 1) without its top: (n, s, s, 3) to (n, s/4, s/4, 64 * width).

    It has three groups of (depth - 4) / 6 pre-activated blocks, each of two 3x3 convolutions. The groups have `width`
    times 16, 32 and 64 channels. The network does not use dropout. Raises ValueError for a depth that does not give
    whole blocks.
    """
    blocks, left = divmod(depth - 4, 6)
    if left or blocks < 1:
        raise ValueError(f"depth {depth} does not give whole blocks; allowed are 10, 16, 22, 28, ...")
    image = keras.Input((image_size, image_size, 3))
    features = _convolved(image, 16, 3, 1, "stem")
    for group, channels in enumerate(_CHANNELS, 1):
        for index in range(1, blocks + 1):
            stride = 2 if group > 1 and index == 1 else 1
            features = _block(features, channels * width, stride, f"group{group}_block{index}")
    return keras.Model(image, _activated(features, "end"))


def _block(features: keras.KerasTensor, channels: int, stride: int, name: str) -> keras.KerasTensor:
    """A residual block. If the shape changes, its shortcut is a convolution of the activated features."""
    active = _activated(features, f"{name}_a")
    same = stride == 1 and features.shape[-1] == channels
    shortcut = features if same else _convolved(active, channels, 1, stride, f"{name}_shortcut")
    inner = _activated(_convolved(active, channels, 3, stride, f"{name}_conv_a"), f"{name}_b")
    return layers.Add(name=f"{name}_add")([shortcut, _convolved(inner, channels, 3, 1, f"{name}_conv_b")])


def _activated(features: keras.KerasTensor, name: str) -> keras.KerasTensor:
    normed = layers.BatchNormalization(momentum=_MOMENTUM, name=f"{name}_norm")(features)
    return layers.ReLU(name=f"{name}_relu")(normed)


def _convolved(features: keras.KerasTensor, channels: int, side: int, stride: int, name: str) -> keras.KerasTensor:
    convolution = layers.Conv2D(
        channels, side, stride, padding="same", use_bias=False, kernel_initializer="he_normal", name=name
    )
    return convolution(features)
