"""Graph layers: a network that only answers, such as a SavedModel's or ONNX's, as a layer of a Keras model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras


class GraphLayer(keras.layers.Layer):  # type: ignore[misc]  # keras ships no types
    """Answers (n, columns) of a function on tensors of TensorFlow, to images (n, height, width, channels).

    It cannot be trained, and a model that holds it cannot be saved: what it was made of is kept instead.
    """

    def __init__(self, answer: Callable[[Any], Any], columns: int, variables: list[Any]) -> None:
        super().__init__(name="graph", trainable=False, dtype="float32")
        self.supports_jit = False
        self._answer = answer
        self._columns = columns
        self.held = variables

    def call(self, images: Any) -> Any:
        """The answers (n, columns)."""
        return self._answer(images)

    def compute_output_spec(self, images: Any) -> keras.KerasTensor:
        """The shape of the answers, which is known without asking."""
        return keras.KerasTensor((images.shape[0], self._columns), "float32")


def graph_model(
    answer: Callable[[Any], Any], *, shape: tuple[int | None, ...], columns: int, variables: list[Any], name: str
) -> keras.Model:
    """A model of one GraphLayer, of images of `shape` (height, width, channels)."""
    image = keras.Input(shape)
    return keras.Model(image, GraphLayer(answer, columns, variables)(image), name=name)


def only_answers(model: keras.Model) -> bool:
    """Whether the model holds a GraphLayer, at any depth."""
    return any(
        isinstance(layer, GraphLayer) or (isinstance(layer, keras.Model) and only_answers(layer))
        for layer in model.layers
    )
