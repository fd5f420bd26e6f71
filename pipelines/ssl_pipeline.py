"""The self-training pipeline: wiring only. Gates, guards and thresholds make the decisions."""

from typing import TypeVar

from zenml import pipeline
from zenml.execution.pipeline.dynamic.outputs import OutputArtifact
from zenml.steps.entrypoint_function_utils import StepArtifact

from pipelines.detection import ON_DEVICES as OF_DETECTION
from pipelines.detection import detection
from selftrain.adapters.expectations.validate import require_passed
from selftrain.adapters.registry.recall_log import refuse_withdrawn
from selftrain.adapters.registry.starting_models import described_spaces, described_weights, teacher_backbone
from selftrain.adapters.runs.lifecycle import pipeline_run, run_key
from selftrain.adapters.snapshots.carrying import shared_state
from selftrain.adapters.tracking.recording import RunFacts
from selftrain.config import Experiment, Place
from selftrain.data.manifest import Manifest
from selftrain.data.store.dataset import open_dataset
from selftrain.selflabel.rounds.gate import judge
from selftrain.selflabel.rounds.history import History, Verdict
from selftrain.selflabel.rounds.outcome import minutes, outcome
from selftrain.selflabel.rounds.plan import Plan, baseline_plan, control_plan, plan, same_training, teacher_plan
from selftrain.selflabel.rounds.results import student_round, teacher_round, with_guards, with_round_of
from selftrain.selflabel.rounds.start import check_start, check_teacher
from selftrain.selflabel.selection.thresholds import check_classes
from selftrain.selflabel.teaching.shard_groups import asking, shard_groups
from steps.adopt_teacher import adopt_teacher
from steps.ingest import ingest
from steps.join_labels import join_labels
from steps.label_shard import label_shard
from steps.log_round import log_round
from steps.pseudo_label import pseudo_label
from steps.read_test import read_test
from steps.record import record
from steps.register import register
from steps.run_page import run_page
from steps.scan import scan
from steps.score import score
from steps.snapshot import snapshot
from steps.train_baseline import train_baseline
from steps.train_control import train_control
from steps.train_student import train_student
from steps.train_teacher import train_teacher
from steps.unseal_test import unseal_test
from steps.validate import validate

Artifact = TypeVar("Artifact", OutputArtifact, StepArtifact)  # of a dynamic pipeline, and of a fixed graph
ON_DEVICES = [
    *(train_teacher, train_student, train_control, train_baseline),
    *(pseudo_label, label_shard, score, read_test),
    *OF_DETECTION,
]
"""The steps that gain by an accelerator. Only steps that a pipeline depends on can be configured in YAML."""


@pipeline(dynamic=True, depends_on=ON_DEVICES)
def ssl_pipeline(experiment: Experiment = Experiment()) -> None:  # noqa: B008 - zenml reads the default
    """Ingest, validate, train a teacher, then students on its pseudo-labels until the gate; test, register, record."""
    with shared_state(experiment.place, "run"), pipeline_run(experiment.place, experiment.machine):
        self_training(experiment)


def self_training(e: Experiment) -> None:
    """The loop, within a run of either pipeline: of a detector or of a classifier."""
    if e.task == "detection":
        detection(e)
    else:
        classification(e)


