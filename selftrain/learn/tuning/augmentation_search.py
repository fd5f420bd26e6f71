"""Augmentation search: trainings that find how much augmentation, MixUp and label smoothing help."""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from selftrain.config import Experiment, Recipe
from selftrain.errors import ConfigError, TrainingDivergedError
from selftrain.learn.tuning.role_training import Role, RoleTraining, open_role
from selftrain.progress import Progress, noting, silent

if TYPE_CHECKING:
    import optuna

RANDAUGMENT = ("randaugment_operations", "randaugment_magnitude")
SEARCHED = ("strength", *RANDAUGMENT, "mixup", "label_smoothing")
JOURNAL = "study.jsonl"
VALUES, ACCURACY, SECONDS = "values", "accuracy", "seconds"  # attributes of a trial in the study
SMALLEST_PROBABILITY = 1e-7


@dataclass(frozen=True)
class Trial:
    """One training: its values of the searched keys, and its loss and accuracy on validation, None if it diverged.

    `loss` is the mean -log p(label) over the validation images. Each image's temperature is fitted on other ones.
    """

    values: dict[str, Any]
    loss: float | None
    accuracy: float | None


@dataclass(frozen=True)
class AugmentationSearch:
    """A search's result: the unchanged recipe, the best of all trials by loss, and the seconds of training in all."""

    role: Role
    before: Trial
    best: Trial
    trials: tuple[Trial, ...]
    seconds: float

    @property
    def changes(self) -> dict[str, object]:
        """The dotted keys of the configuration in which the best trial differs from the recipe as it was."""
        values, before = self.best.values, self.before.values
        return {f"{self.role}.{key}": value for key, value in values.items() if value != before[key]}

    @property
    def reason(self) -> str:
        """Why these keys have their values, for a comment beside them."""
        count = len([trial for trial in self.trials if trial.loss is not None])
        return f"searched: validation loss {self.best.loss:.3f}, {self.before.loss:.3f} before; best of {count} trials"


def search_augmentation(
    experiment: Experiment,
    *,
    role: Role,
    budget_minutes: float,
    most_trials: int | None,
    steps: int | None,
    seed: int,
    progress: Progress = silent,
) -> AugmentationSearch:
    """Train again and again to find the augmentation, MixUp and label smoothing that lower the validation loss.

    `selftrain.learn_augmentation` explains the arguments and raises what this raises.
    """
    _refuse(budget_minutes, steps)
    with _few_words_of_optuna():
        training = open_role(experiment, role, progress=noting(progress, "ingest"))
        if training.recipe.augmentation == "none":
            raise ConfigError(
                f"{role}.augmentation is 'none'; set it to 'natural' or 'digits' to search how much of it"
            )
        folder = training.checkpoints / f"augmentation-{_key(training, steps, seed)}"
        search = _Search(_study(folder), training, folder, steps, seed)
        search.run(budget_minutes * 60, most_trials, progress)
    return search.outcome()


def _refuse(budget_minutes: float, steps: int | None) -> None:
    """Raise ConfigError for a budget or a number of steps that is not allowed."""
    if not 0 < budget_minutes < math.inf:
        raise ConfigError(f"budget_minutes is {budget_minutes}; give minutes above 0, such as 30")
    if steps is not None and steps < 1:
        raise ConfigError(f"steps is {steps}; give 1 or more, or None for the recipe's own")


def searched(recipe: Recipe) -> tuple[str, ...]:
    """The keys of `recipe` that are searched: those that its training reads and that can change safely."""
    return RANDAUGMENT if recipe.in_training else SEARCHED


def proposed(trial: optuna.Trial, recipe: Recipe) -> dict[str, Any]:
    """Values for the searched keys of `recipe`, in steps that validation can tell apart."""
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


def _as_it_is(training: RoleTraining) -> dict[str, Any]:
    return {key: getattr(training.recipe, key) for key in searched(training.recipe)}


