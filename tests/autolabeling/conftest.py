"""The digits that autolabel's tests label: a part with labels, a pool, and a classifier of the part."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from selftrain import held_out
from selftrain.data.inputs import images
from tests.autolabeling.nearest_mean import LABELED, Ints, NearestMean, Pixels


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
    pixels, labels = labeled
    train = ~held_out(pixels)
    return NearestMean(pixels[train], labels[train])


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "CHUNK_BYTES", 100 * 64)
