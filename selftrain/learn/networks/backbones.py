"""Backbones: a rung of the ladder as a Keras model from uint8 pixels to logits."""

from __future__ import annotations

import hashlib
import math
import re
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import keras
import numpy as np

from selftrain.config import Recipe
from selftrain.errors import BackboneError
from selftrain.files.writing import replace
from selftrain.ladder import Rung, preset_of, resolve
from selftrain.learn.foundation.encoders import image_features
from selftrain.learn.networks.batchnorm import layers_of_type
from selftrain.learn.networks.strides import with_fewer_halvings
from selftrain.learn.networks.wide_resnet import wide_resnet

# EfficientNet-B0's stages, arXiv:1905.11946 table 1.
_KERNELS = [3, 3, 5, 3, 5, 5, 3]
_REPEATS = [1, 2, 2, 3, 3, 4, 1]
_FILTERS = [32, 16, 24, 40, 80, 112, 192, 320]
_STRIDES = [1, 2, 2, 2, 1, 2, 1]
_SMALLEST_MAP = 4  # pixels a side of the last feature map where strides are reduced
_DROP_CONNECT = 0.2

_FEWER_HALVINGS = ("MobileNet", "MobileNetV2")  # classes of keras.applications whose strides can be reduced

_SAVED_HERE, _LEARNED = "selftrain_backbone", "selftrain_pretraining"  # attributes of a weights file

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)


def untrained(recipe: Recipe, backbone: str, *, image_size: int, classes: int, seed: int) -> keras.Model:
    """The model that `recipe` starts from.

    Raises BackboneError as `build` does, and for a preset of KerasHub that is to be trained in steps.
    """
    if preset_of(backbone) is not None and not recipe.fits_only:
        raise BackboneError(
            f"{backbone!r} stays frozen and cannot be trained in steps; fit its head (head: fitted, steps: 0), or name "
            "another backbone, such as 'efficientnet_b0'"
        )
    return build(
        backbone,
        image_size=image_size,
        classes=classes,
        weights=recipe.weights,
        dropout=recipe.dropout,
        reduce_strides=recipe.reduce_strides,
        seed=seed,
    )


def build(
    backbone: str,
    *,
    image_size: int,
    classes: int,
    weights: str | None = None,
    dropout: float = 0.2,
    reduce_strides: bool = True,
    seed: int = 0,
) -> keras.Model:
    """A model from images (n, image_size, image_size, 3), uint8 or float 0-255, to float32 logits (n, classes).

    The backbone is the layer "backbone". It has only stock Keras layers, so that a saved model loads without KerasHub.
    A preset of KerasHub (keras_hub:PRESET) has KerasHub's own layers, is frozen, and brings its weights.

    - `weights`: None (from scratch), "imagenet", or a file of weights without the top. The file comes from
      `save_weights`, or from the rung's network in keras.applications if there is one.
    - `dropout`: the rate before the logits.
    - `reduce_strides`: halve small images fewer times, unless the weights are published ones.
    - `seed`: set as Keras's global random seed, from which the initialisers draw.

    In training, EfficientNets and EfficientNetV2s skip residual blocks at random per image (stochastic depth,
    arXiv:1603.09382), with or without weights. The rate rises from 0 at the first block to at most .2. Other networks
    skip nothing. Raises BackboneError for an unknown name, an image too small for it, or weights that do not fit.
    """
    rung = resolve(backbone)
    keras.config.set_image_data_format("channels_last")  # our images are so, whatever keras.json says
    keras.utils.set_random_seed(seed)
    images = keras.Input((image_size, image_size, 3), name="image")
    if (preset := preset_of(backbone)) is not None:
        pooled = image_features(preset, images)
    else:
        trunk = _trunk(rung, image_size=image_size, weights=weights, reduce_strides=reduce_strides)
        features = trunk(preprocessed(rung, images, weights=weights))
        pooled = keras.layers.GlobalAveragePooling2D(name="pool")(features)
    kept = keras.layers.Dropout(dropout, name="dropout")(pooled)
    logits = keras.layers.Dense(classes, dtype="float32", name="logits")(kept)
    return keras.Model(images, logits, name=re.sub(r"[^A-Za-z0-9_]+", "_", rung.name))


def open_trunk(rung: Rung, *, weights: str | None = None) -> keras.Model:
    """The backbone without pooling, for images of any size that were `preprocessed`, with the published strides.

    Raises BackboneError as `build` does, and for a network without a pyramid of feature maps.
    """
    if rung.family in ("wide_resnet", "keras_hub"):
        raise BackboneError(f"{rung.name} has no feature pyramid here; use 'efficientnet_b0', MobileNetV2 or a ResNet")
    return _trunk(rung, image_size=None, weights=weights, reduce_strides=False)


