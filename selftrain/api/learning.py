"""Learning calls of the API: a smaller model from a large one, and better settings for a configuration file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from selftrain.config import Distillation
from selftrain.config.text.file import change_experiment, read_experiment
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
    """The result of a search: the recipe as it was, the trial with the lowest loss, and all trials.

    `written` says whether the best values were written to `config`. `seconds` is the training time of all trials, with
    those of earlier, interrupted calls.
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
    recipe: Distillation | Mapping[str, object] = Distillation(),  # noqa: B008 - frozen
    class_names: Sequence[str] = (),
    pixels: str | None = None,
    bits: int | None = None,
    seed: int = 0,
    workspace: PathLike = ".selftrain",
    progress: Progress = silent,
) -> core.DistillationResult:
    """Train a small model to answer like the saved model in the folder `teacher`, and save it to `out`.

    Distillation (Hinton et al. 2015, arXiv:1503.02531): the small model learns the teacher's calibrated probabilities,
    softened by a temperature. It reads images of the teacher's size and has its class names. After a kill, the same
    call continues the training.

    Args:
      - `teacher`: the folder of a saved model or ensemble, or your own model in a format of docs/data.md.
      - `images`: images without labels: a folder, an array, a list, a stream, or Pixels. An image that comes twice is
        learned from once, with its label if it has one.
      - `labeled`: class folders, or (images, labels).
      - `validation`: labelled images that the teacher was not trained on. They choose the weights and calibrate them.
        They are never learned from, even if they are also given elsewhere. None: hold out a fifth of `labeled`.
      - `out`: the folder of the new model. It must be new or empty, or hold an earlier model distilled from the same
        teacher, which is replaced.
      - `recipe`: how to train, a `selftrain.config.Distillation` or a mapping of its keys: backbone, temperature,
        steps and the other settings.
      - `class_names`: the classes of your own model, in the order of its outputs.
      - `pixels`: how your own model reads pixels, such as "0..1". None: measured on the validation images.
      - `bits`: how many of 16 bits the grey pictures of your files fill, such as 12, with your own model. None: all 16.
        A saved model knows it.
      - `seed`: determines the first weights, the order of the images, and which of `labeled` are held out.
      - `workspace`: the folder for decoded images and checkpoints, with the recall log.
      - `progress`: called with the units done, their total, and a note.

    Returns:
        The saved model, the accuracy and size of both models, and how many images were learned from or left out.

    Raises:
      - SourceError: images or labels cannot be used.
      - ConfigError: `out` or `recipe` is not allowed, or there is nothing to validate on or to learn from.
      - BackboneError: the backbone cannot be built.
      - UntrustedFileError: `teacher` is not a saved model, was changed, or is refused.
      - PredictionError: your own model is not better than chance on the validation images.
      - WithdrawnError: `selftrain recall` withdrew the teacher, or a model that it was trained from.
      - TrainingDivergedError: the loss is not finite.

    Example:
        The folder `colours` holds a model that names the strongest colour of an image, whose channels are RGB:

        >>> import numpy as np
        >>> import selftrain
        >>> images = np.random.default_rng(0).integers(0, 256, (36, 16, 16, 3), np.uint8)
        >>> names = np.array(["red", "green", "blue"])[images.mean(axis=(1, 2)).argmax(axis=1)]
        >>> small = selftrain.distill(
        ...     teacher="colours",
        ...     images=images[:24],
        ...     validation=(images[24:], names[24:]),
        ...     recipe={"backbone": "wide_resnet_16_1", "steps": 4, "batch_size": 8},
        ...     out="small",
        ... )
        >>> small.images, small.teacher_accuracy, small.saved.folder.name
        (24, 1.0, 'small')
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
        class_names=class_names,
        pixels=pixels,
        bits=bits,
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

    The batch size doubles until memory runs out, the speed grows by less than 10 %, or `most` is reached. It also stops
    where a pass over the training images would have fewer than four steps. A method that learns in training (fixmatch,
    freematch, softmatch) is measured by its whole step: per labelled image, two views of `consistency.mu` unlabelled
    ones.

    The rate comes from a range test (arXiv:1506.01186), from the weights and with the augmentation of the training. It
    is the rate of the steepest descent within the decade below the rate of the lowest averaged loss. It becomes the
    peak of the schedule. `steps` do not change: twice the batch is twice the work.

    Args:
      - `config`: the YAML file of an experiment. Run on the machine that will train, with nothing else running.
      - `role`: "teacher" or "student".
      - `most`: the largest batch size to try.
      - `range_steps`: the steps of the range test, 10 or more.
      - `write`: write both values to the file, each with a comment that says why; other comments stay.
      - `progress`: called with the units done, their total, and a note.

    Returns:
        Both values, every batch size and rate that was tried, and whether the file was written.

    Raises:
      - ConfigError: the file cannot be read or written, or `most` or `range_steps` is too small.
      - TrainingDivergedError: the loss is not finite at any rate.
      - NoFallError: the loss falls by no more than chance would explain.

    After an error, the file is as it was.

    Example:
        >>> from pathlib import Path
        >>> import selftrain
        >>> config = Path("optimization.yaml")
        >>> written = config.write_text('''
        ... parameters:
        ...   experiment:
        ...     image_size: 16
        ...     source: {kind: digits, labeled: 40, validation: 20, test: 20}
        ...     teacher: {backbone: wide_resnet_16_1}
        ... ''')
        >>> found = selftrain.learn_optimization(config=config, range_steps=40)
        >>> found.batch_size, f"batch_size: 8, learning_rate: {found.learning_rate}" in config.read_text()
        (8, True)
    """
    path = user_path(config)
    found = measure_batch_and_rate(
        read_experiment(path), role=role, most=most, range_steps=range_steps, progress=progress
    )
    if write:
        change_experiment(path, found.changes, reasons=found.reasons)
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

    Optuna's tree-structured Parzen estimator proposes the trials. Each trial trains the role's recipe on the human
    labels and is judged by the validation loss; the test set is not read. The first trial is the recipe as it is, and
    only a better one is written. On a small validation set much of the gain is luck, so expect a smaller gain on test.

    A student whose method learns in training (fixmatch, freematch, softmatch) is trained on the unlabelled images too,
    as in a run. Only its RandAugment is searched. It always takes a weak and a strong view and mixes nothing. Its
    labels stay as sharp as they are, because smoothed labels keep confidences below a threshold.

    The study is a file of JSON lines in the workspace. A search that was killed continues within its trial, and a
    finished one continues with a larger budget.

    Args:
      - `config`: the YAML file of an experiment.
      - `role`: "teacher" or "student".
      - `budget_minutes`: no trial starts after this much training.
      - `most_trials`: no trial starts after this many. None: no limit.
      - `steps`: the steps of a trial. None: the recipe's own.
      - `write`: write the best values to the file, each with a comment that says why; other comments stay.
      - `seed`: determines which trials are proposed.
      - `progress`: called with the seconds of the budget that are spent, their total, and a note.

    Returns:
        The recipe as it was, the best trial, all trials, and whether the file was written.

    Raises:
      - ConfigError: the file is not a configuration, its recipe has no augmentation, the budget or `steps` are not
        above 0, or Optuna is missing.
      - TrainingDivergedError: the recipe as it is diverges.

    Example:
        >>> from pathlib import Path
        >>> import selftrain
        >>> config = Path("augmentation.yaml")
        >>> written = config.write_text('''
        ... parameters:
        ...   experiment:
        ...     image_size: 16
        ...     source: {kind: digits, labeled: 40, validation: 20, test: 20}
        ...     teacher: {backbone: wide_resnet_16_1, augmentation: digits}
        ... ''')
        >>> found = selftrain.learn_augmentation(config=config, most_trials=2, steps=1)
        >>> len(found.trials), found.best.loss <= found.before.loss
        (2, True)
    """
    path = user_path(config)
    found = search_augmentation(
        read_experiment(path),
        role=role,
        budget_minutes=budget_minutes,
        most_trials=most_trials,
        steps=steps,
        seed=seed,
        progress=progress,
    )
    written = write and bool(found.changes)
    if written:
        change_experiment(path, found.changes, reasons=dict.fromkeys(found.changes, found.reason))
    return LearnedAugmentation(path, role, found.before, found.best, found.trials, found.seconds, written)
