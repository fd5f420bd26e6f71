"""Models of Keras 2: an old `.h5` file becomes a model of Keras 3, layer by layer, and no code in it is run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from selftrain.learn.adoption.keras2_layers import (
    MERGING,
    Config,
    OldModelError,
    built,
    input_shape,
    is_constant,
    operation,
    plain_name,
)

if TYPE_CHECKING:
    import h5py
    import keras

_NESTED = frozenset({"Model", "Functional", "Sequential"})
_MODEL_GROUP = "model_weights"
_RANDOM = ("StateVar", "seed_generator_state")  # states of random layers, which are not needed


def load_h5(path: Path) -> keras.Model:
    """The model in an `.h5` file that Keras 2 saved, as `model.save("model.h5")` writes it, in float32.

    Its layers must be built-in ones (`keras2_layers.LAYERS`), and its operations those of the preprocessing of
    keras.applications. Weights are set by their order and checked by name and shape.

    Raises OldModelError, with the reason, for a file that holds anything else.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            described = _described(file)
            model = _model(described["class_name"], described["config"])
            _set_weights(model, file[_MODEL_GROUP])
    except (OSError, KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise OldModelError(f"it is damaged, or not a model of Keras 2 ({reason})") from error
    return model


def side_of(path: Path) -> int | None:
    """The longer side in pixels of what the model in an `.h5` file reads; None where it reads any, or is damaged."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            shape = next(_shapes(_described(file)), None)
    except (OSError, OldModelError, KeyError, TypeError, ValueError, AttributeError):
        return None
    sides = [side for side in (shape or ())[:2] if isinstance(side, int)]
    return max(sides, default=None)


def name_of_h5(path: Path) -> str:
    """The name of the model in an `.h5` file. Raises OldModelError where it does not hold one."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return _name(_described(file)["config"])
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise OldModelError("it is damaged, or not a model of Keras 2") from error


def _name(config: Any) -> str:
    """The name of a model; one that has none is called "sequential"."""
    return plain_name(str(config.get("name") or "sequential")) if isinstance(config, dict) else "sequential"


def _shapes(described: Config) -> Iterator[tuple[int | None, ...]]:
    config = described.get("config", {})
    shape = input_shape(config) if isinstance(config, dict) else None
    if shape is not None:
        yield shape
    for layer in config.get("layers", ()) if isinstance(config, dict) else config:
        yield from _shapes(layer)


def _described(file: h5py.File) -> Any:
    """The configuration of the model in `file`. Raises OldModelError where there is none."""
    text = file.attrs.get("model_config")
    if text is None or _MODEL_GROUP not in file:
        raise OldModelError("it holds weights without the model's layers")
    version = str(_text(file.attrs.get("keras_version", "2")))
    if not version.startswith("2"):
        raise OldModelError(f"it was saved by Keras {version}, which writes .keras files")
    return json.loads(_text(text))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _model(class_name: str, config: Any) -> keras.Model:
    """A whole model, or one that is a layer of another."""
    model = _sequential(config) if class_name == "Sequential" else _functional(config)
    if isinstance(config, dict) and config.get("trainable") is False:
        model.trainable = False
    return model


def _layer(class_name: str, config: Any) -> keras.layers.Layer:
    return _model(class_name, config) if class_name in _NESTED else built(class_name, config)


def _sequential(config: Any) -> keras.Model:
    import keras

    layers = config["layers"] if isinstance(config, dict) else config  # a list, before Keras 2.2.3
    model = keras.Sequential(name=_name(config))
    for place, each in enumerate(layers):
        shape = input_shape(each["config"]) if place == 0 and isinstance(each["config"], dict) else None
        if shape is not None:
            model.add(keras.Input(shape))
        if each["class_name"] != "InputLayer":
            model.add(_layer(each["class_name"], each["config"]))
    return model


def _functional(config: Config) -> keras.Model:
    """A functional model: each layer is called on what its nodes name, as soon as that is known."""
    import keras

    known: dict[tuple[str, int], Any] = {}
    inputs, waiting, first = {}, [], _first_nodes(config)
    for each in config["layers"]:
        name = each["name"]
        if each["class_name"] == "InputLayer":
            known[name, 0] = inputs[name] = keras.Input(input_shape(each["config"]), name=plain_name(name))
            continue
        kind = each["class_name"]
        layer = None if kind in ("TFOpLambda", "SlicingOpLambda") else _layer(kind, each["config"])
        waiting += [(each, layer, node, first[name] + place) for place, node in enumerate(each["inbound_nodes"])]
    while waiting:
        later = []
        for each, layer, node, place in waiting:
            parts = [node] if isinstance(node[0], str) else node
            if all((part[0], part[1]) in known for part in parts):
                known[each["name"], place] = _called(each, layer, parts, known, place)
            else:
                later.append((each, layer, node, place))
        if len(later) == len(waiting):
            raise OldModelError(f"what its layer {later[0][0]['name']!r} reads is missing")
        waiting = later
    return keras.Model(
        inputs[_only(config["input_layers"])[0]], known[_only(config["output_layers"])[:2]], name=_name(config)
    )


def _first_nodes(config: Config) -> dict[str, int]:
    """The number that each layer's first call has: 0, or 1 for a nested model, where 0 is its own inside."""
    named = [tuple(_only(config["output_layers"])[:2])]
    for each in config["layers"]:
        for node in each["inbound_nodes"]:
            named += [(part[0], part[1]) for part in ([node] if isinstance(node[0], str) else node)]
    last = {name: max(number for other, number in named if other == name) for name in {name for name, _ in named}}
    calls = {each["name"]: len(each["inbound_nodes"]) for each in config["layers"]}
    return {name: max(0, last.get(name, 0) - max(0, count - 1)) for name, count in calls.items()}


def _only(ends: Any) -> Any:
    """The only input or output of a model. Raises OldModelError for several."""
    ends = [ends] if isinstance(ends[0], str) else ends
    if len(ends) != 1:
        raise OldModelError(f"it has {len(ends)} inputs or outputs; one is read")
    return tuple(ends[0])


def _called(each: Config, layer: keras.layers.Layer | None, parts: list[Any], known: Any, place: int) -> Any:
    """What `layer` answers to what `parts` of a node name."""
    tensors = [known[part[0], part[1]] for part in parts]
    options = {key: value for part in parts for key, value in (part[3] if len(part) > 3 else {}).items()}
    if layer is None:
        return _operated(
            each, tensors[0], options, known, plain_name(f"{each['name']}_{place}" if place else each["name"])
        )
    training = options.pop("training", None)
    if any(value is not None for value in options.values()) or training is True:
        raise OldModelError(f"its layer {each['name']!r} is called with {options or {'training': training}}")
    shown = tensors if len(tensors) > 1 or each["class_name"] in MERGING else tensors[0]
    return layer(shown) if training is None else layer(shown, training=False)


def _operated(each: Config, tensor: Any, options: dict[str, Any], known: Any, name: str) -> Any:
    """An operation of TensorFlow that stands in the model as a layer, of the tensor and a constant or a tensor."""
    import keras

    function = each["config"].get("function", "")
    options.pop("name", None)
    if function == "__operators__.getitem":
        return _flipped(tensor, options.get("slice_spec"), name)
    values = {key: value for key, value in options.items() if value is not None and key != "data_format"}
    if len(values) != 1 or tensor.dtype != "float32":
        raise OldModelError(f"its operation {function!r} ({name}) has other arguments than one constant")
    value = next(iter(values.values()))
    if is_constant(value):
        return operation(function, value, name)(tensor)
    two = {"math.add": "Add", "__operators__.add": "Add", "math.multiply": "Multiply", "math.subtract": "Subtract"}
    if function in two and isinstance(value, list) and (str(value[0]), value[1]) in known:
        return getattr(keras.layers, two[function])(name=name)([tensor, known[value[0], value[1]]])
    raise OldModelError(f"its operation {function!r} ({name}) is not one that is read from old files")


def _flipped(tensor: Any, spec: Any, name: str) -> Any:
    """The tensor with its channels the other way round, which is the only slice that preprocessing makes."""
    import keras

    nothing = {"start": None, "stop": None, "step": None}
    wanted = (["Ellipsis", {**nothing, "step": -1}], [*[nothing] * 3, {**nothing, "step": -1}])
    ellipsis = {"class_name": "__ellipsis__"}
    read = ["Ellipsis" if each in ("Ellipsis", "...", ellipsis) else each for each in spec or ()]
    if read not in wanted:
        raise OldModelError(f"its slice {name!r} does more than to turn the channels round")
    return keras.ops.flip(tensor, axis=-1)


def _set_weights(model: keras.Model, group: h5py.Group) -> None:
    """Give each layer of `model` its weights, in the order in which both list them."""
    names = _listed(group, "layer_names")
    saved = [(name, _weights(_linked(group, name))) for name in names]
    saved = [(name, values) for name, values in saved if values]
    wanted = [(layer, _variables(layer)) for layer in model.layers]
    wanted = [(layer, variables) for layer, variables in wanted if variables]
    if len(saved) != len(wanted):
        raise OldModelError(f"it has weights of {len(saved)} layers, and {len(wanted)} layers that have some")
    for (name, values), (_, variables) in zip(saved, wanted, strict=True):
        if len(values) != len(variables):
            raise OldModelError(f"its layer {name!r} has {len(values)} weights; {len(variables)} are expected")
        for (called, value), variable in zip(values, variables, strict=True):
            if not _same(called, variable.name) or tuple(value.shape) != tuple(variable.shape):
                raise OldModelError(
                    f"its weight {called!r} of {name!r}, {tuple(value.shape)}, does not fit {variable.path}, "
                    f"{tuple(variable.shape)}"
                )
            variable.assign(value)
    _finish(model)


def _variables(layer: keras.layers.Layer) -> list[Any]:
    """The variables of a layer in the order of Keras 2: first those that are trained."""
    every = [*layer.trainable_weights, *layer.non_trainable_weights]
    return [each for each in every if each.name not in _RANDOM]


def _finish(model: keras.Model) -> None:
    """Tell layers of normalization that their variables were set."""
    import keras

    for layer in model.layers:
        if isinstance(layer, keras.Model):
            _finish(layer)
        elif isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def _same(old: str, new: str) -> bool:
    last = old.rpartition("/")[2].partition(":")[0]
    return last == new or (last, new) == ("depthwise_kernel", "kernel")


def _weights(group: h5py.Group) -> list[tuple[str, npt.NDArray[np.float32]]]:
    """The names and values of a layer's weights. Raises OldModelError for values that lie in another file."""
    found = []
    for name in _listed(group, "weight_names"):
        if name.rpartition("/")[2].partition(":")[0] in _RANDOM:
            continue
        stored = _linked(group, name)
        if stored.external or stored.is_virtual:
            raise OldModelError(f"its weight {name!r} lies in another file")
        found.append((name, np.asarray(stored[()])))
    return found


def _linked(group: h5py.Group, name: str) -> Any:
    """What `name` is in `group`. Raises OldModelError where a part of the way is a link to another place."""
    import h5py

    for part in name.split("/"):
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise OldModelError(f"its {name!r} is a link to another place")
        group = group[part]
    return group


def _listed(group: h5py.Group, key: str) -> list[str]:
    """A list of names, which Keras 2 splits into several attributes where it is long."""
    parts = [key] if key in group.attrs else []
    while f"{key}{len(parts)}" in group.attrs:
        parts.append(f"{key}{len(parts)}")
    return [_text(each) for part in parts for each in group.attrs[part]]
