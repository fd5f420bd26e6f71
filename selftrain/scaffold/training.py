"""Training: the recipes of teacher and student, and how the pool is labelled, for the images of a survey."""

from __future__ import annotations

from pathlib import Path

from selftrain.config import Checks
from selftrain.data.sources.survey import Survey
from selftrain.errors import ConfigError
from selftrain.ladder import next_rung, resolve
from selftrain.scaffold.draft import Draft, Wishes, training_labels

# Below, a fitted head on a frozen backbone beats training it. On flowers with 80 labels and 1,100 pseudo-labels, a
# student with a frozen backbone reached 77.5 %. Unfrozen at the end, it reached 72 %.
FEW_TO_UNFREEZE = 1000
IMBALANCE = 1.5


def choose_training(draft: Draft, seen: Survey, wishes: Wishes) -> None:
    """The teacher's and the student's recipes."""
    labels = training_labels(seen)
    teacher, student, weights = _backbones(labels, wishes)
    batch = 16 if labels < 1000 else 32 if labels < 10_000 else 64
    draft.set("teacher.backbone", teacher, _teacher_reason(wishes))
    _choose_recipe(draft, "teacher", seen, weights=wishes.teacher_weights, images=labels, batch=batch)
    # A pretrained teacher is expected to be confident enough of about half of the pool.
    images = labels + (seen.unlabeled_images // 2 if wishes.pretrained else seen.unlabeled_images)
    draft.set("student.backbone", student, _student_reason(student, teacher, wishes))
    batch = max(batch, 32 if images > 2000 else 16)
    _choose_recipe(draft, "student", seen, weights=weights, images=images, batch=batch)
    if seen.imbalance > Checks().max_class_ratio:
        draft.set("checks.severity", {"class_balance": "warn"}, f"{seen.imbalance:.0f} to 1 would stop the run")


def _choose_recipe(draft: Draft, role: str, seen: Survey, *, weights: str | None, images: int, batch: int) -> None:
    """The recipe of one role, which trains on about `images` images in batches of `batch`."""
    if weights is not None:
        draft.set(f"{role}.weights", weights, "pretrained, without its top")
    if weights is not None and _fits_heads(seen):
        _choose_fitted(draft, role, training_labels(seen))
    else:
        _choose_steps(draft, role, seen, pretrained=weights is not None, images=images, batch=batch)
    digits = seen.characters or (seen.grey and seen.median_side <= 64)
    because = "no flips: a mirrored image may mean something else" if digits else "photos may be mirrored"
    draft.set(f"{role}.augmentation", "digits" if digits else "natural", because)
    if seen.imbalance >= IMBALANCE:
        reason = f"the largest class has {seen.imbalance:.1f} times the images of the smallest"
        draft.set(f"{role}.class_weights", "balanced", reason)


def _fits_heads(seen: Survey) -> bool:
    """Whether the labels are so few that a pretrained backbone stays as it is, and its head is fitted."""
    return training_labels(seen) < FEW_TO_UNFREEZE


def _choose_fitted(draft: Draft, role: str, labels: int) -> None:
    """A head fitted by regression, without training steps."""
    draft.set(f"{role}.head", "fitted", "by logistic regression on the backbone's features, in seconds")
    draft.set(f"{role}.steps", 0, f"the backbone stays as it is: {labels} labels are few to train it on")
    if role == "student":
        draft.set("student.pseudo_weight", 0.5, "a pseudo-label may be wrong, so it counts half")


def _choose_steps(draft: Draft, role: str, seen: Survey, *, pretrained: bool, images: int, batch: int) -> None:
    """Training steps in batches of `batch`, on about `images` images."""
    steps = _steps(role, images, batch, pretrained=pretrained)
    draft.set(f"{role}.steps", steps, f"{steps * batch / images:.0f} times each of about {images} images")
    draft.set(f"{role}.batch_size", batch)
    draft.set(
        f"{role}.validate_every", max(10, steps // 8), "steps; eight evaluations on validation choose the weights"
    )
    if pretrained:
        draft.set(f"{role}.freeze_steps", round(steps * 0.7), "the new top is trained first")
        reason = "with the backbone frozen; a tenth of it (unfreeze_rate) afterwards"
        draft.set(f"{role}.learning_rate", 2e-3, reason)


def _backbones(labels: int, wishes: Wishes) -> tuple[str, str | None, str | None]:
    """The teacher's backbone, the student's (None: the next rung), and the student's weights."""
    start = "efficientnet_b0" if wishes.gpu else "efficientnet_b0_050" if labels < 5000 else "efficientnet_b0_070"
    for weights, role in ((wishes.teacher_weights, "teacher"), (wishes.student_weights, "student")):
        if weights is not None and weights != "imagenet" and not Path(weights).is_file():
            raise ConfigError(f"--{role}-weights {weights!r} is not a file; allowed: 'imagenet' or a weights file")
        backbone = wishes.teacher_backbone if role == "teacher" else wishes.student_backbone
        if weights is not None and weights != "imagenet" and backbone is None:
            raise ConfigError(f"--{role}-weights {weights!r} fits only one backbone; name it with --{role}-backbone")
    if wishes.teacher_weights == "imagenet":
        start = "efficientnet_b0"
    teacher = resolve(wishes.teacher_backbone or start).name
    student = resolve(wishes.student_backbone).name if wishes.student_backbone else None
    weights = wishes.student_weights
    if wishes.pretrained and weights is None:  # a student from scratch could not reach a pretrained teacher
        weights = wishes.teacher_weights
        if weights != "imagenet":
            if student not in (None, teacher):
                raise ConfigError(
                    f"the teacher starts from weights and the student {student!r} would not; give --student-weights"
                )
            student = teacher
    return teacher, student, weights


def _teacher_reason(wishes: Wishes) -> str:
    return "as asked" if wishes.teacher_backbone else "where the ladder starts; each student is a rung larger"


def _student_reason(student: str | None, teacher: str, wishes: Wishes) -> str:
    if student is None:
        return f"the next rung, {next_rung(teacher)}"
    return (
        "as asked"
        if wishes.student_backbone
        else "the same as the teacher's, because there are no weights for a larger one"
    )


def _steps(role: str, images: int, batch: int, *, pretrained: bool) -> int:
    """The optimizer steps of a role: enough passes over its images, but few enough for minutes on a laptop."""
    match role, pretrained:
        case "teacher", False:
            epochs, least, most = 75, 480, 4000
        case "teacher", True:
            epochs, least, most = 40, 160, 2000
        case _, False:
            epochs, least, most = 12, 860, 8000
        case _:
            epochs, least, most = 4, 240, 4000
    steps = min(max(epochs * images / batch, least), most)
    return round(steps / 20) * 20


def choose_labels(draft: Draft, seen: Survey, wishes: Wishes) -> None:
    """How the pool is labelled, and whether a control is fitted."""
    if wishes.pretrained and _fits_heads(seen):
        draft.set("pseudo_label.labeler", "propagate", "similar images correct a head that saw few labels")
        draft.set("pseudo_label.targets", "hard", "soft ones only repeat what a linear head knows already")
        why = "confidence; similar images have agreed on the label, and it counts half"
        draft.set("pseudo_label.threshold", {"kind": "fixed", "value": 0.5}, why)
        draft.set("control", "supervised", "a head fitted to the labels alone takes seconds: did the pool help?")
        return
    value, why = _threshold(len(seen.classes), pretrained=wishes.pretrained)
    draft.set("pseudo_label.threshold", {"kind": "fixed", "value": value}, why)


def _threshold(classes: int, *, pretrained: bool) -> tuple[float, str]:
    if classes <= 10 and pretrained:
        return 0.8, "confidence, calibrated on validation; a new top on a frozen backbone is rarely more confident"
    if classes <= 10:
        return 0.9, "confidence, calibrated on validation, that a pseudo-label needs"
    return (
        0.8 if classes <= 50 else 0.7
    ), f"confidence that a pseudo-label needs; lower, because {classes} classes share it"
