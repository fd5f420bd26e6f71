"""Encoders: a preset's backbone as a network from uint8 images to one vector an image."""

from __future__ import annotations

from typing import Any

import keras

from selftrain.errors import BackboneError
from selftrain.learn.foundation.presets import load_backbone, load_converter

_CLASS_TOKEN = ("ViTBackbone", "DeiTBackbone", "DINOV2Backbone", "DINOV3Backbone")
"""Backbones whose first vector stands for the whole image, as KerasHub's own classifiers take it."""

_ANY_SIZE = ("DINOV2Backbone", "DINOV3Backbone")
"""Backbones whose positions fit any size of images, so that the converter's size counts, not the saved one."""


def image_features(preset: str, images: keras.KerasTensor) -> keras.KerasTensor:
    """Feature vectors (n, d) of `images` (n, s, s, 3), 0-255, by the frozen backbone of `preset`.

    The layer "backbone" is the preset's network. Before it the images get the size and range that the preset's own
    image converter gives them. Raises BackboneError for a preset that cannot be loaded, or that does not read images.
    """
    network, converter = load_backbone(preset), load_converter(preset)
    if type(network).__name__ in _ANY_SIZE and converter.image_size not in (None, _image_shape(network, preset)[:2]):
        network = load_backbone(preset, size=converter.image_size)
    encoder = image_encoder(network, preset)
    return encoder(prepared(converter, images, size=encoder.input_shape[1:3]))


def image_encoder(network: keras.Model, preset: str) -> keras.Model:
    """The model "backbone" from prepared images (n, h, w, 3) to vectors (n, d), with all weights frozen.

    A dual encoder gives its image embedding, a vision transformer its class token, any other network the mean over
    its positions. Raises BackboneError for a `network` that reads anything but images.
    """
    images = keras.Input(_image_shape(network, preset), name="images")
    if is_dual(network):
        vectors = network.get_vision_embeddings(images)
    else:
        names = list(network.input) if isinstance(network.input, dict) else []
        vectors = _one_vector(network, network({names[0]: images} if names else images, training=False))
    if vectors is None:
        raise BackboneError(
            f"keras_hub preset {preset!r} is a {type(network).__name__}, which does not give one vector or a map an "
            "image; choose an image classifier's backbone, DINOv2 or v3, or a dual encoder"
        )
    encoder = keras.Model(images, vectors, name="backbone")
    encoder.trainable = False
    return encoder


def is_dual(network: keras.Model) -> bool:
    """Whether `network` embeds images and texts in one space, as CLIP and SigLIP do."""
    return hasattr(network, "get_vision_embeddings") and hasattr(network, "get_text_embeddings")


def prepared(converter: Any, images: keras.KerasTensor, *, size: tuple[int | None, int | None]) -> keras.KerasTensor:
    """`images` (n, s, s, 3), 0-255, as `converter` prepares them for a network that reads `size` (None: any size).

    The layers are stock Keras. They give what the converter gives, which is tested.
    """
    wanted = converter.image_size if None in size else size
    if wanted is not None and wanted != tuple(images.shape[1:3]):
        resizing = keras.layers.Resizing(
            *wanted,
            interpolation=converter.interpolation,
            antialias=converter.antialias,
            crop_to_aspect_ratio=converter.crop_to_aspect_ratio,
            pad_to_aspect_ratio=converter.pad_to_aspect_ratio,
            name="resize",
        )
        images = resizing(images, training=False)  # its own default is True, and Keras hands that to later layers
    scale = 1.0 if converter.scale is None else converter.scale
    offset = 0.0 if converter.offset is None else converter.offset
    return keras.layers.Rescaling(scale, offset=offset, name="rescale")(images)


def _image_shape(network: keras.Model, preset: str) -> tuple[int | None, ...]:
    """Height, width and channels that `network` reads."""
    inputs = network.input
    tensors = list(inputs.values()) if isinstance(inputs, dict) else [inputs]
    if is_dual(network):
        tensors = [inputs.get("images")]
    shape = tuple(getattr(tensors[0], "shape", ()))
    if len(tensors) != 1 or len(shape) != 4 or shape[-1] != 3:
        raise BackboneError(
            f"keras_hub preset {preset!r} is a {type(network).__name__}, which does not read RGB images alone; choose "
            "an image classifier's backbone, such as vit_base_patch16_224_imagenet, or a dual encoder"
        )
    return shape[1:]


def _one_vector(network: keras.Model, answers: Any) -> keras.KerasTensor | None:
    """One vector (n, d) an image from what `network` answers; None if that is neither a sequence nor a map."""
    shape = tuple(getattr(answers, "shape", ()))
    if len(shape) == 2:
        return answers
    if len(shape) == 4:
        return keras.layers.GlobalAveragePooling2D(name="pool")(answers)
    if len(shape) != 3:
        return None
    if type(network).__name__ in _CLASS_TOKEN and getattr(network, "use_class_token", True):
        return answers[:, 0]
    return keras.layers.GlobalAveragePooling1D(name="pool")(answers)
