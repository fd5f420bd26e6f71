"""Role training: what a teacher or a student is trained on, opened to find better settings for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from selftrain.config import Experiment, Recipe
from selftrain.data.ingest.ingest import ingest
from selftrain.data.manifest import Manifest, Split
from selftrain.data.sources.source import open_source
from selftrain.data.store.dataset import open_dataset
from selftrain.errors import ConfigError
from selftrain.progress import Progress, silent

if TYPE_CHECKING:
    from selftrain.learn.training.batches import Examples
    from selftrain.learn.training.course import Unlabeled

Role = Literal["teacher", "student"]


@dataclass(frozen=True)
class RoleTraining:
    """A role's recipe and backbone, and the images for its training and validation.

    `train` and `validation` have human labels. `unlabeled` are the images that the role's method learns from in
    training; None for a role without such a method.
    """

    role: Role
    experiment: Experiment
    manifest: Manifest
    train: Examples
    validation: Examples
    unlabeled: Unlabeled | None = None

    @property
    def recipe(self) -> Recipe:
        """The role's recipe."""
        return _recipe(self.experiment, self.role)

    @property
    def backbone(self) -> str:
        """The role's backbone."""
        teacher = self.experiment.teacher.backbone
        return teacher if self.role == "teacher" else self.experiment.student.backbone_after(teacher)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the targets' columns."""
        return self.manifest.label_map.names

    @property
    def checkpoints(self) -> Path:
        """The folder for what is trained during a search."""
        return open_dataset(self.experiment.place).workspace.checkpoints / "learned"


def open_role(experiment: Experiment, role: Role, *, progress: Progress = silent) -> RoleTraining:
    """The training of `role` in `experiment`; the source is ingested first if that was not done.

    The unlabelled images are decoded only if the role's method learns from them. Raises ConfigError for another role,
    and what ingest raises for images and labels that cannot be used.
    """
    from selftrain.learn.training.examples import examples, whole_pool

    _refuse(experiment, role)
    in_training = _recipe(experiment, role).in_training
    manifest = _ingested(experiment, progress)
    manifest = manifest if in_training else manifest.labeled()
    dataset = open_dataset(experiment.place, experiment.machine)
    pixels = dataset.pixels(manifest, experiment.image_size, progress=progress)
    return RoleTraining(
        role,
        experiment,
        manifest,
        examples(manifest, pixels, Split.TRAIN),
        examples(manifest, pixels, Split.VALIDATION),
        whole_pool(manifest, experiment.student) if in_training else None,
    )


def _refuse(experiment: Experiment, role: Role) -> None:
    """Raise ConfigError for a role that does not exist, or one whose first weights do not exist yet."""
    if role not in get_args(Role):
        raise ConfigError(f"role is {role!r}; give one of {', '.join(get_args(Role))}")
    if _recipe(experiment, role).head == "fitted":
        raise ConfigError(
            f"{role}.head is 'fitted': what is measured and searched here are training steps from a head that was not. "
            f"Ask for the other role, or set {role}.head to 'trained' and {role}.steps above 0"
        )
    if role == "student" and experiment.student.start == "teacher":
        raise ConfigError(
            "student.start is 'teacher', and there is no teacher yet to start from: ask for role='teacher', "
            "whose network it is, or set student.start to 'student' or 'new'"
        )


def _ingested(experiment: Experiment, progress: Progress) -> Manifest:
    source, machine = open_source(experiment.source), experiment.machine
    return ingest(
        source,
        source.scan(),
        open_dataset(experiment.place).store,
        settings=experiment.ingest,
        splitting=experiment.splitting,
        workers=machine.workers,
        shard_mb=machine.shard_mb,
        progress=progress,
    ).manifest


def _recipe(experiment: Experiment, role: Role) -> Recipe:
    return experiment.teacher if role == "teacher" else experiment.student
