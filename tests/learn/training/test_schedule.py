"""Phases, the learning rate over steps, and when validation is read."""

import pytest

from selftrain.config import Recipe

pytestmark = pytest.mark.keras


def test_the_rate_rises_over_the_warm_up_and_falls_to_zero() -> None:
    from selftrain.learn.training.schedule import learning_rate, phases

    (phase,) = phases(Recipe(steps=100, learning_rate=0.1))
    rate = learning_rate(phase, warmup=0.1)
    values = [float(rate(step)) for step in (0, 5, 10, 55, 100)]
    assert values == pytest.approx([0.0, 0.05, 0.1, 0.05, 0.0], abs=1e-6)


def test_a_pretrained_backbone_is_frozen_first_and_then_trained_at_the_lower_rate() -> None:
    from selftrain.learn.training.schedule import phases

    first, second = phases(Recipe(steps=10, weights="imagenet", freeze_steps=4, learning_rate=1.0, unfreeze_rate=0.1))
    assert (first.frozen, first.stop, first.rate) == (True, 4, 1.0)
    assert (second.frozen, second.start, second.stop, second.rate) == (False, 4, 10, 0.1)


def test_nothing_is_frozen_from_scratch() -> None:
    from selftrain.learn.training.schedule import phases

    recipe = Recipe(steps=10).model_copy(update={"freeze_steps": 4})
    assert [phase.frozen for phase in phases(recipe)] == [False]


def test_training_longer_frozen_than_it_lasts_never_unfreezes() -> None:
    from selftrain.learn.training.schedule import phases

    assert [p.stop for p in phases(Recipe(steps=10, weights="imagenet", freeze_steps=99))] == [10]


def test_the_finish_follows_at_a_tenth_of_the_last_rate_and_falls_to_zero() -> None:
    from selftrain.learn.training.schedule import learning_rate, phases, total_steps

    recipe = Recipe(steps=10, finish_steps=5, learning_rate=0.1, weights="imagenet", backbone="efficientnet_b0")
    for freeze, rate in ((0, 0.01), (4, 0.001), (20, 0.01)):
        chosen = recipe.model_copy(update={"freeze_steps": freeze})
        last = phases(chosen)[-1]
        assert (last.stop, last.finish) == (15, 5)
        rates = learning_rate(last, warmup=0.0)
        before, first, end = (float(rates(step - last.start)) for step in (9, 10, 15))
        assert first == pytest.approx(rate)
        assert 0 < before < 10 * rate
        assert end == pytest.approx(0.0, abs=1e-9)
    assert total_steps(recipe) == 15
    assert [phase.finish for phase in phases(Recipe(steps=10))] == [0]


def test_a_single_step_has_a_rate_above_zero() -> None:
    from selftrain.learn.training.schedule import learning_rate, phases

    (phase,) = phases(Recipe(steps=1, learning_rate=0.1))
    assert float(learning_rate(phase, warmup=1.0)(0)) == pytest.approx(0.1)


def test_validation_is_read_at_each_interval_and_at_the_end() -> None:
    from selftrain.learn.training.schedule import Phase, looks

    assert looks(Phase(4, 11, frozen=False, rate=1.0), every=3) == (6, 9, 11)
    assert looks(Phase(0, 6, frozen=False, rate=1.0), every=3) == (3, 6)
    assert looks(Phase(0, 8, frozen=False, rate=1.0, finish=3), every=4) == (4, 5, 8)
    assert looks(Phase(0, 6, frozen=False, rate=1.0, finish=3), every=3) == (3, 6)
