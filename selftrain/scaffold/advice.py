"""Advice: what to mind about the images one has, before a run is paid for."""

from __future__ import annotations

from selftrain.config import Checks
from selftrain.data.sources.survey import Survey

FEW_LABELS = 20  # a class; below it validation is a handful of images
IN_TRAINING_BELOW = 25  # labels a class to train on
ENOUGH_UNLABELED = 3  # a label
SMALL_SIDE = 64  # pixels; photos of more hold more than few labels teach from scratch
MANY_LABELS = 5000


def advice(seen: Survey, *, drawn: int, training_labels: int, pretrained: bool) -> tuple[str, ...]:
    """What to mind about the images in `seen`, a sentence each.

    `drawn` is how many of training, validation and test are drawn from the labelled images, which leaves
    `training_labels` of them to train on; `pretrained` says whether the teacher starts from weights.
    """
    found = []
    smallest = min(seen.classes, key=lambda name: seen.classes[name])
    count = seen.classes[smallest]
    if drawn > 1 and count <= FEW_LABELS:
        held = max(1, round(0.2 * count))
        found.append(
            f"{count} labelled images of {smallest!r} leave {held} for "
            f"{'each of validation and test' if drawn > 2 else 'the held-out split'}: the gate is coarse "
            "and the reported interval wide; label more for --validation and --test"
        )
    a_class = training_labels / len(seen.classes)
    if a_class < IN_TRAINING_BELOW and not pretrained:
        found.append(
            f"about {a_class:.0f} labels a class to train on: below {IN_TRAINING_BELOW}, methods that learn from the "
            "unlabelled images in the training step itself are worth a run of their own, of thousands of steps; "
            "student: {method: softmatch} chooses one"
        )
    if seen.unlabeled_images < ENOUGH_UNLABELED * seen.labeled_images:
        found.append(
            f"{seen.unlabeled_images} unlabelled images to {seen.labeled_images} labelled ones: "
            "self-training gains most from ten times as many"
        )
    if seen.imbalance > Checks().max_class_ratio:
        found.append(f"classes are {seen.imbalance:.0f} to 1; more of {smallest!r} would help most")
    if not pretrained and seen.median_side > SMALL_SIDE and not seen.grey and seen.labeled_images < MANY_LABELS:
        found.append(
            f"{seen.labeled_images} labelled photos from scratch teach little; pretrained weights do more: "
            "--teacher-backbone efficientnet_b0 --teacher-weights imagenet, or a local file"
        )
    if seen.unreadable:
        found.append(f"{seen.unreadable} of {seen.sampled + seen.unreadable} files looked at are no readable images")
    return tuple(found)
