"""Finished rounds: from a saved model, its scores and its pseudo-labels to a Round, and the findings of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import assert_never

from pydantic import BaseModel, ConfigDict

from selftrain.config import Consistency, Gate, Guards, Method, Student, learns_in_training
from selftrain.data.manifest import Manifest, Split
from selftrain.evaluate.evaluation import Comparison, EvaluationReport
from selftrain.learn.models import divergence
from selftrain.learn.models.contract import SavedModel
from selftrain.learn.training.defaults import finish, smoothing
from selftrain.selflabel.gate import explain, judge
from selftrain.selflabel.guards import watch, watch_student
from selftrain.selflabel.rounds import History, Round, Verdict
from selftrain.selflabel.scores import Scores
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels

_UNSET_RATE: float = Student.model_fields["unfreeze_rate"].default  # where nothing is frozen


class Outcome(BaseModel):
    """How a loop ended: its rounds, the gate's verdict, and the verdict in words."""

    model_config = ConfigDict(frozen=True)

    history: History
    verdict: Verdict
    explanation: str


def outcome(gate: Gate, history: History) -> Outcome:
    """The outcome of a loop that ended with `history`."""
    spent = minutes(history)
    verdict = judge(gate, history, minutes=spent)
    return Outcome(history=history, verdict=verdict, explanation=explain(verdict, gate, history, minutes=spent))


def teacher_round(manifest: Manifest, model: SavedModel, scores: Scores, gate: Gate) -> Round:
    """Round 0: the first teacher."""
    return _round(0, manifest, model, scores, gate)


def student_round(
    index: int,
    manifest: Manifest,
    labels: PseudoLabels,
    model: SavedModel,
    scores: Scores,
    gate: Gate,
    *,
    method: Method,
) -> Round:
    """Round `index`: a student trained on human labels and the accepted ones of `labels`.

    One that learns in training read no pseudo-label: its round says nothing of them.
    """
    trained = _round(index, manifest, model, scores, gate)
    trained = trained.model_copy(
        update={"method": method, "diverged": divergence.reason(model), "churn": model.contract.churn}
    )
    if trained.in_training:
        return trained
    measured = labels.measured
    added = {
        "accepted": labels.accepted.num_rows,
        "pool": len(labels),
        "threshold": labels.threshold,
        "pseudo_precision": measured.precision if measured else None,
        "pseudo_precision_low": measured.interval[0] if measured else None,
        "findings": labels.findings,
    }
    return trained.model_copy(update=added)


def watched(history: History, guards: Guards, manifest: Manifest, labels: PseudoLabels, *, method: Method) -> History:
    """`history` and what the guards say of the next round's `labels`.

    Where the student's `method` reads no label of them, every guard only warns.
    """
    prior = manifest.class_counts(Split.TRAIN)
    return history.with_alarms(watch(_acting(guards, method), labels, prior=prior))


def with_student(history: History, guards: Guards, gate: Gate, finished: Round, *, method: Method) -> History:
    """`history` and the round of a student by `method`, with what the guards say of it; one in training only warns."""
    alarms = watch_student(_acting(guards, method), finished.churn, round_index=finished.index)
    return history.with_alarms(alarms).with_round(finished, target=gate.target)


def _acting(guards: Guards, method: Method) -> Guards:
    return guards.model_copy(update={"actions": {}}) if learns_in_training(method) else guards


def recipe_after(recipe: Student, teacher: int) -> Student:
    """The recipe of a student whose teacher is the model of round `teacher`: its `start` is 'new' or 'teacher'.

    One that goes on from its teacher has no new top to train first: nothing is frozen, at the rate that comes after it
    - unless all steps are of the top alone.

    >>> recipe = Student(start="student", weights="imagenet", steps=100, freeze_steps=20, learning_rate=1e-3)
    >>> recipe_after(recipe, 0).start, recipe_after(recipe, 0).freeze_steps
    ('new', 20)
    >>> recipe_after(recipe, 1).start, recipe_after(recipe, 1).freeze_steps, recipe_after(recipe, 1).learning_rate
    ('teacher', 0, 0.0001)
    """
    if recipe.start == "new":
        return recipe
    if recipe.start == "student" and teacher == 0:
        return recipe.model_copy(update={"start": "new"})
    changes: dict[str, object] = {"start": "teacher"}
    if 0 < recipe.freeze_steps < recipe.steps:
        changes |= {
            "freeze_steps": 0,
            "learning_rate": recipe.learning_rate * recipe.unfreeze_rate,
            "unfreeze_rate": _UNSET_RATE,
        }
    return recipe.model_copy(update=changes)


