"""An ensemble is a saved model like any other, and answers the mean of its members' calibrated probabilities."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from selftrain.errors import ConfigError, UntrustedFileError
from selftrain.learn.models.contract import SavedModel
from selftrain.learn.models.ensemble import ensemble

pytestmark = [
    pytest.mark.keras,
    # Keras's own save copies TensorFlow variables in a way that numpy 2 deprecates.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


def member(folder: Path, names: tuple[str, ...], *, side: int = 16, seed: int = 0, temperature: float = 1.0) -> Path:
    """A saved model with random weights, its logits far apart."""
    import keras

    from selftrain.learn.models.contract import Contract
    from selftrain.learn.models.saving import save

    keras.utils.set_random_seed(seed)
    image = keras.Input((side, side, 3), name="image")
    x = keras.layers.Conv2D(4, 3, strides=2, activation="relu")(keras.layers.Rescaling(1 / 255)(image))
    x = keras.layers.GlobalAveragePooling2D()(x)
    logits = keras.layers.Dense(len(names), kernel_initializer=keras.initializers.RandomNormal(stddev=8, seed=seed))(x)
    contract = Contract(
        backbone=f"by_hand_{seed}", image_size=side, class_names=names, temperature=temperature, image_steps=10
    )
    return save(keras.Model(image, logits), contract, folder).folder


def probabilities(folder: Path, images: np.ndarray) -> np.ndarray:
    from selftrain.learn.models.calibrate import softmax
    from selftrain.learn.models.loading import load

    model, contract = load(folder)
    return softmax(model.predict_on_batch(images), contract.temperature)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), np.uint8)


def test_probabilities_are_the_mean_of_the_calibrated_ones(tmp_path: Path, images: np.ndarray) -> None:
    one = member(tmp_path / "one", ("a", "b", "c"), seed=1, temperature=3.0)
    other = member(tmp_path / "other", ("c", "a", "b"), seed=2, temperature=0.5)
    first, second = probabilities(one, images), probabilities(other, images)[:, [1, 2, 0]]
    assert np.abs(first - second).max() > 0.2

    alike = ensemble(models=[one, other], out=tmp_path / "alike")
    np.testing.assert_allclose(probabilities(alike.folder, images), (first + second) / 2, atol=1e-6)
    weighted = ensemble(models=[one, other], weights=[3, 1], out=tmp_path / "weighted")
    np.testing.assert_allclose(probabilities(weighted.folder, images), 0.75 * first + 0.25 * second, atol=1e-6)
    assert (alike.contract.class_names, alike.contract.temperature) == (("a", "b", "c"), 1.0)
    assert alike.contract.image_steps == 20
    assert alike.contract.lineage == tuple(SavedModel.read(folder).contract.identity for folder in (one, other))


def test_smaller_members_see_the_image_resized(tmp_path: Path, images: np.ndarray) -> None:
    small = member(tmp_path / "small", ("a", "b"), side=8, seed=1)
    large = member(tmp_path / "large", ("a", "b"), side=16, seed=2)
    both = ensemble(models=[small, large], out=tmp_path / "both")
    assert both.contract.image_size == 16
    flat = np.broadcast_to(images[:, :1, :1], images.shape).copy()  # one colour: the same at every size
    expected = (probabilities(small, flat[:, :8, :8]) + probabilities(large, flat)) / 2
    np.testing.assert_allclose(probabilities(both.folder, flat), expected, atol=1e-6)


def test_an_ensemble_of_ensembles_names_the_largest_backbone(tmp_path: Path) -> None:
    folders = [member(tmp_path / str(seed), ("a", "b"), side=4 + 4 * seed, seed=seed) for seed in (1, 2)]
    inner = ensemble(models=folders, out=tmp_path / "inner")
    outer = ensemble(models=[folders[0], inner.folder], out=tmp_path / "outer")
    assert outer.contract.backbone in ("by_hand_1", "by_hand_2")


def test_an_ensemble_labels_a_pool_and_predicts_files_as_any_model(
    tmp_path: Path, colour_model: Path, paint: Callable[..., Path]
) -> None:
    from selftrain.learn.models.loading import load
    from selftrain.learn.models.predict_files import predict_files

    both = ensemble(models=[colour_model, colour_model], out=tmp_path / "both")
    paths = [str(paint(tmp_path / f"{colour}.png", colour)) for colour in ("red", "blue", "green")]
    found = predict_files(*load(both.folder), paths)
    alone = predict_files(*load(colour_model), paths)
    assert [found.class_names[i] for i in found.probs.argmax(axis=1)] == ["red", "blue", "green"]
    np.testing.assert_allclose(found.probs, alone.probs, atol=1e-6)


def test_what_is_no_ensemble_is_said(tmp_path: Path, colour_model: Path) -> None:
    other = member(tmp_path / "other", ("a", "b"))
    with pytest.raises(ConfigError, match="two models or more, got 1"):
        ensemble(models=[colour_model], out=tmp_path / "x")
    with pytest.raises(ConfigError, match="same classes"):
        ensemble(models=[colour_model, other], out=tmp_path / "x")
    for weights in ([1.0], [-1.0, 2.0], [0.0, 0.0], [float("nan"), 1.0]):
        with pytest.raises(ConfigError, match="weights are"):
            ensemble(models=[colour_model, colour_model], weights=weights, out=tmp_path / "x")
    (other / "model.keras").write_bytes(b"changed")
    with pytest.raises(UntrustedFileError, match="was changed"):
        ensemble(models=[other, other], out=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def kept(folder: Path) -> dict[str, bytes]:
    """All files below `folder` and what they hold."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("way", ["folder", "link", "file", "below a file", "member", "other model"])
