"""Augmentation, searched: how much of it, of MixUp and of label smoothing a configuration's images want."""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from selftrain.config import Recipe
from selftrain.config.text import file
from selftrain.errors import ConfigError, TrainingDivergedError
from selftrain.learn.tuning.configured import ConfiguredTraining, Role, open_configured
from selftrain.progress import Progress, noting, silent

if TYPE_CHECKING:
    import optuna

RANDAUGMENT = ("randaugment_operations", "randaugment_magnitude")
SEARCHED = ("strength", *RANDAUGMENT, "mixup", "label_smoothing")
JOURNAL = "study.jsonl"
VALUES, ACCURACY, SECONDS = "values", "accuracy", "seconds"  # what the study keeps of a trial beside its loss
SMALLEST_PROBABILITY = 1e-7


@dataclass(frozen=True)
class Trial:
    """One training: the recipe's keys it had, and what validation said; both None where it diverged.

    `loss` is the mean -log p(label) of validation images, their temperature fitted on others of them.
    """

    values: dict[str, Any]
    loss: float | None
    accuracy: float | None


@dataclass(frozen=True)
class AugmentationSearch:
    """A search: the recipe as it was, the best of all trials by loss, and whether that was written to `config`."""

    config: Path
    role: Role
    before: Trial
    best: Trial
    trials: tuple[Trial, ...]
    seconds: float
    written: bool


def learn_augmentation(
    *,
    config: str | os.PathLike[str],
    role: Role = "teacher",
    budget_minutes: float = 30.0,
    most_trials: int | None = None,
    steps: int | None = None,
    write: bool = True,
    seed: int = 0,
    progress: Progress = silent,
) -> AugmentationSearch:
    """Search the augmentation's strength, RandAugment, MixUp and label smoothing by training again and again.

    Optuna's tree-structured Parzen estimator proposes; each trial trains the role's recipe (for `steps`, None: its
    own) on the human labels and is judged by validation's loss; test is not read. The first trial is the recipe as it
    is, and what is written to the file `config` is better than that. The smaller validation is, the more of a gain is
    luck: the one after the search tells less than the next run's test.

    A student whose method learns in training (fixmatch, freematch, softmatch) is trained on the unlabelled images too,
    as a run trains it. Of it only RandAugment is searched: it always takes a weak and a strong view, mixes nothing, and
    its labels stay as sharp as they are, for smoothed ones keep confidences below a threshold.

    No trial starts after `budget_minutes` of training or `most_trials`. The study is a file of JSON lines in the
    workspace: a killed search goes on where it was, within its trial, and one that had ended with a larger budget.

    Raises ConfigError for a file that is no configuration, a recipe without augmentation, a budget or steps that are
    not above 0, or where Optuna is missing; TrainingDivergedError where the recipe as it is diverges.
    """
    _refuse(budget_minutes, steps)
    optuna = _optuna()
    found = open_configured(config, role, progress=noting(progress, "ingest"))
    if found.recipe.augmentation == "none":
        raise ConfigError(f"{role}.augmentation is 'none'; set it to 'natural' or 'digits' to search how much of it")
    folder = found.checkpoints / f"augmentation-{_key(found, steps, seed)}"
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        search = _Search(_study(folder), found, folder, steps, seed)
        search.run(budget_minutes * 60, most_trials, progress)
    finally:
        optuna.logging.set_verbosity(level)
    done = [trial for trial in search.trials if trial.loss is not None]
    before = next(trial for trial in done if trial.values == _as_it_is(found))
    best = min(done, key=lambda trial: (trial.loss or 0.0, trial is not before))
    better = write and best is not before
    if better:
        changed = {key: value for key, value in best.values.items() if value != before.values[key]}
        why = f"searched: validation loss {best.loss:.3f}, {before.loss:.3f} before; best of {len(done)} trials"
        values = {f"{role}.{key}": value for key, value in changed.items()}
        file.change(found.path, values, reasons=dict.fromkeys(values, why))
    return AugmentationSearch(found.path, role, before, best, search.trials, search.spent_s, better)


def _refuse(budget_minutes: float, steps: int | None) -> None:
    """Raise ConfigError for a search or a training without an end or a beginning."""
    if not 0 < budget_minutes < math.inf:
        raise ConfigError(f"budget_minutes is {budget_minutes}; give minutes above 0, such as 30")
    if steps is not None and steps < 1:
        raise ConfigError(f"steps is {steps}; give 1 or more, or None for the recipe's own")


def searched(recipe: Recipe) -> tuple[str, ...]:
    """The keys of `recipe` that are searched: those that its training reads and may change without harm."""
    return RANDAUGMENT if recipe.in_training else SEARCHED


def proposed(trial: optuna.Trial, recipe: Recipe) -> dict[str, Any]:
    """Values for the searched keys of `recipe`; steps are as coarse as validation can tell."""
    if recipe.in_training:
        return _randaugment(trial)
    strong = trial.suggest_categorical("strength", ["weak", "strong"]) == "strong"
    return {
        "strength": "strong" if strong else "weak",
        **(_randaugment(trial) if strong else dict.fromkeys(RANDAUGMENT)),
        "mixup": round(trial.suggest_float("mixup", 0.0, 0.8, step=0.1), 2),
        "label_smoothing": round(trial.suggest_float("label_smoothing", 0.0, 0.2, step=0.02), 2),
    }


def _randaugment(trial: optuna.Trial) -> dict[str, Any]:
    operations = trial.suggest_int("randaugment_operations", 0, 3)
    magnitude = trial.suggest_float("randaugment_magnitude", 1.0, 10.0, step=0.5) if operations else None
    return {"randaugment_operations": operations, "randaugment_magnitude": magnitude}


