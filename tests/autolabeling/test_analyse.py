"""Autolabel: a plain model labels digits; what is judged, kept, left out and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from selftrain import as_numpy, autolabel, held_out
from selftrain.autolabeling.folder import AnalysisFolder
from selftrain.config import PerClass, Quantile, TargetPrecision, Threshold
from selftrain.errors import SourceError
from selftrain.learn.models.calibrate import softmax
from tests.autolabeling.nearest_mean import LABELED, Floats, Ints, NearestMean, Pixels


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
    assert any("4 labelled images were left out" in each for each in found.warnings)


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


@pytest.mark.parametrize("exchanged", [False, True])
def test_red_and_blue_that_are_exchanged_in_the_pool_are_said(tmp_path: Path, exchanged: bool) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(160) % 2
    images = np.clip(rng.normal((150, 110, 100), 30, (160, 8, 8, 3)) + 25 * labels[:, None, None, None], 0, 255)
    images = images.astype(np.uint8)

    def bright(batch: npt.NDArray[Any]) -> Floats:
        level = batch.mean(axis=(1, 2, 3)) - 132.0
        return np.stack([-level, level], axis=1).astype(np.float32)

    pool = images[80:, :, :, ::-1] if exchanged else images[80:]
    found = autolabel(model=bright, labeled=(images[:80], labels[:80]), unlabeled=pool, out=tmp_path / "out")
    assert exchanged == any("were some read as BGR, as OpenCV reads files?" in each for each in found.warnings)


def test_that_no_labelled_image_is_left_to_train_on_is_a_warning(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path
) -> None:
    found = autolabel(model=model, labeled=labeled, unlabeled=pool[:20], out=tmp_path / "out", held_out=1.0)
    assert found.counts.training == 0
    assert any("no labelled image is left to train on" in each for each in found.warnings)


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


@pytest.mark.usefixtures("small_chunks")
def test_a_pool_of_any_length_passes_through_in_chunks(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []

    def progress(done: int, total: int, note: str = "") -> None:
        if note == "images labelled":
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
