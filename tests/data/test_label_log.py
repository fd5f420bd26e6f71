from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftrain.data.label_log import LABEL_LOG, LABEL_LOG_SCHEMA, append_lines, read_log, standing
from selftrain.errors import LabelLogError

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)


def lines(*rows: tuple[str, str, bool]) -> pa.Table:
    columns = {
        "image_id": [image for image, _, _ in rows],
        "label": [label for _, label, _ in rows],
        "who": ["anna"] * len(rows),
        "when": [NOON] * len(rows),
        "settles": [settles for _, _, settles in rows],
        "shown": [None] * len(rows),
    }
    return pa.table(columns, schema=LABEL_LOG_SCHEMA)


def test_lines_are_added_and_read_back_in_order(tmp_path: Path) -> None:
    assert read_log(tmp_path).num_rows == 0
    append_lines(tmp_path, lines(("a", "cat", False)))
    append_lines(tmp_path, lines(("b", "dog", False), ("a", "dog", True)))
    assert read_log(tmp_path)["image_id"].to_pylist() == ["a", "b", "a"]
    assert [path.name for path in tmp_path.iterdir()] == [LABEL_LOG]


def test_a_damaged_log_is_an_error_that_names_the_way_back(tmp_path: Path) -> None:
    (tmp_path / LABEL_LOG).write_bytes(b"PAR1 cut off")
    with pytest.raises(LabelLogError, match="selftrain restore"):
        read_log(tmp_path)


def test_two_labels_are_a_conflict_until_a_line_settles_it() -> None:
    rows = [("a", "cat", False), ("a", "dog", False)]
    assert standing(lines(*rows)).agreed == {}
    settled = standing(lines(*rows, ("a", "dog", True)))
    assert (settled.agreed, settled.disputed, settled.settled) == ({"a": "dog"}, {}, {"a"})


def test_a_later_line_that_contradicts_a_settled_label_begins_a_new_conflict() -> None:
    now = standing(lines(("a", "dog", True), ("a", "dog", False), ("a", "cat", False)))
    assert (now.agreed, now.disputed) == ({}, {"a": ("dog", "cat")})


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy"), st.booleans()), max_size=20))
def test_an_image_of_the_log_is_agreed_on_or_disputed_and_never_both(rows: list[tuple[str, str, bool]]) -> None:
    now = standing(lines(*rows))
    assert now.agreed.keys() | now.disputed.keys() == {image for image, _, _ in rows}
    assert not now.agreed.keys() & now.disputed.keys()
    for image, label, settles in reversed(rows):
        if settles:  # after the last settling line, its label always counts among those of the image
            assert label in (*now.disputed.get(image, ()), now.agreed.get(image))
            break
