"""The teacher's training step."""

from pathlib import Path
from tempfile import mkdtemp
from typing import Annotated

from zenml import step
from zenml.config.cache_policy import CachePolicy

from selftrain.adapters.process import code_digest
from selftrain.adapters.process.console import progress
from selftrain.adapters.process.quiet_start import start_keras
from selftrain.adapters.runs.materializers import ModelMaterializer
from selftrain.config import Machine, Place, Teacher
from selftrain.data.manifest import Manifest
from selftrain.data.store.dataset import open_dataset
from selftrain.learn.models.contract import SavedModel
from selftrain.learn.training.checkpoint import Checkpoints


@step(
    cache_policy=CachePolicy(cache_func=code_digest.train, ignored_inputs=["machine"]),
    output_materializers={"teacher": ModelMaterializer},
)
def train_teacher(
    development: Manifest,
    place: Place,
    recipe: Teacher,
    weights: str | None,
    image_size: int,
    seed: int,
    machine: Machine,
) -> Annotated[SavedModel, "teacher"]:
    """Train the first teacher on the human labels; `weights` is what the recipe's file holds now, for the cache."""
    start_keras()
    from selftrain.selflabel.teaching import training

    with progress("teacher") as show:
        return training.train_teacher(
            development,
            open_dataset(place, machine).pixels(development, image_size),
            recipe=recipe,
            seed=seed,
            folder=Path(mkdtemp(prefix="selftrain-")),
            checkpoints=Checkpoints(open_dataset(place).checkpoints(code_digest.train()), machine.checkpoint_s),
            progress=show,
        )