def _as_it_is(found: ConfiguredTraining) -> dict[str, Any]:
    return {key: getattr(found.recipe, key) for key in searched(found.recipe)}


class _Search:
    """A study on disk, and the trainings that it asks for."""

    def __init__(
        self, study: optuna.Study, found: ConfiguredTraining, folder: Path, steps: int | None, seed: int
    ) -> None:
        self.study, self.found, self.folder, self.steps = study, found, folder, steps
        self.study.sampler = _optuna().samplers.TPESampler(seed=seed + len(study.trials), n_startup_trials=5)

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Those that ended, by themselves or by diverging."""
        ended = [each for each in self.study.trials if SECONDS in each.user_attrs]
        return tuple(Trial(each.user_attrs[VALUES], each.value, each.user_attrs.get(ACCURACY)) for each in ended)

    @property
    def spent_s(self) -> float:
        """Seconds of training so far, over all starts."""
        return float(sum(each.user_attrs.get(SECONDS, 0.0) for each in self.study.trials))

    def run(self, budget_s: float, most: int | None, progress: Progress) -> None:
        """The recipe as it is, if it was not tried yet, then what the study proposes, until the budget is spent."""
        self._give_up_killed()
        if not any(trial.values == _as_it_is(self.found) and trial.loss is not None for trial in self.trials):
            self._try(self.study.ask(), _as_it_is(self.found), budget_s, progress, must=True)
        while self.spent_s < budget_s and (most is None or len(self.trials) < most):
            trial = self.study.ask()
            self._try(trial, proposed(trial, self.found.recipe), budget_s, progress, must=False)

    def _give_up_killed(self) -> None:
        """Trials that a kill cut off are asked for once more; their training goes on where it was."""
        states = _optuna().trial.TrialState
        for cut in self.study.get_trials(states=(states.RUNNING,)):
            self.study.tell(cut.number, state=states.FAIL)
            if cut.params:
                self.study.enqueue_trial(cut.params)

    def _try(
        self, trial: optuna.Trial, values: dict[str, Any], budget_s: float, progress: Progress, *, must: bool
    ) -> None:
        spent, began, best = self.spent_s, time.monotonic(), self._best()

        def show(done: int, total: int, note: str = "") -> None:
            now = min(spent + time.monotonic() - began, budget_s)
            progress(round(now), round(budget_s), f"trial {trial.number + 1}, step {done} of {total}{best}")

        trial.set_user_attr(VALUES, values)
        name = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
        try:
            loss, accuracy, seconds = _trained(self.found, values, self.steps, self.folder / name, show)
        except TrainingDivergedError:
            if must:
                raise
            trial.set_user_attr(SECONDS, time.monotonic() - began)
            self.study.tell(trial, state=_optuna().trial.TrialState.FAIL)
            return
        trial.set_user_attr(ACCURACY, accuracy)
        trial.set_user_attr(SECONDS, seconds)
        self.study.tell(trial, loss)
        shutil.rmtree(self.folder / name, ignore_errors=True)

    def _best(self) -> str:
        losses = [trial.loss for trial in self.trials if trial.loss is not None]
        return f", best loss {min(losses):.3f}" if losses else ""


def _trained(
    found: ConfiguredTraining, values: dict[str, Any], steps: int | None, folder: Path, progress: Progress
) -> tuple[float, float, float]:
    """Validation's loss and accuracy after training with `values`, and the seconds it took."""
    from selftrain.learn.models.calibrate import cross_fitted_probs
    from selftrain.learn.models.predict import predict_logits
    from selftrain.learn.training.checkpoint import Checkpoints
    from selftrain.learn.training.run import train, untrained

    recipe = found.recipe.model_copy(update={**values, "steps": steps or found.recipe.steps})
    e = found.experiment
    model = untrained(recipe, found.backbone, image_size=e.image_size, classes=len(found.class_names), seed=e.seed)
    done = train(
        model,
        recipe=recipe,
        train=found.train,
        validation=found.validation,
        seed=e.seed,
        min_human_share=1.0,
        unlabeled=found.unlabeled,
        checkpoints=Checkpoints(folder, e.machine.checkpoint_s),
        progress=progress,
    )
    logits = predict_logits(done.model, found.validation.pixels, found.validation.rows)
    labels = found.validation.targets.argmax(axis=1)
    probs = cross_fitted_probs(logits, labels)
    right = probs[np.arange(len(labels)), labels]
    loss = float(-np.log(np.maximum(right, SMALLEST_PROBABILITY)).mean())
    return loss, float((logits.argmax(axis=1) == labels).mean()), done.seconds


def _study(folder: Path) -> optuna.Study:
    optuna = _optuna()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / JOURNAL
    _drop_torn_line(path)
    backend = optuna.storages.journal.JournalFileBackend(str(path))
    storage = optuna.storages.JournalStorage(backend)
    return optuna.create_study(storage=storage, study_name="augmentation", load_if_exists=True)


def _drop_torn_line(path: Path) -> None:
    """Cuts off what a kill left of a last line, which the next one would be glued to."""
    if path.is_file():
        text = path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        if whole != text:
            path.write_bytes(whole)


def _key(found: ConfiguredTraining, steps: int | None, seed: int) -> str:
    """Names the study: what is trained on, and the recipe but for what is searched."""
    recipe = found.recipe.model_dump_json(exclude=set(searched(found.recipe)))
    e = found.experiment
    facts = (found.manifest.digest, found.role, found.backbone, e.image_size, e.seed, recipe, steps, seed)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _optuna() -> Any:
    try:
        return importlib.import_module("optuna")
    except ImportError as error:
        raise ConfigError("learn_augmentation needs Optuna; install it: pip install 'selftrain[search]'") from error
