"""Memory that runs out in a training step: the training goes on with halves of its batches, once."""

import json
from pathlib import Path

import numpy as np
import pytest

from selftrain.config import Recipe, Student
from selftrain.data.store.pixels import ArrayPixels
from selftrain.errors import OUT_OF_MEMORY, OutOfMemoryError
from selftrain.learn.networks.memory import ran_out_of_memory, why_not_halved
from selftrain.learn.training.batches import Examples
from selftrain.learn.training.checkpoint import Checkpoints, read_arrays

pytestmark = [
    pytest.mark.keras,
    # Keras warns that fit does not shuffle a Grain pipeline: it is shuffled by us.
    pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning"),
]

RECIPE = Recipe(steps=12, batch_size=8, learning_rate=0.03, ema=0.9, augmentation="none", validate_every=6)


def bars(n: int, seed: int) -> Examples:
    """Noisy images of a horizontal (0) or a vertical (1) bar."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    images = rng.integers(0, 100, (n, 8, 8, 3), np.uint8)
    for image, label, at in zip(images, labels, rng.integers(0, 8, n), strict=True):
        image[(at, slice(None)) if label == 0 else (slice(None), at)] = 220
    targets = np.eye(2, dtype=np.float32)[labels]
    return Examples(ArrayPixels(images), np.arange(n), targets, rng.uniform(0.5, 1, n).astype("f4"), labels == 0)


def network(*, most: int, after: int = 0):
    """A network that needs 16 TB for a training batch of more than `most` images, from its `after`-th batch on."""
    import keras
    from keras import ops

    class Hungry(keras.layers.Layer):
        def __init__(self, most: int, after: int, **options) -> None:
            super().__init__(**options)
            self.most, self.after = most, after
            self.seen = self.add_weight(shape=(), initializer="zeros", trainable=False, name="seen")

        def call(self, x, training: bool = False):
            if not training:
                return x
            self.seen.assign_add(1.0)
            hungry = ops.logical_and(ops.shape(x)[0] > self.most, self.seen > self.after)
            columns = ops.where(hungry, 1 << 22, 1)
            return x + 0 * ops.mean(ops.broadcast_to(ops.mean(x), (1 << 20, columns)))

    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3), name="image")
    inner = keras.Input((8, 8, 3))
    backbone = keras.Model(inner, keras.layers.Conv2D(8, 3, activation="relu")(inner), name="backbone")
    x = Hungry(most, after)(backbone(keras.layers.Rescaling(1 / 127.5, -1)(image)))
    return keras.Model(image, keras.layers.Dense(2, name="logits")(keras.layers.GlobalMaxPooling2D()(x)), name="small")


def run(folder: Path, recipe: Recipe = RECIPE, *, most: int, after: int = 0, **options):
    from selftrain.learn.training.run import train

    return train(
        network(most=most, after=after),
        recipe=recipe,
        train=bars(48, 0),
        validation=bars(40, 1),
        seed=3,
        checkpoints=Checkpoints(folder, options.pop("checkpoint_s", 30.0)),
        min_human_share=0.25,
        **options,
    )


def learnt(result) -> list[np.ndarray]:
    return [weight.numpy() for weight in result.model.trainable_weights]


def assert_same(result, whole) -> None:
    for got, wanted in zip(learnt(result), learnt(whole), strict=True):
        np.testing.assert_allclose(got, wanted, atol=2e-5)
    for column in ("step", "learning_rate"):
        assert result.curve[column].to_pylist() == whole.curve[column].to_pylist()
    np.testing.assert_allclose(result.curve["loss"].to_numpy(), whole.curve["loss"].to_numpy(), rtol=1e-4)
    assert result.image_steps == whole.image_steps == 96


def test_a_training_whose_first_step_does_not_fit_learns_the_same_from_halves(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", most=8)
    assert whole.parts == 1
    notes: list[str] = []
    halved = run(tmp_path / "halved", most=4, progress=lambda done, total, note="": notes.append(note))
    assert halved.parts == 2
    assert_same(halved, whole)
    assert len(notes) == 12, "one report for each whole step"
    assert all(note.endswith("half a batch at a time: memory ran out") for note in notes)


@pytest.mark.slow
def test_memory_that_runs_out_later_costs_what_was_not_saved_and_a_restart_stays_with_halves(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", most=8)

    def killed_at_the_ninth(done: int, total: int, note: str = "") -> None:
        if done == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "halved", most=4, after=4, checkpoint_s=1e-9, progress=killed_at_the_ninth)
    saved = json.loads(read_arrays(tmp_path / "halved" / "state.npz")[1])
    assert (saved["step"], saved["parts"]) == (9, 2)
    steps: list[int] = []
    resumed = run(tmp_path / "halved", most=4, progress=lambda done, total, note="": steps.append(done))
    assert steps == [10, 11, 12]
    assert resumed.parts == 2
    assert_same(resumed, whole)
    assert run(tmp_path / "halved", most=4).parts == 2, "a finished training says it too"


@pytest.mark.slow
def test_halves_that_do_not_fit_either_end_the_training_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutOfMemoryError) as raised:
        run(tmp_path, most=2)
    assert raised.value.message == (
        "out of memory in step 1, with batches of 8 images, even in 2 parts; "
        "lower recipe.batch_size, or train on a device with more memory"
    )
    assert raised.value.exit_code == OUT_OF_MEMORY
    assert raised.value.__cause__ is not None
    assert type(raised.value.__cause__).__name__ == "ResourceExhaustedError", "TensorFlow's own"


@pytest.mark.slow
def test_a_batch_without_equal_halves_ends_the_training_at_once(tmp_path: Path) -> None:
    with pytest.raises(OutOfMemoryError, match="a batch of 7 does not have two equal halves"):
        run(tmp_path, RECIPE.model_copy(update={"batch_size": 7}), most=4)


@pytest.mark.parametrize(
    ("recipe", "halves"),
    [
        (Recipe(batch_size=4), True),
        (Recipe(batch_size=2), False),
        (Student(batch_size=32, mixup=0.2), True),
        (Student(batch_size=32, method="freematch"), False),
    ],
)
def test_a_recipe_allows_halves_where_they_learn_as_the_whole_batch_does(recipe: Recipe, halves: bool) -> None:
    assert (why_not_halved(recipe) is None) is halves


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (MemoryError(), True),
        (type("ResourceExhaustedError", (Exception,), {})("OOM when allocating"), True),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA"), True),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying"), True),
        (RuntimeError("INTERNAL: Error dispatching computation: Out of memory allocating 16 bytes."), True),
        (RuntimeError("shapes differ"), False),
    ],
)
def test_each_backend_says_in_its_own_way_that_memory_ran_out(error: Exception, memory: bool) -> None:
    assert ran_out_of_memory(error) is memory
