"""Drift: planted changes of real digits are found, none is found where none is, and the rule by hand."""

from functools import cache

import numpy as np
import pytest

from selftrain.config.production import Drift
from selftrain.errors import DriftError
from selftrain.retraining.drift.decision import DriftDecision, Window, decide, look, replay
from selftrain.retraining.drift.distances import Against, Distance, Measure
from selftrain.retraining.drift.summaries import Reference, Summary
from tests.retraining.drift.witness import Change, Witness, blurred, darker, renamed

IMAGES = 250
SETTINGS = Drift()


@cache
def witness(known: int = 10) -> Witness:
    return Witness.of(known)


@cache
def halves(known: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """The known digits that the reference is made of, and those that come later."""
    rows = np.random.default_rng(0).permutation(np.flatnonzero(witness(known).labels < known))
    return rows[:700], rows[700:]


@cache
def reference(known: int = 10) -> Reference:
    return witness(known).reference(halves(known)[0])


def night(seed: int, *, change: Change = np.array, images: int = IMAGES, known: int = 10) -> Summary:
    rows = np.random.default_rng(seed).choice(halves(known)[1], images)
    return witness(known).window(rows, reference(known), change)


@cache
def nights(known: int = 10, count: int = 8) -> tuple[Window, ...]:
    """Windows without a change."""
    return replay(
        ((f"night {seed}", night(seed, known=known)) for seed in range(count)),
        reference=reference(known),
        settings=SETTINGS,
    )


def seen(summary: Summary, *, known: int = 10, past: tuple[Window, ...] | None = None) -> DriftDecision:
    before = nights(known) if past is None else past
    return look(summary, name="now", reference=reference(known), past=before, settings=SETTINGS).decision


def test_images_without_a_change_are_no_drift_in_fifteen_windows() -> None:
    every = nights(count=20)
    assert [each.decision.decided for each in every] == [False] * 5 + [True] * 15
    assert not any(each.drifted for each in every)
    assert every[-1].decision.reason.startswith("no drift: ")


@pytest.mark.parametrize("change", [blurred, darker])
def test_blurred_and_darker_images_are_drift(change: Change) -> None:
    decisions = [seen(night(seed, change=change)) for seed in range(100, 105)]
    assert all(each.drifted for each in decisions)
    assert "above" in decisions[0].reason


def test_a_class_five_times_as_frequent_is_drift() -> None:
    rows = halves()[1]
    weights = np.where(witness().labels[rows] == 3, 5.0, 1.0)
    drawn = np.random.default_rng(7).choice(rows, IMAGES, p=weights / weights.sum())
    decision = seen(witness().window(drawn, reference()))
    assert decision.drifted
    assert decision.measure == "class_mix"


def test_a_class_that_the_model_never_saw_is_drift() -> None:
    unseen = np.flatnonzero(witness(8).labels >= 8)
    rows = np.random.default_rng(7).choice(halves(8)[1], IMAGES)
    rows[: IMAGES * 2 // 5] = np.random.default_rng(8).choice(unseen, IMAGES * 2 // 5)
    assert seen(witness(8).window(rows, reference(8)), known=8).drifted


def test_few_images_after_large_windows_are_no_drift_by_chance() -> None:
    """Large calm windows alone would set a threshold that a few images exceed by chance."""
    large = replay(
        ((str(seed), night(seed, images=3_000)) for seed in range(5)), reference=reference(), settings=SETTINGS
    )
    settings = SETTINGS.model_copy(update={"floor": 0.0})
    few = [
        look(night(seed, images=100), name="", reference=reference(), past=large, settings=settings)
        for seed in range(200, 230)
    ]
    without = [
        decide([one.model_copy(update={"chance": 0.0}) for one in each.distances], large, settings, images=100)
        for each in few
    ]
    assert sum(each.drifted for each in without) >= 3
    assert sum(each.drifted for each in few) <= 1


def test_many_images_have_a_tiny_p_value_and_are_still_no_drift() -> None:
    def slightly_darker(images: np.ndarray) -> np.ndarray:
        return images * np.float32(0.95)

    settings = SETTINGS.model_copy(update={"warmup": 1})
    everyone = np.tile(np.arange(len(witness().images)), 5)
    known = witness().reference(everyone)
    before = replay([("before", known.summary)], reference=known, settings=settings)
    summary = witness().window(everyone, known, slightly_darker)
    decision = look(summary, name="", reference=known, past=before, settings=settings).decision
    assert min(decision.p_values.values()) < 1e-6
    assert decision.decided
    assert not decision.drifted


def test_a_sudden_change_is_found_where_production_always_differed_from_training() -> None:
    """Every night is blurred, so the threshold against training is high; the windows before show the change."""

    def both(images: np.ndarray) -> np.ndarray:
        return blurred(images) * np.float32(0.85)

    past = replay(
        ((str(seed), night(seed, change=blurred)) for seed in range(8)), reference=reference(), settings=SETTINGS
    )
    assert not any(each.drifted for each in past)
    decision = seen(night(50, change=both), past=past)
    assert (decision.drifted, decision.against) == (True, "recent")


def test_a_night_that_drifted_does_not_hide_the_next() -> None:
    past = nights()
    for seed in range(100, 103):
        window = look(night(seed, change=darker), name="", reference=reference(), past=past, settings=SETTINGS)
        assert window.drifted
        past += (window,)
    assert not seen(night(300), past=past).drifted


def test_windows_of_an_earlier_champion_do_not_count() -> None:
    def aged(window: Window) -> Window:
        return window.model_copy(update={"summary": renamed(window.summary, "before")})

    decision = seen(night(50, change=darker), past=tuple(map(aged, nights())))
    assert (decision.decided, decision.drifted) == (False, False)
    assert decision.reason == "no decision: 0 calm windows so far, and drift.warmup is 5"


def test_past_images_described_again_are_the_warm_up_of_a_new_champion() -> None:
    again = replay(((each.name, each.summary) for each in nights()), reference=reference(), settings=SETTINGS)
    assert again == nights()
    assert seen(night(50, change=darker), past=again).drifted


def test_a_window_survives_json() -> None:
    window = nights()[-1]
    assert Window.model_validate_json(window.model_dump_json()) == window


def test_too_few_images_decide_nothing_and_set_no_threshold() -> None:
    few = night(50, change=darker, images=99)
    decision = seen(few)
    assert (decision.drifted, decision.decided) == (False, False)
    assert decision.reason == "no decision: 99 new images, and drift.min_images is 100"
    with_few = (*nights(), look(few, name="", reference=reference(), past=nights(), settings=SETTINGS))
    assert seen(night(51), past=with_few).threshold == seen(night(51)).threshold


# The rule, by hand.


def measured(value: float, *, measure: Measure = "embeddings", against: Against = "training", chance: float = 0.0):
    return Distance(measure=measure, against=against, value=value, chance=chance, p_value=0.5)


@cache
def calm_window(*values: float, drifted: bool = False) -> Window:
    """A window with these distances of embeddings against training."""
    decision = DriftDecision(drifted=drifted, decided=True, reason="")
    return Window(
        name="", summary=reference().summary, distances=tuple(measured(value) for value in values), decision=decision
    )


PAST = (calm_window(0.2), calm_window(0.3), calm_window(0.9, drifted=True))
RULE = Drift(warmup=2, factor=1.5, floor=0.1)


@pytest.mark.parametrize(
    ("value", "chance", "floor", "threshold", "drifted"),
    [
        (0.46, 0.0, 0.1, 0.45, True),  # 1.5 times .3: the window that drifted does not count
        (0.44, 0.0, 0.1, 0.45, False),
        (0.55, 0.0, 0.6, 0.6, False),
        (0.58, 0.58, 0.1, 0.58, False),
        (0.59, 0.58, 0.1, 0.58, True),
    ],
)
def test_the_threshold_is_the_largest_of_floor_past_and_chance(
    value: float, chance: float, floor: float, threshold: float, drifted: bool
) -> None:
    settings = RULE.model_copy(update={"floor": floor})
    decision = decide([measured(value, chance=chance)], PAST, settings, images=500)
    assert (decision.distance, decision.drifted) == (value, drifted)
    assert decision.threshold == pytest.approx(threshold)


def test_the_measure_farthest_above_its_own_threshold_decides() -> None:
    other = measured(0.15, measure="confidence")
    past = tuple(
        each.model_copy(update={"distances": (*each.distances, measured(0.02, measure="confidence"))}) for each in PAST
    )
    decision = decide([measured(0.46), other], past, RULE, images=500)
    assert (decision.measure, decision.threshold) == ("confidence", 0.1)
    assert decision.reason == (
        "drift: confidences are 0.150 from the training images, above 0.100, the threshold after 2 calm windows"
    )
    assert decision.p_values == {"embeddings against training": 0.5, "confidence against training": 0.5}


def test_a_distance_that_no_past_window_has_cannot_decide() -> None:
    first = Drift(warmup=1)
    recent = measured(0.9, against="recent")
    assert not decide([measured(0.1), recent], PAST[:1], first, images=500).drifted
    with pytest.raises(DriftError, match="no distance that past windows have"):
        decide([recent], PAST[:1], first, images=500)
