"""The history of a run: its rounds, one model each, and which of them is the teacher now."""

from __future__ import annotations

import math
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, model_validator

from selftrain.config import DetectionMethod, GuardAction, Method, learns_in_training
from selftrain.errors import InputError
from selftrain.evaluate.statistics.intervals import standard_error
from selftrain.selflabel.rounds.alarms import Alarm


class Verdict(StrEnum):
    """The gate's verdict after a round; all but `continue` end the loop."""

    PASSED = "passed"
    CONTINUE = "continue"
    STALLED = "stalled"
    EXHAUSTED = "exhausted"


class Round(BaseModel):
    """One trained model: round 0 is the first teacher, and every later round is a student that `method` trained.

    - `labeled`: how many human-labelled images it was trained on.
    - `pool`: how many unlabelled images there were.
    - `accepted`, `threshold`: how many of the pool's pseudo-labels it was trained on, and the threshold in words. They
      are 0 and None for the first teacher, and for a student `in_training`, which reads no pseudo-labels.
    - `image_steps`: the training's steps times the images per step.
    - `batch_parts`: 2 if memory ran out, and the training went on with halves of its batches; else 1.
    - `validation_metric`: the gate's metric, which may be accuracy itself, on `validation_images`.
    - `validation_log_loss`: cross-fitted, like `calibration_error`.
    - `calibration_error`: the expected calibration error on validation (15 bins) after temperature scaling;
      `calibration_error_uncalibrated` is the error before it.
    - `pseudo_precision`: the share of right answers among the validation images that `threshold` accepts;
      `pseudo_precision_low` is the lower end of its 95 % interval. The same labels calibrated the teacher and chose the
      cut-off of a target precision, so the precision on new images may be a little lower.
    - `findings`: what the threshold reports to the reader of the run.
    - `churn`: the share of the pool on which the student disagrees with its teacher.
    - `diverged`: why the training gave no model. The metrics are then NaN, which JSON stores as "NaN".
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings", protected_namespaces=())

    index: int
    backbone: str
    labeled: int
    accepted: int = 0
    pool: int = 0
    threshold: str | None = None
    validation_accuracy: float
    validation_metric: float
    validation_images: int = 0
    validation_log_loss: float | None = None
    calibration_error: float | None = None
    calibration_error_uncalibrated: float | None = None
    pseudo_precision: float | None = None
    pseudo_precision_low: float | None = None
    findings: tuple[str, ...] = ()
    churn: float | None = None
    kept: bool = False
    seconds: float
    image_steps: int = 0
    batch_parts: int = 1
    model_digest: str
    method: Method | DetectionMethod | None = None
    diverged: str | None = None

    @property
    def in_training(self) -> bool:
        """Whether the model learnt from the unlabelled images themselves instead of pseudo-labels."""
        return learns_in_training(self.method)


class History(BaseModel):
    """The rounds of one run so far, with the first teacher at index 0, and the guards' alarms.

    Only `with_alarms` and `with_round` make it longer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    rounds: tuple[Round, ...] = ()
    alarms: tuple[Alarm, ...] = ()

    @model_validator(mode="after")
    def _indices_count_up(self) -> History:
        indices = [each.index for each in self.rounds]
        if indices != list(range(len(indices))):
            raise InputError(f"rounds have the indices {indices}; a history counts up from the teacher's 0")
        return self

    def with_alarms(self, alarms: tuple[Alarm, ...]) -> History:
        """This history and the guards' `alarms` about the coming round's pseudo-labels or student."""
        return History(rounds=self.rounds, alarms=(*self.alarms, *alarms))

    def with_round(self, finished: Round, *, target: float = math.inf) -> History:
        """This history and `finished`, whose `kept` is decided here; a student that is not kept is an alarm.

        The first model is always kept. A student is kept if it is not worse than its teacher, unless a guard's action
        for its round is `keep_teacher` or `stop`. NaN is worse than any number.

        A student may be behind its teacher, and behind the kept model with the highest metric, by less than one
        standard error of the difference. Then the log loss decides, because a few images move it less (Breiman et al.
        1984, section 3.4.3, choose among trees in the same way). Such a student never replaces a teacher that meets
        the gate's `target` unless it meets the target as well.

        The standard error is that of two models on different images. It is too wide here, because these models are
        measured on the same images and agree on many.
        """
        worse = self._worse(finished, target) if self.rounds else ()
        alarms = (*self.alarms, *_short_of_memory(finished), *worse)
        refused = any(each.round == finished.index and each.action != "warn" for each in alarms)
        return History(rounds=(*self.rounds, finished.model_copy(update={"kept": not refused})), alarms=alarms)

    def _worse(self, finished: Round, target: float) -> tuple[Alarm, ...]:
        metric, limit = finished.validation_metric, self.teacher.validation_metric
        action: GuardAction = "keep_teacher"
        if finished.diverged is not None:
            guard, reason = "nan", f"the student diverged and the teacher is kept: {finished.diverged}"
        elif math.isnan(metric):
            guard, reason = "nan", "the student's validation metric is not a number"
        elif _comparable(finished) >= _comparable(self.teacher):
            return ()
        elif not _surer(finished, self.teacher, self._highest):
            guard, reason = "worse_student", f"the student ({metric:.4f}) is worse than its teacher ({limit:.4f})"
        elif metric < target <= limit:
            reached = f"the gate's target {target:g}, which its teacher reaches ({limit:.4f})"
            guard, reason = "worse_student", f"the student ({metric:.4f}) is below {reached}"
        else:
            guard, reason, action = "worse_student", _undecided(finished, self.teacher), "warn"
        return (Alarm(guard=guard, round=finished.index, value=metric, limit=limit, reason=reason, action=action),)

    @property
    def stopped(self) -> bool:
        """Whether a guard ended the loop."""
        return any(each.action == "stop" for each in self.alarms)

    @property
    def first_teacher(self) -> Round:
        """The model that was trained on human labels alone."""
        return self._started()[0]

    @property
    def teacher(self) -> Round:
        """The newest kept model: it labels the pool for the next round."""
        return next(each for each in reversed(self._started()) if each.kept)

    @property
    def best(self) -> Round:
        """The newest kept model; no earlier one was found to be better."""
        return self.teacher

    @property
    def _highest(self) -> Round:
        return max((each for each in self._started() if each.kept), key=_comparable)

    @property
    def latest(self) -> Round:
        """The last round, kept or not."""
        return self._started()[-1]

    @property
    def students(self) -> int:
        """How many rounds were run after the first teacher."""
        return max(0, len(self.rounds) - 1)

    def _started(self) -> tuple[Round, ...]:
        if not self.rounds:
            raise InputError("the history has no rounds yet; train the teacher first")
        return self.rounds


