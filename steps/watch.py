"""The watch step: how far the new images of a due retraining are from what the champion was trained on."""

from typing import Annotated

from zenml import step

from selftrain.adapters.retraining.watching import drift_line
from selftrain.config import Experiment


@step(enable_cache=False)
def watch(experiment: Experiment) -> Annotated[str, "drift"]:
    """Measure the drift of the new images. It decides nothing here: windows of calm nights set the threshold."""
    return drift_line(experiment)
