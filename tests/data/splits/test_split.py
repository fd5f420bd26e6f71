import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftrain.config import Splitting
from selftrain.data.splits.split import SplitAssignment, assign
from selftrain.errors import SourceError

NAMES = ("ant", "bee")


def ids(count: int, first: int = 0) -> list[str]:
    return [hashlib.sha256(str(k).encode()).hexdigest() for k in range(first, first + count)]


def split_all(image_ids, labels, groups=None, **changes) -> SplitAssignment:
    settings = {"splitting": Splitting(), "class_names": NAMES, **changes}
    return assign(image_ids, np.asarray(labels), np.arange(len(labels)) if groups is None else groups, **settings)


@st.composite
def sets(draw: st.DrawFn):
    """Ids, labels and groups: enough images a class that the split exists, some of them near-duplicates."""
    sizes = draw(st.lists(st.integers(12, 40), min_size=2, max_size=2))
    labels = np.repeat([0, 1], sizes)
    image_ids = ids(len(labels), draw(st.integers(0, 10**6)))
    groups = np.arange(len(labels))
    for k in draw(st.lists(st.integers(1, len(labels) - 1), max_size=6)):
        if labels[k] == labels[k - 1]:
            groups[k] = groups[k - 1]
    return np.array(image_ids), labels, groups


@settings(max_examples=40, deadline=None)
@given(sets(), st.integers(0, 5))
def test_every_image_is_in_one_split_and_every_class_in_all_three(images, seed):
    image_ids, labels, groups = images
    made = split_all(image_ids, labels, groups, splitting=Splitting(seed=seed))
    assert made.kept.all()
    for label in (0, 1):
        counts = [np.count_nonzero(made.splits[labels == label] == name) for name in ("train", "validation", "test")]
        assert sum(counts) == np.count_nonzero(labels == label)
        assert min(counts) >= 2


@settings(max_examples=40, deadline=None)
@given(sets(), st.randoms(use_true_random=False))
def test_the_order_of_the_images_does_not_matter(images, random):
    image_ids, labels, groups = images
    order = list(range(len(labels)))
    random.shuffle(order)
    made, shuffled = split_all(*images), split_all(image_ids[order], labels[order], groups[order])
    assert shuffled.splits.tolist() == made.splits[order].tolist()


@settings(max_examples=40, deadline=None)
@given(sets())
def test_near_duplicates_are_on_one_side(images):
    image_ids, labels, groups = images
    splits = split_all(image_ids, labels, groups).splits
    for group in np.unique(groups):
        assert len(set(splits[groups == group])) == 1


@settings(max_examples=60, deadline=None)
@given(sets(), st.data())
def test_a_larger_set_never_moves_an_image(images, data):
    image_ids, labels, groups = images
    first = split_all(image_ids, labels, groups)
    before = dict(zip(image_ids.tolist(), first.splits.tolist(), strict=True))
    count = data.draw(st.integers(1, 30))
    new_labels = np.array(data.draw(st.lists(st.integers(0, 1), min_size=count, max_size=count)))
    grown_groups = np.concatenate([groups, np.arange(count) + len(labels)])
    for k in range(count):  # newcomers may stand near old images, and link two old groups into one
        for old in data.draw(st.lists(st.integers(0, len(labels) - 1), max_size=2)):
            if labels[old] == new_labels[k]:
                grown_groups[grown_groups == grown_groups[len(labels) + k]] = grown_groups[old]
    grown = split_all(
        np.concatenate([image_ids, ids(count, 2 * 10**6)]),
        np.concatenate([labels, new_labels]),
        grown_groups,
        previous=before,
    )
    n = len(labels)
    assert grown.kept[:n].all()
    assert grown.splits[:n].tolist() == first.splits.tolist()
    for k in np.flatnonzero(grown.kept[n:]) + n:
        assert set(grown.splits[:n][grown_groups[:n] == grown_groups[k]]) <= {grown.splits[k]}


def test_another_seed_splits_otherwise():
    splits = [split_all(ids(60), [0, 1] * 30, splitting=Splitting(seed=seed)).splits.tolist() for seed in (0, 0, 1)]
    assert splits[0] == splits[1] != splits[2]


