"""Training on a tiny real model: it learns, resumes, freezes, and says when it diverges."""

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from selftrain.config import Recipe
from selftrain.data.store.pixels import ArrayPixels
from selftrain.errors import ConfigError, TrainingDivergedError, TrainingHeldError
from selftrain.evaluate.statistics.intervals import standard_error
from selftrain.learn.training.batches import Examples
from selftrain.learn.training.checkpoint import Checkpoints

pytestmark = [
    pytest.mark.keras,
    # Keras warns that fit does not shuffle a Grain pipeline: it is shuffled by us.
    pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning"),
]

RECIPE = Recipe(steps=60, batch_size=8, learning_rate=0.03, ema=0.9, augmentation="none", validate_every=20)


def bars(n: int, seed: int) -> Examples:
    """Noisy images of a horizontal (0) or a vertical (1) bar."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    images = rng.integers(0, 100, (n, 8, 8, 3), np.uint8)
    for image, label, at in zip(images, labels, rng.integers(0, 8, n), strict=True):
        image[(at, slice(None)) if label == 0 else (slice(None), at)] = 220
    targets = np.eye(2, dtype=np.float32)[labels]
    return Examples(ArrayPixels(images), np.arange(n), targets, np.ones(n, np.float32), np.ones(n, np.bool_))


def small_model(seed: int = 0):
    import keras

    keras.utils.set_random_seed(seed)
    image = keras.Input((8, 8, 3), name="image")
    inner = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(8, 3, use_bias=False)(inner)
    x = keras.layers.Activation("relu")(keras.layers.BatchNormalization(momentum=0.99)(x))
    backbone = keras.Model(inner, keras.layers.Conv2D(8, 3, activation="relu")(x), name="backbone")
    x = backbone(keras.layers.Rescaling(1 / 127.5, -1)(image))
    x = keras.layers.Dropout(0.2)(keras.layers.GlobalMaxPooling2D()(x))
    return keras.Model(image, keras.layers.Dense(2, name="logits")(x), name="small")


def run(folder: Path, recipe: Recipe = RECIPE, examples: Examples | None = None, **options):
    from selftrain.learn.training.run import train

    return train(
        options.pop("model", None) or small_model(),
        recipe=recipe,
        train=examples or bars(48, 0),
        validation=bars(40, 1),
        seed=3,
        checkpoints=Checkpoints(folder, options.pop("checkpoint_s", 30.0)),
        **options,
    )


def test_a_few_steps_learn_bars_far_above_chance(tmp_path: Path) -> None:
    trained = run(tmp_path)
    best = max(trained.curve["validation_accuracy"].to_pylist())
    assert best >= 0.9
    assert trained.curve["step"].to_pylist() == [20, 40, 60]
    assert trained.best_step in (20, 40, 60)
    assert trained.image_steps == 480
    assert trained.curve["loss"].to_pylist()[-1] < trained.curve["loss"].to_pylist()[0]


def least(accuracies: list[float]) -> float:
    """One standard error below the highest, of 40 validation images."""
    return max(accuracies) - standard_error(max(accuracies), 40)


def test_the_returned_model_is_the_one_of_the_kept_look_and_restores_from_the_end(tmp_path: Path) -> None:
    from selftrain.learn.models.predict import predict_logits

    validation = bars(40, 1)
    first = run(tmp_path)
    logits = predict_logits(first.model, validation.pixels, validation.rows)
    accuracy = float((logits.argmax(axis=1) == validation.targets.argmax(axis=1)).mean())
    steps, accuracies = first.curve["step"].to_pylist(), first.curve["validation_accuracy"].to_pylist()
    assert accuracy == accuracies[steps.index(first.best_step)]
    kept = [step for step, kept in zip(steps, first.curve["kept"].to_pylist(), strict=True) if kept]
    within = [step for step, right in zip(steps, accuracies, strict=True) if right >= least(accuracies)]
    assert kept == [first.best_step] == within[-1:]
    assert first.curve["standard_error"].to_pylist() == [standard_error(right, 40) for right in accuracies]
    seen: list[int] = []
    again = run(tmp_path, progress=lambda done, total, note="": seen.append(done))
    assert seen == []
    np.testing.assert_array_equal(predict_logits(again.model, validation.pixels, validation.rows), logits)
    assert again.curve.equals(first.curve)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"best-{first.best_step:09d}.npz", "finished.npz"]


def test_the_returned_models_batch_norm_is_that_of_the_whole_training_set(tmp_path: Path) -> None:
    import keras

    from selftrain.learn.models.predict import predict_logits
    from selftrain.learn.networks.batchnorm import layers_of_type
    from selftrain.learn.networks.variables import read

    learnt, validation = bars(1024, 0), bars(40, 1)
    trained = run(tmp_path, RECIPE.model_copy(update={"steps": 6, "validate_every": 3}), learnt)
    (norm,) = layers_of_type(trained.model, keras.layers.BatchNormalization)
    backbone = trained.model.get_layer("backbone")
    convolved = keras.Model(backbone.input, norm.input)(learnt.pixels.gather(learnt.rows) / np.float32(127.5) - 1)
    seen = keras.ops.convert_to_numpy(convolved)
    np.testing.assert_allclose(read([norm.moving_mean])[0], seen.mean(axis=(0, 1, 2)), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(read([norm.moving_variance])[0], seen.var(axis=(0, 1, 2)), rtol=1e-3)
    again = run(tmp_path, RECIPE.model_copy(update={"steps": 6, "validate_every": 3}), learnt)
    logits = [predict_logits(each.model, validation.pixels, validation.rows) for each in (trained, again)]
    np.testing.assert_array_equal(*logits)


def test_a_training_killed_before_its_last_measurement_ends_the_same(tmp_path: Path) -> None:
    from selftrain.learn.networks.variables import read

    class KilledError(Exception):
        pass

    class KilledInTheEnd(ArrayPixels):
        measured = 0

        def gather(self, rows: np.ndarray) -> np.ndarray:
            type(self).measured += len(rows) == 128
            if self.measured == 10:  # two looks of four batches, and one batch more
                raise KilledError
            return super().gather(rows)

    recipe, learnt = RECIPE.model_copy(update={"steps": 6, "validate_every": 3}), bars(1024, 0)
    whole = run(tmp_path / "whole", recipe, learnt)
    with pytest.raises(KilledError):
        run(tmp_path / "killed", recipe, replace(learnt, pixels=KilledInTheEnd(learnt.pixels.gather(learnt.rows))))
    seen: list[int] = []
    resumed = run(tmp_path / "killed", recipe, learnt, progress=lambda done, total, note="": seen.append(done))
    assert seen == []
    for one, other in zip(read(whole.model.weights), read(resumed.model.weights), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_a_training_is_held_while_it_runs(tmp_path: Path) -> None:
    def again(done: int, total: int, note: str = "") -> None:
        with Checkpoints(tmp_path).held():
            pass

    with pytest.raises(TrainingHeldError, match=str(tmp_path)):
        run(tmp_path, progress=again)
    assert not (tmp_path / "training.lock").exists()


@pytest.mark.slow
def test_resuming_at_any_step_gives_the_same_curve_and_weights(tmp_path: Path) -> None:
    from selftrain.learn.networks.variables import read

    recipe = RECIPE.model_copy(update={"augmentation": "digits", "steps": 30, "validate_every": 10})
    whole = run(tmp_path / "whole", recipe)

    class KilledError(Exception):
        pass

    for at in (4, 10, 17):  # between looks, at a look, after one

        def kill(done: int, total: int, note: str = "", at: int = at) -> None:
            if done == at:
                raise KilledError

        folder = tmp_path / str(at)
        with pytest.raises(KilledError):
            run(folder, recipe, checkpoint_s=1e-9, progress=kill)
        seen: list[int] = []
        resumed = run(folder, recipe, progress=lambda done, total, note="", seen=seen: seen.append(done))
        assert seen == list(range(at if at == 10 else at + 1, 31))  # a look saves itself, when it is done
        for one, other in zip(read(whole.model.weights), read(resumed.model.weights), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(whole.curve["loss"].to_pylist(), resumed.curve["loss"].to_pylist(), rtol=1e-3)


def test_resuming_before_a_later_phase_does_not_take_it_back(tmp_path: Path) -> None:
    from selftrain.learn.networks.variables import read

    recipe = RECIPE.model_copy(update={"steps": 12, "finish_steps": 6, "validate_every": 6})
    whole = run(tmp_path / "whole", recipe)
    assert whole.curve["step"].to_pylist() == [6, 12, 18]

    class KilledError(Exception):
        pass

    for at in (3, 15):  # in the first phase, in the finish

        def kill(done: int, total: int, note: str = "", at: int = at) -> None:
            if done == at:
                raise KilledError

        with pytest.raises(KilledError):
            run(tmp_path / str(at), recipe, checkpoint_s=1e-9, progress=kill)
        resumed = run(tmp_path / str(at), recipe)
        np.testing.assert_allclose(whole.curve["loss"].to_pylist(), resumed.curve["loss"].to_pylist(), rtol=1e-3)
        for one, other in zip(read(whole.model.weights), read(resumed.model.weights), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("alphas", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
def test_mixed_images_teach_too(tmp_path: Path, alphas: dict[str, float]) -> None:
    trained = run(tmp_path, RECIPE.model_copy(update={"steps": 80, **alphas}))
    assert max(trained.curve["validation_accuracy"].to_pylist()) >= 0.85
    assert trained.image_steps == 640


def test_another_recipe_or_other_data_starts_anew(tmp_path: Path) -> None:
    run(tmp_path, RECIPE.model_copy(update={"steps": 4}))
    for changed in ({"recipe": RECIPE.model_copy(update={"steps": 5})}, {"examples": bars(47, 0)}):
        seen: list[int] = []
        run(
            tmp_path,
            **{"recipe": RECIPE.model_copy(update={"steps": 4}), **changed},
            progress=lambda done, total, note="", seen=seen: seen.append(done),
        )
        assert seen[0] == 1


def test_a_loss_that_is_not_finite_names_its_step(tmp_path: Path) -> None:
    train = bars(16, 0)
    weights = np.where(np.arange(16) == 11, np.float32(np.nan), np.float32(1))
    broken = Examples(train.pixels, train.rows, train.targets, weights, train.human)
    with pytest.raises(TrainingDivergedError, match=r"at step [12] of 60"):
        run(tmp_path, examples=broken)


def test_targets_that_do_not_fit_the_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the model answers 2"):
        run(tmp_path, examples=replace(bars(8, 0), targets=np.eye(3, dtype=np.float32)[np.arange(8) % 3]))


def test_a_pretrained_backbone_stands_still_while_frozen_and_its_batch_norm_for_good(tmp_path: Path) -> None:
    import keras

    from selftrain.learn.networks.batchnorm import layers_of_type
    from selftrain.learn.networks.variables import read

    def parts(model) -> tuple[list, list, list]:
        backbone = model.get_layer("backbone")
        norms = layers_of_type(backbone, keras.layers.BatchNormalization)
        convolutions = layers_of_type(backbone, keras.layers.Conv2D)
        return read(convolutions[0].weights), read(norms[0].weights), read(model.get_layer("logits").weights)

    start = parts(small_model())
    frozen = Recipe(**{**RECIPE.model_dump(), "weights": "w.h5", "freeze_steps": 8, "steps": 8, "validate_every": 4})
    held = parts(run(tmp_path / "a", frozen).model)
    thawed = parts(run(tmp_path / "b", frozen.model_copy(update={"steps": 16, "validate_every": 8})).model)
    for still in (held[0], held[1], thawed[1]):
        wanted = start[0] if still is held[0] else start[1]
        for one, other in zip(still, wanted, strict=True):
            np.testing.assert_array_equal(one, other)
    assert np.abs(held[2][0] - start[2][0]).max() > 1e-3
    assert run(tmp_path / "b", frozen.model_copy(update={"steps": 16, "validate_every": 8})).model.trainable


def test_an_unfrozen_backbone_moves(tmp_path: Path) -> None:
    from selftrain.learn.networks.variables import read
    from selftrain.learn.training.run import train

    model = small_model()
    before = read(model.get_layer("backbone").trainable_variables)
    recipe = Recipe(**{**RECIPE.model_dump(), "weights": "w.h5", "freeze_steps": 4, "steps": 12, "unfreeze_rate": 1.0})
    train(model, recipe=recipe, train=bars(48, 0), validation=bars(40, 1), seed=3, checkpoints=Checkpoints(tmp_path))
    moved = read(model.get_layer("backbone").get_layer(index=1).weights)
    assert np.abs(moved[0] - before[0]).max() > 1e-3


@pytest.mark.slow
def test_a_killed_process_goes_on_where_it_was(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import os, signal, sys
        sys.path.insert(0, sys.argv[2])
        from pathlib import Path
        import test_run as t
        at = int(sys.argv[3])
        def progress(done, total, note=""):
            print(done, flush=True)
            if done == at:
                os.kill(os.getpid(), signal.SIGKILL)
        recipe = t.RECIPE.model_copy(update={"steps": 12, "validate_every": 6})
        t.run(Path(sys.argv[1]), recipe, checkpoint_s=1e-9, progress=progress)
    """)
    here = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    def start(at: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", script, str(tmp_path), here, str(at)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    killed = start(8)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = start(99)
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.split() == ["9", "10", "11", "12"]
