"""The step that fits the baseline of an unrolled loop, once its best model is known."""

from typing import Annotated

from zenml import step
from zenml.config.cache_policy import CachePolicy

from selftrain.adapters.process import code_digest
from selftrain.adapters.runs.destination import own_copy
from selftrain.adapters.runs.materializers import ModelMaterializer
from selftrain.config import Experiment, Machine
from selftrain.data.manifest import Manifest
from selftrain.learn.models.contract import SavedModel
from selftrain.selflabel.rounds.history import History
from selftrain.selflabel.rounds.plan import baseline_plan, control_plan, same_training
from steps.train_baseline import train_baseline


@step(
    cache_policy=CachePolicy(cache_func=code_digest.baseline_of_loop, ignored_inputs=["machine", "dataset_version"]),
    output_materializers={"baseline": ModelMaterializer},
)
def baseline_of_loop(
    development: Manifest,
    history: History,
    first_teacher: SavedModel,
    settings: Experiment,
    weights: str | None,
    machine: Machine,
    dataset_version: str,
    control: SavedModel | None = None,
) -> Annotated[SavedModel, "baseline"]:
    """Fit a head to the human labels alone; the `control` is passed on if it is that already."""
    coming = baseline_plan(settings, history)
    reused = control if same_training(coming, control_plan(settings, history)) else None
    rest = (weights, machine, dataset_version)
    fitted: SavedModel = own_copy(reused) or train_baseline.entrypoint(
        development, first_teacher, settings.place, coming, *rest
    )
    return fitted
