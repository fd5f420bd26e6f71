"""Quick layers: the same values, gradients and statistics as Keras's, and only inside the block."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from selftrain.learn.networks.quick_layers import quick_layers

pytestmark = [
    pytest.mark.keras,
    # Keras 3.15 converts TensorFlow variables with numpy's older protocol.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


def network(kernel: int, stride: int, padding: str, **settings: Any) -> keras.Model:
    keras.utils.set_random_seed(3)
    image = keras.Input((11, 12, 6))
    layer = keras.layers.DepthwiseConv2D(kernel, strides=stride, padding=padding, use_bias=False, **settings)
    return keras.Model(image, keras.Model(image, layer(image), name="inner")(image))


def gradients(model: keras.Model) -> tuple[list[np.ndarray[Any, Any]], str]:
    """Those of images and kernel, and the padding of the traced gradient of the kernel."""
    import tensorflow as tf

    images = tf.constant(np.random.default_rng(1).normal(size=(3, 11, 12, 6)).astype(np.float32))

    def of_squares(images: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(images)
            loss = tf.reduce_sum(model(images, training=True) ** 2)
        return tape.gradient(loss, [images, model.trainable_variables[0].value])

    traced = tf.function(of_squares).get_concrete_function(tf.TensorSpec(images.shape))
    operations = [each for each in traced.graph.get_operations() if each.type.endswith("NativeBackpropFilter")]
    [padding] = [each.get_attr("padding").decode() for each in operations]
    return [each.numpy() for each in traced(images)], padding


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [5, 7])
def test_the_gradients_are_those_of_keras(kernel: int, stride: int, padding: str) -> None:
    model = network(kernel, stride, padding)
    expected, own = gradients(model)
    with quick_layers(model):
        found, ours = gradients(model)
    assert (own, ours) == (padding.upper(), "EXPLICIT")
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("settings", [{"activation": "relu"}, {"dilation_rate": 2}, {"dtype": "mixed_bfloat16"}])
def test_a_layer_that_does_more_keeps_its_own_gradient(settings: dict[str, Any]) -> None:
    model = network(5, 1, "valid", **settings)
    with quick_layers(model):
        assert gradients(model)[1] == "VALID"


def test_small_kernels_keep_their_own_gradient() -> None:
    model = network(3, 1, "same")
    with quick_layers(model):
        assert gradients(model)[1] == "SAME"


def test_after_the_block_the_layers_are_as_before_even_if_it_failed() -> None:
    model = network(5, 1, "same")
    with pytest.raises(RuntimeError), quick_layers(model):
        raise RuntimeError
    assert gradients(model)[1] == "SAME"
    [inner] = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    assert all("call" not in vars(layer) for layer in inner.layers)


def normed(**settings: Any) -> keras.Model:
    image = keras.Input((6, 5, 4))
    return keras.Model(image, keras.layers.BatchNormalization(**{"momentum": 0.9, **settings})(image))


def step(model: keras.Model) -> tuple[list[np.ndarray[Any, Any]], set[str]]:
    """Answers, gradients and new statistics of a training step on `model`, and the kinds of its operations."""
    import tensorflow as tf

    norm = model.layers[-1]
    rng = np.random.default_rng(5)
    norm.set_weights([rng.uniform(0.5, 2, 4).astype(np.float32) for _ in norm.weights])
    images = tf.constant(rng.normal(3, 2, (7, 6, 5, 4)).astype(np.float32))

    def of_cubes(images: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(images)
            answers = model(images, training=True)
            loss = tf.reduce_sum(tf.cast(answers, "float32") ** 3)
        return answers, tape.gradient(loss, [images, *(each.value for each in model.trainable_variables)])

    traced = tf.function(of_cubes).get_concrete_function(tf.TensorSpec((None, 6, 5, 4)))
    answers, gradients = traced(images)
    found = [answers, *gradients, norm.moving_mean.value, norm.moving_variance.value]
    return [each.numpy() for each in found], {each.type for each in traced.graph.get_operations()}


@pytest.mark.parametrize("epsilon", [1e-3, 1e-6])
def test_batch_norm_answers_learns_and_keeps_statistics_as_keras_does(epsilon: float) -> None:
    expected, own = step(normed(epsilon=epsilon))
    model = normed(epsilon=epsilon)
    with quick_layers(model):
        found, ours = step(model)
    assert "FusedBatchNormV3" in ours - own
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("settings", [{"scale": False}, {"trainable": False}, {"axis": 1}])
def test_a_batch_norm_that_the_fused_operation_cannot_compute_stays_as_it_is(settings: dict[str, Any]) -> None:
    model = normed(**settings)
    with quick_layers(model):
        assert all("call" not in vars(layer) for layer in model.layers)


def test_outside_training_batch_norm_uses_its_statistics() -> None:
    model = normed()
    images = np.random.default_rng(6).normal(3, 2, (4, 6, 5, 4)).astype(np.float32)
    expected = model(images, training=False)
    with quick_layers(model):
        np.testing.assert_array_equal(model(images, training=False), expected)
