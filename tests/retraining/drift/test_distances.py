"""Summaries and distances: golden numbers, naive references, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftrain.errors import DriftError, PredictionError
from selftrain.retraining.drift.distances import (
    CHANCE,
    Distance,
    Gap,
    Mean,
    between_confidences,
    distances,
    gap,
    moments_of,
)
from selftrain.retraining.drift.summaries import BINS, Reference, Summary, describe, pooled, refer, space_of
from tests.retraining.drift.witness import renamed

WIDTH, CLASSES = 6, 3


def seen(count: int, *, shift: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Normal features (count, 6), moved by `shift` in every direction, and random probabilities (count, 3)."""
    rng = np.random.default_rng(seed)
    return rng.normal(shift, 1, (count, WIDTH)).astype(np.float32), rng.dirichlet([2, 1, 1], count)


def referred(*batches: tuple[np.ndarray, np.ndarray]) -> Reference:
    return refer(batches, space_of([features for features, _ in batches], model="m", classes=CLASSES))


def found(new: Summary, others: Reference | Summary) -> dict[str, Distance]:
    others = others.summary if isinstance(others, Reference) else others
    return {each.measure: each for each in distances(new, others, against="training")}


def of_mix(*mix: float, images: int) -> Mean:
    return Mean(np.array(mix), moments_of(np.array(mix)), images)


def test_a_class_mix_has_the_distance_that_one_computes_by_hand() -> None:
    """2 * .25^2 - (1 - .625) / 3 - (1 - .5) / 5 = -.1, over (1 - .5) * 6 / 5."""
    assert gap(of_mix(0.75, 0.25, images=4), of_mix(0.5, 0.5, images=6)).squared == pytest.approx(-0.1 / 0.6)


def test_confidences_are_as_far_apart_as_their_shares_must_move() -> None:
    ours, theirs = np.zeros(BINS), np.zeros(BINS)
    ours[[10, 50]], theirs[[20, 90]] = 0.5, 0.5
    assert between_confidences(ours, theirs) == pytest.approx((0.1 + 0.4) / 2)