def control_recipe(recipe: Student, history: History) -> Student:
    """The recipe that spends on human labels alone what the best model and its kept teachers spent, in image-steps.

    What the recipe trains frozen stays the same share of it; where students go on from one another, of what was spent
    until the network that went on had been trained, and no less than the recipe names. Validation is looked at about as
    often as the student's was: the best of many more looks would be better by luck. The labelled images of a student
    that learnt in training were weakly changed, and so are the control's.
    """
    kept = [each for each in history.rounds if each.kept]  # the best is the newest of them
    steps = _steps(recipe, kept)
    frozen = _frozen(recipe, kept, steps)
    looks = math.ceil((recipe.steps + finish(recipe)) / recipe.validate_every)
    changes = {
        "steps": steps,
        "finish_steps": finish(recipe),
        "freeze_steps": frozen,
        "unfreeze_rate": recipe.unfreeze_rate if frozen else _UNSET_RATE,
        "validate_every": math.ceil((steps + finish(recipe)) / looks),
        "min_human_share": 1.0,
        "start": "new",
    }
    return (_on_labels(recipe) if recipe.in_training else recipe).model_copy(update=changes)


def _steps(recipe: Student, models: Sequence[Round]) -> int:
    """How many steps of `recipe`, before its finish, spend what `models` spent."""
    return max(1, round(sum(each.image_steps for each in models) / recipe.batch_size) - finish(recipe))


def _frozen(recipe: Student, kept: Sequence[Round], steps: int) -> int:
    """How many of the control's `steps` train its new top alone; `kept` are the models that it is compared with."""
    share = recipe.freeze_steps / recipe.steps
    match recipe.start:
        case "new":
            return round(share * steps)
        case "teacher":
            anew = kept[:1]
        case "student":
            anew = kept[:2]
        case _:
            assert_never(recipe.start)
    if share == 0 or share >= 1:
        return round(share * steps)
    return min(steps - 1, max(recipe.freeze_steps, round(share * _steps(recipe, anew))))


def control_seed(recipe: Student, history: History, *, seed: int) -> int:
    """The seed that the best model's network began with in a run of `seed`.

    That of the first teacher where students go on from it, of the first kept student where they go on from that one,
    else the best model's own.
    """
    match recipe.start:
        case "teacher":
            return seed
        case "student":
            return seed + min(each.index for each in history.rounds if each.kept and each.index > 0)
        case "new":
            return seed + history.best.index
        case _:
            assert_never(recipe.start)


def _on_labels(recipe: Student) -> Student:
    """What is left of the recipe of a student that learns in training, without the unlabelled images."""
    views = {"strength": "weak", "randaugment_operations": None, "randaugment_magnitude": None}
    alone = {"method": "noisy_student", "consistency": Consistency(), "label_smoothing": smoothing(recipe)}
    return recipe.model_copy(update={**alone, **views})


def minutes(history: History) -> float:
    """Minutes that the models of `history` took to train; the same however often the cache answers."""
    return sum(each.seconds for each in history.rounds) / 60


def findings(history: History, report: EvaluationReport | None, *, brought: str | None = None) -> tuple[str, ...]:
    """What the reader of a run must not miss, a sentence each; `brought` names a first teacher of another training."""
    found = [str(each) for each in history.alarms]
    found += [f"round {each.index}: {finding}" for each in history.rounds for finding in each.findings]
    if history.students and history.best.index == 0:
        found.append("the unlabelled data did not help: the first teacher is still the best model")
    if report is not None and report.comparison is not None and history.best.index > 0:
        found.append(f"on test: {_helped(report.comparison, 'the first teacher')}")
    if report is not None and report.control_diverged is not None:
        found.append(f"did the unlabelled data help? unknown: the control's training failed: {report.control_diverged}")
    if report is not None and report.control is not None:
        against = "the same backbone trained as long on human labels alone"
        found.append(f"did the unlabelled data help? {_helped(report.control, against)}")
        if brought is not None:
            found.append(_uncounted(brought, history.first_teacher.image_steps))
    return tuple(found)


def _uncounted(brought: str, image_steps: int) -> str:
    """What the control's image-steps leave out; `image_steps` are those that a brought teacher names itself."""
    begin = f"the first teacher was brought along ({brought}), and its own training is not counted in the control's"
    return f"{begin} image-steps" + (f", but for the {image_steps:,} of its last one" if image_steps else "")


def _helped(compared: Comparison, against: str) -> str:
    low, high = compared.difference_interval
    gain = f"{compared.difference * 100:+.1f} points (95 % interval {low * 100:+.1f} to {high * 100:+.1f})"
    return f"{gain} against {against}, McNemar p = {compared.p_value:.2g}: {compared.finding.value}"


def _round(index: int, manifest: Manifest, model: SavedModel, scores: Scores, gate: Gate) -> Round:
    return Round(
        index=index,
        backbone=model.contract.backbone,
        labeled=len(manifest.rows(Split.TRAIN)),
        pool=len(manifest.rows(Split.UNLABELED)),
        validation_accuracy=scores.accuracy,
        validation_metric=scores.metric(gate.metric),
        validation_images=scores.images,
        validation_log_loss=scores.log_loss,
        calibration_error=scores.calibration_error,
        calibration_error_uncalibrated=scores.calibration_error_uncalibrated,
        seconds=model.contract.seconds,
        image_steps=model.contract.image_steps,
        model_digest=model.digest,
    )
