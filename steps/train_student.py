"""The student's training step."""

from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Annotated

from zenml import step
from zenml.config.cache_policy import CachePolicy

from selftrain.adapters.process import code_digest
from selftrain.adapters.process.console import progress
from selftrain.adapters.process.quiet_start import start_keras
from selftrain.adapters.runs.materializers import ModelMaterializer
from selftrain.config import Machine, Place, Student
from selftrain.data.manifest import Manifest
from selftrain.data.store.dataset import open_dataset
from selftrain.learn.models.contract import SavedModel
from selftrain.learn.training.checkpoint import Checkpoints
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels


@step(
    cache_policy=CachePolicy(cache_func=code_digest.train_student, ignored_inputs=["machine"]),
    output_materializers={"student": ModelMaterializer},
)
def train_student(
    manifest: Manifest,
    labels: PseudoLabels,
    place: Place,
    recipe: Student,
    weights: str | None,
    backbone: str,
    image_size: int,
    seed: int,
    machine: Machine,
    teacher: SavedModel | None = None,
) -> Annotated[SavedModel, "student"]:
    """Train a student, new or from `teacher` on; `weights` is what the recipe's file holds now, for the cache."""
    start_keras()
    from selftrain.selflabel.teaching import training

    train = partial(training.train_student, recipe=recipe, backbone=backbone, teacher=teacher, seed=seed)
    with progress("student") as show:
        return train(
            manifest,
            labels,
            open_dataset(place, machine).pixels(manifest, image_size),
            folder=Path(mkdtemp(prefix="selftrain-")),
            checkpoints=Checkpoints(open_dataset(place).checkpoints(code_digest.train()), machine.checkpoint_s),
            progress=show,
        )
