"""What autolabel refuses or warns of: arguments, images, labels and answers that do not do, each by its name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from selftrain import as_numpy, autolabel, held_out
from selftrain.errors import ConfigError, InputError, PredictionError, SourceError
from selftrain.learn.models.calibrate import softmax
from tests.autolabeling.nearest_mean import LABELED, Floats, Ints, NearestMean, Pixels


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"part": "validation"}, "part is 'validation'; give one of training, held_out"),
        ({"part": "heldout"}, "part is 'heldout'; give one of training, held_out"),
        ({"labels": "onehot"}, "labels is 'onehot'; give one of index, one_hot, soft, or None"),
        ({"labels": "int"}, "labels is 'int'; give one of index, one_hot, soft, or None"),
        ({"unlabeled_weight": np.inf}, "unlabeled_weight is inf; give a number from 0"),
        ({"unlabeled_weight": np.nan}, "unlabeled_weight is nan; give a number from 0"),
        ({"unlabeled_weight": "1"}, "unlabeled_weight is '1'; give a number from 0"),
        ({"unlabeled_weight": -1, "part": "held_out"}, "unlabeled_weight is -1; give a number from 0"),
    ],
)
def test_a_part_a_kind_of_labels_or_a_weight_that_is_none_is_refused(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        as_numpy(tmp_path, **changes)


@pytest.mark.parametrize(("factor", "words"), [(1 / 255, "times 255"), (255.0, "divided by 255")])
def test_images_in_another_range_than_the_model_reads_are_refused(
    labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path, factor: float, words: str
) -> None:
    images = labeled[0].astype(np.float32) / (1 if factor < 1 else 255)
    highest = 255 if factor < 1 else 1

    def bent(batch: npt.NDArray[Any]) -> Pixels:
        return np.rint(127 * (1 + np.cos(3 * batch / highest))).astype(np.uint8)

    theirs = NearestMean(bent(images), labeled[1])

    def scaled(batch: npt.NDArray[Any]) -> Floats:
        return theirs(bent(batch))

    wrong = (images * factor).astype(np.float32)
    others = (pool.astype(np.float32) / (255 if factor < 1 else 1)).astype(np.float32)
    with pytest.raises(SourceError, match=rf"of them {words}\. Give images in the range"):
        autolabel(model=scaled, labeled=(wrong, labeled[1]), unlabeled=others, out=tmp_path / "out")


@pytest.mark.parametrize(
    ("scale", "offset", "turned", "words"),
    [
        (1.0, 0.0, True, "prepared as 'bgr 0..255', which docs/data.md explains"),
        (1 / 127.5, -1.0, True, "prepared as 'bgr -1..1', which docs/data.md explains"),
        (1 / 127.5, -1.0, False, "prepared as '-1..1', which docs/data.md explains"),
    ],
)
def test_images_that_the_model_wants_prepared_are_refused_with_the_preparation(
    tmp_path: Path, scale: float, offset: float, turned: bool, words: str
) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(150) % 3
    images = rng.integers(60, 110, (150, 8, 8, 3))
    images[np.arange(150), :, :, labels] += 60
    centres = 85 + 60 * np.eye(3)

    def bent(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return 127 * (1 + np.cos(np.clip(pixels, 0, 255) / 20))  # a linear model would be right under any shift

    def theirs(batch: npt.NDArray[Any]) -> Floats:
        pixels = (np.asarray(batch, np.float32) - offset) / scale
        seen = pixels[..., ::-1] if turned else pixels
        distances = ((bent(seen).mean(axis=(1, 2))[:, None] - bent(centres)) ** 2).sum(axis=2)
        logits: Floats = np.asarray(-distances / 400, np.float32)
        return logits

    with pytest.raises(SourceError, match=re.escape(words)):
        autolabel(
            model=theirs,
            labeled=(images.astype(np.uint8), labels),
            unlabeled=images[:30].astype(np.uint8),
            out=tmp_path / "out",
        )


@pytest.mark.keras
@pytest.mark.parametrize("name", ["tiny.h5", "exported"])
def test_a_path_of_an_old_model_is_opened_as_any_other(tmp_path: Path, name: str) -> None:
    path = Path(__file__).parents[1] / "learn" / "adoption" / "keras2" / name
    images = np.random.default_rng(0).integers(0, 256, (60, 16, 16, 3)).astype(np.uint8)
    from selftrain.learn.adoption.formats import open_brought

    labels = open_brought(path).predict(images.astype(np.float32), verbose=0).argmax(axis=1)
    labels[:3] = [0, 1, 2]
    found = autolabel(model=path, labeled=(images, labels), unlabeled=images[:5] // 2, out=tmp_path / "out")
    assert found.outputs == "probabilities"
    assert found.calibration.accuracy >= 0.9


def test_labelled_and_unlabelled_images_of_different_ranges_are_refused(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path
) -> None:
    given_labeled = (labeled[0].astype(np.float32), labeled[1])
    with pytest.raises(SourceError, match=r"unlabeled: values reach from 0 to 1, .* from 0 to 255; prepare all"):
        autolabel(model=model, labeled=given_labeled, unlabeled=pool / np.float32(255), out=tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"unlabeled": np.zeros((5, 9, 9, 1), np.uint8)},
            "unlabeled: images of shape (9, 9, 1), type uint8; those before",
        ),
        ({"unlabeled": np.zeros((5, 8, 8, 1), np.float32)}, "type float32; those before have (8, 8, 1), uint8"),
        ({"unlabeled": np.zeros((0, 8, 8, 1), np.uint8)}, "unlabeled holds no image"),
        ({"unlabeled": iter(())}, "unlabeled holds no image"),
        ({"labeled": (np.zeros((0, 8, 8, 1), np.uint8), np.zeros(0))}, "labeled holds no image"),
        ({"labeled": (np.zeros((3, 8, 8, 1), np.uint8), np.arange(3))}, "is held out"),
        ({"class_names": ["a", "b"]}, "class_names has 2 classes (a, b), but the model answers 10"),
    ],
)
def test_what_does_not_go_together_is_said(
    model: NearestMean,
    labeled: tuple[Pixels, Ints],
    pool: Pixels,
    tmp_path: Path,
    changes: dict[str, Any],
    said: str,
) -> None:
    arguments: dict[str, Any] = {"model": model, "labeled": labeled, "unlabeled": pool, "out": tmp_path / "out"}
    with pytest.raises(SourceError, match=re.escape(said)):
        autolabel(**{**arguments, **changes})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"threshold": 90}, "threshold is 90; give a confidence from 0 to 1"),
        ({"threshold": -0.1}, "threshold is -0.1; give a confidence"),
        ({"threshold": np.nan}, "threshold is nan; give a confidence"),
        ({"threshold": "0.9"}, "threshold is '0.9'; give a confidence"),
        ({"threshold": True}, "threshold is True; give a confidence"),
        ({"targets": "sof"}, "targets is 'sof'; it should be 'soft' or 'hard'"),
        ({"outputs": "softmax"}, "outputs is 'softmax'; it should be 'logits' or 'probabilities'"),
        ({"max_per_class": 0}, "max_per_class is 0; it should be greater than or equal to 1"),
        ({"batch_size": 0}, "batch_size is 0; it should be greater than or equal to 1"),
        ({"seed": "a"}, "seed is 'a'"),
        ({"held_out": 0}, "held_out is 0; it should be greater than 0"),
        ({"held_out": -1}, "held_out is -1; it should be greater than or equal to 0"),
        ({"held_out": 1.5}, "held_out is 1.5; it should be less than or equal to 1"),
        ({"held_out": np.nan}, "held_out is nan"),
        ({"image_size": 0}, "image_size is 0; give pixels per side"),
        ({"image_size": -3}, "image_size is -3; give pixels per side"),
        ({"class_names": list(range(10))}, "class_names: 0 (row 0) is not text"),
        ({"class_names": ["a"] * 10}, "class_names: 'a' (row 1) is there twice"),
        ({"class_names": "abcdefghij"}, "class_names is 'abcdefghij'; give a list"),
        ({"class_names": ()}, "class_names is empty; give a list"),
        ({"class_names": 10}, "class_names is 10; give a list"),
    ],
)
def test_an_argument_that_is_not_allowed_is_named_before_anything_is_asked_or_written(
    model: NearestMean,
    labeled: tuple[Pixels, Ints],
    pool: Pixels,
    tmp_path: Path,
    changes: dict[str, Any],
    said: str,
) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        autolabel(**{"model": model, "labeled": labeled, "unlabeled": pool, "out": tmp_path / "out", **changes})
    assert not model.asked
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("share", [-0.1, 1.5, np.nan])
def test_a_share_that_is_none_is_refused(pool: Pixels, share: float) -> None:
    with pytest.raises(ConfigError, match="share is"):
        held_out(pool, share=share)


def test_classes_that_the_model_does_not_know_are_refused(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path
) -> None:
    images, labels = labeled
    with pytest.raises(SourceError, match=r"labels are not class indices 0\.\.9 .*as the model answers 10 classes"):
        autolabel(model=model, labeled=(images, labels + 5), unlabeled=pool, out=tmp_path / "a")
    names = np.array(["even", "odd"])[labels % 2]
    with pytest.raises(SourceError, match=r"labeled has 2 classes \(even, odd\), but the model answers 10"):
        autolabel(model=model, labeled=(images, names), unlabeled=pool, out=tmp_path / "b")


def test_labels_with_a_missing_one_are_refused_before_they_become_a_class(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path
) -> None:
    images, labels = labeled
    names = np.array([f"c{label}" for label in labels], object)
    names[labels == 3] = None  # with None there are ten names, as many as the model has outputs
    with pytest.raises(SourceError, match=r"labeled: labels of rows .* are missing or not a label"):
        autolabel(model=model, labeled=(images, names), unlabeled=pool, out=tmp_path / "out")


def test_sigmoids_of_many_classes_are_neither_logits_nor_probabilities(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path
) -> None:
    def sigmoids(batch: npt.NDArray[Any]) -> Floats:
        return (1 / (1 + np.exp(-model(batch) - 5))).astype(np.float32)

    arguments: dict[str, Any] = {"model": sigmoids, "labeled": labeled, "unlabeled": pool}
    with pytest.raises(PredictionError, match="neither probabilities nor"):
        autolabel(**arguments, out=tmp_path / "a")
    assert autolabel(**arguments, out=tmp_path / "b", outputs="logits").outputs == "logits"


def test_logits_that_are_called_probabilities_are_refused(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path
) -> None:
    first = int(np.flatnonzero(held_out(labeled[0]))[0])
    said = rf"labeled: the model's answers to .* are not probabilities \(.*\): rows {first}, .*say outputs='logits'"
    with pytest.raises(PredictionError, match=said):
        autolabel(model=model, labeled=labeled, unlabeled=pool, out=tmp_path / "out", outputs="probabilities")


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (3.0, r"unlabeled: the model's answers to 1 of 100 images are not probabilities .*: row 107, the first: 3, 3"),
        (np.nan, r"unlabeled: the model answers NaN or infinity to 1 of 100 images \(row 107\)"),
    ],
)
def test_answers_to_the_pool_that_are_no_probabilities_are_refused_by_row(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path, wrong: float, said: str
) -> None:
    def probabilities(batch: npt.NDArray[Any]) -> Floats:
        answers = softmax(model(batch))
        answers[(batch == pool[107]).all(axis=(1, 2, 3))] = wrong
        return answers

    with pytest.raises(PredictionError, match=said):
        autolabel(model=probabilities, labeled=labeled, unlabeled=pool, out=tmp_path / "out")


def test_a_model_that_answers_other_classes_to_the_pool_is_refused_before_all_of_it_is_labelled(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path
) -> None:
    def changing(batch: npt.NDArray[Any]) -> Floats:
        return model(batch)[:, : 10 if model.asked < LABELED else 9]

    with pytest.raises(PredictionError, match="unlabeled: the model answers 9 columns, but 10 to labelled images"):
        autolabel(model=changing, labeled=labeled, unlabeled=pool, out=tmp_path / "out", batch_size=2000)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("stream", [False, True])
def test_images_with_nan_are_named_by_their_rows(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path, stream: bool
) -> None:
    images = pool.astype(np.float32)
    images[57, 3, 3] = np.nan
    mine = (labeled[0].astype(np.float32), labeled[1])
    unlabeled = iter(images) if stream else images
    with pytest.raises(SourceError, match=r"unlabeled: 1 images hold NaN or infinity \(row 57\)"):
        autolabel(model=model, labeled=mine, unlabeled=unlabeled, out=tmp_path / "out")


def test_a_model_whose_classes_changed_places_is_refused(
    labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path
) -> None:
    theirs = NearestMean(*labeled)
    order = np.arange(10)
    order[[3, 8]] = 8, 3
    with pytest.raises(PredictionError, match=r"most images of '3' are answered as '8', and most of '8' as '3'"):
        autolabel(model=lambda batch: theirs(batch)[:, order], labeled=labeled, unlabeled=pool, out=tmp_path / "out")


@pytest.mark.parametrize("threshold", [0.9, None])
def test_a_model_of_random_weights_is_refused_though_the_labelled_images_are_in_its_pool(
    labeled: tuple[Pixels, Ints], digits: tuple[Pixels, Ints], tmp_path: Path, threshold: float | None
) -> None:
    weights = np.random.default_rng(1).normal(size=(64, 10))

    def untrained(batch: npt.NDArray[Any]) -> Floats:
        return softmax((batch.reshape(len(batch), -1) @ weights).astype(np.float32))

    with pytest.raises(
        PredictionError, match=r"held-out images, not clearly better than chance .*nothing was labelled"
    ):
        autolabel(model=untrained, labeled=labeled, unlabeled=digits[0], out=tmp_path / "out", threshold=threshold)


def test_a_model_whose_classes_are_all_one_place_off_is_refused(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path
) -> None:
    with pytest.raises(PredictionError, match=r"is right on 0 of .*\(0, 1, 2, .*\) in the order of its outputs"):
        autolabel(
            model=lambda batch: np.roll(model(batch), 1, axis=1), labeled=labeled, unlabeled=pool, out=tmp_path / "out"
        )


def test_few_held_out_images_refuse_a_model_that_is_below_chance_and_warn_of_one_above(
    labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path
) -> None:
    images, labels = labeled[0], (labeled[1] >= 5).astype(np.int64)
    few = (images[:12], labels[:12])

    def answering(right: int) -> Any:
        known = {image.tobytes(): label for image, label in zip(*few, strict=True)}
        wrong = {image.tobytes() for image in few[0][right:]}

        def answers(batch: npt.NDArray[Any]) -> Floats:
            found = [known.get(each.tobytes(), 0) ^ (each.tobytes() in wrong) for each in batch]
            return np.eye(2, dtype=np.float32)[found] * 3

        return answers

    arguments: dict[str, Any] = {"labeled": (images[12:], labels[12:]), "validation": few, "unlabeled": pool[:9]}
    with pytest.raises(PredictionError, match="is right on 6 of 12 held-out images"):
        autolabel(model=answering(6), **arguments, out=tmp_path / "a")
    found = autolabel(model=answering(9), **arguments, out=tmp_path / "b")
    assert any("right on 9 of 12 held-out images, not clearly better than chance" in each for each in found.warnings)


@pytest.mark.parametrize("kind", ["batch", "random"])
def test_a_model_that_works_as_in_training_is_refused(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path, kind: str
) -> None:
    rng = np.random.default_rng(0)

    def training(batch: npt.NDArray[Any]) -> Floats:
        logits = model(batch)
        kept: Floats = np.asarray(logits * (rng.random(logits.shape) > 0.2), np.float32)
        return logits - logits.mean(axis=0) if kind == "batch" else kept

    with pytest.raises(PredictionError, match=r"answers an image alone differently than among others, .*model\.eval"):
        autolabel(model=training, labeled=labeled, unlabeled=pool, out=tmp_path / "out")
