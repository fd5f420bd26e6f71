import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftrain.data.images.near_duplicates import groups
from selftrain.data.images.phash import is_crowded, near_pairs, phash


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


def all_pairs(hashes: np.ndarray, bits: int = 2) -> list[tuple[int, int]]:
    return sorted((int(a), int(b)) for i, j in near_pairs(hashes, bits=bits) for a, b in zip(i, j, strict=True))


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


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 4), st.integers(2, 120))
def test_pairs_are_those_of_a_comparison_of_all_with_all(seed, bits, count):
    rng = np.random.default_rng(seed)
    seeds = rng.integers(0, 2**63, 8, dtype=np.uint64)[rng.integers(0, 8, count)]
    flips = np.uint64(1) << rng.integers(0, 64, (count, 3), dtype=np.uint64)
    hashes = seeds ^ np.bitwise_or.reduce(flips * rng.integers(0, 2, (count, 3)).astype(np.uint64), axis=1)
    assert all_pairs(hashes, bits=bits) == naive_pairs(hashes, bits)


def test_two_crowds_a_bit_apart_are_linked():
    hashes = np.array([0] * 400 + [1] * 400, np.uint64)
    pairs = np.array(all_pairs(hashes))
    assert np.any((pairs[:, 0] < 400) & (pairs[:, 1] >= 400))
    assert len(np.unique(groups(800, *pairs.T, np.full(800, -1)))) == 1


@pytest.mark.parametrize(("count", "crowded"), [(256, False), (257, True)])
def test_a_crowd_is_more_images_with_one_hash_than_can_all_be_paired(count, crowded):
    hashes = np.array([7] * count + [8, 9], np.uint64)
    assert is_crowded(hashes) == crowded
    assert (len(all_pairs(hashes)) < count * (count - 1) / 2) == crowded


def test_no_hashes_are_no_crowd():
    assert not is_crowded(np.empty(0, np.uint64))
