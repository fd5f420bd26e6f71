"""Summaries and distances: golden numbers, naive references, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftrain.errors import DriftError, PredictionError
from selftrain.retraining.distances import (
    CHANCE,
    Distance,
    _chance,
    _moments_of,
    _p_value,
    between_confidences,
    distances,
    standardised_square,
)
from selftrain.retraining.summaries import BINS, Summary, describe, pooled, space_of
from tests.retraining.witness import renamed

WIDTH, CLASSES = 6, 3


def seen(count: int, *, shift: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Normal features (count, 6), moved by `shift` in every direction, and random probabilities (count, 3)."""
    rng = np.random.default_rng(seed)
    return rng.normal(shift, 1, (count, WIDTH)).astype(np.float32), rng.dirichlet([2, 1, 1], count)


def summary(*batches: tuple[np.ndarray, np.ndarray], of: Summary | None = None) -> Summary:
    space = of.space if of else space_of([features for features, _ in batches], model="m", classes=CLASSES)
    return describe(batches, space)


def found(new: Summary, reference: Summary) -> dict[str, Distance]:
    return {each.measure: each for each in distances(new, reference, against="training")}


def test_a_class_mix_has_the_distance_that_one_computes_by_hand() -> None:
    """Means of 4 and 6 one-hot vectors: (4 * .625 - 1) / 3 + (6 * .5 - 1) / 5 - 2 * .5 = -.1, over 1 - .4."""
    gap = standardised_square(np.array([0.75, 0.25]), np.array([0.5, 0.5]), images=4, others=6)
    assert gap == pytest.approx(-0.1 / 0.6)


def test_confidences_are_as_far_apart_as_their_shares_must_move() -> None:
    ours, theirs = np.zeros(BINS), np.zeros(BINS)
    ours[[10, 50]], theirs[[20, 90]] = 0.5, 0.5
    assert between_confidences(ours, theirs) == pytest.approx((0.1 + 0.4) / 2)


