"""Features of real models: small ones made by hand, one from `backbones.build`, an adopted one and an ensemble."""

from pathlib import Path

import numpy as np
import pytest

from selftrain.data.store.pixels import ArrayPixels
from selftrain.errors import BackboneError

pytestmark = [
    pytest.mark.keras,
    # Keras's own save copies TensorFlow variables in a way that numpy 2 deprecates.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
MEANS = (IMAGES / 255).mean(axis=(1, 2))


def with_head(*head, pooled: bool = True):
    """A model of the mean of each colour (0-1), then the layers of `head`."""
    import keras

    image = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.GlobalAveragePooling2D()(x) if pooled else x
    for layer in head:
        x = layer(x)
    return keras.Model(image, x)


def read(model, images: np.ndarray = IMAGES) -> np.ndarray:
    from selftrain.learn.models.features import features

    return features(model, ArrayPixels(images), np.arange(len(images)))


def test_the_features_of_a_saved_model_are_what_its_last_layer_reads(colour_model: Path) -> None:
    from selftrain.learn.models.features import features
    from selftrain.learn.models.loading import load

    model, _ = load(colour_model)
    order = np.array([3, 0, 4])
    found = features(model, ArrayPixels(IMAGES), order, batch_size=32)
    assert (found.dtype, found.shape) == (np.float32, (3, 3))
    np.testing.assert_allclose(found, MEANS[order], atol=1e-5)
    assert features(model, ArrayPixels(IMAGES), order[:0]).shape == (0, 3)


def test_dropout_normalisation_and_softmax_around_the_last_layer_change_nothing() -> None:
    from keras import layers

    plain = read(with_head(layers.Dense(4)))
    more = with_head(layers.Dropout(0.5), layers.Dense(4), layers.BatchNormalization(), layers.Softmax())
    np.testing.assert_array_equal(read(more), plain)


def test_a_feature_map_is_averaged_over_its_positions() -> None:
    from keras import layers

    model = with_head(layers.Conv2D(4, 1), layers.GlobalAveragePooling2D(), pooled=False)
    np.testing.assert_allclose(read(model), MEANS, atol=1e-5)


def test_a_model_from_the_ladder_has_the_features_of_its_pool() -> None:
    import keras

    from selftrain.learn.networks.backbones import build

    model = build("wide_resnet_16_1", image_size=16, classes=3)
    pool = keras.Model(model.input, model.get_layer("pool").output)
    np.testing.assert_allclose(read(model), pool.predict_on_batch(IMAGES), rtol=1e-5)
    assert read(model).shape == (5, 64)


def test_an_adopted_model_has_the_features_of_the_one_inside(tmp_path: Path) -> None:
    import keras
    from keras import layers

    from selftrain.learn.adoption.adopt import adopt

    own = with_head(layers.Dense(7, activation="relu"), layers.Dense(3, activation="softmax"))
    own.save(tmp_path / "own.keras")
    adopted, _ = adopt(tmp_path / "own.keras", class_names=("a", "b", "c"), image_size=16)
    inside = keras.Model(own.input, own.layers[-2].output)
    np.testing.assert_allclose(read(adopted), inside.predict_on_batch(IMAGES), rtol=1e-5, atol=1e-6)


def test_features_and_answers_come_side_by_side_from_one_call(tmp_path: Path) -> None:
    from keras import layers

    from selftrain.learn.adoption.adopt import adopt
    from selftrain.learn.models.features import with_features

    own = with_head(layers.Dense(7, activation="relu"), layers.Dense(3, activation="softmax"))
    own.save(tmp_path / "own.keras")
    adopted, _ = adopt(tmp_path / "own.keras", class_names=("a", "b", "c"), image_size=16)
    for model in (with_head(layers.Dense(7, activation="relu"), layers.Dense(3)), adopted):
        both = with_features(model).predict_on_batch(IMAGES)
        np.testing.assert_allclose(both[:, :7], read(model), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(both[:, 7:], model.predict_on_batch(IMAGES), rtol=1e-5, atol=1e-5)


def test_an_ensemble_has_the_features_of_its_members_side_by_side(tmp_path: Path, colour_model: Path) -> None:
    from keras import layers

    from selftrain.learn.models.contract import Contract
    from selftrain.learn.models.ensemble import ensemble
    from selftrain.learn.models.loading import load
    from selftrain.learn.models.saving import save

    wide = with_head(layers.Dense(7, activation="relu"), layers.Dense(3))
    contract = Contract(backbone="by_hand", image_size=16, class_names=("blue", "green", "red"))
    save(wide, contract, tmp_path / "wide")
    both, _ = load(ensemble(models=[colour_model, tmp_path / "wide"], out=tmp_path / "both").folder)
    found = read(both)
    assert found.shape == (5, 3 + 7)
    np.testing.assert_allclose(found[:, :3], MEANS, atol=1e-5)
    np.testing.assert_allclose(found[:, 3:], read(wide), rtol=1e-5, atol=1e-6)


def test_a_model_without_weights_has_no_features() -> None:
    with pytest.raises(BackboneError, match="no layer with a matrix of weights"):
        read(with_head())
