"""Strides: networks designed for 224 px, changed to keep more of a small image."""

from __future__ import annotations

import keras


def with_fewer_halvings(network: keras.Model, *, smallest: int) -> keras.Model:
    """`network` with stride 1 where a convolution's output would have fewer than `smallest` pixels a side.

    This works for functional networks that halve by strided convolutions outside residual branches, such as
    keras.applications' MobileNet and MobileNetV2. They pad right and below for a stride of 2. The new network pads all
    sides. Its weights have the same shapes and order, but new values. A network whose outputs are large enough is
    returned as it is.
    """
    changed = [layer for layer in network.layers if _halves(layer) and layer.output.shape[1] < smallest]
    if not changed:
        return network
    names = {layer.name for layer in changed}
    before = [(layer.input._keras_history.operation, layer.kernel_size[0] // 2) for layer in changed]
    reach = {pad.name: pixels for pad, pixels in before if isinstance(pad, keras.layers.ZeroPadding2D)}

    def again(layer: keras.layers.Layer) -> keras.layers.Layer:
        settings = layer.get_config()
        if layer.name in names:
            settings["strides"] = (1, 1)
        if layer.name in reach:
            settings["padding"] = ((reach[layer.name],) * 2,) * 2
        return type(layer).from_config(settings)

    return keras.models.clone_model(network, clone_function=again)


def _halves(layer: keras.layers.Layer) -> bool:
    convolves = isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D)
    return convolves and tuple(layer.strides) == (2, 2)
