"""Learning calls of the API: a smaller model from a large one."""

from __future__ import annotations

import os

from selftrain.config import Distillation
from selftrain.files.places import user_path
from selftrain.learn.distillation import distill as core
from selftrain.progress import Progress, silent

PathLike = str | os.PathLike[str]


def distill(
    *,
    teacher: PathLike,
    images: object,
    labeled: object = None,
    validation: object = None,
    out: PathLike,
    recipe: Distillation = Distillation(),  # noqa: B008 - frozen
    seed: int = 0,
    workspace: PathLike = ".selftrain",
    progress: Progress = silent,
) -> core.DistillationResult:
    """Train a small model to answer as the saved model in the folder `teacher` does, and save it to `out`.

    Distillation (Hinton et al. 2015, arXiv:1503.02531): the small model learns the teacher's calibrated probabilities,
    softened by a temperature. It reads images of the teacher's size and has its class names. Called again with the same
    arguments after a kill, it continues.

    - `teacher`: the folder of a saved model or ensemble.
    - `images`: images without labels: a folder, an array, a list, a stream, or Pixels. An image that comes twice is
      learnt from once, with its label if it has one.
    - `labeled`: class folders, or (images, labels).
    - `validation`: labelled images that the teacher was not trained on. They choose the weights and calibrate them, and
      are never learnt from, wherever else they are given. None: a fifth of `labeled` is held out for it.
    - `out`: the folder of the new model. One that holds anything is refused, except an earlier model distilled from
      the same teacher, which is replaced.
    - `recipe`: how to train, a `selftrain.config.Distillation`: backbone, temperature, steps and the rest.
    - `seed`: of the first weights, the order of the images and the share held out.
    - `workspace`: the folder of decoded images and checkpoints. Its recall log is asked about the teacher.
    - `progress`: called with (done, total, note).

    Raises ConfigError for an `out` that is not allowed, and where there is nothing to validate on or to learn from.
    Raises SourceError for images or labels that cannot be used, BackboneError, UntrustedFileError for a teacher that
    was changed, WithdrawnError for one that was recalled, and TrainingDivergedError.
    """
    from selftrain.api.user_models import refuse_withdrawn

    refuse_withdrawn(user_path(teacher), user_path(workspace))  # the core knows no recall log
    return core.distill(
        teacher=teacher,
        images=images,
        labeled=labeled,
        validation=validation,
        out=out,
        recipe=recipe,
        seed=seed,
        workspace=workspace,
        progress=progress,
    )
