"""A detector's run, within the self-training pipeline: wiring only, as in `ssl_pipeline.py`."""

from typing import TypeVar

from zenml.execution.pipeline.dynamic.outputs import OutputArtifact
from zenml.steps.entrypoint_function_utils import StepArtifact

from selftrain.adapters.expectations.validate import require_passed
from selftrain.adapters.registry.recall_log import refuse_withdrawn
from selftrain.adapters.registry.starting_models import described_file
from selftrain.adapters.runs.lifecycle import run_key
from selftrain.adapters.tracking.recording import RunFacts
from selftrain.config import Experiment
from selftrain.selflabel.detection.rounds import detector_round, if_it_can_go_on, with_student
from selftrain.selflabel.rounds.gate import judge
from selftrain.selflabel.rounds.history import History, Verdict
from selftrain.selflabel.rounds.outcome import minutes, outcome
from steps.adopt_detector import adopt_detector
from steps.ingest import ingest
from steps.log_round_of_detector import log_round_of_detector
from steps.mark_objects import mark_objects
from steps.read_test_detections import read_test_detections
from steps.record_detection import record_detection
from steps.register_detector import register_detector
from steps.run_page import run_page
from steps.scan import scan
from steps.score_detector import score_detector
from steps.snapshot import snapshot
from steps.teach_detector import teach_detector
from steps.train_detector import train_detector
from steps.train_detector_control import train_detector_control
from steps.unseal_detections import unseal_detections
from steps.validate_objects import validate_objects

Artifact = TypeVar("Artifact", OutputArtifact, StepArtifact)
ON_DEVICES = [train_detector, teach_detector, train_detector_control, score_detector, read_test_detections]
"""The steps that gain by an accelerator."""


def detection(e: Experiment) -> None:
    """Ingest, validate, train a detector, then students on what it finds in the pool; test, register, record."""
    place, settings = e.place, e.detection
    listing, store_id, machine = scan(e.source, place, e.machine, e.ingest, e.inbox)
    manifest, development, test, ingested = ingest(listing, store_id, e.source, place, e.ingest, e.splitting, machine)
    objects, test_objects, drawn = mark_objects(manifest, e.source, place)
    version = snapshot(manifest, place)
    validation, _ = validate_objects(manifest, objects, test_objects, drawn, ingested, place, e.checks, settings.view)
    require_passed(validation.load())

    images, weights = manifest.load(), described_file(settings.student_weights)
    models = [first_detector(e, development, objects, machine, version)]
    refuse_withdrawn(models[0].load(), place)
    scores = [score_detector(development, objects, models[0], place, settings, machine, version)]
    history = History().with_round(detector_round(0, images, models[0].load(), scores[0].load(), e.gate))
    log_round_of_detector(e, history.latest)
    while judge(e.gate, history, minutes=minutes(history)) is Verdict.CONTINUE:
        index, best = len(history.rounds), history.teacher.index
        history = if_it_can_go_on(history, scores[best].load())
        if history.stopped:
            break
        student, taught = teach_detector(
            *(manifest, objects, models[best], scores[best], place, settings, e.seed + index, weights, machine, version)
        )
        refuse_withdrawn(student.load(), place)
        models.append(student)
        scores.append(score_detector(development, objects, student, place, settings, machine, version))
        latest = detector_round(
            index, images, student.load(), scores[-1].load(), e.gate, taught.load(), settings.method
        )
        history = with_student(history, e.gate, latest, taught.load(), settings)
        log_round_of_detector(e, history.latest)

    ended, final = outcome(e.gate, history), models[history.best.index]
    control, rounds = None, sum(each.kept for each in history.rounds[1:])
    if e.control == "supervised" and rounds:
        control = train_detector_control(
            *(development, objects, models[0], place, settings, rounds, e.seed + 1, weights, machine, version)
        )
    unseal_detections(test, final, models[0], place, control)
    detections, report = read_test_detections(test, test_objects, final, models[0], place, machine, version, control)
    key = run_key(e, images.digest, history.best.model_digest)
    registration = register_detector(
        *(manifest, test_objects, final, report, ended, place, e.registry, e.machine, key, version)
    )
    facts = RunFacts(ingested=ingested.load(), validation=validation.load(), dataset_version=version.load())
    finished = record_detection(
        *(e, listing, manifest, facts, ended, report, registration, test_objects, detections, final),
        id="record",  # as status looks for it
    )
    run_page(place, finished)


def first_detector(
    e: Experiment, development: Artifact, objects: Artifact, machine: Artifact, version: Artifact
) -> Artifact:
    """The first teacher: trained here, or the detector that `teacher.start` names."""
    if e.teacher.start != "train":
        return adopt_detector(objects, e.place, e.teacher.start, e.registry, e.retrain.from_version)
    weights = described_file(e.detection.weights)
    return train_detector(development, objects, e.place, e.detection, e.seed, weights, machine, version)
