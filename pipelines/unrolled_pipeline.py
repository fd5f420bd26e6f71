"""The self-training pipeline without a loop, for orchestrators that know only fixed graphs, such as Kubeflow's.

`gate.max_rounds` rounds stand in a row. A round after the end of the loop only passes on what it got. Steps that share
a disk in `ssl_pipeline` are one step here, because each one may run on a machine of its own.
"""

from zenml import pipeline

from pipelines.ssl_pipeline import first_teacher
from selftrain.adapters.registry.starting_models import described_weights
from selftrain.adapters.runs.lifecycle import run_failed
from selftrain.config import Experiment
from selftrain.selflabel.rounds.next_round import settings_of_rounds
from selftrain.selflabel.rounds.start import refuse_detection
from steps.baseline_of_loop import baseline_of_loop
from steps.control_of_best import control_of_best
from steps.log_round import log_round
from steps.next_round import next_round
from steps.prepare_data import prepare_data
from steps.read_test import read_test
from steps.settle import settle
from steps.start_loop import start_loop
from steps.unseal_test import unseal_test

ROUND = "log_round_{}"
"""The names of the steps that log: one after the other, so that all find the one MLflow run."""


@pipeline(on_failure=run_failed)
def unrolled_pipeline(experiment: Experiment = Experiment()) -> None:  # noqa: B008 - zenml reads the default
    """The loop of `ssl_pipeline` with as many rounds as the gate allows, each of which may find that it has ended."""
    refuse_detection(experiment, "a fixed graph of rounds")
    e, settings = experiment, settings_of_rounds(experiment)
    weights = described_weights(e.student)
    listing, manifest, development, test, ingested, earlier, version, machine, validation, _ = prepare_data(e)
    first = teacher = first_teacher(e, development, machine, version)
    history, finished = start_loop(manifest, development, first, settings, machine, version)
    log_round(e, finished, first, id=ROUND.format(0))
    for index in range(1, e.gate.max_rounds + 1):
        history, teacher, finished, student, pseudo_labels = next_round(
            manifest, development, history, teacher, settings, weights, machine, version
        )
        log_round(e, finished, student, pseudo_labels, id=ROUND.format(index), after=ROUND.format(index - 1))

    control = None
    if e.control == "supervised":
        control = control_of_best(development, history, settings, weights, machine, version)
    baseline = baseline_of_loop(development, history, first, settings, weights, machine, version, control)
    looks = unseal_test(test, teacher, first, e.place, control, baseline)
    report = read_test(test, teacher, first, e.place, e.task, machine, version, control, baseline, earlier, after=looks)
    facts = (listing, manifest, ingested, validation, history, teacher, report, machine, version)
    settle(e, *facts, id="record", after=ROUND.format(e.gate.max_rounds))
