"""The look step: what is new in the inbox, and whether a retraining is due."""

from typing import Annotated

from zenml import get_step_context, step

from selftrain.adapters.retraining.looking import RetrainingLook, look_at
from selftrain.adapters.snapshots.carrying import keep_state
from selftrain.config import Experiment


@step(enable_cache=False)
def look(experiment: Experiment) -> Annotated[RetrainingLook, "look"]:
    """Take in new images and decide; every look is recorded with its reason. It imports no model library.

    What was taken in is kept before the step ends: if this machine is lost, another may go on with the step's result.
    """
    found = look_at(experiment, run=str(get_step_context().pipeline_run.id))
    keep_state(experiment.place)
    return found