def save_weights(model: keras.Model, path: Path, *, learned: str = "") -> None:
    """Write the backbone's weights of a model from `build` to `path` (*.weights.h5), whole or not at all.

    `build(..., weights=str(path))` starts from them, whatever the classes, the image size and the strides. `learned`
    identifies the training that they come from, for `learned_by`.
    """
    import h5py

    def write(part: Path) -> None:
        with TemporaryDirectory(prefix=part.name, dir=part.parent) as folder:
            named = Path(folder, "backbone.weights.h5")  # Keras refuses another suffix
            model.get_layer("backbone").save_weights(named)
            with h5py.File(named, "r+") as file:
                file.attrs[_SAVED_HERE] = model.name
                file.attrs[_LEARNED] = learned
            named.replace(part)

    replace(path, write)


def learned_by(path: Path) -> str | None:
    """The training that the weights at `path` come from; None for a file that `save_weights` did not write."""
    import h5py

    if not path.is_file() or not h5py.is_hdf5(path):
        return None
    with h5py.File(path, "r") as file:
        return str(file.attrs.get(_LEARNED, "")) if _SAVED_HERE in file.attrs else None


def reduced_strides(image_size: int) -> list[int]:
    """B0's stage strides, without the last halvings, so that the last feature map is 4 pixels wide or more.

    >>> reduced_strides(224), reduced_strides(32)
    ([1, 2, 2, 2, 1, 2, 1], [1, 2, 2, 1, 1, 1, 1])
    """
    halvings = max(0, int(math.log2(image_size / _SMALLEST_MAP)) - 1)  # the stem takes one
    strides = []
    for stride in _STRIDES:
        keep = stride == 2 and halvings > 0
        halvings -= keep
        strides.append(2 if keep else 1)
    return strides


def set_trainable(model: keras.Model, *, frozen: bool, pretrained: bool) -> None:
    """Freeze or unfreeze the backbone of a model from `build`; pretrained batch norm keeps its statistics."""
    backbone = model.get_layer("backbone")
    backbone.trainable = not frozen
    if pretrained and not frozen:
        for layer in layers_of_type(backbone, keras.layers.BatchNormalization):
            layer.trainable = False


def _trunk(rung: Rung, *, image_size: int | None, weights: str | None, reduce_strides: bool) -> keras.Model:
    if weights == "imagenet" and rung.application is None:
        raise BackboneError(
            f"{rung.name} has no published ImageNet weights; use weights: null, a weights file, or efficientnet_b0"
        )
    if weights is not None and weights != "imagenet" and not Path(weights).is_file():
        raise BackboneError(f"weights {weights!r} is not a file; allowed: None, 'imagenet', or a weights file")
    if rung.family == "wide_resnet" and image_size is not None:
        model = wide_resnet(depth=int(rung.depth), width=int(rung.width), image_size=image_size)
    elif _is_ours(rung, weights):
        model = _efficientnet(rung, image_size=image_size, reduce_strides=reduce_strides)
    else:
        model = _application(rung, image_size=image_size, imagenet=weights == "imagenet")
        own = weights is None or _saved_here(weights)  # published weights keep the strides they were trained with
        if reduce_strides and own and rung.application in _FEWER_HALVINGS:
            model = with_fewer_halvings(model, smallest=_SMALLEST_MAP)
    if weights is not None and weights != "imagenet":
        _load(model, rung, weights)
        if _scales_by_half(model, weights):
            _scale_in_full(model)
    _limit_stochastic_depth(model)
    return keras.Model(model.input, model.output, name="backbone")


def _is_ours(rung: Rung, weights: str | None) -> bool:
    """True for the ladder's own EfficientNet, False for one of keras.applications."""
    return rung.family == "efficientnet" and (weights is None or rung.application is None or _saved_here(weights))


def _saved_here(weights: str) -> bool:
    import h5py

    if weights == "imagenet" or not h5py.is_hdf5(weights):
        return False
    with h5py.File(weights, "r") as file:
        return _SAVED_HERE in file.attrs


def _efficientnet(rung: Rung, *, image_size: int | None, reduce_strides: bool) -> keras.Model:
    """The ladder's own EfficientNet, with KerasHub's rates of stochastic depth: _DROP_CONNECT * i / 16 at block i."""
    from keras_hub.models import EfficientNetBackbone

    return EfficientNetBackbone(
        width_coefficient=rung.width,
        depth_coefficient=rung.depth,
        stackwise_kernel_sizes=_KERNELS,
        stackwise_num_repeats=_REPEATS,
        stackwise_input_filters=_FILTERS[:-1],
        stackwise_output_filters=_FILTERS[1:],
        stackwise_expansion_ratios=[1] + [6] * 6,
        stackwise_strides=reduced_strides(image_size) if reduce_strides and image_size else _STRIDES,
        stackwise_squeeze_and_excite_ratios=[0.25] * 7,
        stackwise_block_types=["v1"] * 7,
        dropout=_DROP_CONNECT,
        input_shape=(image_size, image_size, 3),
    )


