"""Choices: from what a user's folders hold to a configuration with a reason beside every choice."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from selftrain.config import Checks, Experiment, FolderSource, parse
from selftrain.config.text.commented import Commented, check_free, write_commented
from selftrain.data.sources.survey import Survey, survey
from selftrain.errors import ConfigError, SourceError
from selftrain.ladder import next_rung, resolve
from selftrain.scaffold.advice import advice

SIDES = (32, 48, 64, 96, 128, 160, 192, 224, 256, 320)  # pixels; backbones halve them several times without remainder
LABELED_SPLITS = 3
# On flowers with 80 labels and 1,100 pseudo-labels, a student with a frozen backbone reached 77.5 %. Unfrozen at the
# end, it reached 72 %.
FEW_TO_UNFREEZE = 1000
IMBALANCE = 1.5
NO_GOOD_NAME = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class Wishes:
    """What the user asks for besides the folders. `gpu` says whether the machine has one; `target` is the gate's."""

    name: str | None = None
    teacher_backbone: str | None = None
    teacher_weights: str | None = None
    student_backbone: str | None = None
    student_weights: str | None = None
    target: float = 0.9
    gpu: bool = False

    @property
    def pretrained(self) -> bool:
        """Whether the teacher starts from weights."""
        return self.teacher_weights is not None


class Scaffold(BaseModel):
    """What the folders hold, the settings chosen for them, advice for the user, and the path of the YAML file."""

    model_config = ConfigDict(frozen=True)

    path: Path
    survey: Survey
    experiment: Experiment
    advice: tuple[str, ...]


def scaffold(source: FolderSource, wishes: Wishes, out: Path | None, *, command: str, force: bool = False) -> Scaffold:
    """Look at the folders of `source`, choose, and write the YAML to `out`; its header names `command`.

    If `out` is None, the file is NAME.yaml in the folder `configs` if there is one, otherwise in the current folder.
    Raises what `survey` and `choose` raise, and ConfigError for a file that already exists, unless `force` is set.
    """
    if out is not None:
        check_free(out, force=force)
    seen = survey(source)
    chosen = choose(source, seen, wishes)
    name = f"{chosen.experiment.name}.yaml"
    path = out if out is not None else Path("configs", name) if Path("configs").is_dir() else Path(name)
    check_free(path, force=force)
    write_commented(chosen, path, command=command)
    return Scaffold(path=path, survey=seen, experiment=chosen.experiment, advice=chosen.notes)


def has_gpu() -> bool:
    """Whether this machine shows an NVIDIA GPU, asked without loading a framework."""
    return Path("/dev/nvidiactl").exists()


def choose(source: FolderSource, seen: Survey, wishes: Wishes) -> Commented:
    """The configuration for the images in `seen`.

    Raises SourceError for fewer than two classes, a class with too few images for the splits, or no unlabelled image.
    Raises BackboneError and ConfigError for a wish that cannot be met.
    """
    _check_enough(seen)
    draft = _Draft({"source": source.model_dump(mode="json")})
    draft.set("name", _name(wishes.name, source), "names the data set and the runs")
    side = _image_size(seen, wishes)
    draft.set("image_size", side, f"pixels a side; the median of the shorter sides is {seen.median_side} px")
    _choose_splits(draft, seen)
    _choose_training(draft, seen, wishes)
    value, why = _threshold(len(seen.classes), pretrained=wishes.pretrained)
    draft.set("pseudo_label.threshold", {"kind": "fixed", "value": value}, why)
    draft.set(
        "gate.target", wishes.target, "validation accuracy that you need; the loop stops when a student reaches it"
    )
    draft.set("gate.max_rounds", 2, "the most students to train")
    notes = advice(
        seen, drawn=_drawn_splits(seen), training_labels=_training_labels(seen), pretrained=wishes.pretrained
    )
    return Commented(parse(draft.values), draft.reasons, notes)


@dataclass
class _Draft:
    """The values chosen so far, and the reasons for the dotted keys among them."""

    values: dict[str, Any]
    reasons: dict[str, str] = field(default_factory=dict)

    def set(self, key: str, value: object, reason: str = "") -> None:
        """Choose `value` for the dotted `key`."""
        *path, last = key.split(".")
        section = self.values
        for name in path:
            section = section.setdefault(name, {})
        section[last] = value
        self.reasons[key] = reason


def describe_choices(scaffold: Scaffold) -> str:
    """What was seen and chosen, in a few lines for a person."""
    seen, chosen = scaffold.survey, scaffold.experiment
    per_class = sorted(seen.classes.items(), key=lambda item: -item[1])
    counts = ", ".join(f"{name} {count}" for name, count in per_class[:8])
    more = f" and {len(per_class) - 8} more" if len(per_class) > 8 else ""
    formats = ", ".join(f"{name} {count}" for name, count in seen.formats.items())
    held_out = [
        f"{count} {role} images" for role, count in (("validation", seen.validation_images), ("test", seen.test_images))
        if count is not None
    ]  # fmt: skip
    student = chosen.student.backbone or f"{next_rung(chosen.teacher.backbone or '')} (the next rung)"
    lines = [
        f"{len(seen.classes)} classes, {seen.labeled_images} labelled images: {counts}{more}",
        f"{seen.unlabeled_images} unlabelled images" + "".join(f", {each}" for each in held_out),
        f"sides {seen.shortest_side} to {seen.longest_side} px, median shorter side {seen.median_side} px; "
        f"{formats} of {seen.sampled} looked at; {'grey' if seen.grey else 'in colour'}",
    ]
    if seen.unreadable or seen.ignored_files:
        lines.append(f"{seen.unreadable} unreadable, {seen.ignored_files} other files left out by their name")
    lines.append(
        f"chosen: {chosen.image_size} px, teacher {chosen.teacher.backbone}, student {student}, "
        f"augmentation {chosen.teacher.augmentation}, {chosen.teacher.steps} and {chosen.student.steps} steps "
        f"of {chosen.teacher.batch_size} and {chosen.student.batch_size} images"
    )
    return "\n".join([*lines, *(f"note: {each}" for each in scaffold.advice)])


