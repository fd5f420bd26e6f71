"""Given labels: every form becomes the same indices, and what fits no class is named."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftrain.data.given_labels import LabelForm, class_indices, label_form
from selftrain.errors import SourceError

NAMES = ("cat", "dog", "elk")


@given(st.lists(st.integers(0, 2), min_size=1, max_size=20))
def test_every_form_becomes_the_same_indices(indices: list[int]) -> None:
    wanted = np.array(indices, np.int64)
    forms: dict[LabelForm, list[npt.NDArray[Any]]] = {
        LabelForm.INDEX: [wanted, wanted.astype(np.float32), wanted.astype(np.uint8)[:, None]],
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
        ([0, 3, -1], "2 labels are no class index 0..2 (row 1: 3, row 2: -1), as the model answers 3 classes"),
        ([1, 2, 3], "indices start at 0"),
        ([0.5, 1], "label 0.5 (row 0) is no class index"),
        ([np.nan, 1], "label nan (row 0) is no class index"),
        (np.eye(4), "one-hot of 4 classes, the model answers 3"),
        ([[0.2, 0.8, 0.0]], "are not one-hot (row 0: [0.2, 0.8, 0.0])"),
        ([[0, 0, 0], [1, 0, 0]], "1 rows of labels are not one-hot (row 0"),
        (["cat", "dgo"], "label 'dgo' (row 1) is no class; did you mean 'dog'? The classes: cat, dog, elk"),
        (np.zeros((2, 3, 4)), "labels have the shape (2, 3, 4)"),
        (np.array(["2020-01-01"], "datetime64[D]"), "labels of type datetime64[D]"),
    ],
)
def test_what_is_no_label_is_named(labels: Any, said: str) -> None:
    with pytest.raises(SourceError, match=re.escape(f"labeled: {said}" if said[0] == "l" else said)):
        class_indices(np.asarray(labels), role="labeled", class_names=NAMES)
