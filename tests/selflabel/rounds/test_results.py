"""Finished rounds: what a student's round keeps of its pseudo-labels, and what the reader of a run is told."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from selftrain.config import Gate, Guards, PseudoLabel, TargetPrecision
from selftrain.data.label_map import LabelMap
from selftrain.data.manifest import Manifest
from selftrain.evaluate.coverage import HeldOut
from selftrain.evaluate.evaluation import Comparison, EvaluationReport, evaluate
from selftrain.learn.models.contract import Contract, SavedModel
from selftrain.selflabel.rounds.history import History
from selftrain.selflabel.rounds.outcome import findings
from selftrain.selflabel.rounds.results import student_round, teacher_round, with_guards
from selftrain.selflabel.rounds.scores import Scores
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels, select

NAMES = ("blue", "green", "red")
SCORES = Scores(
    images=60,
    accuracy=0.9,
    macro_f1=0.88,
    log_loss=0.3,
    calibration_error=0.02,
    calibration_error_uncalibrated=0.11,
)
MODEL = SavedModel(Path("nowhere"), Contract(backbone="by_hand", image_size=16, class_names=NAMES))


def manifest_of(*, training: int, pool: int) -> Manifest:
    number = np.arange(training + pool)
    human = number < training
    table = pa.table(
        {
            "image_id": [f"{each:064x}" for each in number],
            "shard": ["s"] * len(number),
            "index": number.astype(np.int32),
            "origin": [f"{each}.png" for each in number],
            "width": np.full(len(number), 8, np.int32),
            "height": np.full(len(number), 8, np.int32),
            "phash": number.astype(np.uint64),
            "split": np.where(human, "train", "unlabeled"),
            "label": pa.array(number.astype(np.int32) % 3, mask=~human),
            "label_source": pa.array(np.where(human, "human", ""), mask=~human),
            "weight": np.ones(len(number), np.float32),
        }
    )
    return Manifest.build(table, LabelMap(NAMES))


def measured_labels(held: int) -> PseudoLabels:
    """90 sure answers, and as many right ones held out as asked for."""
    probs = np.tile(np.float32([0.9, 0.05, 0.05]), (90, 1))
    held_out = HeldOut(probs[:held], np.zeros(held, np.int64))
    settings = PseudoLabel(threshold=TargetPrecision(target=0.9))
    ids = [f"{each:064x}" for each in range(6, 96)]
    return select(ids, probs, settings, round_index=1, teacher="t", class_names=NAMES, held_out=held_out)


def test_a_round_records_calibration_and_how_right_its_pseudo_labels_are() -> None:
    manifest = manifest_of(training=6, pool=90)
    made = student_round(1, manifest, measured_labels(60), MODEL, SCORES, Gate(), method="noisy_student")
    assert (made.calibration_error, made.calibration_error_uncalibrated) == (0.02, 0.11)
    assert (made.accepted, made.pool, made.threshold) == (90, 90, "precision 0.9")
    assert made.pseudo_precision == 1.0
    assert made.pseudo_precision_low is not None
    assert 0.9 < made.pseudo_precision_low < 1.0


def test_that_a_target_cannot_be_shown_is_told_to_the_reader_of_the_run() -> None:
    manifest = manifest_of(training=6, pool=90)
    history = History().with_round(teacher_round(manifest, MODEL, SCORES, Gate()))
    history = history.with_round(
        student_round(1, manifest, measured_labels(20), MODEL, SCORES, Gate(), method="noisy_student")
    )
    assert history.latest.accepted == 0
    told = [each for each in findings(history, None) if each.startswith("round 1: nothing is accepted as")]
    assert len(told) == 1
    assert "20 held-out predictions, and a precision of 0.9 needs 29" in told[0]


def test_the_round_of_a_student_in_training_claims_no_pseudo_label() -> None:
    manifest = manifest_of(training=6, pool=90)
    made = student_round(1, manifest, measured_labels(60), MODEL, SCORES, Gate(), method="fixmatch")
    assert (made.method, made.in_training) == ("fixmatch", True)
    assert (made.accepted, made.pool, made.threshold, made.pseudo_precision) == (0, 90, None, None)
    unshown = student_round(1, manifest, measured_labels(20), MODEL, SCORES, Gate(), method="fixmatch")
    assert unshown.findings == ()


def test_no_guard_over_labels_that_nobody_reads_ends_a_run_or_refuses_a_student() -> None:
    manifest, none_accepted = manifest_of(training=6, pool=90), measured_labels(20)
    guards = Guards(actions={"acceptance": "stop"})
    history = History().with_round(teacher_round(manifest, MODEL, SCORES, Gate()))
    assert with_guards(history, guards, manifest, none_accepted, method="noisy_student").stopped
    in_training = with_guards(history, guards, manifest, none_accepted, method="freematch")
    assert [(each.guard, each.action) for each in in_training.alarms] == [("acceptance", "warn")]
    assert not in_training.stopped


def with_control() -> EvaluationReport:
    answers = np.full((8, 3), 0.1) + 0.7 * np.eye(3)[[0] * 8]
    return evaluate([0] * 8, answers, class_names=NAMES, reference_probs=answers, control_probs=answers)


def test_that_a_brought_teachers_training_is_not_in_the_control_is_told_to_the_reader_of_the_run() -> None:
    first = teacher_round(manifest_of(training=6, pool=90), MODEL, SCORES, Gate())
    assert "control's" not in " ".join(findings(History().with_round(first), with_control()))
    found = findings(History().with_round(first), with_control(), teacher_start="model.keras")[-1]
    assert found == (
        "the first teacher is an existing model (model.keras), and the control's image-steps do not count its training"
    )
    champion = History().with_round(first.model_copy(update={"image_steps": 4800}))
    assert findings(champion, with_control(), teacher_start="champion")[-1].endswith(
        "do not count its training, except for the 4,800 image-steps of its last one"
    )
    assert "existing model" not in " ".join(findings(champion, None, teacher_start="champion"))


def compared(difference: float, interval: tuple[float, float], *, n10: int, n01: int, p_value: float) -> Comparison:
    """On 100 images; a p-value is twice the tail of `n10` + `n01` tosses of a coin, as exact McNemar has it."""
    return Comparison(
        reference=0.8,
        reference_interval=(0.71, 0.87),
        difference=difference,
        difference_interval=interval,
        n10=n10,
        n01=n01,
        p_value=p_value,
        alpha=0.05,
    )


BETTER = compared(0.12, (0.04, 0.2), n10=15, n01=3, p_value=0.0075)
WORSE = compared(-0.12, (-0.2, -0.04), n10=3, n01=15, p_value=0.0075)
UNDECIDED = compared(0.03, (-0.05, 0.11), n10=9, n01=6, p_value=0.6072)


@pytest.mark.parametrize(
    ("control", "answer"),
    [
        (BETTER, "+12.0 points (95 % interval +4.0 to +20.0) against {}, McNemar p = 0.0075: better"),
        (WORSE, "-12.0 points (95 % interval -20.0 to -4.0) against {}, McNemar p = 0.0075: worse"),
        (UNDECIDED, "+3.0 points (95 % interval -5.0 to +11.0) against {}, McNemar p = 0.61: undecided"),
    ],
    ids=["better", "worse", "undecided"],
)
def test_whether_the_unlabelled_data_helped_is_told_by_the_control_with_interval_and_p_value(control, answer) -> None:
    first = teacher_round(manifest_of(training=6, pool=90), MODEL, SCORES, Gate())
    report = with_control().model_copy(update={"control": control})
    said = answer.format("the same backbone trained as long on human labels alone")
    assert findings(History().with_round(first), report) == (f"did the unlabelled data help? {said}",)


@pytest.mark.parametrize(
    ("control", "baseline", "said"),
    [
        (BETTER, UNDECIDED, "+3.0 points {} logistic regression on frozen features, fitted to human labels alone, the "
         "better of baseline and control, "),
        (UNDECIDED, BETTER, "+3.0 points {} the same backbone trained as long on human labels alone, the better of "
         "control and baseline, "),
        (None, BETTER, "+12.0 points {} logistic regression on frozen features, fitted to human labels alone, "),
        (WORSE, None, "-12.0 points {} the same backbone trained as long on human labels alone, "),
    ],
    ids=["baseline better", "control better", "no control", "no baseline"],
)  # fmt: skip
def test_whether_the_pool_helped_is_asked_against_the_better_of_control_and_baseline(control, baseline, said) -> None:
    manifest = manifest_of(training=6, pool=90)
    history = History().with_round(teacher_round(manifest, MODEL, SCORES, Gate()))
    history = history.with_round(
        student_round(1, manifest, measured_labels(60), MODEL, SCORES, Gate(), method="fixmatch")
    )
    report = with_control().model_copy(update={"control": control, "baseline": baseline})
    (found,) = [each for each in findings(history, report) if "unlabelled data help?" in each]
    points, against = said.split(" {} ")
    assert found.startswith(f"did the unlabelled data help? {points} (95 % interval ")
    assert f" against {against}McNemar p = " in found


def test_a_run_without_student_and_control_asks_nothing_of_the_pool() -> None:
    first = teacher_round(manifest_of(training=6, pool=90), MODEL, SCORES, Gate())
    report = with_control().model_copy(update={"control": None, "baseline": UNDECIDED})
    assert findings(History().with_round(first), report) == ()


def test_what_the_best_student_gained_on_the_first_teacher_is_told_beside_what_it_gained_on_the_control() -> None:
    manifest = manifest_of(training=6, pool=90)
    history = History().with_round(teacher_round(manifest, MODEL, SCORES, Gate()))
    history = history.with_round(
        student_round(1, manifest, measured_labels(60), MODEL, SCORES, Gate(), method="fixmatch")
    )
    report = with_control().model_copy(update={"comparison": BETTER, "control": UNDECIDED})
    on_test, helped = findings(history, report)
    assert on_test.startswith("on test: +12.0 points")
    assert on_test.endswith("against the first teacher, McNemar p = 0.0075: better")
    assert helped.startswith("did the unlabelled data help? +3.0 points")
    assert helped.endswith(": undecided")