def classification(e: Experiment) -> None:
    """Ingest, validate, train a classifier, then students on its pseudo-labels; test, register, record."""
    place = e.place
    check_start(e, teacher_backbone(e, open_dataset(place).workspace))
    listing, store_id, machine = scan(e.source, place, e.machine, e.ingest, e.inbox)
    manifest, development, test, ingested = ingest(listing, store_id, e.source, place, e.ingest, e.splitting, machine)
    version = snapshot(manifest, place)
    validation, _ = validate(manifest, ingested, place, e.checks)
    require_passed(validation.load())

    images = manifest.load()
    check_classes(e.pseudo_label.threshold, images.label_map.names)
    models = [first_teacher(e, development, machine, version)]
    refuse_withdrawn(models[0].load(), place)
    scores = score(development, models[0], place, e.task, machine, version).load()
    check_teacher(e.teacher.start, scores, images)
    history = History().with_round(teacher_round(images, models[0].load(), scores, e.gate))
    log_round(e, history.latest, models[0])
    while judge(e.gate, history, minutes=minutes(history)) is Verdict.CONTINUE:
        coming = plan(e, history)
        teacher = models[coming.teacher]
        pseudo_labels = labelled(e, images, manifest, teacher, coming, machine, version)
        labels = pseudo_labels.load()
        history = with_guards(history, e.guards, images, labels, method=coming.recipe.method)
        if history.stopped:
            break
        student = next_student(place, manifest, pseudo_labels, coming, teacher, machine, version)
        model = student.load()
        refuse_withdrawn(model, place)
        scores = score(development, student, place, e.task, machine, version).load()
        latest = student_round(coming.index, images, labels, model, scores, e.gate, method=e.student.method)
        history = with_round_of(history, e.guards, e.gate, latest)
        models.append(student)
        log_round(e, history.latest, student, pseudo_labels)

    ended = outcome(e.gate, history)
    final = models[history.best.index]
    control = supervised_control(e, development, history, machine, version)
    baseline = fitted_baseline(e, development, history, models[0], machine, version, control)
    unseal_test(test, final, models[0], place, control, baseline)
    earlier = ingested.load().earlier_test
    report = read_test(test, final, models[0], place, e.task, machine, version, control, baseline, earlier)
    key = run_key(e, images.digest, history.best.model_digest)
    registration = register(manifest, final, report, ended, place, e.task, e.registry, e.machine, key, version)
    facts = RunFacts(ingested=ingested.load(), validation=validation.load(), dataset_version=version.load())
    finished = record(e, listing, manifest, facts, ended, report, registration)
    run_page(place, finished)


def first_teacher(e: Experiment, development: Artifact, machine: Artifact, version: Artifact) -> Artifact:
    """The first teacher: trained here, or the model that `teacher.start` names."""
    if e.teacher.start == "train":
        weights = described_weights(e.teacher)
        return train_teacher(development, e.place, teacher_plan(e), weights, machine, version)
    start, number = e.teacher, e.retrain.from_version
    return adopt_teacher(development, e.place, start, e.image_size, e.registry, number, machine, version)


def labelled(
    e: Experiment,
    images: Manifest,
    manifest: OutputArtifact,
    teacher: OutputArtifact,
    coming: Plan,
    machine: OutputArtifact,
    version: OutputArtifact,
) -> OutputArtifact:
    """The pseudo-labels of a round: by one step, or by one for each group of shards and one that joins their answers.

    One `submit` per group keys each by itself; ZenML's `map` would key each by the whole list.
    """
    spaces = described_spaces(e, coming.recipe, coming.backbone)
    groups = shard_groups(images, e.machine.label_shards, e.pseudo_label)
    if not groups:
        return pseudo_label(manifest, teacher, e.place, e.task, e.pseudo_label, coming.index, machine, version, spaces)
    asked = asking(e.pseudo_label)
    answers = [
        label_shard.submit(manifest, teacher, e.place, e.task, asked, group, machine, version, spaces)
        for group in groups
    ]
    return join_labels(manifest, teacher, answers, e.place, e.task, e.pseudo_label, coming.index, machine)


def next_student(
    place: Place,
    manifest: OutputArtifact,
    pseudo_labels: OutputArtifact,
    coming: Plan,
    teacher: OutputArtifact,
    machine: OutputArtifact,
    version: OutputArtifact,
) -> OutputArtifact:
    """The student of the `coming` round; its teacher is an input only if the student begins with its weights."""
    start = teacher if coming.goes_on else None
    weights = described_weights(coming.recipe)
    return train_student(manifest, pseudo_labels, place, coming, weights, machine, version, start)


def supervised_control(
    e: Experiment, development: OutputArtifact, history: History, machine: OutputArtifact, version: OutputArtifact
) -> OutputArtifact | None:
    """The control, if the experiment asks for one and a student is the best model; else None."""
    coming = control_plan(e, history)
    if coming is None:
        return None
    weights = described_weights(coming.recipe)
    return train_control(development, e.place, coming, weights, machine, version)


def fitted_baseline(
    e: Experiment,
    development: OutputArtifact,
    history: History,
    first_teacher: OutputArtifact,
    machine: OutputArtifact,
    version: OutputArtifact,
    control: OutputArtifact | None,
) -> OutputArtifact:
    """A head on frozen features, fitted to the labels alone; the `control`, if it is that already."""
    coming = baseline_plan(e, history)
    if control is not None and same_training(coming, control_plan(e, history)):
        return control
    weights = described_weights(coming.recipe)
    return train_baseline(development, first_teacher, e.place, coming, weights, machine, version)
