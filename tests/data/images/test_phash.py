import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_images

from selftrain.data.images.decode import examine
from selftrain.data.images.phash import close_pixels, groups, near_pair_blocks, near_pairs, phash


def naive_phash(gray: np.ndarray) -> int:
    """DCT-II of both axes by its sum, one picture, bit by bit."""
    n = 32
    x = np.arange(n)
    coefficients = np.empty((8, 8))
    for u in range(8):
        for v in range(8):
            waves = np.outer(np.cos(np.pi * u * (2 * x + 1) / (2 * n)), np.cos(np.pi * v * (2 * x + 1) / (2 * n)))
            coefficients[u, v] = (gray * waves).sum()
    flat = coefficients.ravel()
    bits = flat > np.median(flat[1:])
    bits[0] = False
    return int("".join("1" if bit else "0" for bit in bits), 2)


def naive_pairs(hashes: np.ndarray, bits: int) -> list[tuple[int, int]]:
    distance = np.bitwise_count(hashes[:, None] ^ hashes[None])
    return list(zip(*(rows.tolist() for rows in np.nonzero(np.triu(distance <= bits, 1))), strict=True))


def near_duplicates(hashes: np.ndarray, gray: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As ingest finds them: near by hash, then close in pixels, a block of pairs at a time."""
    found = [(np.empty(0, int), np.empty(0, int))]
    for i, j in near_pair_blocks(hashes, rank=gray.reshape(len(gray), -1).mean(axis=1)):
        close = close_pixels(gray[i], gray[j])
        found.append((i[close], j[close]))
    return np.concatenate([i for i, _ in found]), np.concatenate([j for _, j in found])


def photo(change=lambda image: image, quality: int = 90, index: int = 0) -> bytes:
    buffer = io.BytesIO()
    change(Image.fromarray(load_sample_images().images[index])).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def gray32(data: bytes) -> np.ndarray:
    return examine(data, "x.jpg", max_pixels=10**7, min_side=4).gray32


def test_the_hash_is_that_of_the_naive_transform():
    gray = np.random.default_rng(0).integers(0, 256, (50, 32, 32), dtype=np.uint8)
    apart = np.bitwise_count(phash(gray) ^ np.array([naive_phash(one) for one in gray], np.uint64))
    assert apart.max() <= 2  # rounding the matrix to integers moves a coefficient across the median now and then
    assert np.mean(apart == 0) > 0.9


def test_a_batch_hashes_like_its_pictures_alone():
    gray = np.random.default_rng(1).integers(0, 256, (5000, 32, 32), dtype=np.uint8)
    some = [0, 1, 4095, 4096, 4999]
    assert phash(gray)[some].tolist() == [int(phash(gray[k : k + 1])[0]) for k in some]


def test_every_blank_picture_has_the_hash_zero():
    assert phash(np.stack([np.full((32, 32), value, np.uint8) for value in range(256)])).tolist() == [0] * 256


def test_brightness_alone_does_not_change_the_hash():
    gray = np.random.default_rng(2).integers(0, 200, (20, 32, 32), dtype=np.uint8)
    assert phash(gray).tolist() == phash(gray + np.uint8(50)).tolist()


def test_no_pictures_have_no_hashes():
    assert phash(np.empty((0, 32, 32), np.uint8)).shape == (0,)


def test_another_size_is_refused():
    with pytest.raises(ValueError, match=r"takes \(n, 32, 32\), got \(2, 8, 8\)"):
        phash(np.zeros((2, 8, 8), np.uint8))


@pytest.mark.parametrize(
    "copy",
    [photo(quality=40), photo(lambda image: image.resize((320, 214))), photo(lambda i: i.point(lambda v: v * 0.97))],
    ids=["saved again", "half the size", "darker"],
)
def test_a_copy_of_a_photo_is_a_near_duplicate_and_another_photo_is_not(copy):
    gray = np.stack([gray32(photo()), gray32(copy), gray32(photo(index=1))])
    i, j = near_duplicates(phash(gray), gray)
    assert (i.tolist(), j.tolist()) == ([0], [1])


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 4), st.integers(2, 120))
def test_pairs_are_those_of_a_comparison_of_all_with_all(seed, bits, count):
    rng = np.random.default_rng(seed)
    seeds = rng.integers(0, 2**63, 8, dtype=np.uint64)[rng.integers(0, 8, count)]
    flips = np.uint64(1) << rng.integers(0, 64, (count, 3), dtype=np.uint64)
    hashes = seeds ^ np.bitwise_or.reduce(flips * rng.integers(0, 2, (count, 3)).astype(np.uint64), axis=1)
    i, j = near_pairs(hashes, bits=bits)
    assert list(zip(i.tolist(), j.tolist(), strict=True)) == naive_pairs(hashes, bits)


def test_a_crowd_with_one_hash_stays_small_and_in_one_group_by_shade():
    rng = np.random.default_rng(3)
    shade = rng.choice([0, 120, 250], 6000)
    gray = np.broadcast_to(shade[:, None, None], (6000, 8, 8)).astype(np.uint8)
    i, j = near_duplicates(np.zeros(6000, np.uint64), gray)
    assert len(i) <= 6000 * 64
    found = groups(6000, i, j, np.zeros(6000, int))
    assert len(np.unique(found)) == 3
    assert all(len(np.unique(shade[found == group])) == 1 for group in np.unique(found))


def test_two_crowds_a_bit_apart_are_linked():
    hashes = np.array([0] * 400 + [1] * 400, np.uint64)
    i, j = near_pairs(hashes)
    assert np.any((i < 400) & (j >= 400))
    assert len(np.unique(groups(800, i, j, np.full(800, -1)))) == 1


def test_close_pixels_is_a_root_mean_square_in_gray_levels():
    black = np.zeros((3, 2, 2), np.uint8)
    other = np.array([[[4, 4], [4, 4]], [[8, 0], [0, 0]], [[9, 0], [0, 0]]], np.uint8)
    assert close_pixels(black, other, tolerance=4.0).tolist() == [True, True, False]


def test_no_pairs_are_compared_without_complaint():
    assert close_pixels(np.empty((0, 32, 32), np.uint8), np.empty((0, 32, 32), np.uint8)).shape == (0,)


def test_pictures_with_the_same_hash_but_other_pixels_are_no_near_duplicates():
    gray = np.stack([np.zeros((32, 32), np.uint8), np.full((32, 32), 255, np.uint8)])
    i, _ = near_duplicates(phash(gray), gray)
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
