"""Zero-shot: a classifier from class names and a dual encoder, such as CLIP or SigLIP, without any label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from selftrain.errors import BackboneError
from selftrain.learn.foundation.encoders import image_encoder, is_dual, prepared
from selftrain.learn.foundation.presets import load_backbone, load_converter, load_preprocessor

Floats = NDArray[np.float32]
_TEXTS_AT_ONCE = 64
_SAME = 1 - 1e-6  # cosine of two embeddings that differ by rounding only


def zero_shot_classifier(
    preset: str,
    *,
    class_names: Sequence[str],
    prompts: Sequence[str],
    called: Mapping[str, str],
    image_size: int | None = None,
) -> keras.Model:
    """A model from images (n, s, s, 3), 0-255, to logits (n, classes): the dual encoder's own.

    Each class is written into every one of `prompts`. The mean direction of its texts becomes its column of the layer
    "logits" (Radford et al. 2021, arXiv:2103.00020, 3.1.4). The texts' encoder is not part of the model.

    - `prompts`: texts with one {} for the class, such as "a photo of a {}."
    - `called`: what a class is called there, where its name does not say it; else its name, with _ as a space
    - `image_size`: the pixels a side, s; None: what the encoder itself reads

    The softmax of a SigLIP's logits ranks the classes as its sigmoid does, but was not what it learned. Raises
    BackboneError for a preset that cannot be loaded or is not a dual encoder, and for two classes with the same text.
    """
    network = load_backbone(preset)
    if not is_dual(network):
        raise BackboneError(
            f"keras_hub preset {preset!r} is a {type(network).__name__}, which embeds no text; name a CLIP, SigLIP or "
            "MetaCLIP 2 preset, such as clip_vit_base_patch32"
        )
    texts = [prompt.format(called.get(name, name.replace("_", " "))) for name in class_names for prompt in prompts]
    directions = _embedded(network, load_preprocessor(preset), texts).reshape(len(class_names), len(prompts), -1)
    directions = _mean_direction(directions)
    _refuse_alike(directions, class_names)
    encoder = image_encoder(network, preset)
    side = image_size or _side(encoder)
    images = keras.Input((side, side, 3), name="image")
    embedded = encoder(prepared(load_converter(preset), images, size=encoder.input_shape[1:3]))
    layer = keras.layers.Dense(len(class_names), dtype="float32", name="logits")
    model = keras.Model(images, layer(keras.layers.UnitNormalization(name="direction")(embedded)), name="zero_shot")
    scale, bias = _scale(network)
    layer.set_weights([scale * directions.T, np.full(len(class_names), bias, np.float32)])
    return model


def _side(encoder: keras.Model) -> int:
    """The longer side in pixels that `encoder` reads, or 224 if it reads any."""
    return max((side for side in encoder.input_shape[1:3] if side is not None), default=224)


def _embedded(network: keras.Model, preprocessor: Any, texts: list[str]) -> Floats:
    """The embeddings (texts, d) of `texts`, each of length 1."""
    parts = []
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        part = texts[start : start + _TEXTS_AT_ONCE]
        no_images = np.zeros((len(part), 8, 8, 3), np.float32)  # the preprocessors ask for some
        tokens = preprocessor({"prompts": part, "images": no_images})["token_ids"]
        parts.append(keras.ops.convert_to_numpy(network.get_text_embeddings(tokens)))
    return _of_length_one(np.concatenate(parts))


def _mean_direction(directions: Floats) -> Floats:
    """The mean (classes, d) of directions (classes, prompts, d), of length 1 again."""
    return _of_length_one(directions.mean(axis=1))


def _refuse_alike(directions: Floats, class_names: Sequence[str]) -> None:
    """Raise BackboneError for two classes with one direction, which no image could tell apart."""
    alike = directions @ directions.T - 2 * np.eye(len(directions))
    one, other = (int(at) for at in np.unravel_index(int(alike.argmax()), alike.shape))
    if alike[one, other] > _SAME:
        raise BackboneError(
            f"the texts of the classes {class_names[one]!r} and {class_names[other]!r} mean the same to the preset; "
            "call them differently in the prompts, and put the class early: what is too long is cut off"
        )


def _of_length_one(vectors: Floats) -> Floats:
    lengths: Floats = np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    return vectors / lengths


def _scale(network: keras.Model) -> tuple[float, float]:
    """The factor on the cosines and what is added to them, as `network` learned them."""
    heads = [layer for layer in network.layers if hasattr(layer, "logit_scale")]
    if len(heads) != 1:
        raise BackboneError(f"a {type(network).__name__} has {len(heads)} layers with a logit_scale, not one")
    scale = float(np.exp(keras.ops.convert_to_numpy(heads[0].logit_scale)))
    bias = getattr(heads[0], "logit_bias", None)
    return scale, 0.0 if bias is None else float(keras.ops.convert_to_numpy(bias))
