"""Given labels: every form becomes the same indices, and what fits no class is named."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftrain.data.inputs.labels import LabelForm, class_indices, joined_labels, label_form
from selftrain.errors import SourceError

NAMES = ("cat", "dog", "elk")


@given(st.lists(st.integers(0, 2), min_size=1, max_size=20))
def test_every_form_becomes_the_same_indices(indices: list[int]) -> None:
    wanted = np.array(indices, np.int64)
    forms: dict[LabelForm, list[npt.NDArray[Any]]] = {
        LabelForm.INDEX: [
            wanted,
            wanted.astype(np.float32),
            wanted.astype(np.uint8)[:, None],
            wanted.astype(object),
            np.array(list(wanted), dtype=object),  # numpy's integers
            wanted.astype(np.float64).astype(object),  # as a table with another column's gaps has them
        ],
        LabelForm.ONE_HOT: [np.eye(3)[wanted], np.eye(3, dtype=np.int64)[wanted], np.eye(3, dtype=bool)[wanted]],
        LabelForm.NAME: [
            np.array(NAMES)[wanted],
            np.array([NAMES[index].encode() for index in indices], dtype=object),
            np.array(NAMES, dtype=object)[wanted][:, None],
        ],
    }
    for form, written in forms.items():
        for labels in written:
            assert label_form(labels, role="labeled") is form
            np.testing.assert_array_equal(class_indices(labels, role="labeled", class_names=NAMES), wanted)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([0, 3, -1], "2 labels are not class indices 0..2 (row 1: 3, row 2: -1), as the model answers 3 classes"),
        ([1, 2, 3], "indices start at 0"),
        ([0.5, 1], "label 0.5 (row 0) is not a class index"),
        ([np.nan, 1], "label nan (row 0) is not a class index"),
        (np.eye(4), "one-hot of 4 classes, the model answers 3"),
        ([[0.2, 0.8, 0.0]], "are not one-hot (row 0: [0.2, 0.8, 0.0])"),
        ([[0, 0, 0], [1, 0, 0]], "1 rows of labels are not one-hot (row 0"),
        (["cat", "dgo"], "label 'dgo' (row 1) is not a class; did you mean 'dog'? The classes: cat, dog, elk"),
        (
            [0, np.nan, 1, np.inf, 2, 0.5],
            "label nan (row 1) is not a class index, nor are those of rows 3, 5; give 0..2",
        ),
        (
            [[1, 1, 0], [0, 1, 0], [np.nan, 0, 1]],
            "2 rows of labels are not one-hot (row 0: [1.0, 1.0, 0.0]; also row 2)",
        ),
        (
            np.array(["cat", None, "dog", np.nan], object),
            "labels of rows 1, 3 are missing or not a label (row 1: None)",
        ),
        (np.array([0, 1, None], object), "labels of row 2 are missing or not a label (row 2: None)"),
        (np.array([0, 1, True], object), "labels of row 2 are missing or not a label (row 2: True)"),
        (np.array([0, 1.5], object), "labels of row 1 are missing or not a label (row 1: 1.5)"),
        (np.array(["cat", ""]), "labels of row 1 are missing or not a label (row 1: '')"),
        (np.array(["cat", 1, "dog"], object), "labels of row 1 are numbers (row 1: 1), the others names"),
        (np.array([None] * 9, object), "labels of rows 0, 1, 2, 3, 4 and 4 more are missing"),
        (np.zeros((2, 3, 4)), "labels have the shape (2, 3, 4)"),
        (np.array(["2020-01-01"], "datetime64[D]"), "labels of type datetime64[D]"),
    ],
)
def test_what_is_no_label_is_named(labels: Any, said: str) -> None:
    with pytest.raises(SourceError, match=re.escape(f"labeled: {said}" if said[0] == "l" else said)):
        class_indices(np.asarray(labels), role="labeled", class_names=NAMES)


def test_batches_of_numbers_and_of_names_are_no_names_together() -> None:
    joined = joined_labels([np.array([0, 1]), np.array(["cat"])], role="labeled")
    with pytest.raises(SourceError, match=re.escape("labels of row 2 are names (row 2: 'cat'), the others numbers")):
        label_form(joined, role="labeled")
    with pytest.raises(SourceError, match="give all in one form"):
        joined_labels([np.array([0, 1]), np.eye(2)], role="labeled")
