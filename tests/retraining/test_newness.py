"""Newness: by content, each image once, however late its file came and however often."""

from __future__ import annotations

import pyarrow as pa

from selftrain.data.intake_table import COPY, later_name
from selftrain.retraining.newness import new_images, rows_seen


def table(*rows: tuple[str, int, str | None, str | None]) -> pa.Table:
    """Rows of (path, time, image_id, reason)."""
    paths, times, ids, reasons = zip(*rows, strict=True)
    return pa.table(
        {
            "path": paths,
            "size": [1] * len(rows),
            "mtime_ns": times,
            "version": [""] * len(rows),
            "image_id": pa.array(ids, pa.string()),
            "reason": pa.array(reasons, pa.string()),
        }
    )


def listing(*paths: str) -> pa.Table:
    return pa.table({"path": pa.chunked_array([pa.array(paths, pa.string())])})


def test_an_image_is_new_once_and_never_if_it_was_seen_or_is_unusable() -> None:
    intake = table(
        ("a", 9, "A", None), ("b", 8, "B", None), ("c", 1, "C", None), ("d", 7, "A", COPY), ("f", 7, None, "truncated")
    )
    assert new_images(intake, seen_rows=2) == ["C"]
    assert new_images(intake, seen_rows=0) == ["A", "B", "C"]
    assert new_images(intake, seen_rows=5) == []


def test_what_came_during_a_run_was_not_seen_by_it() -> None:
    before = table(("a", 9, "A", None), ("b", 8, None, "truncated"), ("c", 7, "C", None), ("e", 7, "C", COPY))
    after = pa.concat_tables([before, table(("d", 1, "D", None))])
    assert rows_seen(after, listing("own.png", "a", "c")) == 3
    assert new_images(after, seen_rows=3) == ["D"]


def test_a_file_that_changed_is_another_one() -> None:
    intake = table(("a", 9, "A", None), ("a", 12, "B", None))
    assert rows_seen(intake, listing("a")) == 1
    assert rows_seen(intake, listing("a", later_name("a", 1, 12, ""))) == 2


def test_a_run_without_an_inbox_has_seen_no_row() -> None:
    assert rows_seen(table(("a", 9, "A", None)).slice(0, 0), listing("own.png")) == 0
