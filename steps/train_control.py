"""The supervised control's training step."""

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


@step(
    cache_policy=CachePolicy(cache_func=code_digest.train, ignored_inputs=["machine"]),
    output_materializers={"control": ModelMaterializer},
)
def train_control(
    development: Manifest,
    place: Place,
    recipe: Student,
    weights: str | None,
    backbone: str,
    image_size: int,
    seed: int,
    machine: Machine,
) -> Annotated[SavedModel, "control"]:
    """Train the final backbone on human labels alone; `weights` is what the recipe's file holds now, for the cache."""
    start_keras()
    from selftrain.selflabel.teaching import training

    with progress("control") as show:
        return training.train_control(
            development,
            open_dataset(place, machine).pixels(development, image_size),
            recipe=recipe,
            backbone=backbone,
            seed=seed,
            folder=Path(mkdtemp(prefix="selftrain-")),
            checkpoints=Checkpoints(open_dataset(place).checkpoints(code_digest.train()), machine.checkpoint_s),
            progress=show,
        )
