"""The self-training pipeline: wiring only; what it decides, Gate and Threshold decide."""

from zenml import pipeline
from zenml.execution.pipeline.dynamic.outputs import OutputArtifact

from selftrain.adapters.brought import described_weights
from selftrain.adapters.recording import RunFacts
from selftrain.adapters.runs import opened, run_key
from selftrain.config import Experiment
from selftrain.selflabel.finished import minutes, outcome, student_backbone, student_round, teacher_round
from selftrain.selflabel.gate import judge
from selftrain.selflabel.rounds import History, Verdict
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
from steps.train_student import train_student
from steps.train_teacher import train_teacher
from steps.unseal_test import unseal_test
from steps.validate import validate


@pipeline(dynamic=True)
def ssl_pipeline(experiment: Experiment = Experiment()) -> None:  # noqa: B008 - zenml reads the default
    """Ingest, validate, train a teacher; label the pool and train a student until the gate; test, register, record."""
    e, place = experiment, experiment.place
    with opened(place):
        listing, store_id, machine = scan(e.source, place, e.machine)
        manifest, ingested = ingest(listing, store_id, e.source, place, e.ingest, e.splitting, machine)
        version = snapshot(manifest, place)
        validation, _ = validate(manifest, ingested, place, e.checks)
        validation.load().require_passed()

        images = manifest.load()
        models = [first_teacher(e, manifest, machine)]
        scores = score(manifest, models[0], place, machine)
        history = History().with_round(teacher_round(images, models[0].load(), scores.load(), e.gate))
        log_round(e, history.latest, models[0])
        while judge(e.gate, history, minutes=minutes(history)) is Verdict.CONTINUE:
            index = history.students + 1
            backbone = student_backbone(e.student, history)
            labels = pseudo_label(manifest, models[history.teacher.index], place, e.pseudo_label, index, machine)
            weights, seed = described_weights(e.student.weights), e.seed + index
            student = train_student(manifest, labels, place, e.student, weights, backbone, e.image_size, seed, machine)
            scores = score(manifest, student, place, machine)
            finished = student_round(index, images, labels.load(), student.load(), scores.load(), e.gate)
            history = history.with_round(finished)
            models.append(student)
            log_round(e, history.latest, student, labels)

        ended = outcome(e.gate, history)
        final = models[history.best.index]
        looks = unseal_test(manifest, final, place)
        report = read_test(manifest, final, models[0], place, machine)
        key = run_key(e, images.digest, history.best.model_digest)
        registration = register(manifest, final, report, ended, place, e.registry, e.machine, key, version)
        facts = RunFacts(
            ingested=ingested.load(),
            validation=validation.load(),
            dataset_version=version.load(),
            test_looks=looks.load(),
        )
        record(e, manifest, facts, ended, report, registration)


def first_teacher(e: Experiment, manifest: OutputArtifact, machine: OutputArtifact) -> OutputArtifact:
    """The first teacher: trained, or brought along."""
    if e.teacher.start == "train":
        weights = described_weights(e.teacher.weights)
        return train_teacher(manifest, e.place, e.teacher, weights, e.image_size, e.seed, machine)
    return adopt_teacher(manifest, e.place, e.teacher.start, e.image_size, e.registry)