def _limit_stochastic_depth(model: keras.Model) -> None:
    """Scale the rates of stochastic depth so that the highest is at most _DROP_CONNECT, as published.

    KerasHub's EfficientNets and Keras's EfficientNetV2s divide by the number of blocks of B0, whatever their own depth.
    """
    drops = [d for d in layers_of_type(model, keras.layers.Dropout) if tuple(d.noise_shape or ()) == (None, 1, 1, 1)]
    highest = max((drop.rate for drop in drops), default=0.0)
    for drop in drops:
        drop.rate *= _DROP_CONNECT / max(highest, _DROP_CONNECT)


def _application(rung: Rung, *, image_size: int | None, imagenet: bool) -> keras.Model:
    construct = getattr(keras.applications, str(rung.application))
    options = {"alpha": rung.width} if rung.family == "mobilenet_v2" else {}
    weights = "imagenet" if imagenet else None
    try:
        return construct(include_top=False, weights=weights, input_shape=(image_size, image_size, 3), **options)
    except (ValueError, OSError, KeyError) as error:
        source = "with ImageNet weights" if imagenet else "from scratch"
        raise BackboneError(f"{rung.name} cannot be built at {image_size} px {source}: {error}") from error


def _load(model: keras.Model, rung: Rung, weights: str) -> None:
    try:
        with warnings.catch_warnings():
            # Keras only warns when it leaves a layer as it was.
            warnings.filterwarnings("error", message="Skipping nested container")
            model.load_weights(weights)
    except (ValueError, OSError, KeyError, UserWarning) as error:
        raise BackboneError(
            f"weights {weights!r} do not fit {rung.name}; give a file saved from the same network without top: {error}"
        ) from error


def _scales_by_half(model: keras.Model, weights: str) -> bool:
    """Whether an EfficientNet's published weights are in `model`, which Keras gives a second scale by name only.

    They hold ImageNet's deviations in place of its variances. For "imagenet", keras.applications divides by their
    square root once more, in a layer that it leaves out for a file. A file is known by its digest, or by these values,
    which weights that were trained further have too.
    """
    from keras.src.applications.efficientnet import WEIGHTS_HASHES  # Keras has no public name for it

    layer = next(iter(layers_of_type(model, keras.layers.Normalization)), None)
    if layer is None or layer.input_mean is not None:  # the other families know their values without a file
        return False
    mean, variance = (np.ravel(keras.ops.convert_to_numpy(each)) for each in (layer.adapt_mean, layer.adapt_variance))
    as_published = np.allclose(mean, _IMAGENET_MEAN, atol=1e-3) and np.allclose(variance, _IMAGENET_STD, atol=1e-3)
    return as_published or _md5(weights) in {each for pair in WEIGHTS_HASHES.values() for each in pair}


def _scale_in_full(model: keras.Model) -> None:
    """Divide by the square root of ImageNet's deviations once more, as keras.applications does for "imagenet"."""
    layer = layers_of_type(model, keras.layers.Normalization)[0]
    variance = keras.ops.convert_to_numpy(layer.adapt_variance)
    layer.adapt_variance.assign(variance * np.reshape(_IMAGENET_STD, variance.shape))
    layer.finalize_state()


def _md5(path: str) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def preprocessed(rung: Rung, images: keras.KerasTensor, *, weights: str | None) -> keras.KerasTensor:
    """Images 0-255, rescaled to the range that the backbone and its published weights expect."""
    name = rung.application or rung.name
    if name.startswith(("EfficientNet", "ConvNeXt", "MobileNetV3")) and not _is_ours(rung, weights):
        return images  # these networks rescale inside
    if name.startswith("VGG") or name in ("ResNet50", "ResNet101", "ResNet152"):
        bgr = keras.ops.flip(images, axis=-1)
        return keras.layers.Rescaling(1.0, offset=[-mean for mean in _CAFFE_MEAN_BGR], name="rescale")(bgr)
    if name.startswith("DenseNet"):
        scale = [1 / (255 * std) for std in _IMAGENET_STD]
        offset = [-mean / std for mean, std in zip(_IMAGENET_MEAN, _IMAGENET_STD, strict=True)]
        return keras.layers.Rescaling(scale, offset=offset, name="rescale")(images)
    return keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="rescale")(images)
