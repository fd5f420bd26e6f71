"""Review queues: the images that a person should look at first."""

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from selftrain.config import Fixed, PseudoLabel
from selftrain.data.store.image_store import INDEX_SCHEMA
from selftrain.errors import InputError
from selftrain.reviewing.left_out import left_out_images
from selftrain.reviewing.mislabelled import doubted_labels
from selftrain.reviewing.questions import Neighbours, questions
from selftrain.reviewing.queues import Material, QueueName, order_of, review_queue
from selftrain.reviewing.spreading import newest_first, spread
from selftrain.reviewing.vectors import Vectors, unit
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels, select

IDS = [f"{row:064x}" for row in range(3)]
FIRST = [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]
LAST = [[0.8, 0.2], [0.55, 0.45], [0.7, 0.3]]


def labelled(probs: list[list[float]] | np.ndarray, index: int, ids: list[str] = IDS) -> PseudoLabels:
    settings = PseudoLabel(threshold=Fixed(value=0.6))
    return select(ids, np.array(probs), settings, round_index=index, teacher="t", class_names=("<b>", "dog"))


MATERIAL = Material(rounds=(labelled(FIRST, 1), labelled(LAST, 2)))


def rows(name: QueueName, *, limit: int = 3, known: tuple[str, ...] = (), material: Material = MATERIAL) -> list[int]:
    return [IDS.index(image_id) for image_id, _ in review_queue(material, name, limit=limit, known=known)]


def test_uncertain_begins_with_the_least_margin_and_says_what_the_last_teacher_said() -> None:
    assert rows(QueueName.UNCERTAIN) == [1, 2, 0]
    found = review_queue(MATERIAL, QueueName.UNCERTAIN, limit=1)
    (first,) = questions(MATERIAL, found, paths={}, labels={})
    assert (first.shown, round(first.confidence or 0, 2), first.round, first.teacher) == ("<b>", 0.55, 2, "t")
    assert first.why == "uncertain: the two best classes are 0.10 apart"


def test_disagree_holds_only_what_flipped_with_the_most_confident_first() -> None:
    assert rows(QueueName.DISAGREE) == [2, 1]
    assert review_queue(Material(rounds=MATERIAL.rounds[-1:]), QueueName.DISAGREE, limit=3) == ()


def test_mixed_takes_turns_and_lists_no_image_twice() -> None:
    assert rows(QueueName.MIXED)[:2] == [1, 2]
    assert sorted(rows(QueueName.MIXED)) == sorted(rows(QueueName.RANDOM)) == [0, 1, 2]


def test_images_that_people_labelled_are_left_out_before_the_limit_counts() -> None:
    assert rows(QueueName.UNCERTAIN, limit=1, known=(IDS[1],)) == [2]


def test_a_run_without_rounds_and_a_limit_of_none_are_refused() -> None:
    with pytest.raises(InputError, match="no pseudo-labels"):
        review_queue(Material(rounds=()), QueueName.RANDOM, limit=1)
    with pytest.raises(InputError, match="limit of 0"):
        review_queue(MATERIAL, QueueName.RANDOM, limit=0)


def test_a_spread_queue_takes_one_of_two_images_that_are_alike_and_keeps_the_order() -> None:
    ids = [f"{row:064x}" for row in range(8)]
    probs = [[0.5 + 0.01 * row, 0.5 - 0.01 * row] for row in range(8)]
    values = np.zeros((8, 2), np.float32)
    values[:, 0], values[6, 1] = 1, 1  # all alike, but for one
    material = Material(rounds=(labelled(probs, 1, ids),), vectors=Vectors(tuple(ids), unit(values)))
    found = review_queue(material, QueueName.UNCERTAIN, limit=2, spread_out=True)
    assert [image_id for image_id, _ in found] == [ids[0], ids[6]]
    said = order_of(material, QueueName.UNCERTAIN, count=2, limit=2, spread_out=True)
    assert said == "most urgent first, spread out by features of a frozen network"
    assert order_of(material, QueueName.UNCERTAIN, count=2, limit=3, spread_out=True) == "most urgent first"
    alone = Material(rounds=material.rounds)  # by its answers
    found = review_queue(alone, QueueName.UNCERTAIN, limit=2, spread_out=True)
    assert [image_id for image_id, _ in found] == [ids[0], ids[7]]


def test_new_images_are_those_far_from_all_that_has_a_label() -> None:
    values = unit(np.array([[1, 0], [1, 0.1], [0, 1], [1, 0.02]], np.float32))
    vectors = Vectors((*IDS, "labelled"), values)
    material = Material(rounds=MATERIAL.rounds, labels={"labelled": "dog"}, vectors=vectors)
    assert rows(QueueName.NEW, material=material) == [2, 1, 0]
    assert Neighbours(Material(rounds=(), labels=material.labels, label_vectors=vectors)).of(IDS).keys() == set(IDS)
    near = Neighbours(material).of(IDS)
    assert near[IDS[0]] == (("labelled", "dog"),)
    assert rows(QueueName.NEW)[0] == 1, "without features, answers that are far from the accepted ones come first"


