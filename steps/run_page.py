"""The step after a run's record: writes the page that answers whether the unlabelled images helped."""

from typing import Annotated

from zenml import step
from zenml.types import HTMLString

from selftrain.adapters.report.writing import logged_page
from selftrain.adapters.tracking.store import open_tracking
from selftrain.config import Place
from selftrain.data.store.dataset import open_dataset
from selftrain.selflabel.rounds.record import RunRecord


@step(enable_cache=False)
def run_page(place: Place, record: RunRecord) -> Annotated[HTMLString, "run_page"]:
    """Log the page to MLflow and return it to ZenML. It never fails a run."""
    return HTMLString(logged_page(open_tracking(open_dataset(place).workspace.root), record))
