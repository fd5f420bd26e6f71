"""Run lengths, compared with pycocotools on masks of all kinds, and on texts that it must never see."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as reference

from selftrain.data.annotations.run_lengths import compressed, mask_of, pixels_of, placed, run_lengths


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from([0.0, 0.02, 0.5, 1.0]), st.integers(0, 9))
def test_masks_are_coded_as_pycocotools_codes_them(height: int, width: int, share: float, seed: int) -> None:
    pixels = (np.random.default_rng(seed).random((height, width)) < share).astype(np.uint8)
    text = reference.encode(np.asfortranarray(pixels))["counts"]
    assert mask_of(pixels) == text
    assert (pixels_of(text, height=height, width=width) == pixels).all()
    lengths = run_lengths(pa.array([None, text, text], pa.large_binary()))
    assert lengths.pixels().tolist() == [0, height * width, height * width]
    assert lengths.areas().tolist() == [0, pixels.sum(), pixels.sum()]
    assert not lengths.bad.any()
    assert compressed(lengths.counts[lengths.offsets[1] : lengths.offsets[2]]) == text


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 12), st.integers(1, 12), st.integers(0, 3), st.integers(0, 3), st.integers(0, 2), st.integers(0, 9)
)
def test_a_rectangle_of_an_image_is_coded_without_drawing_the_image(
    height: int, width: int, left: int, top: int, beyond: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.random((height, width)) < rng.choice([0.3, 0.9, 1.0])
    whole = np.zeros((top + height + beyond, left + width + beyond), np.bool_)
    whole[top : top + height, left : left + width] = pixels
    text = placed(pixels, left=left, top=top, height=whole.shape[0], width=whole.shape[1])
    assert text == reference.encode(np.asfortranarray(whole.astype(np.uint8)))["counts"]


def test_long_runs_need_several_characters() -> None:
    counts = [123456, 33, 7, 999999, 1, 2]
    lengths = run_lengths(pa.array([compressed(counts)], pa.large_binary()))
    assert lengths.counts.tolist() == counts


@pytest.mark.parametrize(
    "text",
    [b"P", b"1P", b"\xff", b"/", b"01PPPPPPPPPPPP", compressed([1, 5, 1, 1])[:-1] + b"D", b"O"],
    ids=["unfinished", "unfinished later", "beyond the letters", "below them", "endless", "falls below 0", "negative"],
)
def test_a_text_that_is_no_mask_is_found_and_harms_no_other(text: bytes) -> None:
    good = mask_of(np.eye(5))
    lengths = run_lengths(pa.array([good, text, good], pa.large_binary()))
    assert lengths.bad.tolist() == [False, True, False]
    assert lengths.areas().tolist() == [5, 0, 5]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=12), max_size=6))
def test_any_bytes_are_judged_without_an_error(texts: list[bytes]) -> None:
    lengths = run_lengths(pa.array(texts, pa.large_binary()))
    assert (lengths.counts >= 0).all()
    assert len(lengths.offsets) == len(texts) + 1
