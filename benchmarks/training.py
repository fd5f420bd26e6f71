"""How long does the pipeline train, compared with a bare Keras `fit` on the same arrays, steps and validations?

Both build the network, compile it and train the digits run's teacher, then its student, from nothing. The bare one gets
the very batches of ours as arrays in memory, the same augmentation in front of the network, Keras's AdamW with the same
schedule and label smoothing, and Keras's own validation at the same steps. It keeps no averaged weights, does
not re-estimate batch norm and writes no checkpoint, as ours does. The student has no finish.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import JsonValue

from benchmarks import digits, loops, timing
from benchmarks.record import Check, Result
from selftrain.config import Experiment, Recipe
from selftrain.data.manifest import Manifest, Split
from selftrain.data.sources.source import open_source
from selftrain.data.store.dataset import open_dataset
from selftrain.ladder import next_rung
from selftrain.learn.training.checkpoint import Checkpoints

if TYPE_CHECKING:
    from selftrain.learn.training.batches import Examples

TARGET = 1.15
REPETITIONS = 2
QUICK_STEPS = 8
SEED = 7
ACCEPTED = 0.85  # of the pool, about what the digits run accepts


@dataclass(frozen=True)
class Task:
    """One training: what both are given."""

    recipe: Recipe
    backbone: str
    image_size: int
    class_names: tuple[str, ...]
    train: Examples
    validation: Examples
    min_human_share: float


def measure(*, quick: bool) -> Result:
    """Teacher and student, and both together."""
    import keras_hub  # noqa: F401 - seconds that neither training should be charged with

    with tempfile.TemporaryDirectory() as folder:
        e = digits.experiment(0, steps=QUICK_STEPS if quick else None).model_copy(update={"workspace": folder})
        tasks = _tasks(e)
        seconds: dict[str, list[timing.Seconds]] = {}
        details: dict[str, JsonValue] = {}
        for name, task in tasks.items():
            print(f"  {name}", flush=True)
            calls = {"pipeline": partial(train_ours, task, Path(folder)), "fit": partial(train_bare, task)}
            taken = timing.in_turns(calls, repetitions=1 if quick else REPETITIONS)
            seconds |= {f"{name} {call}": times for call, times in taken.items()}
            steps: JsonValue = {"steps": task.recipe.steps, "images": len(task.train), "backbone": task.backbone}
            details[name] = steps
    middle = {name: timing.median(times) for name, times in seconds.items()}
    ours, bare = (sum(middle[f"{name} {call}"].wall for name in tasks) for call in ("pipeline", "fit"))
    cpu_ours, cpu_bare = (sum(middle[f"{name} {call}"].cpu for name in tasks) for call in ("pipeline", "fit"))
    checks = [Check(what="seconds, teacher and student over fit", measured=ours / bare, relation="<=", target=TARGET)]
    ratios = {name: middle[f"{name} pipeline"].wall / middle[f"{name} fit"].wall for name in tasks}
    details |= {f"{name}_ratio": round(ratio, 3) for name, ratio in ratios.items()}
    details |= {"ratio_of_processor_time": round(cpu_ours / cpu_bare, 3), "seconds": timing.as_json(seconds)}
    return Result(checks=tuple(checks), details=details)


def _tasks(e: Experiment) -> dict[str, Task]:
    """The digits run's two trainings; the pseudo-labels are drawn by lot, which changes no time."""
    from selftrain.learn.training.examples import examples

    manifest = loops.ingested(e, open_source(e.source)).manifest
    pixels = open_dataset(e.place, e.machine).pixels(manifest, e.image_size)
    backbone = str(e.teacher.backbone)

    def task(recipe: Recipe, labels: Manifest, name: str, *, weight: float, share: float) -> Task:
        return Task(
            recipe=recipe,
            backbone=name,
            image_size=e.image_size,
            class_names=manifest.label_map.names,
            train=examples(labels, pixels, Split.TRAIN, pseudo_weight=weight),
            validation=examples(labels, pixels, Split.VALIDATION),
            min_human_share=share,
        )

    student = e.student.model_copy(update={"finish_steps": 0})
    return {
        "teacher": task(e.teacher, manifest, backbone, weight=0.0, share=1.0),
        "student": task(
            student,
            _with_labels_by_lot(manifest),
            next_rung(backbone),
            weight=student.pseudo_weight,
            share=student.min_human_share,
        ),
    }


def _with_labels_by_lot(manifest: Manifest) -> Manifest:
    rng = np.random.default_rng(SEED)
    pool = manifest.rows(Split.UNLABELED)
    rows = rng.permutation(pool)[: round(ACCEPTED * len(pool))]
    probs = rng.dirichlet(np.full(len(manifest.label_map), 0.1), len(rows)).astype(np.float32)
    return manifest.with_pseudo_labels(
        manifest.image_ids()[rows],
        labels=probs.argmax(axis=1),
        confidence=probs.max(axis=1),
        probs=probs,
        weight=1.0,
        round=1,
        teacher="by lot",
    )


def train_ours(task: Task, folder: Path) -> None:
    """As selflabel.teaching does."""
    from selftrain.learn.networks.backbones import untrained
    from selftrain.learn.training.run import train

    _forget()
    with tempfile.TemporaryDirectory(dir=folder) as checkpoints:
        classes = len(task.class_names)
        train(
            untrained(task.recipe, task.backbone, image_size=task.image_size, classes=classes, seed=SEED),
            recipe=task.recipe,
            train=task.train,
            validation=task.validation,
            min_human_share=task.min_human_share,
            seed=SEED,
            checkpoints=Checkpoints(Path(checkpoints)),
        )


def train_bare(task: Task) -> None:
    """As one would by hand."""
    import keras

    from selftrain.learn.augmentation.policy import augmenter
    from selftrain.learn.networks import backbones
    from selftrain.learn.training import schedule
    from selftrain.learn.training.batches import Batches, smooth
    from selftrain.learn.training.defaults import smoothing

    _forget()
    recipe, size, every = task.recipe, task.image_size, task.recipe.validate_every
    targets = smooth(task.train.targets, smoothing(recipe), hard=task.train.named)
    batches = Batches(task.train, recipe.batch_size, SEED, task.min_human_share)
    order = np.concatenate([batches.positions(step) for step in range(recipe.steps)])
    images = task.train.pixels.gather(task.train.rows[order])
    held_out = (task.validation.pixels.gather(task.validation.rows), task.validation.targets)
    model = backbones.build(
        task.backbone,
        image_size=size,
        classes=len(task.class_names),
        dropout=recipe.dropout,
        reduce_strides=recipe.reduce_strides,
        seed=SEED,
    )
    image = keras.Input((size, size, 3))
    network = keras.Model(image, model(augmenter(recipe.augmentation, recipe.strength, size, SEED)(image)))
    (phase,) = schedule.phases(recipe)
    rate = schedule.learning_rate(phase, warmup=recipe.warmup)
    network.compile(
        keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay),
        keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )
    for start in range(0, recipe.steps, every):  # the last stretch may be shorter
        part = slice(start * recipe.batch_size, min(start + every, recipe.steps) * recipe.batch_size)
        network.fit(
            images[part],
            targets[order[part]],
            sample_weight=task.train.weights[order[part]],
            batch_size=recipe.batch_size,
            shuffle=False,
            validation_data=held_out,
            validation_batch_size=256,
            verbose=0,
        )


def _forget() -> None:
    import keras

    keras.utils.clear_session()
