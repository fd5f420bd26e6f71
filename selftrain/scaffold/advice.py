"""Advice: what a user should know about their images before a run."""

from __future__ import annotations

from selftrain.config import Checks
from selftrain.data.sources.survey import Survey

FEW_LABELS = 20  # per class; with fewer, validation is a handful of images
IN_TRAINING_BELOW = 25  # labels per class to train on
ENOUGH_UNLABELED = 3  # per label
SMALL_SIDE = 64  # pixels; a network learns little from few labelled photos that are larger, unless it is pretrained
MANY_LABELS = 5000


def advice(seen: Survey, *, drawn: int, training_labels: int, pretrained: bool) -> tuple[str, ...]:
    """What a user should know about the images in `seen`, one sentence each.

    `drawn` is how many of training, validation and test are drawn from the labelled images, and `training_labels` how
    many of these are left to train on. `pretrained` says whether the teacher starts from weights.
    """
    notes = list(seen.notes)
    if seen.named_like_characters and not seen.characters:
        notes.append(
            "the classes have the names of characters, but the pictures do not look like writing: they are mirrored in "
            "training; if a mirror image is another class here, set augmentation: digits for teacher and student"
        )
    smallest = min(seen.classes, key=lambda name: seen.classes[name])
    count = seen.classes[smallest]
    if drawn > 1 and count <= FEW_LABELS:
        notes.append(_few_held_out(smallest, count, drawn))
    per_class = training_labels / len(seen.classes)
    if per_class < IN_TRAINING_BELOW and not pretrained:
        notes.append(
            f"about {per_class:.0f} labels per class to train on: below {IN_TRAINING_BELOW}, also try a method that "
            "learns from the unlabelled images during training, in a run of its own of thousands of steps; "
            "student: {method: softmatch} chooses one"
        )
    if seen.unlabeled_images < ENOUGH_UNLABELED * seen.labeled_images:
        notes.append(
            f"{seen.unlabeled_images} unlabelled images for {seen.labeled_images} labelled ones: "
            "self-training gains most from ten times as many"
        )
    if seen.imbalance > Checks().max_class_ratio:
        notes.append(
            f"the largest class has {seen.imbalance:.0f} times the images of {smallest!r}; more images of {smallest!r} "
            "would help most"
        )
    if not pretrained and seen.median_side > SMALL_SIDE and not seen.grey and seen.labeled_images < MANY_LABELS:
        notes.append(
            f"{seen.labeled_images} labelled photos teach little from scratch; pretrained weights do more: "
            "--teacher-backbone efficientnet_b0 --teacher-weights imagenet, or a local file"
        )
    if seen.unreadable:
        notes.append(f"{seen.unreadable} of {seen.sampled + seen.unreadable} files looked at are not readable images")
    return tuple(notes)


def _few_held_out(smallest: str, count: int, drawn: int) -> str:
    held = max(1, round(0.2 * count))
    splits = "each of validation and test" if drawn > 2 else "the held-out split"
    return (
        f"{count} labelled images of {smallest!r} leave {held} for {splits}: the gate is coarse and the reported "
        "interval wide; label more images for --validation and --test"
    )