def _check_enough(seen: Survey) -> None:
    if len(seen.classes) < 2:
        raise SourceError(
            f"{seen.labeled!r} holds one class folder, {next(iter(seen.classes))!r}; a classifier needs two or more"
        )
    needed = _drawn_splits(seen)
    few = {name: count for name, count in seen.classes.items() if count < needed}
    if few:
        named = ", ".join(f"{name!r} has {count}" for name, count in list(few.items())[:5])
        raise SourceError(
            f"{named}. A class needs at least {needed} labelled images: one for each of training, validation and test "
            "that has no folder of its own. Label a few more, or give --validation and --test"
        )
    if seen.unlabeled_images == 0:
        raise SourceError(f"{seen.unlabeled!r} holds no image; self-training needs unlabelled ones, best ten per label")


def _drawn_splits(seen: Survey) -> int:
    """How many of training, validation and test are drawn from the labelled folder."""
    return LABELED_SPLITS - (seen.validation_images is not None) - (seen.test_images is not None)


def _training_labels(seen: Survey) -> int:
    """About how many labelled images are left to train on: a fifth goes to each other split that is drawn."""
    return max(len(seen.classes), round(seen.labeled_images * (1 - 0.2 * (_drawn_splits(seen) - 1))))


def _name(wished: str | None, source: FolderSource) -> str:
    if wished is not None:
        return wished
    labeled = Path(source.labeled).resolve()
    generic = {"labeled", "labelled", "train", "training", "images", "data"}
    stem = labeled.parent.name if labeled.name.lower() in generic else labeled.name
    return NO_GOOD_NAME.sub("-", stem).strip("-_.") or "images"


def _image_size(seen: Survey, wishes: Wishes) -> int:
    """The largest of SIDES up to the images' median side and the machine's limit; the smallest allowed if none fits."""
    if wishes.pretrained:
        most, least = (224 if wishes.gpu else 160), 96
    else:
        most, least = (160 if wishes.gpu else 64), 32
    fitting = [side for side in SIDES if least <= side <= min(most, seen.median_side)]
    return fitting[-1] if fitting else least


def _choose_splits(draft: _Draft, seen: Survey) -> None:
    smallest = min(seen.classes.values())
    if smallest >= 2 * _drawn_splits(seen):
        return
    draft.set("splitting.min_per_class", 1, f"the smallest class has {smallest} labelled images")
    draft.set("checks.min_images_per_class", 1, "for the same reason; two or more would be better")


def _choose_training(draft: _Draft, seen: Survey, wishes: Wishes) -> None:
    """The teacher's and the student's recipes."""
    labels = _training_labels(seen)
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


def _choose_recipe(draft: _Draft, role: str, seen: Survey, *, weights: str | None, images: int, batch: int) -> None:
    """The recipe of one role, which trains on about `images` images in batches of `batch`."""
    if weights is not None:
        draft.set(f"{role}.weights", weights, "pretrained, without its top")
    steps = _steps(role, images, batch, pretrained=weights is not None)
    draft.set(f"{role}.steps", steps, f"{steps * batch / images:.0f} times each of about {images} images")
    draft.set(f"{role}.batch_size", batch)
    draft.set(
        f"{role}.validate_every", max(10, steps // 8), "steps; eight evaluations on validation choose the weights"
    )
    if weights is not None:
        _choose_pretrained(draft, role, steps, _training_labels(seen))
    digits = seen.characters or (seen.grey and seen.median_side <= 64)
    because = "no flips: a mirrored image may mean something else" if digits else "photos may be mirrored"
    draft.set(f"{role}.augmentation", "digits" if digits else "natural", because)
    if seen.imbalance >= IMBALANCE:
        reason = f"the largest class has {seen.imbalance:.1f} times the images of the smallest"
        draft.set(f"{role}.class_weights", "balanced", reason)


def _choose_pretrained(draft: _Draft, role: str, steps: int, labels: int) -> None:
    """Choose how a pretrained backbone is trained further; with few labels it forgets more than it learns."""
    if labels < FEW_TO_UNFREEZE:
        draft.set(f"{role}.freeze_steps", steps, f"the backbone stays as it is: {labels} labels are few to train it on")
        draft.set(f"{role}.learning_rate", 5e-3, "the rate of the new top alone")
        draft.set(f"{role}.ema", 0.97, "a short training needs a short average")
        return
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
    return "as asked" if wishes.student_backbone else "the teacher's: there are no weights for a larger one"


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


def _threshold(classes: int, *, pretrained: bool) -> tuple[float, str]:
    if classes <= 10 and pretrained:
        return 0.8, "confidence, calibrated on validation; a new top on a frozen backbone is rarely more confident"
    if classes <= 10:
        return 0.9, "confidence, calibrated on validation, that a pseudo-label needs"
    return (
        0.8 if classes <= 50 else 0.7
    ), f"confidence that a pseudo-label needs; lower, because {classes} classes share it"