def _short_of_memory(finished: Round) -> tuple[Alarm, ...]:
    if finished.batch_parts == 1:
        return ()
    reason = "memory ran out in training, so each batch was taken in two halves; lower batch_size to avoid this"
    value, limit = float(finished.batch_parts), 1.0
    return (Alarm(guard="memory", round=finished.index, value=value, limit=limit, reason=reason, action="warn"),)


def _comparable(finished: Round) -> float:
    return -math.inf if math.isnan(finished.validation_metric) else finished.validation_metric


def _surer(student: Round, teacher: Round, highest: Round) -> bool:
    """Whether `student` is behind `highest` by less than their standard error, with a lower log loss than `teacher`."""
    images, loss, teacher_loss = teacher.validation_images, student.validation_log_loss, teacher.validation_log_loss
    if images == 0 or loss is None or teacher_loss is None:
        return False
    behind = highest.validation_metric - student.validation_metric
    errors = (standard_error(each.validation_metric, images) for each in (highest, student))
    return behind < math.hypot(*errors) and loss < teacher_loss


def _undecided(student: Round, teacher: Round) -> str:
    return (
        f"the student ({student.validation_metric:.4f}) is behind its teacher ({teacher.validation_metric:.4f}) by "
        f"less than one standard error on {teacher.validation_images} images, and is kept for its lower log loss "
        f"({student.validation_log_loss:.3f}, the teacher's {teacher.validation_log_loss:.3f})"
    )
