"""The step that reads test: once, after the verdict, for the number that is reported."""

from functools import partial
from typing import Annotated

from zenml import step
from zenml.config.cache_policy import CachePolicy

from selftrain.adapters.process import code_digest
from selftrain.adapters.process.quiet_start import start_keras
from selftrain.config import Machine, Place
from selftrain.data.manifest import Manifest
from selftrain.data.store.dataset import open_dataset
from selftrain.evaluate.evaluation import EvaluationReport
from selftrain.learn.models.contract import SavedModel


@step(cache_policy=CachePolicy(cache_func=code_digest.evaluate, ignored_inputs=["machine"]))
def read_test(
    test: Manifest,
    final: SavedModel,
    first_teacher: SavedModel,
    place: Place,
    machine: Machine,
    control: SavedModel | None = None,
) -> Annotated[EvaluationReport, "evaluation"]:
    """The final model on test, against the first teacher (and the control) on the same images."""
    start_keras()
    from selftrain.selflabel.teaching import scoring

    images = partial(open_dataset(place, machine).pixels, test)
    return scoring.evaluate_on_test(test, final, first_teacher, control, pixels_at=images)
