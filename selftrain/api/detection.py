"""Detectors in the Python API: boxes from a COCO file, images without labels, and one call."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from selftrain.files.places import user_path
from selftrain.progress import Progress, silent

if TYPE_CHECKING:
    from selftrain.api.detector_fitting import DetectorFit

PathLike = str | os.PathLike[str]


def fit_detector(
    *,
    labeled: PathLike,
    images: PathLike,
    unlabeled: PathLike | Sequence[PathLike],
    out: PathLike,
    backbone: str = "mobilenet_v2_035",
    weights: str | None = "imagenet",
    class_names: Sequence[str] | None = None,
    view: int = 128,
    teacher_steps: int = 500,
    student_steps: int = 1500,
    validation: float = 0.2,
    test: float = 0.2,
    turns: bool = False,
    seed: int = 0,
    progress: Progress = silent,
) -> DetectorFit:
    """Train a detector on a few images with boxes, improve it with images without labels, and say whether they helped.

    A teacher is trained on the boxes. If it is good enough on held-out images, a student learns from the boxes, and
    from what its own average finds in the other images (Unbiased Teacher). A control goes on from the same teacher for
    as many image-steps, on the boxes alone. The better one of teacher and student, on validation images, is kept.

    Args:
      - `labeled`: a COCO JSON file with boxes. Images in it without annotations count as looked at.
      - `images`: the folder that the file's names start from.
      - `unlabeled`: one or more folders of images without labels; copies of labelled images are left out.
      - `out`: a new or empty folder.
      - `backbone`: a name of the ladder or of keras.applications with feature maps at strides 4 to 32.
      - `weights`: "imagenet", a file of weights, or None, from scratch.
      - `class_names`: the classes to learn, in this order; all by default.
      - `view`: side in pixels of the square that a training step sees of an image, a multiple of 32. Objects should fit
        in it.
      - `teacher_steps`, `student_steps`: training steps of 8 views each; the control takes `student_steps` too.
      - `validation`, `test`: shares of the labelled images that are held out, where the file names no splits.
      - `turns`: whether quarter turns leave an image as plausible as it was, as under a microscope.
      - `seed`: determines the split and the training.
      - `progress`: called with (done, total, note).

    Returns:
        The record, with the average precision of each detector on test and what the pool gave, and the folder `out`:
        the best detector in `model`, and `record.json`.

    Raises:
      - SourceError: the file contradicts itself or its images, or a split would have too few images.
      - ConfigError: `out` is not empty, or a setting is not allowed.
      - TrainingDivergedError: a loss is not finite.

    Example:
        >>> import selftrain
        >>> result = selftrain.fit_detector(
        ...     labeled="labels.json", images="photos", unlabeled="more", out="cells", turns=True
        ... )  # doctest: +SKIP
        >>> print(*result.record.lines(), sep="\\n")  # doctest: +SKIP
    """
    from selftrain.api import detector_fitting

    folders = [unlabeled] if isinstance(unlabeled, str | os.PathLike) else list(unlabeled)
    call = detector_fitting.DetectorCall(
        labeled=user_path(labeled),
        images=str(user_path(images)),
        unlabeled=tuple(str(user_path(folder)) for folder in folders),
        out=user_path(out),
        backbone=backbone,
        weights=weights,
        class_names=None if class_names is None else tuple(class_names),
        view=view,
        teacher_steps=teacher_steps,
        student_steps=student_steps,
        validation=validation,
        test=test,
        turns=turns,
        seed=seed,
    )
    return detector_fitting.fit_detector(call, progress=progress)
