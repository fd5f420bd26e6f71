"""Newness: by content, each image once, however late its file came and however often."""

from __future__ import annotations

import pyarrow as pa

from selftrain.retraining.newness import new_images, rows_seen

NOTHING = pa.chunked_array([], pa.string())


def table(*rows: tuple[str, int, str | None]) -> pa.Table:
    """Rows of (path, time, image_id)."""
    paths, times, ids = zip(*rows, strict=True)
    columns = {"path": paths, "size": [1] * len(rows), "mtime_ns": times, "image_id": pa.array(ids, pa.string())}
    return pa.table(columns)


def test_an_image_is_new_once_and_never_if_it_was_seen_or_is_unusable() -> None:
    intake = table(("a", 9, "A"), ("b", 8, "B"), ("c", 1, "C"), ("d", 7, "A"), ("e", 7, "C"), ("f", 7, None))
    assert new_images(intake, seen_rows=2, elsewhere=NOTHING) == ["C"]
    assert new_images(intake, seen_rows=0, elsewhere=NOTHING) == ["A", "B", "C"]
    assert new_images(intake, seen_rows=6, elsewhere=NOTHING) == []


def test_a_copy_of_an_image_of_the_source_is_not_new() -> None:
    intake = table(("a", 9, "A"), ("b", 8, "B"))
    assert new_images(intake, seen_rows=0, elsewhere=pa.chunked_array([["B", None, "X"]])) == ["A"]


def test_what_came_during_a_run_was_not_seen_by_it() -> None:
    before = table(("a", 9, "A"), ("b", 8, None), ("c", 7, "C"))
    after = pa.concat_tables([before, table(("d", 1, "D"))])
    listing = table(("own.png", 3, None), ("a", 9, None), ("c", 7, None))
    assert rows_seen(after, listing) == 3
    assert new_images(after, seen_rows=3, elsewhere=NOTHING) == ["D"]


def test_a_file_that_changed_is_another_one() -> None:
    intake = table(("a", 9, "A"), ("a", 12, "B"))
    assert rows_seen(intake, table(("a", 9, None))) == 1
    assert rows_seen(intake, table(("a", 12, None))) == 2


def test_a_run_without_an_inbox_has_seen_no_row() -> None:
    assert rows_seen(table(("a", 9, "A")).slice(0, 0), table(("own.png", 3, None))) == 0
