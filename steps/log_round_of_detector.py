"""The step that logs each round of a detector to MLflow while the loop continues; `selftrain status` reads it too."""

from zenml import get_step_context, step

from selftrain.adapters.tracking.recording import log_numbers
from selftrain.adapters.tracking.store import open_tracking
from selftrain.config import Experiment
from selftrain.data.store.dataset import open_dataset
from selftrain.selflabel.rounds.history import Round


@step(enable_cache=False)
def log_round_of_detector(experiment: Experiment, finished: Round) -> None:
    """Log the metrics of one round to this run's MLflow run."""
    tracking = open_tracking(open_dataset(experiment.place).workspace.root)
    log_numbers(tracking, experiment, finished, run_id=str(get_step_context().pipeline_run.id))
