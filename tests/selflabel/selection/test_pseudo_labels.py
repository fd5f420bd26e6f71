"""Pseudo-labels: what is accepted, why the rest is not, and that Parquet keeps it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftrain.config import Fixed, PseudoLabel, Quantile, TargetPrecision, Threshold
from selftrain.data.label_map import LabelMap
from selftrain.data.manifest import Manifest, Split
from selftrain.errors import ConfigError, PredictionError
from selftrain.evaluate.coverage import HeldOut, MeasuredPrecision
from selftrain.selflabel.selection.alignment import aligned, alignment_ratio
from selftrain.selflabel.selection.pseudo_labels import METADATA_KEY, SCHEMA, PseudoLabels, RejectionReason, select
from selftrain.selflabel.selection.weights import by_precision, by_softmatch

NAMES = ("cat", "dog", "elk")


def pool(images: int, *, seed: int, classes: int = 3) -> tuple[list[str], npt.NDArray[np.float32]]:
    """`images` ids in random order, and probabilities with ties."""
    rng = np.random.default_rng(seed)
    parts = rng.integers(0, 6, (images, classes)) ** 2 + 0.25
    ids = rng.permutation([f"{number:064x}" for number in range(images)])
    return ids.tolist(), (parts / parts.sum(axis=1, keepdims=True)).astype(np.float32)


def labels_of(ids: list[str], probs: npt.ArrayLike, threshold: Threshold, *, quota: int | None = None) -> PseudoLabels:
    settings = PseudoLabel(threshold=threshold, max_per_class=quota)
    return select(ids, probs, settings, round_index=1, teacher="t" * 8, class_names=NAMES)


def test_each_row_says_its_label_its_confidence_and_its_reason() -> None:
    probs = np.float32([[0.95, 0.03, 0.02], [0.2, 0.7, 0.1], [0.92, 0.04, 0.04]])
    made = labels_of(["a", "b", "c"], probs, Fixed(value=0.9), quota=1)
    assert made.table["image_id"].to_pylist() == ["a", "b", "c"]
    assert made.table["label"].to_pylist() == [0, 1, 0]
    assert made.table["confidence"].to_pylist() == pytest.approx([0.95, 0.7, 0.92])
    assert made.table["reason"].to_pylist() == ["accepted", "below_threshold", "over_quota"]
    assert made.table["accepted"].to_pylist() == [True, False, False]
    assert made.table["weight"].to_pylist() == [1.0, 0.0, 0.0]
    np.testing.assert_array_equal(made.probs(), probs)


def test_the_result_knows_its_round_teacher_threshold_and_cutoffs() -> None:
    made = labels_of(["a"], [[0.9, 0.05, 0.05]], Fixed(value=0.75))
    assert (made.round, made.teacher, made.threshold, made.cutoffs) == (1, "t" * 8, "0.75", (0.75, 0.75, 0.75))


def test_counts_add_up_to_the_pool() -> None:
    made = labels_of(*pool(200, seed=3), Fixed(value=0.6), quota=20)
    assert sum(made.count(reason) for reason in RejectionReason) == len(made) == 200
    assert made.count(RejectionReason.ACCEPTED) == made.accepted.num_rows == made.accepted_per_class().sum()
    assert made.count(RejectionReason.OVER_QUOTA) > 0


@given(st.integers(0, 2**32 - 1), st.integers(0, 60), st.integers(1, 8))
def test_a_quota_keeps_the_most_confident_of_each_class(seed: int, images: int, quota: int) -> None:
    ids, probs = pool(images, seed=seed)
    free = labels_of(ids, probs, Fixed(value=0.5))
    capped = labels_of(ids, probs, Fixed(value=0.5), quota=quota)
    for label in range(len(NAMES)):
        rows = [row for row in free.accepted.to_pylist() if row["label"] == label]
        best = sorted(rows, key=lambda row: (-row["confidence"], row["image_id"]))[:quota]
        got = [row["image_id"] for row in capped.accepted.to_pylist() if row["label"] == label]
        assert sorted(got) == sorted(row["image_id"] for row in best)


@given(st.integers(0, 2**32 - 1), st.integers(0, 60), st.sampled_from([Fixed(value=0.6), Quantile(start=0.4)]))
def test_the_same_images_in_another_order_give_the_same_labels(seed: int, images: int, threshold: Threshold) -> None:
    ids, probs = pool(images, seed=seed)
    order = np.random.default_rng(seed).permutation(images)
    one = labels_of(ids, probs, threshold, quota=5).accepted
    other = labels_of([ids[row] for row in order], probs[order], threshold, quota=5).accepted
    assert one.sort_by("image_id").equals(other.sort_by("image_id"))


@pytest.mark.parametrize("images", [0, 50])
def test_parquet_keeps_everything(tmp_path: Path, images: int) -> None:
    made = labels_of(*pool(images, seed=1), Quantile(start=0.3), quota=4)
    made.write(tmp_path / "labels.parquet")
    assert PseudoLabels.read(tmp_path / "labels.parquet") == made
    assert [file.name for file in tmp_path.iterdir()] == ["labels.parquet"]


def test_another_parquet_file_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(PredictionError, match=r"other.parquet holds no pseudo-labels"):
        PseudoLabels.read(tmp_path / "other.parquet")


def test_an_empty_pool_gives_no_labels() -> None:
    made = labels_of([], np.empty((0, 3), np.float32), Fixed())
    assert len(made) == 0
    assert made.table.schema == SCHEMA
    assert made.accepted_per_class().tolist() == [0, 0, 0]


def test_repeated_images_are_refused() -> None:
    with pytest.raises(PredictionError, match=r"1 of 2 image_ids repeat"):
        labels_of(["a", "a"], np.full((2, 3), 1 / 3), Fixed())


def test_a_missing_image_id_is_refused() -> None:
    with pytest.raises(PredictionError, match=r"1 image_ids for the probabilities of 2 images"):
        labels_of(["a"], np.full((2, 3), 1 / 3), Fixed())


def held_out(images: int, *, seed: int, right: float = 0.9) -> HeldOut:
    rng = np.random.default_rng(seed)
    probs = pool(images, seed=seed)[1]
    labels = probs.argmax(axis=1)
    return HeldOut(probs, np.where(rng.random(images) < right, labels, (labels + 1) % 3))


def test_a_round_knows_how_right_its_choice_is_on_held_out_labels() -> None:
    held = HeldOut(np.float32([[0.9, 0.05, 0.05], [0.8, 0.1, 0.1], [0.4, 0.3, 0.3]]), np.array([0, 1, 1]))
    probs = [[0.95, 0.03, 0.02], [0.4, 0.3, 0.3]]
    settings = PseudoLabel(threshold=Fixed(value=0.75))
    made = select(["a", "b"], probs, settings, round_index=1, teacher="t", class_names=NAMES, held_out=held)
    assert made.measured == MeasuredPrecision(accepted=1, pool=2, images=2, right=1)
    assert made.curve is not None
    assert (made.curve.accepted, made.curve.images, made.curve.right) == ((1, 2), (0, 3), (0, 1))
    assert labels_of(["a", "b"], probs, Fixed()).measured is None


def test_what_was_measured_and_found_survives_parquet(tmp_path: Path) -> None:
    settings = PseudoLabel(threshold=TargetPrecision(target=0.9))
    ids, probs = pool(50, seed=1)
    few = held_out(20, seed=2)
    made = select(ids, probs, settings, round_index=1, teacher="t", class_names=NAMES, held_out=few)
    assert (made.accepted.num_rows, made.cutoffs, len(made.findings)) == (0, (1.0, 1.0, 1.0), 2)
    made.write(tmp_path / "labels.parquet")
    again = PseudoLabels.read(tmp_path / "labels.parquet")
    assert again == made
    assert (again.digest, again.curve, again.findings) == (made.digest, made.curve, made.findings)


def test_a_target_precision_accepts_where_the_labels_show_it() -> None:
    settings = PseudoLabel(threshold=TargetPrecision(target=0.8, per_class=False))
    ids, probs = pool(400, seed=3)
    sure = held_out(300, seed=4, right=0.95)
    made = select(ids, probs, settings, round_index=1, teacher="t", class_names=NAMES, held_out=sure)
    assert made.accepted.num_rows > 200
    assert made.measured is not None
    assert made.measured.precision is not None
    assert made.measured.precision > 0.85


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        (PseudoLabel(threshold=TargetPrecision()), "target_precision"),
        (PseudoLabel(weight="precision"), "weight is 'precision'"),
        (PseudoLabel(align="labeled_prior"), "align is 'labeled_prior'"),
    ],
)
def test_what_takes_human_labels_says_so_where_there_are_none(settings: PseudoLabel, missing: str) -> None:
    with pytest.raises(ConfigError, match=missing):
        select(["a"], [[0.9, 0.05, 0.05]], settings, round_index=1, teacher="t", class_names=NAMES)


def test_aligned_probabilities_are_what_is_labelled_thresholded_and_measured() -> None:
    ids, probs = pool(60, seed=6)
    held, prior = held_out(30, seed=7), [1, 2, 3]
    settings = PseudoLabel(threshold=Fixed(value=0.5), align="labeled_prior")
    made = select(ids, probs, settings, round_index=1, teacher="t", class_names=NAMES, held_out=held, prior=prior)
    ratio = alignment_ratio(probs, prior)
    moved, theirs = aligned(probs, ratio), aligned(held.probs, ratio)
    np.testing.assert_allclose(made.probs(), moved, atol=1e-6)
    assert made.table["label"].to_pylist() == moved.argmax(axis=1).tolist()
    assert made.table["accepted"].to_pylist() == (moved.max(axis=1) >= 0.5).tolist()
    assert made.measured is not None
    assert made.measured.right == int(((theirs.argmax(axis=1) == held.labels) & (theirs.max(axis=1) >= 0.5)).sum())


def test_weights_are_those_of_the_settings_for_accepted_rows_and_zero_for_others() -> None:
    ids, probs = pool(80, seed=8)
    held, confidence = held_out(60, seed=9, right=0.7), probs.max(axis=1)
    accepted = confidence >= np.float32(0.6)
    expected = {"precision": by_precision(confidence, held), "one": np.ones(80, np.float32)}
    for kind, each in expected.items():
        settings = PseudoLabel.model_validate({"threshold": Fixed(value=0.6), "weight": kind})
        made = select(ids, probs, settings, round_index=1, teacher="t", class_names=NAMES, held_out=held)
        assert made.table["weight"].to_pylist() == pytest.approx(np.where(accepted, each, 0).tolist())
    everything = PseudoLabel(threshold=Fixed(value=None), weight="softmatch")
    made = select(ids, probs, everything, round_index=1, teacher="t", class_names=NAMES)
    in_order = np.argsort(ids)
    softmatch = np.empty(80, np.float32)
    softmatch[in_order] = by_softmatch(confidence[in_order], classes=3)
    assert made.table["weight"].to_pylist() == pytest.approx(softmatch.tolist())
    assert 0 < min(made.table["weight"].to_pylist()) < 1


def test_rare_classes_count_for_more_up_to_the_cap_and_every_image_stays_one_row() -> None:
    probs = np.float32([[0.9, 0.05, 0.05]] * 6 + [[0.05, 0.9, 0.05]] * 2 + [[0.05, 0.05, 0.9]])
    settings = PseudoLabel(threshold=Fixed(value=0.5), duplicate_up_to=4)
    ids = [f"{each:064x}" for each in range(9)]
    made = select(ids, probs, settings, round_index=1, teacher="t", class_names=NAMES)
    assert made.table["weight"].to_pylist() == [1.0] * 6 + [3.0, 3.0, 4.0]
    applied = made.applied_to(pool_manifest(12, pooled=12))
    assert applied.table["weight"].to_pylist() == [1.0] * 6 + [3.0, 3.0, 4.0] + [1.0] * 3


def pool_manifest(images: int, *, pooled: int) -> Manifest:
    """A manifest of `images` images whose last `pooled` are unlabelled, the others human-labelled training images."""
    number = np.arange(images)
    labeled = number < images - pooled
    table = pa.table(
        {
            "image_id": [f"{each:064x}" for each in number],
            "shard": ["s"] * images,
            "index": number.astype(np.int32),
            "origin": [f"{each}.png" for each in number],
            "width": np.full(images, 8, np.int32),
            "height": np.full(images, 8, np.int32),
            "phash": number.astype(np.uint64),
            "split": np.where(labeled, "train", "unlabeled"),
            "label": pa.array(number.astype(np.int32) % 3, mask=~labeled),
            "label_source": pa.array(np.where(labeled, "human", ""), mask=~labeled),
            "weight": np.ones(images, np.float32),
        }
    )
    return Manifest.build(table, LabelMap(NAMES))


def test_applied_labels_become_training_images_and_the_rest_stays_in_the_pool() -> None:
    manifest = pool_manifest(5, pooled=3)
    probs = [[0.95, 0.03, 0.02], [0.4, 0.3, 0.3], [0.02, 0.03, 0.95]]
    applied = labels_of([f"{each:064x}" for each in (2, 3, 4)], probs, Fixed(value=0.9)).applied_to(manifest)
    assert applied.rows(Split.TRAIN).tolist() == [0, 1, 2, 4]
    assert applied.rows(Split.UNLABELED).tolist() == [3]
    assert applied.labels().tolist() == [0, 1, 0, -1, 2]
    assert applied.table["label_source"].to_pylist() == ["human", "human", "pseudo", None, "pseudo"]
    assert applied.table["probs"][4].as_py() == pytest.approx([0.02, 0.03, 0.95], abs=1e-3)
    assert applied.table["teacher"][2].as_py() == "t" * 8


def test_hard_targets_carry_the_label_and_no_probabilities() -> None:
    hard = PseudoLabel(threshold=Fixed(value=None), targets="hard")
    made = select([f"{1:064x}"], [[0.2, 0.2, 0.6]], hard, round_index=2, teacher="t", class_names=NAMES)
    applied = made.applied_to(pool_manifest(2, pooled=1))
    assert applied.labels().tolist() == [0, 2]
    assert applied.table["probs"].null_count == 2
    assert applied.table["round"].to_pylist() == [None, 2]


def test_nothing_of_an_earlier_round_accumulates() -> None:
    manifest = pool_manifest(4, pooled=3)
    ids = [f"{each:064x}" for each in (1, 2, 3)]
    first = labels_of(ids, [[0.9, 0.05, 0.05]] * 3, Fixed(value=0.5)).applied_to(manifest)
    again = labels_of(ids, [[0.9, 0.05, 0.05], [0.4, 0.3, 0.3], [0.4, 0.3, 0.3]], Fixed(value=0.5)).applied_to(first)
    assert len(first.rows(Split.TRAIN)) == 4
    assert again.rows(Split.UNLABELED).tolist() == [2, 3]


def test_no_accepted_label_leaves_the_manifest_as_it_is() -> None:
    manifest = pool_manifest(2, pooled=1)
    nothing = labels_of([f"{1:064x}"], [[0.4, 0.3, 0.3]], Fixed(value=0.9))
    assert nothing.applied_to(manifest).digest == manifest.digest


def test_the_digest_is_the_same_after_parquet_and_another_for_another_rule(tmp_path: Path) -> None:
    ids, probs = pool(30, seed=2)
    made = labels_of(ids, probs, Fixed(value=0.5))
    made.write(tmp_path / "labels.parquet")
    assert PseudoLabels.read(tmp_path / "labels.parquet").digest == made.digest
    assert labels_of(ids, probs, Fixed(value=0.5)).digest == made.digest
    others = [labels_of(ids, probs, Fixed(value=0.6)), labels_of(ids, probs[::-1], Fixed(value=0.5))]
    others += [replace(made, teacher="another"), replace(made, lineage=("another",))]
    assert len({made.digest, *(other.digest for other in others)}) == 5


def test_who_taught_the_teacher_is_kept_and_a_file_from_before_it_was_names_nobody(tmp_path: Path) -> None:
    made = replace(labels_of(["a"], [[0.9, 0.05, 0.05]], Fixed(value=0.75)), lineage=("first", "second"))
    made.write(tmp_path / "labels.parquet")
    assert PseudoLabels.read(tmp_path / "labels.parquet").lineage == ("first", "second")
    table = pq.read_table(tmp_path / "labels.parquet")
    facts = json.loads(table.schema.metadata[METADATA_KEY])
    del facts["lineage"]
    pq.write_table(table.replace_schema_metadata({METADATA_KEY: json.dumps(facts)}), tmp_path / "old.parquet")
    assert PseudoLabels.read(tmp_path / "old.parquet").lineage == ()


def test_image_ids_may_be_an_arrow_array_a_numpy_array_or_a_list() -> None:
    ids, probs = pool(10, seed=5)
    from_list = labels_of(ids, probs, Fixed(value=0.5))
    for given_ids in (np.array(ids), np.array(ids, dtype=object), pa.array(ids), pa.chunked_array([ids[:3], ids[3:]])):
        assert labels_of(given_ids, probs, Fixed(value=0.5)).table.equals(from_list.table)
