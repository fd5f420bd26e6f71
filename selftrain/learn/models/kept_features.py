"""Kept features: a frozen network is asked of each image once, and its answers are kept with the data set."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from weakref import WeakKeyDictionary

import keras
import numpy as np
from numpy.typing import NDArray

from selftrain.data.store.pixels import KeptPixels, Pixels
from selftrain.learn.models.contract import Contract
from selftrain.learn.models.features import feature_network
from selftrain.learn.models.predict import predict_logits, read_ahead
from selftrain.progress import Progress, silent

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_BATCH = 64  # always full, since the last bits of a feature may depend on its batch
_SAVED_EVERY = 8  # batches
_OF_TRAINING = ("trainable", "seed", "rate", "build_config", "registered_name", "module")
_READERS: WeakKeyDictionary[KeptPixels, dict[str, keras.Model]] = WeakKeyDictionary()


def views_of(
    network: keras.Model, pixels: Pixels, rows: Ints, *, mirrored: bool = False, progress: Progress = silent
) -> list[Floats]:
    """The features (n, d) of the images `rows` (n,) by a `feature_network`, and also those of their mirror images.

    If the features of `pixels` may be kept, only those that are missing are computed, and kept.
    """
    if not isinstance(pixels, KeptPixels):
        return _computed(network, pixels, rows, mirrored=mirrored, batch=min(_BATCH, len(rows)), progress=progress)
    read_as = "" if pixels.bits is None else f"-bits{pixels.bits}"
    digest, width = f"{network_digest(network)}-{pixels.size}{read_as}", int(network.output_shape[-1])
    keys = [f"{digest}-{view}" for view in ("plain", "mirrored")[: 1 + mirrored]]
    images = [pixels.images[row] for row in rows.tolist()]
    read = [pixels.features.read(key, width, images) for key in keys]
    missing = np.flatnonzero(~np.logical_and.reduce([found for _, found in read]))
    reader = _READERS.setdefault(pixels, {}).setdefault(digest, network)
    keeps = pixels.features.has_room(keys, width, len(missing)) if len(missing) else False
    for start in range(0, len(missing), _BATCH * _SAVED_EVERY):
        part = missing[start : start + _BATCH * _SAVED_EVERY]
        views = _computed(reader, pixels, rows[part], mirrored=mirrored, batch=_BATCH, progress=silent)
        for key, view, (values, _) in zip(keys, views, read, strict=True):
            values[part] = view
            keeps = keeps and pixels.features.keep(key, width, [images[at] for at in part], view)
        progress(len(rows) - len(missing) + start + len(part), len(rows))
    return [values for values, _ in read]


def logits_of(
    model: keras.Model,
    contract: Contract,
    pixels: Pixels,
    rows: Ints,
    *,
    batch_size: int = 256,
    flips: bool = False,
    progress: Progress = silent,
) -> Floats:
    """Logits (n, classes) of `rows` (n,), as by `predict_logits`. A head that was only fitted reads kept features."""
    if reads_kept(model, contract, pixels):
        return head_logits(model, pixels, rows, flips=flips, progress=progress)
    return predict_logits(model, pixels, rows, batch_size=batch_size, flips=flips, progress=progress)


def head_logits(
    model: keras.Model, pixels: Pixels, rows: Ints, *, flips: bool = False, progress: Progress = silent
) -> Floats:
    """Logits (n, classes) of `rows` (n,) by the layer "logits" of `model`, from the features of its network."""
    views = views_of(feature_network(model), pixels, rows, mirrored=flips, progress=progress)
    return on_features(model, np.mean(views, axis=0))


def on_features(model: keras.Model, features: Floats) -> Floats:
    """What the layer "logits" of `model` makes of `features` (n, d): logits float32 (n, classes)."""
    weights, bias = (each.numpy() for each in model.get_layer("logits").weights)
    logits: Floats = (features @ weights + bias).astype(np.float32)
    return logits


def with_kept_features(model: keras.Model, pixels: Pixels, rows: Ints, *, flips: bool, progress: Progress) -> Floats:
    """Features and logits (n, d + classes) of `rows` (n,), as the network `with_features(model)` gives."""
    features = np.mean(views_of(feature_network(model), pixels, rows, mirrored=flips, progress=progress), axis=0)
    return np.concatenate([features, on_features(model, features)], axis=1)


def reads_kept(model: keras.Model, contract: Contract, pixels: Pixels) -> bool:
    """Whether `model` is a head that was only fitted, and features of `pixels` may be kept."""
    return isinstance(pixels, KeptPixels) and contract.image_steps == 0 and is_head(model)


def is_head(model: keras.Model) -> bool:
    """Whether the last layer of `model` is one of weights and biases, called "logits", without an activation."""
    last = model.layers[-1]
    return (
        isinstance(last, keras.layers.Dense)
        and last.name == "logits"
        and last.use_bias
        and last.activation is keras.activations.linear
    )


def network_digest(network: keras.Model) -> str:
    """A digest of what `network` computes: its layers, how they are joined, and its weights; not their names.

    So a network that was saved and loaded, or built again, has the same one.
    """
    names = {name: f"#{place}" for place, name in enumerate(_names(network))}
    content = hashlib.sha256(json.dumps(_renamed(network.get_config(), names), sort_keys=True, default=str).encode())
    for weight in network.weights:
        content.update(np.ascontiguousarray(weight.numpy()).tobytes())
    return content.hexdigest()[:32]


def _names(network: keras.Model) -> list[str]:
    """The names of a network and its layers, at any depth, in their order."""
    found = [network.name]
    for layer in network.layers:
        found += _names(layer) if isinstance(layer, keras.Model) else [layer.name]
    return list(dict.fromkeys(found))


def _renamed(value: Any, names: dict[str, str]) -> Any:
    """A configuration with `names` replaced, and without what counts only in training."""
    if isinstance(value, dict):
        left_out = [key for key in value if key in _OF_TRAINING or str(key).endswith(("_initializer", "_regularizer"))]
        return {key: _renamed(each, names) for key, each in value.items() if key not in left_out}
    if isinstance(value, list | tuple):
        return [_renamed(each, names) for each in value]
    return names.get(value, value) if isinstance(value, str) else value


def _computed(
    network: keras.Model, pixels: Pixels, rows: Ints, *, mirrored: bool, batch: int, progress: Progress
) -> list[Floats]:
    """The features (n, d) of `rows` as they are, and also mirrored; each image is read once."""
    parts: list[list[Floats]] = [[] for _ in range(1 + mirrored)]
    for done, images in read_ahead(pixels, rows, batch):
        for part, view in zip(parts, (images, images[:, :, ::-1]), strict=False):
            part.append(network.predict_on_batch(view))
        progress(done, len(rows))
    return [np.concatenate(part)[: len(rows)].astype(np.float32, copy=False) for part in parts]
