"""The student's training step."""

from pathlib import Path
from tempfile import mkdtemp
from typing import Annotated

from zenml import step
from zenml.config.cache_policy import CachePolicy

from selftrain.adapters import code_digest
from selftrain.adapters.console import progress
from selftrain.adapters.materializers import ModelMaterializer
from selftrain.adapters.quiet_start import start_keras
from selftrain.config import Place, Student
from selftrain.data import dataset
from selftrain.data.manifest import Manifest
from selftrain.learn.contract import SavedModel
from selftrain.selflabel.pseudo_labels import PseudoLabels


@step(
    cache_policy=CachePolicy(cache_func=code_digest.train),
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
) -> Annotated[SavedModel, "student"]:
    """Train a new, larger student; `weights` is what the recipe's file holds now, for the cache."""
    start_keras()
    from selftrain.selflabel import teaching

    with progress("student") as show:
        return teaching.train_student(
            labels.applied_to(manifest),
            dataset.pixels(place, manifest, image_size),
            recipe=recipe,
            backbone=backbone,
            thresholds=labels.cutoffs_by_class(),
            seed=seed,
            folder=Path(mkdtemp(prefix="selftrain-")),
            checkpoints=dataset.workspace(place).checkpoints / code_digest.train()[:12],
            progress=show,
        )