def test_embeddings_are_as_far_apart_as_the_exact_kernel_says() -> None:
    """With one predicted class, the distance is the unbiased squared discrepancy over the kernel's variance."""
    certain = np.tile([0.9, 0.05, 0.05], (700, 1))
    reference, new = (seen(700)[0], certain), (seen(300, shift=0.4, seed=1)[0], certain[:300])
    ours = found(describe([new], referred(reference)), referred(reference))["embeddings"].value
    scale = 2 * ((reference[0] - reference[0].mean(axis=0)) ** 2).sum(axis=1).mean()

    def kernel(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.exp(-((one[:, None] - other[None]) ** 2).sum(axis=2) / 2 / scale)

    def between(values: np.ndarray) -> float:
        return float((kernel(values, values).sum() - len(values)) / len(values) / (len(values) - 1))

    within = between(reference[0])
    squared = between(new[0]) + within - 2 * kernel(new[0], reference[0]).mean()
    assert ours == pytest.approx((squared / (1 - within)) ** 0.5, rel=0.08)


def test_another_mix_of_the_same_classes_moves_the_class_mix_and_not_the_embeddings() -> None:
    def drawn(mix: list[float], seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        kinds = rng.choice(CLASSES, 4000, p=mix)
        features = 4 * np.eye(CLASSES, WIDTH)[kinds] + rng.normal(size=(len(kinds), WIDTH))
        return features.astype(np.float32), np.eye(CLASSES)[kinds] * 0.85 + 0.05

    reference = referred(drawn([1 / 3] * 3, 0))
    moved = found(describe([drawn([0.7, 0.2, 0.1], 1)], reference), reference)
    assert moved["class_mix"].value > 0.3
    assert moved["embeddings"].value < 0.05


def test_the_class_mix_is_as_far_apart_as_all_pairs_of_images_say() -> None:
    reference, new = seen(200), (seen(50)[0], np.random.default_rng(1).dirichlet([1, 1, 3], 50))
    ours = found(describe([new], referred(reference)), referred(reference))["class_mix"].value
    a, b = new[1].argmax(axis=1), reference[1].argmax(axis=1)

    def within(values: np.ndarray) -> float:
        same = values[:, None] == values[None]
        return float((same.sum() - len(values)) / len(values) / (len(values) - 1))

    squared = within(a) + within(b) - 2 * (a[:, None] == b[None]).mean()
    assert ours == pytest.approx((squared / (1 - within(b))) ** 0.5)


def test_confidences_are_as_far_apart_as_sorted_samples_to_a_bin() -> None:
    from scipy.stats import wasserstein_distance

    reference, new = seen(400), (seen(300)[0], np.random.default_rng(1).dirichlet([9, 1, 1], 300))
    ours = found(describe([new], referred(reference)), referred(reference))["confidence"].value
    exact = wasserstein_distance(new[1].max(axis=1), reference[1].max(axis=1))
    assert ours == pytest.approx(exact, abs=1 / BINS)
    assert ours > 0.1


def test_a_shift_of_a_tenth_of_the_spread_is_a_distance_of_nearly_a_tenth() -> None:
    """A little less: the kernel sees less of what lies far out."""
    reference = referred(seen(4_000))
    for shift in (0.1, 0.2):
        moved = describe([seen(4_000, shift=shift, seed=1)], reference)
        assert 0.7 * shift < found(moved, reference)["embeddings"].value < 1.1 * shift


def test_a_space_has_the_mean_squared_distance_from_the_mean_also_far_from_zero() -> None:
    features = seen(500)[0].astype(np.float64) + 1000
    naive = ((features - features.mean(axis=0)) ** 2).sum(axis=1).mean()
    space = space_of(np.split(features, [1, 7, 300]), model="m", classes=CLASSES)
    assert space.spread == pytest.approx(naive, rel=1e-4)
    assert (space.width, space.classes) == (WIDTH, CLASSES)


@settings(max_examples=20)
@given(st.lists(st.integers(0, 60), max_size=6))
def test_summaries_do_not_depend_on_the_batches(cuts: list[int]) -> None:
    features, probs = seen(60)
    whole = referred((features, probs))
    parts = list(zip(np.split(features, sorted(cuts)), np.split(probs, sorted(cuts)), strict=True))
    np.testing.assert_allclose(refer(parts, whole.space).centres, whole.centres, atol=1e-6)
    ours, at_once = describe(parts, whole), describe([(features, probs)], whole)
    assert (ours.images, ours.classes, ours.confidences) == (60, at_once.classes, at_once.confidences)
    np.testing.assert_allclose(ours.waves, at_once.waves, atol=1e-6)
    assert ours.moments == pytest.approx(at_once.moments, rel=1e-3)


def test_the_reference_described_as_new_images_is_itself() -> None:
    images = seen(500)
    reference = referred(images)
    again = describe([images], reference)
    np.testing.assert_allclose(again.waves, reference.summary.waves, atol=1e-6)
    assert again.moments == pytest.approx(reference.summary.moments, rel=1e-3)


def test_summaries_pooled_are_the_summary_of_all_their_images() -> None:
    first, second = seen(100), seen(300, shift=1, seed=1)
    reference = referred(first)
    whole = describe([first, second], reference)
    parts = pooled([describe([first], reference), describe([second], reference)])
    assert (parts.images, parts.classes, parts.confidences) == (400, whole.classes, whole.confidences)
    np.testing.assert_allclose(parts.waves, whole.waves, atol=1e-6)


def test_summaries_are_small_and_survive_json() -> None:
    reference = referred(seen(5000))
    ours = describe([seen(5000, seed=1)], reference)
    assert len(ours.model_dump_json()) < 10_000
    assert Summary.model_validate_json(ours.model_dump_json()) == ours
    assert Reference.model_validate_json(reference.model_dump_json()) == reference


def test_few_images_exceed_chance_and_p_values_fall_as_rarely_as_they_say() -> None:
    reference = referred(seen(2000))
    each = [found(describe([seen(100, seed=seed)], reference), reference) for seed in range(1, 61)]
    for measure in ("embeddings", "confidence", "class_mix"):
        assert sum(one[measure].value > one[measure].chance for one in each) <= 1
        assert sum(one[measure].p_value < 0.05 for one in each) <= 10
    assert sum(one["embeddings"].p_value < 0.5 for one in each) == pytest.approx(30, abs=15)


def test_a_distance_of_the_size_of_chance_has_the_p_value_of_chance() -> None:
    for degrees in (1.0, 9.5, 300.0):
        chance = Gap(0.0, degrees, 1e-3).chance
        assert Gap(chance**2, degrees, 1e-3).p_value == pytest.approx(CHANCE)


def test_the_moments_of_a_class_mix_are_those_of_its_covariance() -> None:
    mix = np.array([0.5, 0.3, 0.15, 0.05])
    covariance = np.diag(mix) - np.outer(mix, mix)
    powers = (covariance, covariance @ covariance, covariance @ covariance @ covariance)
    assert moments_of(mix) == pytest.approx([np.trace(each) for each in powers])


def test_a_reference_of_one_predicted_class_has_finite_distances() -> None:
    features = seen(100)[0]
    one, other = np.tile([0.9, 0.05, 0.05], (100, 1)), np.tile([0.05, 0.9, 0.05], (100, 1))
    reference = referred((features, one))
    assert found(reference.summary, reference)["class_mix"].value == 0
    assert found(reference.summary, reference)["class_mix"].p_value == 1
    assert 1 < found(describe([(features, other)], reference), reference)["class_mix"].value < np.inf


def test_what_a_broken_model_answers_is_refused_and_the_rows_are_named() -> None:
    features, probs = seen(10)
    reference = referred((features, probs))
    broken = features.copy()
    broken[2], broken[7, 1] = np.nan, np.inf
    with pytest.raises(PredictionError, match=r"features of 2 images \(rows 2, 7\) are not finite"):
        describe([(broken, probs)], reference)
    with pytest.raises(PredictionError, match="do not sum to one"):
        describe([(features, probs / 2)], reference)
    with pytest.raises(PredictionError, match=r"shape \(10, 5\); allowed is \(images, 6\)"):
        describe([(features[:, :5], probs)], reference)
    with pytest.raises(PredictionError, match=r"shape \(10, 2\); allowed is \(images, 3\)"):
        describe([(features, np.full((10, 2), 0.5))], reference)
    with pytest.raises(PredictionError, match="features of 9 images, probabilities of 10"):
        describe([(features[:9], probs)], reference)


def test_too_few_images_and_a_collapsed_model_are_refused() -> None:
    features, probs = seen(10)
    reference = referred((features, probs))
    for few in ([], [(features[:1], probs[:1])], [(features[:0], probs[:0])]):
        with pytest.raises(PredictionError, match="give at least two"):
            describe(few, reference)
    with pytest.raises(PredictionError, match="give at least two"):
        space_of([], model="m", classes=CLASSES)
    with pytest.raises(PredictionError, match="all 10 reference images are the same"):
        space_of([np.ones((10, WIDTH))], model="m", classes=CLASSES)


def test_summaries_of_two_models_are_not_compared() -> None:
    known = referred(seen(100)).summary
    with pytest.raises(DriftError, match=r"described by 'later' .*, the reference by 'm'"):
        distances(renamed(known, "later"), known, against="training")
    with pytest.raises(DriftError, match="describe both in one space"):
        pooled([known, renamed(known, "later")])


def test_a_damaged_summary_is_refused() -> None:
    text = referred(seen(100)).summary.model_dump_json().replace('"images":100', '"images":101')
    with pytest.raises(DriftError, match="a summary of 101 images counts 100 confidences and 100 classes"):
        Summary.model_validate_json(text)


def test_a_damaged_reference_is_refused() -> None:
    reference = referred(seen(100))
    with pytest.raises(DriftError, match="centres of a reference are not those of its space"):
        Reference(summary=reference.summary, centres=reference.centres[::-1])
    with pytest.raises(DriftError, match="centres of a reference are not those of its space"):
        Reference(summary=reference.summary, centres=())


def test_a_class_that_the_reference_was_never_predicted_has_the_centre_of_all() -> None:
    features = seen(100)[0]
    probs = np.tile([0.9, 0.1, 0.0], (100, 1))
    reference = referred((features, probs))
    assert reference.centres[0] == reference.centres[1] == reference.centres[2]
    new = describe([(features, probs[:, [1, 0, 2]])], reference)
    assert found(new, reference)["embeddings"].value < 0.01
