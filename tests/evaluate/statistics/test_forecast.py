"""The forecast: a law that is known is found again, and what cannot be said is not said."""

from pathlib import Path

import numpy as np
import pytest

from selftrain.evaluate.statistics.forecast import ClassNeed, LabelForecast, forecast

SIZES = (25, 50, 100, 200)


def measured(error, images=2_000, repeats=3, seed=0):
    """Right answers drawn for heads whose error is `error(labels)`."""
    rng = np.random.default_rng(seed)
    hardness = rng.random(images)  # an image is as hard for each head, up to chance
    noise = rng.normal(0, 0.05, (len(SIZES), repeats, images))
    return np.stack([(hardness + noise[at] > error(size)).astype(float) for at, size in enumerate(SIZES)])


@pytest.mark.parametrize(
    "error",
    [lambda n: 2.0 * n**-0.5, lambda n: 0.1 + 1.5 * n**-0.6, lambda n: 1.5 * n**-0.25],
    ids=["falls to nothing", "has a floor", "falls slowly"],
)
def test_the_gain_of_a_known_law_lies_in_the_interval(error) -> None:
    for gain in forecast(SIZES, measured(error), labels=200, seed=0).gains:
        true = error(200) - error(200 + gain.more)
        assert gain.low - 0.005 <= true <= gain.high + 0.005
        assert abs(gain.middle - true) < 0.03


def test_a_head_that_learns_nothing_more_gains_nothing() -> None:
    gains = forecast(SIZES, measured(lambda n: 0.4), labels=200, seed=0).gains
    assert all(0 <= gain.low <= gain.middle <= 0.02 for gain in gains)


def test_more_labels_never_add_less_and_the_curve_is_not_continued_too_far() -> None:
    told = forecast(SIZES, measured(lambda n: 2.0 * n**-0.5), labels=200, seed=0)
    assert [gain.more for gain in told.gains] == [50, 100, 200, 500]
    assert [gain.middle for gain in told.gains] == sorted(gain.middle for gain in told.gains)


def test_few_images_give_a_wider_interval_than_many() -> None:
    few, many = (
        forecast(SIZES, measured(lambda n: 2.0 * n**-0.5, images=images), labels=200, seed=0).gains[1]
        for images in (60, 2_000)
    )
    assert few.high - few.low > 2 * (many.high - many.low)


def test_too_few_labels_or_sizes_are_told_and_the_curve_is_kept() -> None:
    few = forecast(SIZES, measured(lambda n: 0.3, images=30), labels=24, seed=0)
    assert few.gains == ()
    assert few.unknown == "30 human labels are too few for a learning curve; 40 are needed"
    assert len(few.points) == 4
    assert forecast(SIZES[:2], measured(lambda n: 0.3)[:2], labels=50, seed=0).gains == ()


def test_too_few_labels_for_the_classes_are_not_told_as_too_few_for_any_curve() -> None:
    told = forecast(SIZES[:2], measured(lambda n: 0.3, images=85)[:2], labels=68, seed=0)
    assert told.unknown == (
        "85 human labels are too few for so many classes: a learning curve needs 3 sizes with a label of each class, "
        "and there are 2; about 170 labels are enough"
    )


def test_more_labels_than_the_curve_reaches_are_not_told_as_an_uncertain_curve() -> None:
    certain = measured(lambda n: 2.0 * n**-0.5)
    assert [gain.more for gain in forecast(SIZES, certain, labels=750, seed=0).gains] == [50]
    assert forecast(SIZES, certain, labels=760, seed=0).unknown == (
        "the learning curve was measured up to 200 human labels and is not continued beyond 800; there are 760, and "
        "with 50 more it would be too far"
    )


def test_a_forecast_is_read_as_it_was_written(tmp_path: Path) -> None:
    needs = (ClassNeed(name="easy", labels=9, recall=1.0), ClassNeed(name="hard", labels=3, recall=0.2))
    told = forecast(SIZES, measured(lambda n: 2.0 * n**-0.5), labels=200, classes=needs, seed=0)
    told.write(tmp_path / "forecast.json")
    assert LabelForecast.read((tmp_path / "forecast.json").read_text(encoding="utf-8")) == told
    assert [each.name for each in told.classes] == ["hard", "easy"]
