"""The tables that `dvc plots` draws and the numbers that `dvc metrics` compares."""

from pathlib import Path

import numpy as np
import pytest

from selftrain.adapters.snapshots import receipts
from selftrain.config import Fixed, PseudoLabel
from selftrain.evaluate.coverage import HeldOut
from selftrain.evaluate.evaluation import evaluate
from selftrain.selflabel.rounds.history import History, Round
from selftrain.selflabel.rounds.scores import Scores
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels, select

NAMES = ("cat", "dog")
PROBS = np.array([[0.95, 0.05], [0.3, 0.7], [0.2, 0.8]], dtype=np.float32)


@pytest.fixture
def labels() -> PseudoLabels:
    settings = PseudoLabel(threshold=Fixed(value=0.75))
    return select(["a" * 64, "b" * 64, "c" * 64], PROBS, settings, round_index=1, teacher="t", class_names=NAMES)


@pytest.fixture
def history() -> History:
    def finished(index: int, accuracy: float) -> Round:
        return Round(
            index=index,
            backbone=f"net_{index}",
            labeled=10,
            validation_accuracy=accuracy,
            validation_metric=accuracy,
            seconds=12.34,
            model_digest=str(index),
        )

    return History().with_round(finished(0, 0.9)).with_round(finished(1, 0.8))


def scores(accuracy: float) -> Scores:
    return Scores(
        images=10,
        accuracy=accuracy,
        macro_f1=accuracy,
        log_loss=0.12345678,
        calibration_error=0.1,
        calibration_error_uncalibrated=0.2,
    )


def test_metrics_say_how_much_the_student_turned_where_that_was_counted(labels: PseudoLabels, history: History) -> None:
    report = evaluate([0, 1, 0], PROBS, class_names=NAMES, reference_probs=PROBS)
    turned = History().with_round(history.first_teacher).with_round(history.latest.model_copy(update={"churn": 0.25}))
    found = receipts.metrics([scores(0.9), scores(0.8)], labels, turned, report, test_looks=3)
    assert found["student"] == {"kept": False, "churn": 0.25}


def test_metrics_say_whether_the_student_was_kept_and_how_both_did(labels: PseudoLabels, history: History) -> None:
    report = evaluate([0, 1, 0], PROBS, class_names=NAMES, reference_probs=PROBS)
    found = receipts.metrics([scores(0.9), scores(0.8)], labels, history, report, test_looks=3)
    assert found["student"] == {"kept": False}
    assert found["validation"]["teacher_accuracy"] == 0.9
    assert found["validation"]["student_accuracy"] == 0.8
    assert found["validation"]["student_log_loss"] == 0.123457
    assert found["pseudo_labels"] == {"pool": 3, "accepted": 2, "share": 0.6667}
    assert found["test"]["accuracy"] == 0.666667
    assert found["test"]["teacher_accuracy"] == 0.666667
    assert found["test"]["looks"] == 3


def test_the_histogram_counts_every_image_of_the_pool_once(labels: PseudoLabels) -> None:
    header, rows = receipts.confidence_rows(labels)
    table = {name: [row[index] for row in rows] for index, name in enumerate(header)}
    assert sum(table["images"]) == 3  # type: ignore[arg-type]
    assert sum(table["accepted"]) == 2  # type: ignore[arg-type]
    assert [a + r for a, r in zip(table["accepted"], table["rejected"], strict=True)] == table["images"]  # type: ignore[operator]
    assert [row for row in rows if row[-1]] == [["0.70", 0, 1, 1], ["0.80", 1, 0, 1], ["0.95", 1, 0, 1]]


def test_the_coverage_table_has_a_row_a_cut_off_that_held_out_images_reach(labels: PseudoLabels) -> None:
    assert receipts.coverage_rows(labels)[1] == []
    held_out = HeldOut(np.array([[0.9, 0.1], [0.25, 0.75]], np.float32), np.array([0, 0]))
    settings = PseudoLabel(threshold=Fixed(value=0.75))
    measured = select(
        ["a", "b", "c"], PROBS, settings, round_index=1, teacher="t", class_names=NAMES, held_out=held_out
    )
    header, rows = receipts.coverage_rows(measured)
    assert header[:4] == ["cutoff", "coverage", "images", "precision"]
    # Of the pool .95, .8 and .7 are cut-offs; held-out images are right at .9, wrong at .75, and none reaches .95.
    assert [row[:4] for row in rows] == [[0.8, 0.666667, 1, 1.0], [0.7, 1.0, 2, 0.5]]
    precision, low, high = np.array(rows, float)[:, 3:].T
    assert ((low <= precision) & (precision <= high)).all()


def test_the_confusion_table_has_a_row_a_test_image() -> None:
    header, rows = receipts.confusion_rows(evaluate([0, 1, 0], PROBS, class_names=NAMES))
    assert header == ["actual", "predicted"]
    assert sorted(rows) == [["cat", "cat"], ["cat", "dog"], ["dog", "dog"]]


def test_rounds_have_a_row_a_model(history: History) -> None:
    header, rows = receipts.round_rows(history)
    assert header == ["round", "backbone", "validation_accuracy", "kept"]
    assert rows == [[0, "net_0", 0.9, True], [1, "net_1", 0.8, False]]


def test_the_same_facts_give_the_same_bytes(tmp_path: Path) -> None:
    receipts.write_json(tmp_path / "new" / "a.json", {"x": 1, "y": 0.5})
    receipts.write_json(tmp_path / "b.json", {"x": 1, "y": 0.5})
    assert (tmp_path / "new" / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
