"""Learning calls of the API: a smaller model from a large one, and better settings for a configuration file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from selftrain.config import Distillation
from selftrain.config.text import file
from selftrain.files.places import user_path
from selftrain.learn.distillation import distill as core
from selftrain.learn.tuning.augmentation_search import Trial, search_augmentation
from selftrain.learn.tuning.batch_and_rate import measure_batch_and_rate
from selftrain.learn.tuning.batch_size import BatchSearch
from selftrain.learn.tuning.rate_range import RateRange
from selftrain.learn.tuning.role_training import Role
from selftrain.progress import Progress, silent

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Optimization:
    """What was measured for a role of a configuration, and whether it was written to the file `config`."""

    config: Path
    role: Role
    batch_size: int
    learning_rate: float
    batches: BatchSearch
    rates: RateRange
    written: bool


@dataclass(frozen=True)
class LearnedAugmentation:
    """A search: the recipe as it was, the best of all trials by loss, and whether that was written to `config`.

    `seconds` is training time over all starts.
    """

    config: Path
    role: Role
    before: Trial
    best: Trial
    trials: tuple[Trial, ...]
    seconds: float
    written: bool


def distill(
    *,
    teacher: PathLike,
    images: object,
    labeled: object = None,
    validation: object = None,
    out: PathLike,
    recipe: Distillation = Distillation(),  # noqa: B008 - frozen
    seed: int = 0,
    workspace: PathLike = ".selftrain",
    progress: Progress = silent,
) -> core.DistillationResult:
    """Train a small model to answer as the saved model in the folder `teacher` does, and save it to `out`.

    Distillation (Hinton et al. 2015, arXiv:1503.02531): the small model learns the teacher's calibrated probabilities,
    softened by a temperature. It reads images of the teacher's size and has its class names. Called again with the same
    arguments after a kill, it continues.

    - `teacher`: the folder of a saved model or ensemble.
    - `images`: images without labels: a folder, an array, a list, a stream, or Pixels. An image that comes twice is
      learnt from once, with its label if it has one.
    - `labeled`: class folders, or (images, labels).
    - `validation`: labelled images that the teacher was not trained on. They choose the weights and calibrate them, and
      are never learnt from, wherever else they are given. None: a fifth of `labeled` is held out for it.
    - `out`: the folder of the new model. One that holds anything is refused, except an earlier model distilled from
      the same teacher, which is replaced.
    - `recipe`: how to train, a `selftrain.config.Distillation`: backbone, temperature, steps and the rest.
    - `seed`: of the first weights, the order of the images and the share held out.
    - `workspace`: the folder of decoded images and checkpoints. Its recall log is asked about the teacher.
    - `progress`: called with (done, total, note).

    Raises ConfigError for an `out` that is not allowed, and where there is nothing to validate on or to learn from.
    Raises SourceError for images or labels that cannot be used, BackboneError, UntrustedFileError for a teacher that
    was changed, WithdrawnError for one that was recalled, and TrainingDivergedError.
    """
    from selftrain.api.user_models import refuse_withdrawn

    refuse_withdrawn(user_path(teacher), user_path(workspace))  # the core knows no recall log
    return core.distill(
        teacher=teacher,
        images=images,
        labeled=labeled,
        validation=validation,
        out=out,
        recipe=recipe,
        seed=seed,
        workspace=workspace,
        progress=progress,
    )


def learn_optimization(
    *,
    config: PathLike,
    role: Role = "teacher",
    most: int = 1024,
    range_steps: int = 200,
    write: bool = True,
    progress: Progress = silent,
) -> Optimization:
    """Measure the largest batch size that pays, then the learning rate for it, and write both to the file `config`.

    The batch size doubles until memory fails, doubling gains less than 10 % of speed, `most` is reached, or a pass
    over the training images would have fewer than four steps. A method that learns in training (fixmatch, freematch,
    softmatch) is measured by its whole step: per labelled image, two views of `consistency.mu` unlabelled ones.

    The rate comes from a range test (arXiv:1506.01186), from the weights and with the augmentation of the training. It
    is the rate of the steepest descent within the decade below the rate of the lowest averaged loss. It becomes the
    peak of the schedule. `steps` do not change: twice the batch is twice the work.

    The speed is this machine's: run it where you train, with nothing else running.

    - `config`: the YAML file of an experiment.
    - `role`: "teacher" or "student".
    - `most`: the largest batch size to try.
    - `range_steps`: steps of the range test, 10 or more.
    - `write`: whether to write the file; its comments stay, and each changed key gets a comment that says why.
    - `progress`: called with (done, total, note).

    Raises ConfigError for a file that cannot be read or written, and for `most` or `range_steps` that are too small.
    Raises TrainingDivergedError where the loss is not finite at any rate, NoFallError where it falls by no more than
    chance. After an error the file is as it was.
    """
    path = user_path(config)
    found = measure_batch_and_rate(file.read(path), role=role, most=most, range_steps=range_steps, progress=progress)
    if write:
        file.change(path, found.changes, reasons=found.reasons)
    return Optimization(path, role, found.batch_size, found.learning_rate, found.batches, found.rates, write)


def learn_augmentation(
    *,
    config: PathLike,
    role: Role = "teacher",
    budget_minutes: float = 30.0,
    most_trials: int | None = None,
    steps: int | None = None,
    write: bool = True,
    seed: int = 0,
    progress: Progress = silent,
) -> LearnedAugmentation:
    """Search the augmentation's strength, RandAugment, MixUp and label smoothing by training again and again.

    Optuna's tree-structured Parzen estimator proposes. Each trial trains the role's recipe on the human labels and is
    judged by validation's loss; the test set is not read. The first trial is the recipe as it is, and only something
    better is written to the file `config`. On a small validation set much of the gain is luck: the loss of the best
    trial tells less than the next run's test.

    A student whose method learns in training (fixmatch, freematch, softmatch) is trained on the unlabelled images too,
    as in a run. Only its RandAugment is searched. It always takes a weak and a strong view and mixes nothing. Its
    labels stay as sharp as they are, because smoothed labels keep confidences below a threshold.

    The study is a file of JSON lines in the workspace. A search that was killed continues within its trial, and one
    that ended continues with a larger budget.

    - `config`: the YAML file of an experiment.
    - `role`: "teacher" or "student".
    - `budget_minutes`: no trial starts after this much training.
    - `most_trials`: no trial starts after this many; None: any number.
    - `steps`: of each trial; None: the recipe's own.
    - `write`: whether to write the file; its comments stay, and each changed key gets a comment that says why.
    - `seed`: of the proposals.
    - `progress`: called with (done, total, note).

    Raises ConfigError for a file that is not a configuration, a recipe without augmentation, a budget or steps that are
    not above 0, and where Optuna is missing. Raises TrainingDivergedError where the recipe as it is diverges.
    """
    path = user_path(config)
    found = search_augmentation(
        file.read(path),
        role=role,
        budget_minutes=budget_minutes,
        most_trials=most_trials,
        steps=steps,
        seed=seed,
        progress=progress,
    )
    written = write and bool(found.changes)
    if written:
        file.change(path, found.changes, reasons=dict.fromkeys(found.changes, found.reason))
    return LearnedAugmentation(path, role, found.before, found.best, found.trials, found.seconds, written)
