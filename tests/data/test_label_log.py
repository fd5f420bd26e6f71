from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftrain.data.label_log import (
    LABEL_LOG,
    LABEL_LOG_SCHEMA,
    NONE_OF_THEM,
    append_answers,
    append_lines,
    in_force,
    log_locked,
    read_log,
    standing,
)
from selftrain.data.label_tail import LABEL_TAIL
from selftrain.errors import LabelLogError

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)


def lines(*rows: tuple[str, str | None, bool]) -> pa.Table:
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


def answer(folder: Path, *rows: tuple[str, str | None, bool]) -> None:
    with log_locked(folder):
        append_answers(folder, lines(*rows))


def test_answers_are_read_behind_the_lines_before_and_taken_over_by_the_next_lines(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    append_lines(folder, lines(("a", "cat", False)))
    before = (folder / LABEL_LOG).read_bytes()
    answer(folder, ("b", "dog", False), ("c", None, True))
    answer(folder, ("d", "dog", False))
    assert (folder / LABEL_LOG).read_bytes() == before, "the lines before are not written again"
    assert read_log(folder)["image_id"].to_pylist() == ["a", "b", "c", "d"]
    append_lines(folder, lines(("e", "cat", False)))
    assert read_log(folder)["image_id"].to_pylist() == ["a", "b", "c", "d", "e"]
    assert [path.name for path in folder.iterdir()] == [LABEL_LOG]


def test_a_kill_between_the_two_files_repeats_and_loses_no_line(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    answer(folder, ("a", "cat", False))
    tail = (folder / LABEL_TAIL).read_bytes()
    append_lines(folder, lines(("b", "dog", False)))
    (folder / LABEL_TAIL).write_bytes(tail)  # killed before it was removed
    assert read_log(folder)["image_id"].to_pylist() == ["a", "b"]
    answer(folder, ("c", "dog", False))
    assert read_log(folder)["image_id"].to_pylist() == ["a", "b", "c"]


@pytest.mark.parametrize("cut", range(1, 40, 7))
def test_what_a_kill_cut_off_is_not_read_and_the_next_answer_is_whole(tmp_path: Path, cut: int) -> None:
    folder = tmp_path / "set"
    answer(folder, ("a", "cat", False))
    answer(folder, ("b", "dog", False))
    tail = folder / LABEL_TAIL
    tail.write_bytes(tail.read_bytes()[:-cut])
    assert read_log(folder)["image_id"].to_pylist() == ["a"]
    answer(folder, ("c", "dog", False))
    assert read_log(folder)["image_id"].to_pylist() == ["a", "c"]


def test_a_file_that_the_cache_of_dvc_shares_is_not_changed_in_place(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    answer(folder, ("a", "cat", False))
    cached = tmp_path / "cached"
    cached.hardlink_to(folder / LABEL_TAIL)
    before = cached.read_bytes()
    answer(folder, ("b", "dog", False))
    assert cached.read_bytes() == before
    assert read_log(folder).num_rows == 2


def test_a_long_tail_becomes_part_of_the_other_file(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    answer(folder, *((f"{row:05}", "cat", False) for row in range(9000)))
    answer(folder, ("b", "dog", False))
    assert (folder / LABEL_LOG).exists()
    assert (folder / LABEL_TAIL).stat().st_size < 500
    assert read_log(folder)["image_id"].to_pylist()[-2:] == ["08999", "b"]


def test_a_damaged_answer_is_an_error_that_names_its_line(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    answer(folder, ("a", "cat", False))
    with (folder / LABEL_TAIL).open("a") as file:
        file.write("not json\n")
    with pytest.raises(LabelLogError, match=r"line 3 is damaged; `selftrain restore`"):
        read_log(folder)


def test_an_image_with_none_of_the_classes_is_excluded_and_a_label_beside_that_is_a_conflict() -> None:
    now = standing(lines(("a", None, True), ("b", None, True), ("b", "cat", False)))
    assert (now.excluded, now.agreed, now.retracted) == ({"a"}, {}, frozenset())
    assert now.disputed == {"b": (NONE_OF_THEM, "cat")}
    assert standing(lines(("a", None, True), ("a", None, False))).retracted == {"a"}
    assert in_force(lines(("a", "cat", False), ("a", None, True)))["label"].to_pylist() == ["cat", None]
