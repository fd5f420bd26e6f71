"""Which examples a step sees."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftrain.data.store.pixels import ArrayPixels
from selftrain.learn.training.batches import Batches, Examples, balanced_weights, pool_positions, smooth


def examples(humans: int, pseudos: int) -> Examples:
    n = humans + pseudos
    array = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 2, 2, 3))
    targets = np.eye(2, dtype=np.float32)[np.arange(n) % 2]
    return Examples(ArrayPixels(array), np.arange(n), targets, np.ones(n, np.float32), np.arange(n) < humans)


def humans_of(batches: Batches, step: int) -> int:
    return int(batches.examples.human[batches.positions(step)].sum())


counts = st.tuples(st.integers(0, 40), st.integers(0, 40)).filter(lambda pair: sum(pair) > 0)


@given(counts, st.integers(1, 50), st.floats(0, 1), st.integers(0, 1000))
def test_every_batch_is_full_and_keeps_the_human_floor(pair: tuple[int, int], size: int, floor: float, at: int) -> None:
    batches = Batches(examples(*pair), size, 7, floor)
    positions = batches.positions(at)
    humans = int(batches.examples.human[positions].sum())
    assert len(positions) == size
    if pair[0]:
        assert humans >= floor * size
    if not pair[1]:
        assert humans == size


@given(counts, st.integers(1, 20))
def test_an_epoch_shows_every_example_of_a_source_once(pair: tuple[int, int], size: int) -> None:
    batches = Batches(examples(*pair), size, 0)
    stream = np.concatenate([batches.positions(step) for step in range(sum(pair) * 2)])
    human = batches.examples.human[stream]
    assert sorted(stream[human][: pair[0]]) == list(range(pair[0]))
    assert sorted(stream[~human][: pair[1]]) == list(range(pair[0], sum(pair)))


@given(counts, st.integers(1, 20), st.integers(0, 10_000))
def test_without_a_floor_human_labels_have_their_natural_share(pair: tuple[int, int], size: int, start: int) -> None:
    batches = Batches(examples(*pair), size, 0)
    seen = [humans_of(batches, step) for step in range(start, start + sum(pair))]
    assert sum(seen) == size * pair[0]
    assert max(seen) - min(seen) <= 1


def test_a_human_label_in_a_hundred_is_seen_in_every_seventh_batch_of_sixteen() -> None:
    n = 11_000
    pixels = ArrayPixels(np.zeros((1, 2, 2, 3), np.uint8))
    ones = np.ones(n, np.float32)
    batches = Batches(Examples(pixels, np.arange(n), np.eye(2)[np.arange(n) % 2], ones, np.arange(n) < 100), 16, 0)
    seen = [humans_of(batches, step) for step in range(70)]
    assert sum(seen) == 10
    assert set(seen) == {0, 1}


def test_epochs_have_different_orders_and_the_same_seed_the_same_one() -> None:
    batches = Batches(examples(32, 0), 32, 3)
    assert batches.positions(0).tolist() != batches.positions(1).tolist()
    assert batches.positions(5).tolist() == Batches(examples(32, 0), 32, 3).positions(5).tolist()
    assert batches.positions(0).tolist() != Batches(examples(32, 0), 32, 4).positions(0).tolist()


def test_the_pipeline_resumed_at_a_step_goes_on_with_the_same_batches() -> None:
    batches = Batches(examples(10, 23), 8, 1, 0.25)
    whole = [images[:, 0, 0, 0].tolist() for images, _, _ in batches.dataset(0, 9)]
    resumed = [images[:, 0, 0, 0].tolist() for images, _, _ in batches.dataset(4, 9)]
    assert len(whole) == 9
    assert resumed == whole[4:]


def test_the_finish_sees_human_labels_alone_each_once_an_epoch() -> None:
    batches = Batches(examples(6, 20), 4, 0, labels_only_from=10)
    assert not batches.examples.human[batches.positions(9)].all()
    finish = np.concatenate([batches.positions(step) for step in range(10, 13)])
    assert sorted(finish.tolist()) == sorted([*range(6), *range(6)])
    no_human = Batches(examples(0, 20), 4, 0, labels_only_from=0)
    assert len(no_human.positions(3)) == 4


def test_the_pool_is_seen_whole_before_an_image_is_seen_again() -> None:
    seen = np.concatenate([pool_positions(3, 10, step, 4) for step in range(5)])
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10].tolist() != seen[10:].tolist()
    assert pool_positions(3, 10, 2, 4).tolist() == seen[8:12].tolist()


def test_pixels_targets_and_weights_of_a_batch_belong_together() -> None:
    images, targets, weights = Batches(examples(6, 6), 4, 0)(2)
    assert targets.argmax(axis=1).tolist() == (images[:, 0, 0, 0] % 2).tolist()
    assert weights.shape == (4,)


def test_balanced_classes_have_equal_mass() -> None:
    rng = np.random.default_rng(0)
    targets = np.eye(3, dtype=np.float32)[rng.choice(3, 60, p=[0.7, 0.2, 0.1])]
    weights = rng.uniform(0.5, 1, 60).astype(np.float32)
    balanced = balanced_weights(targets, np.ones(60, np.float32))
    np.testing.assert_allclose((targets * balanced[:, None]).sum(axis=0), 20, rtol=1e-5)
    assert balanced_weights(targets, weights).sum() == pytest.approx(weights.sum(), rel=1e-5)


def test_only_hard_labels_are_smoothed() -> None:
    targets = np.array([[0, 1, 0], [0.2, 0.5, 0.3], [0, 1, 0]], np.float32)
    smoothed = smooth(targets, 0.3, hard=np.array([True, False, False]))
    np.testing.assert_allclose(smoothed, [[0.1, 0.8, 0.1], [0.2, 0.5, 0.3], [0, 1, 0]], rtol=1e-6)


def test_only_human_labels_are_hard_unless_it_is_said() -> None:
    one = examples(2, 2)
    assert one.named.tolist() == [True, True, False, False]
    assert replace(one, hard=np.array([True, True, True, False])).named.tolist() == [True, True, True, False]


def test_examples_of_different_lengths_are_refused() -> None:
    one = examples(4, 0)
    with pytest.raises(ValueError, match="need one length"):
        Examples(one.pixels, one.rows[:2], one.targets, one.weights, one.human)
    with pytest.raises(ValueError, match="need one length"):
        replace(one, hard=one.human[:2])


def test_the_digest_follows_the_targets() -> None:
    first = examples(4, 0)
    assert first.digest == examples(4, 0).digest
    assert first.digest != replace(first, targets=first.targets[::-1]).digest
