"""Recorded: which number of a report goes into which field of a run's record."""

from selftrain.config import Experiment, Gate
from selftrain.data.ingest.report import IngestReport
from selftrain.evaluate.evaluation import Comparison, evaluate
from selftrain.selflabel.rounds.history import History
from selftrain.selflabel.rounds.outcome import outcome
from selftrain.selflabel.rounds.record import Registration, run_record
from selftrain.selflabel.rounds.results import teacher_round
from tests.selflabel.rounds.test_results import MODEL, NAMES, SCORES, manifest_of

INGESTED = IngestReport(
    images=96, quarantined=3, quarantine_share=0.03, quarantine_table="q.parquet", excluded=2, unlabeled_copies=1,
    ignored_files=0, files_read=102,
)  # fmt: skip

# Of 100 test images, 15 are right by the model alone and 3 by the first teacher alone; of the control, 9 and 6.
FIRST_TEACHER = Comparison(
    reference=0.78, reference_interval=(0.69, 0.85), difference=0.12, difference_interval=(0.04, 0.2),
    n10=15, n01=3, p_value=0.0075, alpha=0.05,
)  # fmt: skip
CONTROL = Comparison(
    reference=0.87, reference_interval=(0.79, 0.92), difference=0.03, difference_interval=(-0.05, 0.11),
    n10=9, n01=6, p_value=0.6072, alpha=0.05,
)  # fmt: skip


def recorded(*, comparison: Comparison | None, control: Comparison | None, baseline: Comparison | None = None):
    manifest = manifest_of(training=6, pool=90)
    history = History().with_round(teacher_round(manifest, MODEL, SCORES, Gate()))
    answers = [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]]
    report = evaluate([0, 1, 2, 2], answers, class_names=NAMES)
    return run_record(
        Experiment(name="colours"),
        manifest,
        outcome(Gate(), history),
        report.model_copy(update={"comparison": comparison, "control": control, "baseline": baseline}),
        run_id="r1",
        ingested=INGESTED,
        test_looks=1,
        registration=Registration(model_name="colours", registered_version=7, champion_version=5),
    )


def test_a_record_has_the_comparison_with_the_first_teacher_and_that_with_the_control_in_their_own_fields() -> None:
    record = recorded(comparison=FIRST_TEACHER, control=CONTROL)
    assert record.teacher_test_accuracy == 0.78
    assert (record.difference, record.difference_interval, record.p_value) == (0.12, (0.04, 0.2), 0.0075)
    assert record.control_test_accuracy == 0.87
    assert (record.control_difference, record.control_interval) == (0.03, (-0.05, 0.11))
    assert record.control_p_value == 0.6072


def test_a_record_has_the_comparison_with_the_baseline_in_fields_of_its_own() -> None:
    record = recorded(comparison=None, control=FIRST_TEACHER, baseline=CONTROL)
    assert (record.control_test_accuracy, record.baseline_test_accuracy) == (0.78, 0.87)
    assert (record.baseline_difference, record.baseline_interval) == (0.03, (-0.05, 0.11))
    assert (record.baseline_p_value, record.baseline_p_value_test) == (0.6072, CONTROL.test)


def test_a_record_without_a_control_says_nothing_of_one() -> None:
    record = recorded(comparison=FIRST_TEACHER, control=None)
    assert record.difference == 0.12
    assert record.control_test_accuracy is record.control_difference is record.control_interval is None
    assert record.control_p_value is None


def test_a_record_names_the_test_of_each_p_value() -> None:
    record = recorded(comparison=FIRST_TEACHER, control=CONTROL.model_copy(update={"test": "paired permutation"}))
    assert (record.p_value_test, record.control_p_value_test) == ("McNemar", "paired permutation")


def test_a_record_counts_labels_left_out_files_and_versions_apart() -> None:
    record = recorded(comparison=None, control=None)
    assert record.test_accuracy == 0.75
    assert (record.labels_used, record.quarantined, record.excluded, record.test_looks) == (6, 3, 2, 1)
    assert (record.registered_version, record.champion_version) == (7, 5)
    assert record.difference is record.difference_interval is record.p_value is None
