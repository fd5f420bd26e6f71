"""The step that reads test: once, after the verdict, for the number that is reported."""

from typing import Annotated

from zenml import step
from zenml.config.cache_policy import CachePolicy

from selftrain.adapters import code_digest
from selftrain.adapters.quiet_start import start_keras
from selftrain.config import Machine, Place
from selftrain.data import dataset
from selftrain.data.manifest import Manifest
from selftrain.evaluate.evaluation import EvaluationReport
from selftrain.learn.contract import SavedModel


@step(cache_policy=CachePolicy(cache_func=code_digest.evaluate, ignored_inputs=["machine"]))
def read_test(
    manifest: Manifest, final: SavedModel, first_teacher: SavedModel, place: Place, machine: Machine
) -> Annotated[EvaluationReport, "evaluation"]:
    """The final model on test, against the first teacher on the same images."""
    start_keras()
    from selftrain.selflabel import scoring

    sizes = (model.contract.image_size for model in (final, first_teacher))
    images, teachers = (dataset.pixels(place, manifest, size, machine) for size in sizes)
    return scoring.read_test(manifest, images, final, teachers, first_teacher)
