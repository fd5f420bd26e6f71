"""The step that puts a round into MLflow while the loop goes on."""

from zenml import get_step_context, step

from selftrain.adapters.tracking.recording import log_round as log
from selftrain.config import Experiment
from selftrain.learn.models.contract import SavedModel
from selftrain.selflabel.rounds.history import Round
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels


@step(enable_cache=False)
def log_round(experiment: Experiment, finished: Round, model: SavedModel, labels: PseudoLabels | None = None) -> None:
    """Metrics, training curve and confidence charts of one round, into this run's MLflow run."""
    log(experiment, finished, model, labels, run_id=str(get_step_context().pipeline_run.id))
