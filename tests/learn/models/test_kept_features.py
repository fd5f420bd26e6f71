"""Kept features: each image is asked once of a frozen network, and a head reads what was kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from selftrain.data.store.feature_files import FeatureFiles, feature_files
from selftrain.data.store.pixels import ArrayPixels, Images, Int64s, KeptPixels

if TYPE_CHECKING:
    import keras

    from selftrain.learn.models.contract import Contract

IMAGES = np.random.default_rng(0).integers(0, 256, (90, 16, 16, 3), np.uint8)
ROWS = np.arange(90)
BACKBONE = "wide_resnet_16_1"
pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
]


class Counted:
    """Pixels that note which rows were read."""

    size = 16

    def __init__(self) -> None:
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(IMAGES)

    def gather(self, rows: Int64s) -> Images:
        self.read += rows.tolist()
        return ArrayPixels(IMAGES).gather(rows)


def kept_in(folder: Path, counted: Counted, budget_mb: int = 10) -> KeptPixels:
    names = tuple(f"image {number}" for number in range(90))
    return KeptPixels(counted, names, FeatureFiles(folder / "features", budget_mb))


def contract(**changes: int) -> Contract:
    from selftrain.learn.models.contract import Contract

    return Contract(backbone=BACKBONE, image_size=16, class_names=("a", "b", "c")).model_copy(update=changes)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    from selftrain.learn.networks.backbones import build

    return build(BACKBONE, image_size=16, classes=3, seed=1)


@pytest.fixture(scope="module")
def network(model: keras.Model) -> keras.Model:
    from selftrain.learn.models.features import feature_network

    return feature_network(model)


def test_images_are_read_once_and_only_new_ones_later(network: keras.Model, tmp_path: Path) -> None:
    from selftrain.learn.models.kept_features import views_of

    counted = Counted()
    first = views_of(network, kept_in(tmp_path, counted), ROWS[:70], mirrored=True)
    assert sorted(set(counted.read)) == list(range(70))
    counted.read.clear()
    again = views_of(network, kept_in(tmp_path, counted), ROWS, mirrored=True)
    assert sorted(set(counted.read)) == list(range(70, 90))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other[:70])


def test_kept_features_are_what_the_network_answers_in_both_views(network: keras.Model, tmp_path: Path) -> None:
    from selftrain.learn.models.kept_features import views_of

    expected = [network.predict_on_batch(view) for view in (IMAGES, IMAGES[:, :, ::-1])]
    pixels = kept_in(tmp_path, Counted())
    views_of(network, pixels, ROWS, mirrored=True)
    for found in (
        views_of(network, pixels, ROWS, mirrored=True),
        views_of(network, ArrayPixels(IMAGES), ROWS, mirrored=True),
    ):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_above_the_budget_nothing_is_kept_and_the_answers_are_the_same(network: keras.Model, tmp_path: Path) -> None:
    from selftrain.learn.models.kept_features import views_of

    counted = Counted()
    (streamed,) = views_of(network, kept_in(tmp_path, counted, budget_mb=0), ROWS)
    (kept,) = views_of(network, kept_in(tmp_path / "other", Counted()), ROWS)
    np.testing.assert_array_equal(streamed, kept)
    assert feature_files(tmp_path / "features") == []


def test_a_network_that_was_saved_or_built_again_has_the_same_digest_whatever_its_head(
    model: keras.Model, network: keras.Model, tmp_path: Path
) -> None:
    from selftrain.learn.models.features import feature_network
    from selftrain.learn.models.kept_features import network_digest
    from selftrain.learn.models.loading import load
    from selftrain.learn.models.saving import save
    from selftrain.learn.networks.backbones import build, save_weights

    save_weights(model, tmp_path / "w.weights.h5")
    twin = build(BACKBONE, image_size=16, classes=5, weights=str(tmp_path / "w.weights.h5"), seed=9, dropout=0.4)
    loaded = load(save(model, contract(), tmp_path / "saved").folder)[0]
    digests = {network_digest(feature_network(each)) for each in (model, twin, loaded)}
    assert digests == {network_digest(network)}
    assert digests != {network_digest(feature_network(build(BACKBONE, image_size=16, classes=3, seed=2)))}


def test_other_strides_with_the_same_weights_are_another_network() -> None:
    from selftrain.learn.models.features import feature_network
    from selftrain.learn.models.kept_features import network_digest
    from selftrain.learn.networks.backbones import build

    one, other = (
        network_digest(feature_network(build("efficientnet_b0_050", image_size=32, classes=3, reduce_strides=fewer)))
        for fewer in (True, False)
    )
    assert one != other


def test_a_fitted_head_answers_from_kept_features_as_its_network_would(model: keras.Model, tmp_path: Path) -> None:
    from selftrain.learn.models.kept_features import logits_of
    from selftrain.learn.models.predict import predict_logits

    counted = Counted()
    pixels = kept_in(tmp_path, counted)
    for flips in (True, False):
        found = logits_of(model, contract(), pixels, ROWS, flips=flips)
        np.testing.assert_allclose(
            found, predict_logits(model, ArrayPixels(IMAGES), ROWS, flips=flips), rtol=1e-3, atol=1e-3
        )
    assert len(set(counted.read)) == 90
    counted.read.clear()
    logits_of(model, contract(), pixels, ROWS)
    assert counted.read == []


def test_a_network_that_took_steps_is_asked_itself_and_leaves_no_features(model: keras.Model, tmp_path: Path) -> None:
    from selftrain.learn.models.kept_features import logits_of

    logits_of(model, contract(image_steps=4), kept_in(tmp_path, Counted()), ROWS)
    assert feature_files(tmp_path / "features") == []
