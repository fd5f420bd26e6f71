"""The self-training pipeline: wiring only; what it decides, Gate and Threshold decide."""

from zenml import pipeline
from zenml.execution.pipeline.dynamic.outputs import OutputArtifact

from selftrain.adapters.expectations.validate import require_passed
from selftrain.adapters.registry.recall_log import refuse_withdrawn
from selftrain.adapters.registry.starting_models import check, described_weights
from selftrain.adapters.runs.lifecycle import pipeline_run, run_key
from selftrain.adapters.tracking.recording import RunFacts
from selftrain.config import Experiment
from selftrain.selflabel.rounds.gate import judge
from selftrain.selflabel.rounds.history import History, Verdict
from selftrain.selflabel.rounds.outcome import minutes, outcome
from selftrain.selflabel.rounds.recipes import control_recipe, control_seed, recipe_after
from selftrain.selflabel.rounds.results import student_round, teacher_round, with_guards, with_round_of
from selftrain.selflabel.selection.thresholds import check_classes
from steps.adopt_teacher import adopt_teacher
from steps.ingest import ingest
from steps.log_round import log_round
from steps.pseudo_label import pseudo_label
from steps.read_test import read_test
from steps.record import record
from steps.register import register
from steps.scan import scan
from steps.score import score
from steps.snapshot import snapshot
from steps.train_control import train_control
from steps.train_student import train_student
from steps.train_teacher import train_teacher
from steps.unseal_test import unseal_test
from steps.validate import validate


@pipeline(dynamic=True)
def ssl_pipeline(experiment: Experiment = Experiment()) -> None:  # noqa: B008 - zenml reads the default
    """Ingest, validate, train a teacher; label the pool and train a student until the gate; test, register, record."""
    e, place = experiment, experiment.place
    with pipeline_run(place, e.machine):
        check(e, place)
        listing, store_id, machine = scan(e.source, place, e.machine)
        manifest, development, test, ingested = ingest(
            listing, store_id, e.source, place, e.ingest, e.splitting, machine
        )
        version = snapshot(manifest, place)
        validation, _ = validate(manifest, ingested, place, e.checks)
        require_passed(validation.load())

        images = manifest.load()
        check_classes(e.pseudo_label.threshold, images.label_map.names)
        models = [first_teacher(e, development, machine)]
        teacher = models[0].load()
        refuse_withdrawn(teacher, place)
        scores = score(development, models[0], place, machine)
        history = History().with_round(teacher_round(images, teacher, scores.load(), e.gate))
        log_round(e, history.latest, models[0])
        while judge(e.gate, history, minutes=minutes(history)) is Verdict.CONTINUE:
            index = history.students + 1
            teaches = models[history.teacher.index]
            recipe = recipe_after(e.student, history.teacher.index)
            backbone = recipe.backbone_after(history.teacher.backbone)
            labels = pseudo_label(manifest, teaches, place, e.pseudo_label, index, machine)
            answers = labels.load()
            history = with_guards(history, e.guards, images, answers, method=e.student.method)
            if history.stopped:
                break
            weights, seed = described_weights(e.student.weights), e.seed + index
            start = teaches if recipe.start == "teacher" else None
            student = train_student(
                manifest, labels, place, recipe, weights, backbone, e.image_size, seed, machine, start
            )
            trained = student.load()
            refuse_withdrawn(trained, place)
            scores = score(development, student, place, machine)
            finished = student_round(index, images, answers, trained, scores.load(), e.gate, method=e.student.method)
            history = with_round_of(history, e.guards, e.gate, finished, method=e.student.method)
            models.append(student)
            log_round(e, history.latest, student, labels)

        ended = outcome(e.gate, history)
        final = models[history.best.index]
        control = supervised_control(e, development, history, machine)
        unseal_test(test, final, models[0], place, control)
        report = read_test(test, final, models[0], place, machine, control)
        key = run_key(e, images.digest, history.best.model_digest)
        registration = register(manifest, final, report, ended, place, e.registry, e.machine, key, version)
        facts = RunFacts(
            ingested=ingested.load(),
            validation=validation.load(),
            dataset_version=version.load(),
        )
        record(e, manifest, facts, ended, report, registration)


def first_teacher(e: Experiment, development: OutputArtifact, machine: OutputArtifact) -> OutputArtifact:
    """The first teacher: trained, or brought along."""
    if e.teacher.start == "train":
        weights = described_weights(e.teacher.weights)
        return train_teacher(development, e.place, e.teacher, weights, e.image_size, e.seed, machine)
    return adopt_teacher(development, e.place, e.teacher.start, e.image_size, e.registry)


def supervised_control(
    e: Experiment, development: OutputArtifact, history: History, machine: OutputArtifact
) -> OutputArtifact | None:
    """What as many image-steps on human labels alone give; None where it is not asked for, or no student is best."""
    if e.control == "none" or history.best.index == 0:
        return None
    recipe, weights = control_recipe(e.student, history), described_weights(e.student.weights)
    seed = control_seed(e.student, history, seed=e.seed)
    return train_control(development, e.place, recipe, weights, history.best.backbone, e.image_size, seed, machine)
