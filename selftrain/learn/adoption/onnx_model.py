"""ONNX files: a network that onnxruntime runs, which answers and is not trained."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from selftrain.learn.adoption.keras2_layers import OldModelError

if TYPE_CHECKING:
    import keras

_TYPES: Final = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(double)": np.float64}
_CHANNELS: Final = (1, 3)
_EXTERNAL: Final = 1  # TensorProto.EXTERNAL


def load_onnx(path: Path) -> keras.Model:
    """A model that answers as onnxruntime answers for the network in `path`, to images (n, height, width, channels).

    Images first by channel are turned. Raises OldModelError unless it has one input and one output of known columns,
    and holds its weights itself or in files beside it. Raises ModuleNotFoundError without the extra `export`.
    """
    import tensorflow as tf

    from selftrain.learn.adoption.graph_layer import graph_model

    network = _Network(path)

    def answer(images: Any) -> Any:
        answers = tf.numpy_function(network, [images], tf.float32, stateful=False)
        answers.set_shape((images.shape[0], network.columns))
        return answers

    return graph_model(answer, shape=network.shape, columns=network.columns, variables=[], name=_name(path))


def side_of_onnx(path: Path) -> int | None:
    """The longer side in pixels of what the network reads; None where it reads any, or cannot be opened."""
    try:
        shape = _Network(path).shape
    except (OldModelError, ModuleNotFoundError):
        return None  # loading it says why
    return max((side for side in shape[:2] if side is not None), default=None)


def _name(path: Path) -> str:
    return "".join(each if each.isalnum() else "_" for each in path.stem) or "onnx"


class _Network:
    """A session of onnxruntime; `shape` is (height, width, channels), `columns` the number of answers."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        _refuse_files_elsewhere(path)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises classes of its own, without a common one
            raise OldModelError(f"onnxruntime cannot open it ({_first_line(error)})") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise OldModelError(f"it has {len(inputs)} inputs and {len(outputs)} outputs; one is read")
        given, answered = inputs[0], outputs[0]
        if given.type not in _TYPES or len(given.shape) != 4 or len(answered.shape) != 2:
            raise OldModelError(
                f"it reads {given.type} {given.shape} and answers {answered.shape}, not images, classes"
            )
        self._input, self._type = given.name, _TYPES[given.type]
        self._channels_first = given.shape[1] in _CHANNELS and given.shape[3] not in _CHANNELS
        sizes = [each if isinstance(each, int) else None for each in given.shape]
        turned = [sizes[2], sizes[3], sizes[1]] if self._channels_first else sizes[1:]
        self.shape: tuple[int | None, ...] = tuple(turned)
        self._at_once = sizes[0]
        columns = answered.shape[1]
        self.columns = columns if isinstance(columns, int) else self._asked_columns()

    def __call__(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Answers (n, columns) to images (n, height, width, channels)."""
        shown = (images.transpose(0, 3, 1, 2) if self._channels_first else images).astype(self._type)
        count = self._at_once or len(shown)
        if not len(shown):
            return np.zeros((0, self.columns), np.float32)
        parts = []
        for start in range(0, len(shown), count):
            part = shown[start : start + count]
            filled = part[np.resize(np.arange(len(part)), count)]
            parts.append(self._session.run(None, {self._input: np.ascontiguousarray(filled)})[0][: len(part)])
        return np.concatenate(parts).astype(np.float32)

    def _asked_columns(self) -> int:
        """The number of answers to one black image, where the file does not say it."""
        self.columns = 1
        sides = [each or 64 for each in self.shape]
        return int(self(np.zeros((1, *sides), np.float32)).shape[1])


def _refuse_files_elsewhere(path: Path) -> None:
    """Raise OldModelError for weights in a file that does not lie beside the network."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(str(path), load_external_data=False)
    except DecodeError as error:
        raise OldModelError("it is damaged, or not ONNX") from error
    for tensor in _tensors(model.graph):
        if tensor.data_location != _EXTERNAL:
            continue
        places = [each.value for each in tensor.external_data if each.key == "location"]
        for place in places:
            if Path(place).name != place or (path.parent / place).is_symlink():
                raise OldModelError(f"its weights lie in {place!r}, which is not a file beside it")


def _tensors(graph: Any) -> Iterator[Any]:
    """All tensors of a graph, and of the graphs inside it."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.initializer:
                    yield from _tensors(inner)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
