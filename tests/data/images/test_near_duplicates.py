import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_images

from selftrain.data.images.decode import examine
from selftrain.data.images.near_duplicates import close_pixels, groups, near_duplicates
from selftrain.data.images.phash import phash


def all_near_duplicates(hashes: np.ndarray, gray: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    thumbnails = None if gray is None else lambda rows: gray[rows]
    return near_duplicates(hashes, thumbnails, wanted=lambda i, j: np.ones(len(i), bool))


def photo(change=lambda image: image, quality: int = 90, index: int = 0) -> bytes:
    buffer = io.BytesIO()
    change(Image.fromarray(load_sample_images().images[index])).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def gray32(data: bytes) -> np.ndarray:
    return examine(data, "x.jpg", max_pixels=10**7, min_side=4).gray32


@pytest.mark.parametrize(
    "copy",
    [photo(quality=40), photo(lambda image: image.resize((320, 214))), photo(lambda i: i.point(lambda v: v * 0.97))],
    ids=["saved again", "half the size", "darker"],
)
def test_a_copy_of_a_photo_is_a_near_duplicate_and_another_photo_is_not(copy):
    gray = np.stack([gray32(photo()), gray32(copy), gray32(photo(index=1))])
    i, j = all_near_duplicates(phash(gray), gray)
    assert (i.tolist(), j.tolist()) == ([0], [1])


def test_a_crowd_with_one_hash_stays_small_and_in_one_group_by_shade():
    rng = np.random.default_rng(3)
    shade = rng.choice([0, 120, 250], 6000)
    gray = np.broadcast_to(shade[:, None, None], (6000, 8, 8)).astype(np.uint8)
    i, j = all_near_duplicates(np.zeros(6000, np.uint64), gray)
    assert len(i) <= 6000 * 64
    found = groups(6000, i, j, np.zeros(6000, int))
    assert len(np.unique(found)) == 3
    assert all(len(np.unique(shade[found == group])) == 1 for group in np.unique(found))


def test_without_thumbnails_the_hashes_alone_decide():
    i, j = all_near_duplicates(np.array([0, 0, 1, 1 << 40 | 1 << 41 | 1 << 42], np.uint64), None)
    assert sorted(zip(i.tolist(), j.tolist(), strict=True)) == [(0, 1), (0, 2), (1, 2)]


def test_only_the_wanted_pairs_are_compared():
    compared: list[int] = []

    def thumbnails(rows: np.ndarray) -> np.ndarray:
        compared.extend(rows.tolist())
        return np.zeros((len(rows), 32, 32), np.uint8)

    i, j = near_duplicates(np.zeros(5, np.uint64), thumbnails, wanted=lambda i, j: (i == 1) & (j == 3))
    assert (i.tolist(), j.tolist()) == ([1], [3])
    assert sorted(compared) == [1, 3]


def test_close_pixels_is_a_root_mean_square_in_gray_levels():
    black = np.zeros((3, 2, 2), np.uint8)
    other = np.array([[[4, 4], [4, 4]], [[8, 0], [0, 0]], [[9, 0], [0, 0]]], np.uint8)
    assert close_pixels(black, other, tolerance=4.0).tolist() == [True, True, False]


def test_no_pairs_are_compared_without_complaint():
    assert close_pixels(np.empty((0, 32, 32), np.uint8), np.empty((0, 32, 32), np.uint8)).shape == (0,)


def test_pictures_with_the_same_hash_but_other_pixels_are_not_near_duplicates():
    gray = np.stack([np.zeros((32, 32), np.uint8), np.full((32, 32), 255, np.uint8)])
    i, _ = all_near_duplicates(phash(gray), gray)
    assert len(i) == 0


edges = st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)).filter(lambda e: e[0] != e[1]), max_size=40)


@settings(max_examples=200, deadline=None)
@given(edges, st.lists(st.integers(-1, 2), min_size=20, max_size=20))
def test_groups_never_join_two_labels_and_unlabelled_images_join_no_labelled_groups(pairs, labels):
    labels = np.array(labels)
    i, j = np.array([a for a, _ in pairs], int), np.array([b for _, b in pairs], int)
    found = groups(20, i, j, labels)
    firm = (labels[i] >= 0) & (labels[j] >= 0)
    alone = groups(20, i[firm], j[firm], labels)
    for group in np.unique(found):
        members = labels[(found == group) & (labels >= 0)]
        assert len(set(members)) <= 1
        assert len(np.unique(alone[(found == group) & (labels >= 0)])) <= 1
        assert group == np.flatnonzero(found == group)[0]
    for a, b in pairs:
        if labels[a] == labels[b]:
            assert found[a] == found[b]


def test_a_chain_of_unlabelled_images_joins_the_one_labelled_group_it_touches_and_none_of_several():
    chain = np.array([0, 1, 2]), np.array([1, 2, 3])
    assert groups(4, *chain, np.array([0, -1, -1, -1])).tolist() == [0, 0, 0, 0]
    assert groups(4, *chain, np.array([0, -1, -1, 1])).tolist() == [0, 1, 1, 3]
    assert groups(4, *chain, np.array([0, -1, -1, 0])).tolist() == [0, 1, 1, 3]