def test_distances_and_the_spread_are_those_of_naive_loops() -> None:
    rng = np.random.default_rng(0)
    values, reference = rng.normal(size=(30, 4)).astype(np.float32), rng.normal(size=(9, 4)).astype(np.float32)
    _, distance = newest_first(values, reference, seed=0)
    naive = [np.sort([np.linalg.norm(a - b) for b in reference])[:5].mean() for a in values]
    np.testing.assert_allclose(distance, naive, rtol=1e-4)
    chosen = [0]
    while len(chosen) < 6:
        gaps = [min(float(np.linalg.norm(a - values[row])) for row in chosen) for a in values]
        chosen.append(int(np.argmax(gaps)))
    assert spread(values, 6).tolist() == chosen


def test_images_that_are_all_alike_are_chosen_once_each() -> None:
    assert sorted(spread(np.zeros((6, 4), np.float32), 4).tolist()) == [0, 1, 2, 3]
    one_image = unit(np.repeat(np.random.default_rng(0).normal(size=(1, 64)), 8, axis=0).astype(np.float32))
    assert len(set(spread(one_image, 5).tolist())) == 5


def test_doubted_labels_are_spread_by_the_features_of_labelled_images_alone() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(200) % 2
    features = rng.normal(size=(200, 16)).astype(np.float32)
    features[:, 0] += 6 * truth - 3
    ids = [f"{row:03}" for row in range(200)]
    said = {
        each: "ab"[code ^ (row < 60 and row % 3 == 0)] for row, (each, code) in enumerate(zip(ids, truth, strict=True))
    }
    vectors = Vectors(tuple(ids), unit(features))
    material = Material(MATERIAL.rounds, labels=said, label_vectors=vectors)  # none of the pool is kept
    found, urgent = (
        [each for each, _ in review_queue(material, QueueName.MISLABELLED, limit=limit, spread_out=True)]
        for limit in (4, 16)
    )
    assert len(urgent) == 16
    assert found == sorted((urgent[row] for row in spread(vectors.of(urgent), 4)), key=urgent.index)
    told = order_of(material, QueueName.MISLABELLED, count=5, limit=5, spread_out=True)
    assert told == "most urgent first, spread out by features of a frozen network"
    told = order_of(material, QueueName.UNCERTAIN, count=5, limit=5, spread_out=True)
    assert told == "most urgent first, spread out by the model's answers"


def test_a_wrong_human_label_is_doubted_and_the_right_ones_are_not() -> None:
    rng = np.random.default_rng(3)
    truth = np.arange(80) % 2
    values = unit((np.eye(2)[truth] + rng.normal(0, 0.1, (80, 2))).astype(np.float32))
    ids = [f"{row:02}" for row in range(80)]
    said = {each: ("cat", "dog")[code] for each, code in zip(ids, truth.tolist(), strict=True)}
    said["07"] = "cat"
    found = doubted_labels(said, Vectors(tuple(ids), values), seed=0)
    assert [image_id for image_id, _ in found] == ["07"]
    assert found[0][1].startswith("labelled cat (0.")
    with pytest.raises(InputError, match="none kept"):
        doubted_labels(said, None, seed=0)
    with pytest.raises(InputError, match="two classes"):
        doubted_labels({"00": "cat"}, Vectors(tuple(ids), values), seed=0)


def test_left_out_images_are_told_apart_and_files_that_cannot_be_shown_are_counted(tmp_path: Path) -> None:
    table = tmp_path / "quarantine.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("origin", "reason", "detail"))
        writer.writerow(("a b.png", "held_out_copy", "looks the same as c d.png"))
        writer.writerow(("e.png", "conflicting_label", "people disagree: 'cat' and 'dog'"))
        writer.writerow(("broken.png", "truncated", "cut off"))
    paths, ids = ["a b.png", "c d.png", "e.png", "broken.png"], ["A", "C", "E", None]
    columns = {"path": paths, "image_id": ids, "reason": [None, None, None, "truncated"]}
    missing = {each.name: pa.nulls(4, each.type) for each in INDEX_SCHEMA if each.name not in columns}
    found = left_out_images(table, pa.table({**columns, **missing}), {"Q": ("cat", "cow")})
    assert found.copies == (("A", "held_out_copy: looks the same as c d.png"),)
    assert found.twins == {"A": "C"}
    assert [image_id for image_id, _ in found.disputed] == ["E", "Q"]
    assert found.unseen == 1
