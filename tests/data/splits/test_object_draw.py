"""Splits by objects: every class on every side where that is possible, exact shares, nothing that moves."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftrain.config import Splitting
from selftrain.data.annotations.counts import ObjectCounts
from selftrain.data.sources.objects.coco import read_coco
from selftrain.data.splits.group_split import UserGroups
from selftrain.data.splits.split import SplitAssignment, TooFewImagesError, assign

SIDES = ("train", "validation", "test")


def ids(count: int, first: int = 0) -> list[str]:
    return [hashlib.sha256(str(k).encode()).hexdigest() for k in range(first, first + count)]


def counts(images: list[dict[int, int]], classes: int = 3) -> ObjectCounts:
    """Of images that say how many objects of which class they show."""
    found = [(row, k, many) for row, each in enumerate(images) for k, many in sorted(each.items())]
    table = np.array(found, np.int64).reshape(-1, 3)
    return ObjectCounts(table[:, 0], table[:, 1], table[:, 2], tuple(f"class {k}" for k in range(classes)))


def split(images: list[dict[int, int]], *, first: int = 0, near: list[int] | None = None, **changes) -> SplitAssignment:
    arguments = {"splitting": Splitting(), "class_names": ("annotated images",), "contents": counts(images), **changes}
    groups = np.arange(len(images)) if near is None else np.array(near)
    return assign(ids(len(images), first), np.zeros(len(images), np.int64), groups, **arguments)


def objects(images: list[dict[int, int]], made: SplitAssignment, k: int) -> list[int]:
    """The objects of class k in training, validation and test."""
    has = np.array([each.get(k, 0) for each in images])
    return [int(has[made.splits == side].sum()) for side in SIDES]


def sizes(made: SplitAssignment) -> list[int]:
    return [int((made.splits == side).sum()) for side in SIDES]


@st.composite
def unbalanced(draw: st.DrawFn) -> list[dict[int, int]]:
    """20 to 40 images: one class everywhere, one in some images and one in three; some images show nothing."""
    n = draw(st.integers(20, 40))
    images: list[dict[int, int]] = [{0: draw(st.integers(1, 30))} if draw(st.booleans()) else {} for _ in range(n)]
    some, few = draw(st.sets(st.integers(0, n - 1), min_size=3)), draw(st.permutations(range(n)))[:3]
    for k in some:
        images[k] = images[k] | {1: 1}
    for k in few:
        images[k] = images[k] | {2: draw(st.integers(1, 3))}
    return images


@settings(max_examples=80, deadline=None)
@given(unbalanced(), st.integers(0, 5))
def test_a_class_of_three_images_is_on_every_side_and_the_shares_of_images_are_exact(images, seed):
    made = split(images, splitting=Splitting(seed=seed))
    n = len(images)
    assert sizes(made) == [n - 2 * round(0.2 * n), round(0.2 * n), round(0.2 * n)]
    assert min(objects(images, made, 2)) > 0
    assert min(objects(images, made, 1)) > 0


def test_a_class_of_one_image_is_learned_and_one_of_two_is_judged_on_validation() -> None:
    one = split([{0: 5}] * 19 + [{0: 5, 1: 1}])
    assert objects([{0: 5}] * 19 + [{0: 5, 1: 1}], one, 1) == [1, 0, 0]
    images = [{0: 5}] * 18 + [{0: 5, 1: 1}] * 2
    assert objects(images, split(images), 1) == [1, 1, 0]


@settings(max_examples=40, deadline=None)
@given(unbalanced(), st.data())
def test_groups_and_near_duplicates_stay_on_one_side(images, data):
    near, n = list(range(len(images))), len(images)
    for _ in range(4):
        a, b = data.draw(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)))
        near = [near[a] if each == near[b] else each for each in near]
    code = np.array(data.draw(st.lists(st.integers(-1, 5), min_size=n, max_size=n)))
    try:
        made = split(images, near=near, user_groups=UserGroups(code, tuple("abcdef")))
    except TooFewImagesError:
        return
    for key in (np.array(near), code):
        for one in set(key.tolist()) - {-1}:
            assert len(set(made.splits[key == one])) == 1


@settings(max_examples=40, deadline=None)
@given(unbalanced(), st.randoms(use_true_random=False))
def test_the_order_of_the_images_does_not_matter_and_the_seed_does(images, random):
    order = list(range(len(images)))
    random.shuffle(order)
    made = split(images)
    names = ids(len(images))
    shuffled = assign(
        [names[k] for k in order],
        np.zeros(len(images), np.int64),
        np.arange(len(images)),
        splitting=Splitting(),
        class_names=("annotated images",),
        contents=counts([images[k] for k in order]),
    )
    assert shuffled.splits.tolist() == made.splits[order].tolist()
    assert any(split(images, splitting=Splitting(seed=k)).splits.tolist() != made.splits.tolist() for k in range(1, 9))


@settings(max_examples=40, deadline=None)
@given(unbalanced(), unbalanced())
def test_later_images_move_none_and_bring_a_new_class_to_every_side(images, more):
    first = split(images)
    before = dict(zip(ids(len(images)), first.splits.tolist(), strict=True))
    grown = [*images, *({3 if k == 2 else k: many for k, many in each.items()} for each in more)]
    made = split(grown, previous=before, contents=counts(grown, 4))
    assert made.splits[: len(images)].tolist() == first.splits.tolist()
    assert min(objects(grown, made, 3)) > 0


def test_an_image_that_models_learned_from_is_never_held_out() -> None:
    images: list[dict[int, int]] = [{0: 1}] * 10
    first = split(images)
    before = dict(zip(ids(10), first.splits.tolist(), strict=True))
    grown = [*images, *[{1: 1}] * 9]
    seen = np.array([False] * 10 + [True] * 9)
    made = split(grown, previous=before, seen=seen)
    assert set(made.splits[10:]) == {"train"}


def test_large_groups_still_leave_something_to_judge_by() -> None:
    code = np.repeat(np.arange(4), 6)
    made = split([{0: 1}] * 24, user_groups=UserGroups(code, tuple("abcd")))
    assert sorted(sizes(made)) == [6, 6, 12]
    assert sizes(made)[0] == 12


def test_splits_of_the_source_are_kept_and_only_the_others_are_drawn() -> None:
    images = [{0: 3, 1: 1} if k % 4 == 0 else {0: 3} for k in range(24)]
    named = ["test"] * 6 + [None] * 18
    made = split(images, source_splits=named)
    assert sizes(made) == [14, 4, 6]
    assert min(objects(images, made, 1)) > 0


@pytest.mark.parametrize("labelled", [10, 20])
def test_blood_cells_of_three_unbalanced_classes_are_on_every_side(labelled: int, tmp_path: Path) -> None:
    data = os.environ.get("SELFTRAIN_DATA")
    if data is None:
        pytest.skip("SELFTRAIN_DATA does not name a folder with bccd.zip")
    with ZipFile(Path(data) / "bccd.zip") as packed:
        packed.extractall(tmp_path)
    read = read_coco(tmp_path / "train.json", images=str(tmp_path / "images"))
    names = read.images["name"].to_pylist()
    for seed in range(10):
        rows = np.sort(np.random.default_rng(seed).permutation(len(names))[:labelled])
        contents = ObjectCounts.of(read.annotations, [names[row] for row in rows])
        made = assign(
            [names[row] for row in rows],
            np.zeros(labelled, np.int64),
            np.arange(labelled),
            splitting=Splitting(seed=seed),
            class_names=("annotated images",),
            contents=contents,
        )
        for k in range(3):
            for side in SIDES:
                held = contents.count[(contents.label == k) & (made.splits == side)[contents.image]]
                assert held.sum() > 0, (seed, contents.names[k], side)
