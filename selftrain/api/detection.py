"""Detectors in the Python API: boxes from a COCO file, images without labels, and one call."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from selftrain.files.places import user_path
from selftrain.progress import Progress, silent

if TYPE_CHECKING:
    from selftrain.api.detector_fitting import DetectorFit
    from selftrain.autolabeling.boxes.analysis import BoxAnalysis
    from selftrain.autolabeling.boxes.choosing import BoxThreshold
    from selftrain.autolabeling.boxes.formats import BoxFormat

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
    masks: bool = True,
    seed: int = 0,
    progress: Progress = silent,
) -> DetectorFit:
    """Train a detector on a few images with boxes, improve it with images without labels, and say whether they helped.

    A teacher is trained on the boxes. If it is good enough on held-out images, a student learns from the boxes, and
    from what its own average finds in the other images and their mirror images (data distillation). A control goes on
    from the same teacher for as many image-steps, on the boxes alone. The better one of teacher and student, on
    validation images, is kept.

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
      - `masks`: whether outlines are learned too, where at least half of the training objects have one.
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
        masks=masks,
        seed=seed,
    )
    return detector_fitting.fit_detector(call, progress=progress)


def autolabel_boxes(
    *,
    model: object,
    unlabeled: object,
    class_names: Sequence[str] | None = None,
    labeled: PathLike | None = None,
    images: PathLike | None = None,
    threshold: BoxThreshold | float | None = 0.5,
    box_format: BoxFormat = "xyxy",
    batch_size: int = 8,
    progress: Progress | None = None,
) -> BoxAnalysis:
    """Let a detector of your own label images, and keep the boxes whose score is high enough.

    With labelled images the precision of the accepted boxes is measured, and the score that each class needs can be
    chosen by it. They also show whether the boxes are in the format that they should be; a wrong one is refused.

    Args:
      - `model`: a callable that gets a list of images (height, width, 3), uint8 RGB at their own sizes. It returns a
        list with (boxes, classes, scores) for each image, or a dict of them; or a tuple of three such lists. Boxes are
        (k, 4), classes (k,) indices from 0 or names, scores (k,) between 0 and 1; those of score 0 are left out. Or the
        folder of a detector that selftrain saved.
      - `unlabeled`: a folder, paths, an array (n, height, width, 3), or an iterable of images, uint8.
      - `class_names`: a name for each class of the detector, in order. None: those of a saved detector.
      - `labeled`: a COCO JSON file of images that the detector was not trained on. None: nothing is measured.
      - `images`: the folder that the file's names start from. None: the folder of the file.
      - `threshold`: the lowest score (0-1) to accept, None to accept every box, or of `selftrain.config` a `PerClass`,
        or a `TargetPrecision`, which needs `labeled`. Default: 0.5.
      - `box_format`: what the four numbers of a box are: "xyxy" (corners in pixels), "xywh", "center_xywh" or "yxyx";
        with "rel_" before it, as shares of the image.
      - `batch_size`: images per call of the model.
      - `progress`: called with the number of images done, their total, and a note. None: shown on stderr.

    Returns:
        The accepted boxes of each image with their scores, counts per class, measured precision and warnings. Its
        `to_coco(path)` writes them as a COCO file.

    Raises:
      - PredictionError: the detector fails, answers something else, or its boxes are in another format.
      - SourceError: images or labels are missing, unreadable or contradict themselves.
      - ConfigError: an argument is not allowed.

    Example:
        A detector that finds the bright part of an image:

        >>> import numpy as np
        >>> import selftrain
        >>> images = np.zeros((3, 40, 60, 3), np.uint8)
        >>> images[0, 10:20, 5:25] = 255
        >>> images[1, 30:36, 40:50] = 180
        >>> def detector(batch):
        ...     answers = []
        ...     for image in batch:
        ...         y, x = np.nonzero(image[..., 0])
        ...         boxes = [[x.min(), y.min(), x.max() + 1, y.max() + 1]] if len(x) else []
        ...         answers.append((boxes, [0] * len(boxes), [image.max() / 255] * len(boxes)))
        ...     return answers
        >>> found = selftrain.autolabel_boxes(
        ...     model=detector, unlabeled=images, class_names=["light"], threshold=0.8, progress=lambda *_: None
        ... )
        >>> found.counts.accepted, found.counts.without_boxes, found.accepted[0].boxes
        (1, 2, [[5.0, 10.0, 25.0, 20.0]])
        >>> found.to_coco("light.json").name
        'light.json'
    """
    from selftrain.api import detector_labeling

    call = detector_labeling.BoxCall(
        model=model,
        unlabeled=unlabeled,
        class_names=class_names,
        labeled=None if labeled is None else user_path(labeled),
        images=None if images is None else user_path(images),
    )
    return detector_labeling.autolabel_boxes(
        call, threshold=threshold, box_format=box_format, batch_size=batch_size, progress=progress
    )
