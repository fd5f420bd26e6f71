"""Layers of Keras 2: the built-in ones that are rebuilt from the configuration in an old file, and what is left out."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import keras

Config = Mapping[str, Any]

_LAYERS: Final = """
    Activation Add AlphaDropout Average AveragePooling2D BatchNormalization CenterCrop Concatenate Conv2D
    Conv2DTranspose Cropping2D Dense DepthwiseConv2D Dropout ELU Flatten GaussianDropout GaussianNoise
    GlobalAveragePooling2D GlobalMaxPooling2D GroupNormalization LayerNormalization LeakyReLU MaxPooling2D Maximum
    Minimum Multiply Normalization PReLU Permute RandomBrightness RandomContrast RandomCrop RandomFlip RandomHeight
    RandomRotation RandomTranslation RandomWidth RandomZoom ReLU Rescaling Reshape Resizing SeparableConv2D Softmax
    SpatialDropout2D Subtract UnitNormalization UpSampling2D ZeroPadding2D
"""
LAYERS: Final = frozenset(_LAYERS.split())
"""Classes of `keras.layers` that compute the same in Keras 2 and 3. None of them runs code from the file."""
IDLE: Final = frozenset({"RandomHeight", "RandomWidth"})
"""Layers that Keras 3 lacks, and that do nothing outside of training."""
MERGING: Final = frozenset({"Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract"})
_ACTIVATIONS: Final = "elu exponential gelu linear relu relu6 selu sigmoid silu softmax softplus softsign swish tanh"
ACTIVATIONS: Final = frozenset(_ACTIVATIONS.split())
"""Activations that are the same in both. Keras 3 has another hard_sigmoid."""
_OF_TRAINING: Final = ("_initializer", "_regularizer", "_constraint")
_IDLE_KEYS: Final = frozenset(
    {"batch_input_shape", "dtype", "fused", "ragged", "sparse", "input_dtype", "force_generator", "rng_type"}
)
_NOTHING: Final = (None, False, 1, [1, 1])  # values under which an argument that Keras 3 lacks does nothing
_OTHER_NAMES: Final = {"LeakyReLU": {"alpha": "negative_slope"}}


class OldModelError(Exception):
    """Why an old model cannot be rebuilt from its configuration."""


def built(class_name: str, config: Config) -> keras.layers.Layer:
    """The layer of Keras 3 that `config` of Keras 2 describes, in float32.

    Raises OldModelError for a layer that is not in LAYERS, and for an argument that Keras 3 lacks.
    """
    import keras

    if class_name not in LAYERS:
        raise OldModelError(_why_not(class_name))
    if config.get("data_format") == "channels_first":
        raise OldModelError(f"layer {config.get('name')!r} reads channels first")
    named = {"name": plain_name(str(config["name"]))} if config.get("name") else {}
    if class_name in IDLE:
        return keras.layers.Identity(**named)
    kind = getattr(keras.layers, class_name)
    allowed = set(inspect.signature(kind.__init__).parameters) | {"name", "trainable"}
    arguments: dict[str, Any] = {}
    for old, value in config.items():
        key = _OTHER_NAMES.get(class_name, {}).get(old, old)
        if old in _IDLE_KEYS or key.endswith(_OF_TRAINING):
            continue
        if key not in allowed:
            if not any(value is each or (value == each and type(value) is type(each)) for each in _NOTHING):
                raise OldModelError(f"{class_name} {config.get('name')!r} has {old}={value!r}, which Keras 3 lacks")
            continue
        arguments[key] = _value(key, value, f"{class_name} {config.get('name')!r}")
    layer: keras.layers.Layer = kind(**arguments | named)
    return layer


def plain_name(name: str) -> str:
    """A name as Keras 3 allows it, without slashes.

    >>> plain_name("Conv/BatchNorm")
    'Conv_BatchNorm'
    """
    return name.replace("/", "_")


def _value(key: str, value: Any, called: str) -> Any:
    """A plain value of an argument. Raises OldModelError for one that names an object."""
    if key.endswith("activation"):
        if value is not None and value not in ACTIVATIONS:
            raise OldModelError(f"{called} has the activation {value!r}, which is not a stock one that stayed the same")
        return value
    if key == "axis" and isinstance(value, list):
        return value[0] if len(value) == 1 else tuple(value)
    if not _plain(value):
        raise OldModelError(f"{called} has {key}={value!r}, which is not a number, a text or a list of them")
    return value


def _plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(_plain(each) for each in value)
    return value is None or isinstance(value, str | int | float)


def _why_not(class_name: str) -> str:
    if class_name == "Lambda":
        return "it has a Lambda layer, which holds code; code in a file is never run"
    return f"its layer {class_name!r} is not one of the built-in layers that are read from old files"


def input_shape(config: Config) -> tuple[int | None, ...] | None:
    """The shape of one input, without the batch, as an old layer's `config` says; None where it does not."""
    shape = config.get("batch_input_shape") or config.get("batch_shape")
    return None if shape is None else tuple(shape[1:])


def is_constant(value: object) -> bool:
    """Whether `value` is a number, or a list of numbers, one per channel."""
    if isinstance(value, list | tuple):
        return bool(value) and all(isinstance(each, int | float) for each in value)
    return isinstance(value, int | float) and not isinstance(value, bool)


def operation(function: str, value: Any, name: str) -> keras.layers.Layer:
    """The layer for an operation of TensorFlow on images and a constant `value`, as preprocessing leaves it in a model.

    Raises OldModelError for any other operation.
    """
    import keras

    numbers = [float(each) for each in value] if isinstance(value, list | tuple) else float(value)
    each = numbers if isinstance(numbers, list) else [numbers]
    single = not isinstance(numbers, list)

    def rescaling(scale: list[float], offset: list[float]) -> keras.layers.Layer:
        many = max(len(scale), len(offset))
        if single:
            return keras.layers.Rescaling(scale[0], offset=offset[0], name=name)
        whole = [part * many if len(part) == 1 else part for part in (scale, offset)]
        return keras.layers.Rescaling(whole[0], offset=whole[1], name=name)

    match function:
        case "math.truediv" | "math.divide" | "__operators__.truediv" if all(each):
            return rescaling([1 / part for part in each], [0.0])
        case "math.multiply" | "__operators__.mul":
            return rescaling(each, [0.0])
        case "math.subtract" | "__operators__.sub":
            return rescaling([1.0], [-part for part in each])
        case "math.add" | "__operators__.add" | "nn.bias_add":
            return rescaling([1.0], each)
        case _:
            raise OldModelError(f"its operation {function!r} ({name}) is not one that is read from old files")
