"""Configured: what a configuration file trains on, opened to learn better settings for it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from selftrain.config import Experiment, Recipe
from selftrain.config.text import file
from selftrain.data.ingest.ingest import ingest
from selftrain.data.manifest import Manifest, Split
from selftrain.data.sources.source import open_source
from selftrain.data.store.dataset import open_dataset
from selftrain.errors import ConfigError
from selftrain.files.places import user_path
from selftrain.progress import Progress, silent

if TYPE_CHECKING:
    from selftrain.learn.training.batches import Examples
    from selftrain.learn.training.course import Unlabeled

Role = Literal["teacher", "student"]


@dataclass(frozen=True)
class ConfiguredTraining:
    """A role's recipe and backbone, and the images that it is trained and validated on.

    `train` and `validation` have human labels. `unlabeled` are the images that a method learns from in training, None
    for a role without one.
    """

    path: Path
    role: Role
    experiment: Experiment
    manifest: Manifest
    train: Examples
    validation: Examples
    unlabeled: Unlabeled | None = None

    @property
    def recipe(self) -> Recipe:
        """The role's."""
        return _recipe(self.experiment, self.role)

    @property
    def backbone(self) -> str:
        """The role's."""
        teacher = self.experiment.teacher.backbone
        return teacher if self.role == "teacher" else self.experiment.student.backbone_after(teacher)

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the targets' columns."""
        return self.manifest.label_map.names

    @property
    def checkpoints(self) -> Path:
        """Folder for what is trained on the way."""
        return open_dataset(self.experiment.place).workspace.checkpoints / "learned"


def open_configured(config: str | os.PathLike[str], role: Role, *, progress: Progress = silent) -> ConfiguredTraining:
    """Read the file `config`, and ingest its source into its workspace where that is not done yet.

    The unlabelled images are decoded only where the role's method learns from them in training. Raises ConfigError for
    a file that is no configuration and for another role, and what ingest raises for images and labels that do not do.
    """
    from selftrain.learn.training.examples import examples, whole_pool

    if role not in get_args(Role):
        raise ConfigError(f"role is {role!r}; give one of {', '.join(get_args(Role))}")
    path = user_path(config)
    experiment = file.read(path)
    if role == "student" and experiment.student.start == "teacher":
        raise ConfigError(
            f"student.start in {path} is 'teacher', and there is none yet to start from: ask for role='teacher', whose "
            "network it is, or set student.start to 'student' or 'new'"
        )
    in_training = _recipe(experiment, role).in_training
    source, place, machine = open_source(experiment.source), experiment.place, experiment.machine
    manifest = ingest(
        source,
        source.scan(),
        open_dataset(place).store,
        settings=experiment.ingest,
        splitting=experiment.splitting,
        workers=machine.workers,
        shard_mb=machine.shard_mb,
        progress=progress,
    ).manifest
    manifest = manifest if in_training else manifest.labeled()
    pixels = open_dataset(place, machine).pixels(manifest, experiment.image_size, progress=progress)
    return ConfiguredTraining(
        path,
        role,
        experiment,
        manifest,
        examples(manifest, pixels, Split.TRAIN),
        examples(manifest, pixels, Split.VALIDATION),
        whole_pool(manifest, experiment.student) if in_training else None,
    )


def _recipe(experiment: Experiment, role: Role) -> Recipe:
    return experiment.teacher if role == "teacher" else experiment.student
