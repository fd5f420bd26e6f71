"""The retraining pipeline: look at the inbox, and if a retraining is due, the self-training loop from the champion."""

from functools import partial

from zenml import pipeline

from pipelines.ssl_pipeline import ON_DEVICES, self_training
from selftrain.adapters.registry.starting_models import retraining_of
from selftrain.adapters.retraining.life import retraining_run, started
from selftrain.adapters.snapshots.carrying import carried_over, keep_state
from selftrain.config import Experiment
from steps.look import look
from steps.watch import watch


@pipeline(dynamic=True, depends_on=ON_DEVICES)
def retraining_pipeline(experiment: Experiment = Experiment()) -> None:  # noqa: B008 - zenml reads the default
    """Take in what is new; if a retraining is due, train from the champion, and promote the result or refuse it."""
    with retraining_run(experiment, partial(carried_over, experiment.place)) as alone:
        if not alone:
            return
        found = look(experiment).load()
        if found.due:
            coming = retraining_of(experiment)
            started(coming, found.reason, watch(experiment).load())
            keep_state(experiment.place)
            self_training(coming)
