"""The step that logs each round to MLflow while the loop continues."""

from zenml import get_step_context, step

from selftrain.adapters.tracking.recording import log_round as log
from selftrain.adapters.tracking.store import open_tracking
from selftrain.config import Experiment
from selftrain.data.store.dataset import open_dataset
from selftrain.learn.models.contract import SavedModel
from selftrain.selflabel.rounds.history import Round
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels


@step(enable_cache=False)
def log_round(
    experiment: Experiment, finished: Round | None, model: SavedModel | None, labels: PseudoLabels | None = None
) -> None:
    """Log the metrics, training curve and confidence charts of one round to this run's MLflow run; None: nothing."""
    tracking = open_tracking(open_dataset(experiment.place).workspace.root)
    log(tracking, experiment, finished, model, labels, run_id=str(get_step_context().pipeline_run.id))
