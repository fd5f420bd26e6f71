"""What do fewer strides and re-estimated batch-norm statistics gain on small images, in short trainings?

Each network is trained twice from scratch, with its own strides and with fewer, and looks at validation once, at the
end. Then its weights are read three ways: averaged, with batch norm re-estimated for them; averaged, with the running
averages that training left; and as they were at the last step, with the running averages: a plain `fit`'s.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from benchmarks import cifar10, digits, draws, loops
from benchmarks.record import Check, Result, Table
from benchmarks.rows import percent
from selftrain.config import DigitsSource, Experiment, Recipe, Splitting
from selftrain.data.manifest import Split
from selftrain.data.store.dataset import open_dataset
from selftrain.learn.training.checkpoint import Checkpoints

if TYPE_CHECKING:
    import keras

    from selftrain.learn.training.batches import Examples

IMAGE_STEPS = 48_000  # of the MobileNet
LABELS, HELD_OUT = 5_000, 0.2
DIGITS_HELD_OUT = 520
SEEDS = 3
FIRST_SEED = 50  # these draws of the digits are in no other benchmark
QUICK_STEPS = 2
COLUMNS = ("network", "seed", "strides", "re-estimated", "running averages", "last step, running", "training")


class Read(BaseModel):
    """One training's accuracies on validation (shares), by what was read, and its seconds."""

    model_config = ConfigDict(frozen=True)

    network: str
    seed: int
    reduced: bool
    measured: float
    running: float
    last: float
    seconds: float

    def cells(self) -> tuple[str, ...]:
        """The row of the table."""
        shares = (self.measured, self.running, self.last)
        strides = "fewer" if self.reduced else "its own"
        return (self.network, str(self.seed), strides, *map(percent, shares), f"{self.seconds:.0f} s")


@dataclass(frozen=True)
class Task:
    """A network and the labelled images it is trained on, by the seed."""

    network: str
    seeds: int
    draw: Callable[[int], draws.Draw]
    experiment: Experiment


def measure(*, quick: bool) -> Result:
    """The digits run's teacher, and a MobileNet on CIFAR-10."""
    every = [read for task in _tasks(quick=quick) for read in _of(task)]
    checks = []
    for name in dict.fromkeys(read.network for read in every):
        ours = [read for read in every if read.network == name]
        fewer, own = ([read for read in ours if read.reduced is which] for which in (True, False))
        strides = statistics.mean(a.measured - b.measured for a, b in zip(fewer, own, strict=True))
        norm = statistics.mean(read.measured - read.running for read in fewer)
        checks.append(Check(what=f"{name}: fewer strides over its own", measured=strides, relation=">", target=0))
        checks.append(
            Check(what=f"{name}: re-estimated statistics over running averages", measured=norm, relation=">", target=0)
        )
    lines = Table(
        title="Accuracies on held-out labels in %", columns=COLUMNS, rows=tuple(read.cells() for read in every)
    )
    return Result(
        checks=tuple(checks), details={"trainings": [read.model_dump(mode="json") for read in every]}, tables=(lines,)
    )


def _tasks(*, quick: bool) -> tuple[Task, Task]:
    e = digits.experiment(0)
    mobilenet = Recipe(
        **{**cifar10.from_scratch("cpu"), "backbone": "MobileNet", "steps": IMAGE_STEPS // cifar10.BATCH}
    )
    pictures = partial(draws.cifar10, labeled=500 if quick else LABELS, unlabeled=100, test=100)
    return (  # what may be missing comes first
        Task("CIFAR-10, MobileNet", 1, lambda seed: pictures(), _with(e, mobilenet, quick=quick)),
        Task("digits, efficientnet_b0_050", 1 if quick else SEEDS, _digits, _with(e, e.teacher, quick=quick)),
    )


def _digits(seed: int) -> draws.Draw:
    return draws.digits(DigitsSource(seed=seed, validation=DIGITS_HELD_OUT, test=30))


def _with(e: Experiment, recipe: Recipe, *, quick: bool) -> Experiment:
    """`e` whose teacher is trained by `recipe`, with one look at validation."""
    steps = QUICK_STEPS if quick else recipe.steps
    settings = recipe.model_dump() | {"steps": steps, "validate_every": steps}
    return e.model_copy(update={"teacher": type(e.teacher)(**settings), "splitting": Splitting(validation=HELD_OUT)})


def _of(task: Task) -> list[Read]:
    from selftrain.learn.training.examples import examples

    reads = []
    for seed in range(FIRST_SEED, FIRST_SEED + task.seeds):
        with tempfile.TemporaryDirectory() as folder:
            e = task.experiment.model_copy(update={"workspace": folder})
            manifest = loops.ingested(e, task.draw(seed).source).manifest
            pixels = open_dataset(e.place, e.machine).pixels(manifest, e.image_size)
            train, held_out = (examples(manifest, pixels, split) for split in (Split.TRAIN, Split.VALIDATION))
            for reduced in (False, True):
                read = _trained(task.network, e.teacher, train, held_out, Path(folder), seed=seed, reduced=reduced)
                print(f"    {' | '.join(read.cells())}", flush=True)
                reads.append(read)
    return reads


def _trained(
    network: str, recipe: Recipe, train: Examples, held_out: Examples, folder: Path, *, seed: int, reduced: bool
) -> Read:
    import keras

    from selftrain.learn.networks import backbones
    from selftrain.learn.training import run

    keras.utils.clear_session()
    recipe = recipe.model_copy(update={"reduce_strides": reduced})
    live = backbones.untrained(
        recipe, str(recipe.backbone), image_size=train.pixels.size, classes=train.targets.shape[1], seed=seed
    )
    trained = run.train(
        live,
        recipe=recipe,
        train=train,
        validation=held_out,
        seed=seed,
        checkpoints=Checkpoints(folder / f"{seed}-{reduced}"),
        min_human_share=1.0,
    )
    measured, last = _accuracy(trained.model, held_out), _accuracy(live, held_out)
    _copy_statistics(live, trained.model)
    return Read(
        network=network,
        seed=seed,
        reduced=reduced,
        measured=measured,
        running=_accuracy(trained.model, held_out),
        last=last,
        seconds=trained.seconds,
    )


def _accuracy(model: keras.Model, examples: Examples) -> float:
    from selftrain.learn.models.predict import predict_logits

    answers = predict_logits(model, examples.pixels, examples.rows).argmax(axis=1)
    return float(np.mean(answers == examples.targets.argmax(axis=1)))


def _copy_statistics(source: keras.Model, target: keras.Model) -> None:
    import keras

    from selftrain.learn.networks.batchnorm import layers_of_type

    pairs = zip(*(layers_of_type(model, keras.layers.BatchNormalization) for model in (source, target)), strict=True)
    for running, norm in pairs:
        norm.moving_mean.assign(running.moving_mean)
        norm.moving_variance.assign(running.moving_variance)
