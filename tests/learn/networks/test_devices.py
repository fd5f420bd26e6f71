"""Devices: a training on two of them ends in the weights of one, on the backends that can."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from selftrain.config import Recipe, Student
from selftrain.learn.networks.devices import count_for, spread

pytestmark = [pytest.mark.keras]

ROOT = Path(__file__).resolve().parents[3]
# Two devices on the processor. Each training writes its weights; the first is on one device.
SCRIPT = textwrap.dedent("""
    import json, sys
    from pathlib import Path
    import keras, numpy as np

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
        )
    from selftrain.config import Consistency, Recipe, Student
    from selftrain.data.store.pixels import ArrayPixels
    from selftrain.learn.distillation.soft_targets import Distilling, Softening, both_targets
    from selftrain.learn.networks.devices import spread
    from selftrain.learn.training.batches import Batches, Examples
    from selftrain.learn.training.checkpoint import Checkpoints
    from selftrain.learn.training.course import Unlabeled, course
    from selftrain.learn.training.run import train_course

    folder = Path(sys.argv[1])
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (48, 8, 8, 3), np.uint8), np.arange(48) % 2
    targets, ones = np.eye(2, dtype="f4")[labels], np.ones(48, "f4")
    examples = Examples(ArrayPixels(images), np.arange(48), targets, ones, labels == 0)
    plain = Recipe(steps=6, batch_size=8, augmentation="none", validate_every=3, learning_rate=0.01)

    def network():
        keras.utils.set_random_seed(0)
        image, inner = keras.Input((8, 8, 3), name="image"), keras.Input((8, 8, 3))
        x = keras.layers.BatchNormalization()(keras.layers.Conv2D(8, 3, use_bias=False)(inner))
        backbone = keras.Model(inner, keras.layers.Conv2D(8, 3, activation="relu")(x), name="backbone")
        x = keras.layers.GlobalMaxPooling2D()(backbone(keras.layers.Rescaling(1 / 127.5, -1)(image)))
        return keras.Model(image, keras.layers.Dense(2, name="logits")(x))

    def run(name, recipe, devices, chosen=None, stop=None):
        class Stop(Exception):
            pass
        notes = []
        def progress(done, total, note=""):
            notes.append(note)
            if done == stop:
                raise Stop
        chosen = chosen or course(recipe, examples, min_human_share=0.25, seed=3, unlabeled=None)
        places = Checkpoints(folder / name, 1e-9 if stop else 30.0)
        try:
            done = train_course(
                network(), chosen, recipe=recipe, validation=examples, checkpoints=places,
                devices=devices, progress=progress,
            )
        except Stop:
            return run(name, recipe, 1, chosen)
        weights = [keras.ops.convert_to_numpy(weight) for weight in done.model.weights]
        return weights, notes[-1], done.curve["loss"].to_pylist()

    def apart(name, recipe, chosen=None, **options):
        one, two = run(name + "1", recipe, 1, chosen), run(name + "2", recipe, "all", chosen, **options)
        widest = max(float(abs(a - b).max()) for a, b in zip(one[0], two[0], strict=True))
        return {"apart": widest, "note": two[1], "loss": two[2][0] / one[2][0]}

    batches = Batches(
        Examples(examples.pixels, examples.rows, both_targets(targets * 0.8 + 0.1, targets), ones, labels == 0), 8, 0
    )
    unlabeled = Unlabeled(np.arange(48), "freematch", Consistency(mu=2))
    same = plain.model_dump(exclude={"backbone", "strength"})
    free = Student(**same, method="freematch", consistency=Consistency(mu=2))
    facts = {
        "plain": apart("plain", plain),
        "resumed on one": apart("resumed", plain, stop=4),
        "bfloat16": apart("bfloat16", plain.model_copy(update={"precision": "mixed_bfloat16"})),
        "odd": apart("odd", plain.model_copy(update={"batch_size": 7})),
        "distilled": apart("distilled", plain, Distilling(plain, batches, Softening(3.0, 0.1))),
        "mixed": apart("mixed", plain.model_copy(update={"mixup": 0.2})),
        "freematch": apart(
            "free", free, course(free, examples, min_human_share=1.0, seed=3, unlabeled=unlabeled)
        ),
    }
    if keras.backend.backend() == "tensorflow":
        moved = Recipe(steps=2, batch_size=8, augmentation="natural")
        on = spread("all", moved)
        with on.scope():
            trainer = course(moved, examples, min_human_share=0.0, seed=3, unlabeled=None).trainer(network())
        on.own_seeds(trainer)
        [seed] = [each for each in trainer.variables if each.name.endswith("seed_generator_state")]
        facts["seeds"] = [value.numpy().tolist() for value in seed.value.values]
    print(json.dumps(facts))
""")


def trained(folder: Path, backend: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder)],
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return facts


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_two_devices_learn_what_one_does(tmp_path: Path, backend: str) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed: several devices are not tried on it")
    facts = trained(tmp_path, backend)
    both, alone = ", on 2 of 2 devices", ", on 1 of 2 devices"
    for name in ("plain", "distilled"):
        assert facts[name]["apart"] < 1e-4, facts
        assert facts[name]["note"].endswith(both)
        assert facts[name]["loss"] == pytest.approx(1, abs=1e-3)
    assert facts["resumed on one"]["apart"] < 1e-4, "a checkpoint does not depend on the devices"
    assert facts["bfloat16"]["apart"] < 0.1
    assert facts["bfloat16"]["note"].endswith(both)
    assert facts["mixed"]["loss"] == pytest.approx(1, abs=0.4), "a mean over the batch, not over a device's part"
    assert facts["odd"] == {"apart": 0, "note": facts["odd"]["note"], "loss": 1}
    assert facts["odd"]["note"].endswith(alone)
    assert facts["freematch"]["note"].endswith(both if backend == "jax" else alone)
    assert facts["freematch"]["apart"] < 1e-4
    if backend == "tensorflow":
        first, second = facts["seeds"]
        assert first[0] != second[0], "each device draws its own random numbers"


@pytest.mark.parametrize(
    ("wanted", "available", "images", "count"),
    [("all", 8, 64, 8), ("all", 8, 30, 6), (4, 8, 64, 4), (4, 2, 64, 2), ("all", 4, 7, 1), ("all", 1, 64, 1)],
)
def test_as_many_devices_train_as_divide_the_batch(wanted: Any, available: int, images: int, count: int) -> None:
    assert count_for(wanted, available, images=images) == count


def test_one_device_says_nothing_and_changes_nothing() -> None:
    for wanted in (1, "all"):
        on = spread(wanted, Recipe())  # a machine without a GPU has one device
        assert on.alone
        assert on.note == ""
    assert spread("all", Student(method="softmatch")).alone