def test_an_out_that_holds_anything_else_is_refused_and_left_as_it_is(tmp_path: Path, way: str) -> None:
    one, other = (member(tmp_path / name, ("a", "b"), seed=seed) for seed, name in enumerate(("one", "other")))
    out = tmp_path / "out"
    match way:
        case "folder" | "link":
            (tmp_path / "thesis" / "photos").mkdir(parents=True)
            (tmp_path / "thesis" / "photos" / "a.jpg").write_text("my only copy")
            if way == "link":
                out.symlink_to(tmp_path / "thesis")
            else:
                out = tmp_path / "thesis"
        case "file" | "below a file":
            out.write_text("my only copy")
            out = out if way == "file" else out / "deeper"
        case "member":
            out = one
        case _:
            out = member(tmp_path / "another", ("a", "b"), seed=7)
    before = kept(tmp_path)
    with pytest.raises(ConfigError, match=re.escape(out.name if way != "below a file" else "out")):
        ensemble(models=[one, other], out=out)
    assert kept(tmp_path) == before
    assert not list(tmp_path.glob(".*"))


def test_an_ensemble_is_made_again_in_its_place_and_in_an_empty_folder_or_a_link_to_one(tmp_path: Path) -> None:
    one, other = (member(tmp_path / name, ("a", "b"), seed=seed) for seed, name in enumerate(("one", "other")))
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    for _ in range(2):
        both = ensemble(models=[one, other], out=tmp_path / "link")
    assert both.folder == tmp_path / "link"
    assert SavedModel.read(tmp_path / "empty") == SavedModel(tmp_path / "empty", both.contract)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "link", "one", "other"]


def test_a_model_that_was_trained_by_the_same_is_not_replaced_by_their_ensemble(tmp_path: Path) -> None:
    one, other = (member(tmp_path / name, ("a", "b"), seed=seed) for seed, name in enumerate(("one", "other")))
    both = ensemble(models=[one, other], out=tmp_path / "both").folder
    (both / "curve.parquet").write_bytes(b"what a training leaves")
    before = kept(tmp_path)
    with pytest.raises(ConfigError, match="not made from the same models"):
        ensemble(models=[one, other], out=both)
    assert kept(tmp_path) == before


def test_the_folder_this_runs_in_is_no_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (member(tmp_path / name, ("a", "b"), seed=seed) for seed, name in enumerate(("one", "other")))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(ConfigError, match=r"out='\.' is the current folder"):
        ensemble(models=[one, other], out=".")


def test_members_and_out_are_found_from_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed, name in enumerate(("one", "other")):
        member(tmp_path / name, ("a", "b"), seed=seed)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ensemble(models=["~/one", "~/other"], out="~/both").folder == tmp_path / "both"