class _Search:
    """A study on disk, and the trainings that it proposes."""

    def __init__(self, study: optuna.Study, training: RoleTraining, folder: Path, steps: int | None, seed: int) -> None:
        self.study, self.training, self.folder, self.steps = study, training, folder, steps
        self.study.sampler = _optuna().samplers.TPESampler(seed=seed + len(study.trials), n_startup_trials=5)

    @property
    def trials(self) -> tuple[Trial, ...]:
        """The trials that ended, with those that diverged."""
        ended = [each for each in self.study.trials if SECONDS in each.user_attrs]
        return tuple(Trial(each.user_attrs[VALUES], each.value, each.user_attrs.get(ACCURACY)) for each in ended)

    @property
    def spent_s(self) -> float:
        """Seconds of training so far, over all starts."""
        return float(sum(each.user_attrs.get(SECONDS, 0.0) for each in self.study.trials))

    def run(self, budget_s: float, most: int | None, progress: Progress) -> None:
        """Try the recipe as it is, unless that was done; then what the study proposes, until the budget is spent."""
        self._give_up_killed()
        if not any(trial.values == _as_it_is(self.training) and trial.loss is not None for trial in self.trials):
            self._try(self.study.ask(), _as_it_is(self.training), budget_s, progress, must=True)
        while self.spent_s < budget_s and (most is None or len(self.trials) < most):
            trial = self.study.ask()
            self._try(trial, proposed(trial, self.training.recipe), budget_s, progress, must=False)

    def outcome(self) -> AugmentationSearch:
        """The best trial so far; of equal ones, the recipe as it is."""
        done = [trial for trial in self.trials if trial.loss is not None]
        before = next(trial for trial in done if trial.values == _as_it_is(self.training))
        best = min(done, key=lambda trial: (trial.loss or 0.0, trial is not before))
        return AugmentationSearch(self.training.role, before, best, self.trials, self.spent_s)

    def _give_up_killed(self) -> None:
        """Queue again the trials that a kill cut off; their training continues from its checkpoint."""
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
            loss, accuracy, seconds = _trained(self.training, values, self.steps, self.folder / name, show)
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
    training: RoleTraining, values: dict[str, Any], steps: int | None, folder: Path, progress: Progress
) -> tuple[float, float, float]:
    """Validation's loss and accuracy after training with `values`, and the seconds it took."""
    from selftrain.learn.models.calibrate import cross_fitted_probs
    from selftrain.learn.models.predict import predict_logits
    from selftrain.learn.networks.backbones import untrained
    from selftrain.learn.training.checkpoint import Checkpoints
    from selftrain.learn.training.run import train

    recipe = training.recipe.model_copy(update={**values, "steps": steps or training.recipe.steps})
    e = training.experiment
    model = untrained(
        recipe, training.backbone, image_size=e.image_size, classes=len(training.class_names), seed=e.seed
    )
    done = train(
        model,
        recipe=recipe,
        train=training.train,
        validation=training.validation,
        seed=e.seed,
        min_human_share=1.0,
        unlabeled=training.unlabeled,
        checkpoints=Checkpoints(folder, e.machine.checkpoint_s),
        progress=progress,
    )
    logits = predict_logits(done.model, training.validation.pixels, training.validation.rows)
    labels = training.validation.targets.argmax(axis=1)
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
    """Cut off a last line that a kill left incomplete: the next one would be appended to it."""
    if path.is_file():
        text = path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        if whole != text:
            path.write_bytes(whole)


def _key(training: RoleTraining, steps: int | None, seed: int) -> str:
    """Names the study by its training data and the keys of the recipe that are not searched."""
    recipe = training.recipe.model_dump_json(exclude=set(searched(training.recipe)))
    e = training.experiment
    facts = (training.manifest.digest, training.role, training.backbone, e.image_size, e.seed, recipe, steps, seed)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


@contextmanager
def _few_words_of_optuna() -> Iterator[None]:
    """Silence Optuna's line per trial. Raises ConfigError if Optuna is missing."""
    logging = _optuna().logging
    level = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _optuna() -> Any:
    try:
        return importlib.import_module("optuna")
    except ImportError as error:
        raise ConfigError("learn_augmentation needs Optuna; install it: pip install 'selftrain[search]'") from error