def test_embeddings_are_as_far_apart_as_the_exact_kernel_says() -> None:
    reference, new = seen(700), seen(300, shift=0.4, seed=1)
    ours = found(summary(new, of=summary(reference)), summary(reference))["embeddings"].value
    scale = 2 * ((reference[0] - reference[0].mean(axis=0)) ** 2).sum(axis=1).mean()

    def kernel(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.exp(-((one[:, None] - other[None]) ** 2).sum(axis=2) / 2 / scale)

    def between(values: np.ndarray) -> float:
        return float((kernel(values, values).sum() - len(values)) / len(values) / (len(values) - 1))

    within = between(reference[0])
    squared = between(new[0]) + within - 2 * kernel(new[0], reference[0]).mean()
    assert ours == pytest.approx((squared / (1 - within)) ** 0.5, rel=0.08)


def test_the_class_mix_is_as_far_apart_as_all_pairs_of_images_say() -> None:
    reference, new = seen(200), (seen(50)[0], np.random.default_rng(1).dirichlet([1, 1, 3], 50))
    ours = found(summary(new, of=summary(reference)), summary(reference))["class_mix"].value
    a, b = new[1].argmax(axis=1), reference[1].argmax(axis=1)

    def within(values: np.ndarray) -> float:
        same = values[:, None] == values[None]
        return float((same.sum() - len(values)) / len(values) / (len(values) - 1))

    squared = within(a) + within(b) - 2 * (a[:, None] == b[None]).mean()
    assert ours == pytest.approx((squared / (1 - within(b))) ** 0.5)


def test_confidences_are_as_far_apart_as_sorted_samples_to_a_bin() -> None:
    from scipy.stats import wasserstein_distance

    reference, new = seen(400), (seen(300)[0], np.random.default_rng(1).dirichlet([9, 1, 1], 300))
    ours = found(summary(new, of=summary(reference)), summary(reference))["confidence"].value
    exact = wasserstein_distance(new[1].max(axis=1), reference[1].max(axis=1))
    assert ours == pytest.approx(exact, abs=1 / BINS)
    assert ours > 0.1


def test_a_shift_of_a_tenth_of_the_spread_is_a_distance_of_nearly_a_tenth() -> None:
    """A little less: the kernel sees less of what lies far out."""
    reference = summary(seen(8_000))
    for shift in (0.1, 0.2):
        moved = summary(seen(8_000, shift=shift, seed=1), of=reference)
        assert 0.75 * shift < found(moved, reference)["embeddings"].value < 1.05 * shift


def test_a_space_has_the_mean_squared_distance_from_the_mean_also_far_from_zero() -> None:
    features = seen(500)[0].astype(np.float64) + 1000
    naive = ((features - features.mean(axis=0)) ** 2).sum(axis=1).mean()
    space = space_of(np.split(features, [1, 7, 300]), model="m", classes=CLASSES)
    assert space.spread == pytest.approx(naive, rel=1e-4)
    assert (space.width, space.classes) == (WIDTH, CLASSES)


@settings(max_examples=20)
@given(st.lists(st.integers(0, 60), max_size=6))
def test_a_summary_does_not_depend_on_the_batches(cuts: list[int]) -> None:
    features, probs = seen(60)
    whole = summary((features, probs))
    parts = list(zip(np.split(features, sorted(cuts)), np.split(probs, sorted(cuts)), strict=True))
    ours = describe(parts, whole.space)
    assert (ours.images, ours.classes, ours.confidences) == (60, whole.classes, whole.confidences)
    np.testing.assert_allclose(ours.waves, whole.waves, atol=1e-6)
    assert ours.moments == pytest.approx(whole.moments, rel=1e-3)


def test_summaries_pooled_are_the_summary_of_all_their_images() -> None:
    first, second = seen(100), seen(300, shift=1, seed=1)
    whole = summary(first, second)
    parts = pooled([summary(first, of=whole), summary(second, of=whole)])
    assert (parts.images, parts.classes, parts.confidences) == (400, whole.classes, whole.confidences)
    np.testing.assert_allclose(parts.waves, whole.waves, atol=1e-6)


def test_a_summary_is_small_and_survives_json() -> None:
    ours = summary(seen(5000))
    text = ours.model_dump_json()
    assert len(text) < 10_000
    assert Summary.model_validate_json(text) == ours


def test_few_images_exceed_chance_and_p_values_fall_as_rarely_as_they_say() -> None:
    reference = summary(seen(2000))
    each = [found(summary(seen(100, seed=seed), of=reference), reference) for seed in range(1, 101)]
    for measure in ("embeddings", "confidence", "class_mix"):
        assert sum(one[measure].value > one[measure].chance for one in each) <= 1
        assert sum(one[measure].p_value < 0.05 for one in each) <= 14
    assert sum(one["embeddings"].p_value < 0.5 for one in each) == pytest.approx(50, abs=20)


def test_a_distance_of_the_size_of_chance_has_the_p_value_of_chance() -> None:
    noise = 1 / 100 + 1 / 2000
    for weights in ([1.0], [0.5, 0.3, 0.1], [0.01] * 90):
        moments = sum(weights), sum(w**2 for w in weights), sum(w**3 for w in weights)
        assert _p_value(_chance(moments, noise) ** 2, moments, noise) == pytest.approx(CHANCE)


def test_the_moments_of_a_class_mix_are_those_of_its_covariance() -> None:
    mix = np.array([0.5, 0.3, 0.15, 0.05])
    covariance = np.diag(mix) - np.outer(mix, mix)
    powers = (covariance, covariance @ covariance, covariance @ covariance @ covariance)
    assert _moments_of(mix) == pytest.approx([np.trace(each) for each in powers])


def test_a_reference_of_one_predicted_class_has_finite_distances() -> None:
    features = seen(100)[0]
    one, other = np.tile([0.9, 0.05, 0.05], (100, 1)), np.tile([0.05, 0.9, 0.05], (100, 1))
    reference = summary((features, one))
    assert found(reference, reference)["class_mix"].value == 0
    assert 1 < found(summary((features, other), of=reference), reference)["class_mix"].value < np.inf


def test_what_a_broken_model_answers_is_refused_and_the_rows_are_named() -> None:
    features, probs = seen(10)
    space = summary((features, probs)).space
    broken = features.copy()
    broken[2], broken[7, 1] = np.nan, np.inf
    with pytest.raises(PredictionError, match=r"features of 2 images \(rows 2, 7\) are not finite"):
        describe([(broken, probs)], space)
    with pytest.raises(PredictionError, match="do not sum to one"):
        describe([(features, probs / 2)], space)
    with pytest.raises(PredictionError, match=r"shape \(10, 5\); allowed is \(images, 6\)"):
        describe([(features[:, :5], probs)], space)
    with pytest.raises(PredictionError, match=r"shape \(10, 2\); allowed is \(images, 3\)"):
        describe([(features, np.full((10, 2), 0.5))], space)
    with pytest.raises(PredictionError, match="features of 9 images, probabilities of 10"):
        describe([(features[:9], probs)], space)


def test_too_few_images_and_a_collapsed_model_are_refused() -> None:
    features, probs = seen(10)
    space = summary((features, probs)).space
    for few in ([], [(features[:1], probs[:1])], [(features[:0], probs[:0])]):
        with pytest.raises(PredictionError, match="give at least two"):
            describe(few, space)
    with pytest.raises(PredictionError, match="give at least two"):
        space_of([], model="m", classes=CLASSES)
    with pytest.raises(PredictionError, match="all 10 reference images are the same"):
        space_of([np.ones((10, WIDTH))], model="m", classes=CLASSES)


def test_summaries_of_two_models_are_not_compared() -> None:
    reference = summary(seen(100))
    with pytest.raises(DriftError, match=r"described by 'later' .*, the reference by 'm'"):
        distances(renamed(reference, "later"), reference, against="training")
    with pytest.raises(DriftError, match="describe both in one space"):
        pooled([reference, renamed(reference, "later")])


def test_a_damaged_summary_is_refused() -> None:
    text = summary(seen(100)).model_dump_json().replace('"images":100', '"images":101')
    with pytest.raises(DriftError, match="a summary of 101 images counts 100 confidences and 100 classes"):
        Summary.model_validate_json(text)
