"""Autolabel: a plain model labels digits; what is judged, kept, left out and refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.datasets import load_digits

from selftrain import as_numpy, autolabel, held_out
from selftrain.config import PerClass, Quantile, TargetPrecision, Threshold
from selftrain.data import given
from selftrain.errors import ConfigError, InputError, PredictionError, SourceError
from selftrain.learn.calibrate import softmax
from selftrain.selflabel.analysis import Analysis, AnalysisFolder

Pixels = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
LABELED = 400


class NearestMean:
    """A classifier by hand: the nearer an image is to the mean of a class, the higher its logit."""

    def __init__(self, images: Pixels, labels: Ints) -> None:
        flat = images.reshape(len(images), -1).astype(np.float32)
        self.means = np.stack([flat[labels == digit].mean(axis=0) for digit in range(10)])
        self.asked = 0

    def __call__(self, images: npt.NDArray[Any]) -> Floats:
        self.asked += len(images)
        flat = images.reshape(len(images), -1).astype(np.float32)
        squares = ((flat[:, None] - self.means[None]) ** 2).sum(axis=2)
        logits: Floats = (-squares / 20_000).astype(np.float32)
        return logits


@pytest.fixture(scope="module")
def digits() -> tuple[Pixels, Ints]:
    """1,797 scans uint8 (n, 8, 8, 1) and their labels, shuffled."""
    bunch = load_digits()
    order = np.random.default_rng(0).permutation(len(bunch.target))
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    return images[order], bunch.target[order].astype(np.int64)


@pytest.fixture
def labeled(digits: tuple[Pixels, Ints]) -> tuple[Pixels, Ints]:
    return digits[0][:LABELED], digits[1][:LABELED]


@pytest.fixture
def pool(digits: tuple[Pixels, Ints]) -> Pixels:
    return digits[0][LABELED:]


@pytest.fixture
def model(labeled: tuple[Pixels, Ints]) -> NearestMean:
    """A model that has not seen what is held out."""
    images, labels = labeled
    seen = ~held_out(images)
    return NearestMean(images[seen], labels[seen])


def test_the_analysis_counts_every_image_once(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, digits: tuple[Pixels, Ints], tmp_path: Path
) -> None:
    found = autolabel(model=model, labeled=labeled, unlabeled=pool, out=tmp_path / "out")
    counts = found.counts
    apart = int(held_out(labeled[0]).sum())
    assert (counts.training, counts.held_out, counts.unlabeled) == (LABELED - apart, apart, len(pool))
    assert (counts.copies, counts.conflicting, counts.unreadable) == (0, 0, 0)
    assert sum(each.labeled for each in found.classes.values()) == counts.training
    assert sum(each.predicted for each in found.classes.values()) == counts.unlabeled
    assert sum(each.accepted for each in found.classes.values()) == counts.accepted
    assert 0.2 < counts.accepted / counts.unlabeled < 0.95
    assert found.measured is not None
    assert found.measured.accepted == counts.accepted
    assert (found.outputs, found.labels, found.image_shape, found.image_dtype) == (
        "logits",
        "index",
        (8, 8, 1),
        "uint8",
    )
    assert found.class_names == tuple("0123456789")
    assert found == AnalysisFolder(tmp_path / "out").read()
    assert json.loads((tmp_path / "out" / "analysis.json").read_text())["counts"]["accepted"] == counts.accepted


def test_confidence_is_calibrated_on_what_is_held_out_and_is_then_worth_its_name(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, digits: tuple[Pixels, Ints], tmp_path: Path
) -> None:
    def too_sure(batch: npt.NDArray[Any]) -> Floats:
        return 4 * model(batch)

    found = autolabel(model=too_sure, labeled=labeled, unlabeled=pool, out=tmp_path / "out")
    calibration = found.calibration
    assert found.calibration.temperature == pytest.approx(4, rel=0.5)
    assert found.held_out_by == "hash"
    assert calibration.images == found.counts.held_out
    assert calibration.log_loss_after < calibration.log_loss_before
    labels = AnalysisFolder(tmp_path / "out").labels()
    truth = digits[1][LABELED:]
    confidence = labels.table["confidence"].to_numpy()
    right = labels.table["label"].to_numpy() == truth
    assert abs(confidence.mean() - right.mean()) < 0.06
    np.testing.assert_allclose(labels.probs(), softmax(too_sure(pool), calibration.temperature), atol=1e-6)


def test_what_comes_back_is_what_people_labelled_and_what_the_model_was_sure_of(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, digits: tuple[Pixels, Ints], tmp_path: Path
) -> None:
    found = autolabel(model=model, labeled=labeled, unlabeled=pool, out=tmp_path / "out")
    x, y, w = as_numpy(tmp_path / "out", 0.25)
    apart = held_out(labeled[0])
    people = int((~apart).sum())
    np.testing.assert_array_equal(x[:people], labeled[0][~apart])
    np.testing.assert_array_equal(y[:people], labeled[1][~apart])
    assert len(x) == people + found.counts.accepted
    assert w.tolist() == [1.0] * people + [0.25] * found.counts.accepted
    table = AnalysisFolder(tmp_path / "out").labels().table
    accepted = table["accepted"].to_numpy(zero_copy_only=False)
    np.testing.assert_array_equal(x[people:], pool[accepted])
    np.testing.assert_array_equal(y[people:], table["label"].to_numpy()[accepted])
    assert (y[people:] == digits[1][LABELED:][accepted]).mean() > 0.9
    x, y = as_numpy(tmp_path / "out", part="held_out")
    np.testing.assert_array_equal(x, labeled[0][apart])
    np.testing.assert_array_equal(y, labeled[1][apart])


def test_images_of_validation_are_judged_on_and_nothing_is_held_out(
    labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path
) -> None:
    images, labels = labeled
    model = NearestMean(images[:300], labels[:300])
    found = autolabel(
        model=model,
        labeled=(images[:300], labels[:300]),
        validation=(images[300:], labels[300:]),
        unlabeled=np.concatenate([pool[:100], images[300:310]]),
        out=tmp_path / "out",
        held_out=0,
    )
    assert found.held_out_by == "validation"
    assert (found.counts.training, found.counts.held_out, found.counts.copies) == (300, 100, 10)
    with pytest.raises(SourceError, match="holds out no labelled image"):
        as_numpy(tmp_path / "out", part="held_out")


def test_a_pool_of_nothing_but_labelled_images_is_warned_of(
    model: NearestMean, labeled: tuple[Pixels, Ints], tmp_path: Path
) -> None:
    found = autolabel(model=model, labeled=labeled, unlabeled=labeled[0][:40], out=tmp_path / "out")
    assert (found.counts.unlabeled, found.counts.accepted) == (0, 0)
    assert any("all unlabelled ones are copies of labelled" in warning for warning in found.warnings)


def test_logits_and_probabilities_of_one_model_label_alike(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path
) -> None:
    autolabel(model=model, labeled=labeled, unlabeled=pool, out=tmp_path / "logits")
    found = autolabel(model=lambda x: softmax(model(x)), labeled=labeled, unlabeled=pool, out=tmp_path / "probs")
    assert found.outputs == "probabilities"
    ours, theirs = (AnalysisFolder(tmp_path / name).labels() for name in ("logits", "probs"))
    np.testing.assert_allclose(ours.probs(), theirs.probs(), atol=2e-3)
    assert (ours.table["label"].to_numpy() == theirs.table["label"].to_numpy()).all()


@pytest.mark.parametrize(
    ("threshold", "words"),
    [
        (0.6, "0.6"),
        (None, "none"),
        (1, "1"),
        (PerClass(values={"3": 0.99}, default=0.5), "per class: 3 0.99, others 0.5"),
        (Quantile(start=0.3, step=0.2), "top 50 %"),
        (TargetPrecision(target=0.9, per_class=False), None),
    ],
)
def test_every_threshold_works_by_its_object(
    model: NearestMean,
    labeled: tuple[Pixels, Ints],
    pool: Pixels,
    tmp_path: Path,
    threshold: Threshold | float | None,
    words: str | None,
) -> None:
    found = autolabel(model=model, labeled=labeled, unlabeled=pool, out=tmp_path / "out", threshold=threshold, round=2)
    assert words in (None, found.threshold)
    if threshold is None:
        assert found.counts.accepted == found.counts.unlabeled
    elif isinstance(threshold, Quantile):
        assert found.counts.accepted == -(-len(pool) // 2)
    elif isinstance(threshold, TargetPrecision):
        assert found.measured is not None
        assert 0 < found.counts.accepted < found.counts.unlabeled
        assert found.measured.precision is not None
        assert found.measured.precision >= 0.9
    elif isinstance(threshold, PerClass):
        assert found.classes["3"].cutoff == pytest.approx(0.99)
        assert found.classes["4"].cutoff == pytest.approx(0.5)


def test_labels_come_back_as_they_were_given(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path
) -> None:
    images, labels = labeled
    names = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
    forms: dict[str, Any] = {
        "index": labels,
        "float": labels.astype(np.float32),
        "one_hot": np.eye(10, dtype=np.float32)[labels],
        "name": names[labels],
    }
    for form, given_labels in forms.items():
        found = autolabel(
            model=model,
            labeled=(images, given_labels),
            unlabeled=pool,
            out=tmp_path / form,
            class_names=names if form == "name" else None,
        )
        assert found.labels == ("index" if form == "float" else form)
    first = as_numpy(tmp_path / "index")[1]
    assert first.dtype == np.int64
    np.testing.assert_array_equal(as_numpy(tmp_path / "name")[1], first)
    soft = as_numpy(tmp_path / "one_hot")[1]
    assert soft.shape == (len(first), 10)
    assert soft.dtype == np.float32
    np.testing.assert_array_equal(soft.argmax(axis=1), first)
    assert 0 < (soft.max(axis=1) < 1).sum() <= len(first)
    hot = as_numpy(tmp_path / "index", labels="one_hot")[1]
    np.testing.assert_array_equal(hot, np.eye(10, dtype=np.float32)[first])
    np.testing.assert_array_equal(as_numpy(tmp_path / "one_hot", labels="index")[1], first)
    np.testing.assert_array_equal(as_numpy(tmp_path / "index", labels="soft")[1], soft)
    hard = tmp_path / "hard"
    autolabel(model=model, labeled=(images, np.eye(10)[labels]), unlabeled=pool, out=hard, targets="hard")
    np.testing.assert_array_equal(as_numpy(hard)[1], hot)


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


def test_copies_and_conflicts_are_left_out_and_counted(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path
) -> None:
    images, labels = labeled
    again = np.concatenate([images, images[:3], images[10:12]])
    marks = np.concatenate([labels, labels[:3], (labels[10:12] + 1) % 10])
    twice = np.concatenate([pool, pool[:5], images[:7]])
    found = autolabel(model=model, labeled=(again, marks), unlabeled=twice, out=tmp_path / "out")
    assert found.counts.conflicting == 4
    assert found.counts.copies == 3 + 5 + 7
    assert found.counts.training + found.counts.held_out == LABELED - 2
    assert found.counts.unlabeled == len(pool)
    assert any("different labels" in each for each in found.warnings)


def test_copies_among_the_validation_images_show_nothing_twice_and_conflicts_nothing_at_all(
    labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path
) -> None:
    images, labels = labeled
    model = NearestMean(images[:300], labels[:300])
    apart, marks = images[300:], labels[300:]
    found = autolabel(
        model=model,
        labeled=(images[:300], labels[:300]),
        validation=(
            np.concatenate([apart, np.repeat(apart[:1], 30, axis=0), apart[1:3]]),
            np.concatenate([marks, np.repeat(marks[:1], 30), (marks[1:3] + 1) % 10]),
        ),
        unlabeled=pool[:100],
        out=tmp_path / "out",
    )
    assert (found.counts.held_out, found.counts.copies, found.counts.conflicting) == (98, 30, 4)
    assert found.calibration.images == 98
    assert any("4 labelled images left out" in each for each in found.warnings)


def test_thirty_copies_of_one_image_show_no_precision(
    labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path
) -> None:
    images, labels = labeled
    model = NearestMean(images[:300], labels[:300])
    right = 300 + int(np.flatnonzero(model(images[300:]).argmax(axis=1) == labels[300:])[0])
    found = autolabel(
        model=model,
        labeled=(images[:300], labels[:300]),
        validation=(np.repeat(images[right : right + 1], 30, axis=0), np.repeat(labels[right : right + 1], 30)),
        unlabeled=pool[:100],
        out=tmp_path / "out",
        threshold=TargetPrecision(target=0.9),
    )
    assert (found.counts.held_out, found.counts.accepted) == (1, 0)


def test_one_column_of_a_sigmoid_is_two_classes(labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path) -> None:
    images, labels = labeled[0], (labeled[1] >= 5).astype(np.float32)[:, None]
    full = NearestMean(*labeled)

    def sigmoid(batch: npt.NDArray[Any]) -> Floats:
        return softmax(full(batch))[:, 5:].sum(axis=1, keepdims=True)

    found = autolabel(model=sigmoid, labeled=(images, labels), unlabeled=pool, out=tmp_path / "out")
    assert (found.class_names, found.outputs, found.labels) == (("0", "1"), "probabilities", "index")
    assert set(as_numpy(tmp_path / "out")[1].tolist()) == {0, 1}


def test_a_model_that_is_right_on_all_that_is_held_out_is_not_made_surer(
    labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path
) -> None:
    images, labels = labeled
    known = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}

    def remembers(batch: npt.NDArray[Any]) -> Floats:
        return np.eye(10, dtype=np.float32)[[known.get(image.tobytes(), 0) for image in batch]] - 0.5

    found = autolabel(model=remembers, labeled=labeled, unlabeled=pool, out=tmp_path / "out")
    assert found.calibration.temperature == 1
    assert found.counts.accepted == 0
    assert any("right on all" in each and "selftrain.held_out" in each for each in found.warnings)
    assert any("no pseudo-label was accepted" in each for each in found.warnings)
    assert len(as_numpy(tmp_path / "out")[1]) == found.counts.training


def test_a_model_no_better_than_chance_is_a_warning(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path
) -> None:
    def swapped(batch: npt.NDArray[Any]) -> Floats:
        return np.roll(model(batch), 1, axis=1)

    found = autolabel(model=swapped, labeled=labeled, unlabeled=pool, out=tmp_path / "out")
    assert any("not clearly better than chance" in each for each in found.warnings)


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
    with pytest.raises(SourceError, match=rf"of them {words}: give images in the range"):
        autolabel(model=scaled, labeled=(wrong, labeled[1]), unlabeled=others, out=tmp_path / "out")


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
        ({"class_names": ["a", "b"]}, "class_names has 2 classes (a, b), the model answers 10"),
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
        ({"image_size": 0}, "image_size is 0; give pixels a side"),
        ({"image_size": -3}, "image_size is -3; give pixels a side"),
        ({"class_names": list(range(10))}, "class_names: 0 (row 0) is no text"),
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


def test_that_no_labelled_image_is_left_to_train_on_is_a_warning(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path
) -> None:
    found = autolabel(model=model, labeled=labeled, unlabeled=pool[:20], out=tmp_path / "out", held_out=1.0)
    assert found.counts.training == 0
    assert any("no labelled image is left to train on" in each for each in found.warnings)


@pytest.mark.parametrize("share", [-0.1, 1.5, np.nan])
def test_a_share_that_is_none_is_refused(pool: Pixels, share: float) -> None:
    with pytest.raises(ConfigError, match="share is"):
        held_out(pool, share=share)


def test_classes_that_the_model_does_not_know_are_refused(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path
) -> None:
    images, labels = labeled
    with pytest.raises(SourceError, match=r"labels are no class index 0\.\.9 .*as the model answers 10 classes"):
        autolabel(model=model, labeled=(images, labels + 5), unlabeled=pool, out=tmp_path / "a")
    names = np.array(["even", "odd"])[labels % 2]
    with pytest.raises(SourceError, match=r"labeled has 2 classes \(even, odd\), the model answers 10"):
        autolabel(model=model, labeled=(images, names), unlabeled=pool, out=tmp_path / "b")


def test_labels_with_a_missing_one_are_refused_before_they_become_a_class(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path
) -> None:
    images, labels = labeled
    names = np.array([f"c{label}" for label in labels], object)
    names[labels == 3] = None  # with None there are ten names, as many as the model has outputs
    with pytest.raises(SourceError, match=r"labeled: labels of rows .* are missing or no label"):
        autolabel(model=model, labeled=(images, names), unlabeled=pool, out=tmp_path / "out")


def test_integers_of_a_table_with_more_than_ten_classes_stay_what_they_are(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path
) -> None:
    def twelve(batch: npt.NDArray[Any]) -> Floats:
        return np.pad(model(batch), ((0, 0), (0, 2)), constant_values=-100)

    images, labels = labeled[0], labeled[1].copy()
    labels[:20] = np.repeat([10, 11], 10)
    autolabel(model=twelve, labeled=(images, labels.astype(object)), unlabeled=pool[:50], out=tmp_path / "out")
    x, y = as_numpy(tmp_path / "out", part="held_out")
    np.testing.assert_array_equal(y, labels[held_out(images)])
    np.testing.assert_array_equal(x, images[held_out(images)])
    text = {"model": twelve, "labeled": (images, labels.astype(str)), "unlabeled": pool[:50]}
    with pytest.raises(SourceError, match=r"sorted as text 0, 1, 10, 11, 2, .*give class_names= in the order"):
        autolabel(**text, out=tmp_path / "text")
    names = [str(index) for index in range(12)]
    autolabel(**text, out=tmp_path / "named", class_names=names)
    np.testing.assert_array_equal(as_numpy(tmp_path / "named", part="held_out")[1], y)


def test_sigmoids_of_many_classes_are_neither_logits_nor_probabilities(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path
) -> None:
    def sigmoids(batch: npt.NDArray[Any]) -> Floats:
        return (1 / (1 + np.exp(-model(batch) - 5))).astype(np.float32)

    arguments: dict[str, Any] = {"model": sigmoids, "labeled": labeled, "unlabeled": pool}
    with pytest.raises(PredictionError, match="neither probabilities of one class each nor"):
        autolabel(**arguments, out=tmp_path / "a")
    assert autolabel(**arguments, out=tmp_path / "b", outputs="logits").outputs == "logits"


def test_logits_that_are_called_probabilities_are_refused(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path
) -> None:
    first = int(np.flatnonzero(held_out(labeled[0]))[0])
    said = rf"labeled: the model's answers to .* are no probabilities, .* \(rows {first}, .*say outputs='logits'"
    with pytest.raises(PredictionError, match=said):
        autolabel(model=model, labeled=labeled, unlabeled=pool, out=tmp_path / "out", outputs="probabilities")


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (3.0, r"unlabeled: the model's answers to 1 of 100 images are no probabilities, .* \(row 107; the first: 3, 3"),
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

    with pytest.raises(PredictionError, match="unlabeled: the model answers 9 columns, to labelled images 10"):
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


def test_a_folder_that_holds_anything_is_left_as_it_is(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    (tmp_path / "file").write_text("keep")
    autolabel(model=model, labeled=labeled, unlabeled=pool, out=tmp_path / "done")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "done").rglob("*")}
    for name, said in (
        ("mine", "holds other files and was left as it is"),
        ("file", "is a file; give a folder"),
        ("done", "holds a finished analysis; give resume=True to keep it, or another folder"),
    ):
        with pytest.raises(ConfigError, match=said):
            autolabel(model=model, labeled=labeled, unlabeled=pool, out=tmp_path / name)
    for resume in (True, False):
        with pytest.raises(ConfigError, match="holds other files"):
            autolabel(model=model, labeled=labeled, unlabeled=pool, out=tmp_path / "mine", resume=resume)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "done").rglob("*")}
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("resume", [False, True])
def test_a_call_that_failed_before_anything_was_labelled_is_mended_in_the_same_folder(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path, resume: bool
) -> None:
    images, labels = labeled[0][labeled[1] != 3], labeled[1][labeled[1] != 3]
    names = np.array([f"digit {digit}" for digit in range(10)])
    arguments: dict[str, Any] = {"model": model, "labeled": (images, names[labels]), "out": tmp_path / "out"}
    with pytest.raises(SourceError, match="the model answers 10; give class_names="):
        autolabel(**arguments, unlabeled=pool)
    with pytest.raises(SourceError, match="unlabeled: images of shape"):
        autolabel(**arguments, unlabeled=pool[..., 0], class_names=names)
    other = NearestMean(labeled[0], labeled[1])
    with pytest.raises(ConfigError, match="names 'digit X', which is no class"):
        autolabel(**arguments, unlabeled=pool, class_names=names, threshold=PerClass(values={"digit X": 0.5}))
    changed = {**arguments, "model": other, "unlabeled": pool, "class_names": names, "resume": resume}
    assert autolabel(**changed) == autolabel(**{**changed, "out": tmp_path / "fresh"})
    for ours, theirs in zip(as_numpy(tmp_path / "out"), as_numpy(tmp_path / "fresh"), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("text", ["{}", '{"mine": 1}', "no JSON"])
def test_settings_of_another_program_are_left_as_they_are(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path, text: str, resume: bool
) -> None:
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(ConfigError, match=r"out=.* (holds|was begun)"):
        autolabel(model=model, labeled=labeled, unlabeled=pool, out=tmp_path, resume=resume)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("settings.json", text)]


def test_an_unfinished_analysis_with_a_file_of_the_users_is_left_as_it_is(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match="unlabeled holds no image"):
        autolabel(model=model, labeled=labeled, unlabeled=pool[:0], out=tmp_path)
    (tmp_path / "images" / "mine.npy").write_text("keep")
    with pytest.raises(ConfigError, match="holds an unfinished analysis"):
        autolabel(model=model, labeled=labeled, unlabeled=pool, out=tmp_path)
    assert (tmp_path / "images" / "mine.npy").read_text() == "keep"


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(given, "CHUNK_BYTES", 100 * 64)


def interrupted(pool: Pixels, after: int) -> Iterator[Pixels]:
    """The images one by one, until the machine stops."""
    yield from pool[:after]
    raise KeyboardInterrupt


@pytest.mark.usefixtures("small_chunks")
def test_an_interrupted_labelling_goes_on_and_ends_as_if_nothing_had_happened(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path
) -> None:
    arguments: dict[str, Any] = {"model": model, "labeled": labeled}
    with pytest.raises(KeyboardInterrupt):
        autolabel(**arguments, unlabeled=interrupted(pool, 450), out=tmp_path / "out")
    with pytest.raises(SourceError, match="holds an unfinished analysis"):
        as_numpy(tmp_path / "out")
    with pytest.raises(ConfigError, match="holds an unfinished analysis; give resume=True"):
        autolabel(**arguments, unlabeled=iter(pool), out=tmp_path / "out")
    model.asked = 0
    resumed = autolabel(**arguments, unlabeled=iter(pool), out=tmp_path / "out", resume=True)
    sampled = 2 * resumed.counts.held_out  # asked once more, and at another scale
    assert model.asked == len(pool) - 400 + sampled
    whole = autolabel(**arguments, unlabeled=pool, out=tmp_path / "whole")
    assert resumed == whole
    for ours, theirs in zip(as_numpy(tmp_path / "out"), as_numpy(tmp_path / "whole"), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not (tmp_path / "out" / "unfinished").exists()


@pytest.mark.usefixtures("small_chunks")
def test_what_goes_on_must_be_what_was_begun(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path
) -> None:
    arguments: dict[str, Any] = {"model": model, "labeled": labeled, "out": tmp_path / "out"}
    with pytest.raises(KeyboardInterrupt):
        autolabel(**arguments, unlabeled=interrupted(pool, 450))
    again = {**arguments, "unlabeled": pool, "resume": True}
    other = NearestMean(labeled[0][:50], labeled[1][:50])
    for changes, said in (
        ({"model": other}, "begun with another model or other labelled images"),
        ({"labeled": (labeled[0][:300], labeled[1][:300])}, "begun with another model or other labelled images"),
        ({"unlabeled": pool[::-1]}, "begun with other unlabelled images, or in another order"),
        ({"threshold": 0.5}, "begun with other settings"),
        ({"seed": 1}, "begun with other settings"),
    ):
        with pytest.raises(ConfigError, match=said):
            autolabel(**{**again, **changes})
    assert isinstance(autolabel(**again), Analysis)


def test_a_finished_analysis_is_returned_as_it_is(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path
) -> None:
    first = autolabel(model=model, labeled=labeled, unlabeled=pool, out=tmp_path / "out")
    model.asked = 0
    assert autolabel(model=model, labeled=labeled, unlabeled=pool, out=tmp_path / "out", resume=True) == first
    assert model.asked == 0


@pytest.mark.usefixtures("small_chunks")
def test_a_pool_of_any_length_passes_through_in_chunks(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []

    def progress(done: int, total: int, note: str = "") -> None:
        seen.append((done, total))

    found = autolabel(
        model=model, labeled=labeled, unlabeled=(each for each in pool), out=tmp_path / "out", progress=progress
    )
    assert found.counts.unlabeled == len(pool)
    assert [done for done, _ in seen] == [*range(100, len(pool), 100), len(pool)]
    stored = sorted((tmp_path / "out" / "images").glob("unlabeled-*.npy"))
    assert len(stored) == -(-len(pool) // 100)
    assert max(np.load(path).shape[0] for path in stored) == 100


def test_nothing_is_pickled(model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path) -> None:
    autolabel(model=model, labeled=labeled, unlabeled=pool, out=tmp_path / "out")
    kinds = {path.suffix for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert kinds == {".npy", ".parquet", ".json", ".csv"}
    for path in (tmp_path / "out").rglob("*.npy"):
        np.load(path, allow_pickle=False)


def test_what_is_held_out_depends_on_the_image_alone(labeled: tuple[Pixels, Ints]) -> None:
    images, _ = labeled
    mask = held_out(images)
    assert 0.12 < mask.mean() < 0.28
    np.testing.assert_array_equal(held_out(images[::-1]), mask[::-1])
    np.testing.assert_array_equal(held_out(list(images[5:9])), mask[5:9])
    assert (held_out(images, seed=1) != mask).any()
    assert held_out(images, share=0.5)[mask].all()
