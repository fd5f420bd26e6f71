"""The step that trains the control of an unrolled loop's best student, where there is one."""

from typing import Annotated

from zenml import step
from zenml.config.cache_policy import CachePolicy
from zenml.materializers import BuiltInMaterializer

from selftrain.adapters.process import code_digest
from selftrain.adapters.runs.materializers import ModelMaterializer
from selftrain.config import Experiment, Machine
from selftrain.data.manifest import Manifest
from selftrain.learn.models.contract import SavedModel
from selftrain.selflabel.rounds.history import History
from selftrain.selflabel.rounds.plan import control_plan
from steps.train_control import train_control


@step(
    cache_policy=CachePolicy(cache_func=code_digest.control, ignored_inputs=["machine", "dataset_version"]),
    output_materializers={"control": (ModelMaterializer, BuiltInMaterializer)},
)
def control_of_best(
    development: Manifest,
    history: History,
    settings: Experiment,
    weights: str | None,
    machine: Machine,
    dataset_version: str,
) -> Annotated[SavedModel | None, "control"]:
    """Train the control on human labels alone; None if the first teacher is still the best model."""
    coming = control_plan(settings, history)
    if_needed = (development, settings.place, coming, weights, machine, dataset_version)
    return train_control.entrypoint(*if_needed) if coming is not None else None