def test_a_class_split_for_the_first_time_gets_its_exact_shares():
    splits = split_all(ids(200), [0, 1] * 100, splitting=Splitting(validation=0.15, test=0.25)).splits
    for label in (0, 1):
        names, counts = np.unique(splits[label::2], return_counts=True)
        assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == {"test": 25, "train": 60, "validation": 15}


def test_new_groups_fall_by_their_hash_near_the_shares():
    first = split_all(ids(100), [0, 1] * 50)
    previous = dict(zip(ids(100), first.splits.tolist(), strict=True))
    grown = split_all(ids(4100), [0, 1] * 2050, previous=previous)
    assert np.mean(grown.splits[100:] == "test") == pytest.approx(0.2, abs=0.02)
    assert np.mean(grown.splits[100:] == "validation") == pytest.approx(0.2, abs=0.02)


def test_a_new_image_falls_the_same_whatever_comes_with_it():
    first = split_all(ids(40), [0, 1] * 20)
    previous = dict(zip(ids(40), first.splits.tolist(), strict=True))
    together = split_all(ids(70), [0, 1] * 35, previous=previous).splits[40:]
    alone = [
        split_all([*ids(40), *ids(1, k)], [*[0, 1] * 20, k % 2], previous=previous).splits[40] for k in range(40, 70)
    ]
    assert together.tolist() == alone
    assert set(alone) == {"train", "validation", "test"}


def test_splits_of_the_source_are_kept_and_not_drawn_again():
    source = ["test" if k < 10 else None for k in range(60)]
    splits = split_all(ids(60), [0, 1] * 30, source_splits=source).splits
    assert (splits[:10] == "test").all()
    assert "test" not in splits[10:]
    assert np.count_nonzero(splits[10:] == "validation") == 10


@pytest.mark.parametrize(("held_out", "copy"), [("test", "train"), ("validation", "train"), ("test", "validation")])
def test_a_near_duplicate_across_given_splits_is_left_out_of_the_lesser_one(held_out, copy):
    source = ["train", "train", "validation", "validation", "test", "test"] * 4
    groups = np.arange(24)
    first, second = source.index(held_out), len(source) - 1 - source[::-1].index(copy)
    groups[second] = groups[first]
    made = split_all(ids(24), [0] * 12 + [0] * 12, groups, source_splits=source, class_names=("ant",))
    assert np.flatnonzero(~made.kept).tolist() == [second]
    assert made.copy_of[second] == first


def test_an_earlier_training_image_near_a_test_image_newly_named_by_the_source_is_left_out():
    labels, groups = [0] * 13, np.arange(13)
    first = split_all(ids(12), labels[:12], class_names=("ant",))
    training = int(np.flatnonzero(first.splits == "train")[0])
    groups[12] = training
    made = split_all(
        ids(13),
        labels,
        groups,
        class_names=("ant",),
        source_splits=[None] * 12 + ["test"],
        previous=dict(zip(ids(12), first.splits.tolist(), strict=True)),
    )
    assert np.flatnonzero(~made.kept).tolist() == [training]


def test_too_few_images_name_class_split_and_count():
    with pytest.raises(
        SourceError, match=r"'bee' has \d in \w+ \(of 4 labelled images, near-duplicates counted once: 4\)"
    ):
        split_all(ids(24), [0] * 20 + [1] * 4)


def test_a_class_of_copies_of_one_image_cannot_be_split():
    with pytest.raises(
        SourceError, match=r"'bee' has 0 in validation \(of 10 labelled images, near-duplicates counted once: 1\)"
    ):
        split_all(ids(30), [0] * 20 + [1] * 10, np.array([*range(20), *[20] * 10]))


def test_a_class_without_any_image_is_refused():
    with pytest.raises(SourceError, match="'bee' has 0 in train"):
        split_all(ids(30), [0] * 30)


def test_a_big_group_goes_to_training_and_the_minimum_is_still_met():
    groups = np.array([0] * 20 + list(range(20, 26)))
    splits = split_all(ids(26), [0] * 26, groups, class_names=("ant",)).splits
    assert (splits[:20] == "train").all()
    assert np.count_nonzero(splits == "test") >= 2
    assert np.count_nonzero(splits == "validation") >= 2
