"""Performance: recorded answers against the labels that came later."""

from __future__ import annotations

import pyarrow as pa

from selftrain.retraining.performance import Performance, performance

INTAKE = pa.table(
    {
        "image_id": pa.array(["A", "B", "C", None, "A", "D"], pa.string()),
        "answer": pa.array(["cat", "dog", "cat", "cat", "dog", "dog"], pa.string()),
        "answered_by": pa.array(["7", "7", "7", "7", "7", "6"], pa.string()),
    }
)


def test_the_share_of_right_answers_is_that_of_the_labelled_images_of_one_version() -> None:
    labels = {"A": "cat", "B": "cat", "D": "dog", "X": "dog"}
    assert performance(INTAKE, labels, version="7", least=1) == Performance(0.5, 2)
    assert performance(INTAKE, labels, version="6", least=1) == Performance(1.0, 1)


def test_without_a_labelled_answer_the_accuracy_is_unknown() -> None:
    assert performance(INTAKE, {}, version="7", least=1) is None
    assert performance(INTAKE, {"A": "cat"}, version="8", least=1) is None
    assert performance(INTAKE, {"A": "cat"}, version="7") is None
    assert performance(INTAKE.slice(0, 0), {"A": "cat"}, version="7") is None
