"""Observation: a real saved model's features and answers, asked once."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from selftrain.data.store.pixels import ArrayPixels, Images, Int64s
from selftrain.errors import PredictionError
from selftrain.retraining.drift.observation import reference_of, window_of
from selftrain.retraining.drift.summaries import describe, refer, space_of

pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

IMAGES = np.random.default_rng(0).integers(0, 256, (700, 16, 16, 3), np.uint8)
ORDER = np.random.default_rng(1).permutation(len(IMAGES))


@dataclass(frozen=True, eq=False)
class Counted:
    """Pixels that note the rows they were asked for."""

    inside: ArrayPixels
    asked: list[int] = field(default_factory=list)

    @property
    def size(self) -> int:
        return self.inside.size

    def __len__(self) -> int:
        return len(self.inside)

    def gather(self, rows: Int64s) -> Images:
        self.asked.extend(rows.tolist())
        return self.inside.gather(rows)


def by_hand(images: np.ndarray, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Features of the colour model, the mean of each colour, and softmax of ten times those of B, G, R."""
    means = (images / 255).mean(axis=(1, 2))
    odds = np.exp(10 * means[:, ::-1] / temperature)
    return means, odds / odds.sum(axis=1, keepdims=True)


def test_images_are_described_by_the_features_and_the_calibrated_answers_of_the_model(colour_model: Path) -> None:
    from selftrain.learn.models.loading import load

    model, contract = load(colour_model)
    rows = ORDER[:600]
    ours = reference_of(model, ArrayPixels(IMAGES), rows, name=contract.identity, temperature=2.0, batch_size=64)
    features, probs = by_hand(IMAGES[rows], 2.0)
    space = space_of([features], model=contract.identity, classes=3)
    assert ours.space.spread == pytest.approx(space.spread, rel=1e-3)
    naive = refer([(features, probs)], ours.space)
    np.testing.assert_allclose(ours.centres, naive.centres, atol=1e-4)
    later = window_of(model, ArrayPixels(IMAGES), ORDER[600:], ours, temperature=2.0)
    by_hand_later = describe([by_hand(IMAGES[ORDER[600:]], 2.0)], ours)
    for one, other in ((ours.summary, naive.summary), (later, by_hand_later)):
        np.testing.assert_allclose(one.waves, other.waves, atol=1e-4)
        assert (one.images, one.classes) == (other.images, other.classes)
        assert np.abs(np.cumsum(one.confidences) - np.cumsum(other.confidences)).max() <= 3  # at the edges of bins


def test_each_image_of_a_window_is_asked_once_in_a_few_whole_batches(colour_model: Path) -> None:
    from selftrain.learn.models.loading import load

    model, _ = load(colour_model)
    reference = reference_of(model, ArrayPixels(IMAGES), ORDER, name="m")
    pixels, told = Counted(ArrayPixels(IMAGES)), []
    window = window_of(
        model, pixels, ORDER[:650], reference, batch_size=60, progress=lambda done, n, *_: told.append((done, n))
    )
    assert window.images == 650
    assert len(pixels.asked) == 704  # eleven batches of 64, the last one filled up
    assert set(pixels.asked) == set(ORDER[:650].tolist())
    assert told == [(512, 650), (650, 650)]


def test_no_images_are_refused(colour_model: Path) -> None:
    from selftrain.learn.models.loading import load

    model, _ = load(colour_model)
    with pytest.raises(PredictionError, match="give at least two"):
        reference_of(model, ArrayPixels(IMAGES), ORDER[:0], name="m")
