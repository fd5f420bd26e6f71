"""Backbones: what they read, what they answer, and which weights they take."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from selftrain.errors import BackboneError

pytestmark = [
    pytest.mark.keras,
    # Keras's own save copies TensorFlow variables in a way that numpy 2 deprecates.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
    # MobileNetV2 warns that there are no published weights for other sizes than its own; ours come from a file.
    pytest.mark.filterwarnings("ignore:`input_shape` is undefined or non-square:UserWarning"),
]


def test_the_last_feature_map_keeps_four_pixels_at_small_sizes() -> None:
    from selftrain.learn.networks.backbones import reduced_strides

    for size in (32, 48, 64, 96, 128, 224):
        left = size // (2 * int(np.prod(reduced_strides(size))))
        assert left >= 4
        assert left <= 7


@pytest.mark.parametrize("name", ["MobileNet", "mobilenet_v2_035"])
def test_a_mobilenet_from_scratch_keeps_four_pixels_and_the_shapes_of_its_weights(name: str) -> None:
    from selftrain.learn.networks.backbones import build

    kept, plain = (build(name, image_size=32, classes=3, reduce_strides=reduce) for reduce in (True, False))
    assert kept.get_layer("backbone").output.shape[1:3] == (4, 4)
    assert plain.get_layer("backbone").output.shape[1:3] == (1, 1)
    assert [w.shape for w in kept.weights] == [w.shape for w in plain.weights]
    assert build(name, image_size=128, classes=3).get_layer("backbone").output.shape[1:3] == (4, 4)


def test_a_convolution_that_halves_no_more_has_its_former_answers_at_every_second_place() -> None:
    import keras

    from selftrain.learn.networks.strides import with_fewer_halvings

    image = keras.Input((8, 8, 2))
    padded = keras.layers.ZeroPadding2D(((0, 1), (0, 1)))(image)
    halving = keras.Model(image, keras.layers.DepthwiseConv2D(3, strides=2, depthwise_initializer="normal")(padded))
    whole = with_fewer_halvings(halving, smallest=5)
    whole.set_weights(halving.get_weights())
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 2)).astype(np.float32)
    answers = whole.predict_on_batch(images)
    assert answers.shape == (3, 8, 8, 2)
    np.testing.assert_allclose(answers[:, 1::2, 1::2], halving.predict_on_batch(images), rtol=1e-5, atol=1e-6)
    assert with_fewer_halvings(halving, smallest=4) is halving


def test_a_wide_resnet_has_the_weights_of_the_literature_and_a_quarter_of_the_side() -> None:
    from selftrain.learn.networks.backbones import build

    model = build("wide_resnet_28_2", image_size=32, classes=10)
    assert sum(int(np.prod(w.shape)) for w in model.trainable_variables) == 1_467_610  # MixMatch's, FixMatch's
    assert model.get_layer("backbone").output.shape[1:] == (8, 8, 128)


def test_a_depth_that_is_no_wide_resnets_is_refused() -> None:
    from selftrain.learn.networks.wide_resnet import wide_resnet

    with pytest.raises(ValueError, match="depth 18 does not give whole blocks"):
        wide_resnet(depth=18, width=2, image_size=32)


def test_a_ladder_rung_reads_uint8_answers_float32_and_is_built_of_stock_layers(tmp_path: Path) -> None:
    import json
    import zipfile

    from selftrain.learn.networks.backbones import build

    model = build("efficientnet_b0_050", image_size=32, classes=5, seed=1)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    logits = model.predict_on_batch(images)
    assert logits.shape == (2, 5)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(model.predict_on_batch(images.astype(np.float32)), logits, atol=1e-5)
    model.save(tmp_path / "m.keras")
    config = json.loads(zipfile.ZipFile(tmp_path / "m.keras").read("config.json"))
    assert "keras_hub" not in json.dumps(config)


def block_drops(name: str) -> dict[str, float]:
    """The rates of the dropouts that leave a whole residual block out for an image, by block, in their order."""
    import keras

    from selftrain.learn.networks.backbones import build
    from selftrain.learn.networks.batchnorm import layers_of_type

    backbone = build(name, image_size=32, classes=2).get_layer("backbone")
    dropouts = layers_of_type(backbone, keras.layers.Dropout)
    return {each.name.split("_")[0]: each.rate for each in dropouts if tuple(each.noise_shape or ()) == (None, 1, 1, 1)}


def test_an_efficientnet_leaves_blocks_out_the_later_the_oftener() -> None:
    # Block i, from 0, has .2 i / 16 if it adds its input; at half B0's depth those are the blocks 4, 6 and 8.
    assert block_drops("efficientnet_b0_050") == pytest.approx({"block4b": 0.05, "block5b": 0.075, "block6b": 0.1})


@pytest.mark.parametrize(("name", "last"), [("efficientnet_b1", "block7b"), ("EfficientNetV2B1", "block6i")])
def test_a_deeper_efficientnet_leaves_no_block_out_oftener(name: str, last: str) -> None:
    drops = block_drops(name)
    assert drops[last] == max(drops.values()) == pytest.approx(0.2)
    assert list(drops.values()) == sorted(drops.values())


@pytest.mark.parametrize("name", ["mobilenet_v2_035", "wide_resnet_16_1"])
def test_a_mobilenet_and_a_wide_resnet_leave_no_block_out(name: str) -> None:
    assert block_drops(name) == {}


def test_blocks_are_left_out_in_training_and_never_in_inference() -> None:
    import keras

    from selftrain.learn.networks.backbones import build
    from selftrain.learn.networks.batchnorm import layers_of_type

    backbone = build("efficientnet_b0_050", image_size=32, classes=2).get_layer("backbone")
    for norm in layers_of_type(backbone, keras.layers.BatchNormalization):
        norm.trainable = False  # its statistics differ between training and inference, too
    image = np.random.default_rng(0).uniform(-1, 1, (1, 32, 32, 3)).astype(np.float32)
    alike = np.repeat(image, 32, axis=0)
    inferred, again = (np.asarray(backbone(alike, training=False)) for _ in range(2))
    trained, other = (np.asarray(backbone(alike, training=True)) for _ in range(2))
    unit = inferred.std()
    np.testing.assert_array_equal(inferred, again)
    assert np.ptp(inferred, axis=0).max() < 1e-3 * unit
    assert np.ptp(trained, axis=0).max() > 0.1 * unit
    assert np.abs(trained - other).max() > 0.1 * unit


def test_the_seed_decides_the_first_weights() -> None:
    from selftrain.learn.networks.backbones import build
    from selftrain.learn.networks.variables import read

    one, same, other = (
        read(build("MobileNet", image_size=32, classes=3, seed=seed).get_layer("logits").weights) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one[0], same[0])
    assert np.abs(one[0] - other[0]).max() > 0


def test_weights_come_from_a_local_file_and_batch_norm_stays_frozen_after_thawing(tmp_path: Path) -> None:
    import keras

    from selftrain.learn.networks.backbones import build, set_trainable
    from selftrain.learn.networks.batchnorm import layers_of_type
    from selftrain.learn.networks.variables import read

    keras.utils.set_random_seed(5)
    donor = keras.applications.MobileNetV2(alpha=0.35, include_top=False, weights=None, input_shape=(32, 32, 3))
    donor.save_weights(tmp_path / "donor.weights.h5")
    model = build("mobilenet_v2_035", image_size=32, classes=3, weights=str(tmp_path / "donor.weights.h5"))
    for one, other in zip(read(model.get_layer("backbone").weights), read(donor.weights), strict=True):
        np.testing.assert_array_equal(one, other)
    set_trainable(model, frozen=True, pretrained=True)
    assert len(model.trainable_variables) == 2
    set_trainable(model, frozen=False, pretrained=True)
    assert len(model.trainable_variables) > 2
    assert not any(norm.trainable for norm in layers_of_type(model, keras.layers.BatchNormalization))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    import keras

    from selftrain.learn.networks.backbones import build

    donor = keras.applications.MobileNetV2(alpha=0.5, include_top=False, weights=None, input_shape=(32, 32, 3))
    donor.save_weights(tmp_path / "donor.weights.h5")
    with pytest.raises(BackboneError, match="do not fit mobilenet_v2_035"):
        build("mobilenet_v2_035", image_size=32, classes=3, weights=str(tmp_path / "donor.weights.h5"))


@pytest.mark.parametrize(
    "name",
    [
        "wide_resnet_16_1",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("efficientnet_b0_050", "efficientnet_b0", "mobilenet_v2_035")
        ),
    ],
)
def test_weights_saved_here_start_the_same_network_at_any_size(name: str, tmp_path: Path) -> None:
    from selftrain.learn.networks.backbones import build, save_weights
    from selftrain.learn.networks.variables import read

    path = tmp_path / "deep" / "own.weights.h5"
    donor = build(name, image_size=32, classes=2, seed=5)
    save_weights(donor, path)
    again = build(name, image_size=64, classes=3, weights=str(path), reduce_strides=False, seed=6)
    ours, theirs = (read(model.get_layer("backbone").weights) for model in (donor, again))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    same = build(name, image_size=32, classes=2, weights=str(path), seed=5)
    np.testing.assert_allclose(same.predict_on_batch(images), donor.predict_on_batch(images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "size", "weights", "message"),
    [
        ("efficientnet_b0", 32, "no_such.h5", "is not a file"),
        ("efficientnet_b0_050", 32, "imagenet", "no published ImageNet weights"),
        ("InceptionV3", 32, None, "cannot be built at 32 px"),
        ("efficientnet_b9", 32, None, "did you mean"),
    ],
)
def test_what_cannot_be_built_is_said(name: str, size: int, weights: str | None, message: str) -> None:
    from selftrain.learn.networks.backbones import build

    with pytest.raises(BackboneError, match=message):
        build(name, image_size=size, classes=3, weights=weights)


@pytest.mark.parametrize(("values", "scale"), [("deviations", True), ("variances", False), ("none", False)])
def test_published_values_of_an_efficientnet_are_scaled_as_keras_scales_them(
    values: str, scale: bool, tmp_path: Path
) -> None:
    import keras

    from selftrain.learn.networks import backbones

    std = np.array([0.229, 0.224, 0.225], np.float32)
    image = keras.Input((4, 4, 3))
    model = keras.Model(image, keras.layers.Normalization()(keras.layers.Rescaling(1 / 255)(image)))
    if values != "none":
        held = {"deviations": std, "variances": std**2}[values]
        model.layers[-1].set_weights([np.float32([0.485, 0.456, 0.406]), held, np.zeros((), np.int32)])
        model.layers[-1].finalize_state()
    (tmp_path / "some.h5").write_bytes(b"no published file")
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3)).astype(np.float32)
    before = model(images)
    assert backbones._scales_by_half(model, str(tmp_path / "some.h5")) is scale
    if scale:
        backbones._scale_in_full(model)
        as_keras_does = keras.layers.Rescaling([1 / each**0.5 for each in std.tolist()])(before)
        np.testing.assert_allclose(model(images), as_keras_does, atol=1e-5)


@pytest.mark.slow
def test_an_efficientnet_has_the_same_features_from_a_published_file_and_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keras finds the file where it keeps what it downloads, under the digest that it expects."""
    import keras
    from keras.src.applications.efficientnet import WEIGHTS_HASHES
    from keras.src.backend import config

    from selftrain.learn.networks.backbones import _md5, build

    donor = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(32, 32, 3))
    donor.layers[2].set_weights(
        [np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225]), np.zeros((), np.int32)]
    )
    path = tmp_path / "models" / "efficientnetb0_notop.h5"
    path.parent.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the format of the published files is old
        donor.save(path)
    monkeypatch.setattr(config, "_KERAS_DIR", str(tmp_path))
    monkeypatch.setitem(WEIGHTS_HASHES, "b0", (WEIGHTS_HASHES["b0"][0], _md5(str(path))))
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    models = [build("efficientnet_b0", image_size=32, classes=2, weights=each) for each in ("imagenet", str(path))]
    named, local = (np.asarray(keras.Model(each.input, each.get_layer("pool").output)(images)) for each in models)
    size = np.abs(named).max()
    assert size > 0
    assert np.abs(named - local).max() < 1e-3 * size


@pytest.mark.parametrize("name", ["DenseNet121", "ResNet50", "MobileNet"])
def test_preprocessing_is_that_of_the_published_weights(name: str) -> None:
    import keras

    from selftrain.ladder import resolve
    from selftrain.learn.networks import backbones

    module = {"DenseNet121": "densenet", "ResNet50": "resnet", "MobileNet": "mobilenet"}[name]
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3)).astype(np.float32)
    image = keras.Input((4, 4, 3))
    ours = keras.Model(image, backbones.preprocessed(resolve(name), image, weights=None)).predict_on_batch(images)
    theirs = getattr(keras.applications, module).preprocess_input(images.copy())
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_a_setting_of_channels_first_changes_no_network() -> None:
    import keras

    from selftrain.learn.networks.backbones import build

    keras.config.set_image_data_format("channels_first")
    try:
        model = build("wide_resnet_16_1", image_size=16, classes=3)
    finally:
        keras.config.set_image_data_format("channels_last")
    assert model.get_layer("backbone").output.shape[1:3] == (4, 4)
