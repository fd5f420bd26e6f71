"""A label file: labels that people gave to images of a data set, row by row matched to these images."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pyarrow as pa

from selftrain.data.images.reasons import QuarantineReason
from selftrain.data.label_log import LABEL_LOG_SCHEMA
from selftrain.data.lists.text_tables import read_text_table
from selftrain.data.sources.rows import stop_at_rows
from selftrain.errors import LabelLogError, SourceError

Purpose = Literal["add", "settle", "retract"]
"""What the rows of a label file do: add labels, end conflicts, or take labels back."""

COLUMNS = ("path", "image_id", "label", "who", "when", "shown", "settles", "confidence", "why")  # a review list: all
SETTLES = "yes"
"""What the column `settles` holds where a row ends what was said of its image before."""
_WHOLE_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class LabelledBy:
    """What a row says where its file does not: who gave the label, and when."""

    who: str
    when: datetime


def read_label_file(
    path: Path, index: pa.Table, *, classes: Sequence[str], default: LabelledBy, purpose: Purpose
) -> pa.Table:
    """The rows of the file at `path` as lines of the label log, in order; `purpose` is what they do there.

    A row names its image by `path`, as the source or the inbox lists it, or by the 64 characters of its `image_id`.
    `index` is the store's. A row that adds settles where its column `settles` says so. Raises LabelLogError naming the
    rows that name no image of the data set, an unknown class or no time; and, where they settle, two labels for an
    image. Only a row that retracts may have no label.
    """
    try:
        table = read_text_table(path, COLUMNS, option="--from")
    except SourceError as error:
        raise LabelLogError(error.message) from error
    rows = _Rows(table)
    rows.refuse_unnamed()
    if purpose != "retract":
        rows.refuse_unlabelled()
    rows.refuse_classes(classes)
    settles = rows.settles()
    lines = pa.table(
        {
            "image_id": pa.array(rows.image_ids(index), pa.string()),
            "label": table["label"],
            "who": pa.array([who or default.who for who in table["who"].to_pylist()], pa.string()),
            "when": pa.array(rows.times(default.when), LABEL_LOG_SCHEMA.field("when").type),
            "settles": pa.array([purpose == "settle" or (purpose == "add" and each) for each in settles], pa.bool_()),
            "shown": table["shown"],
        },
        schema=LABEL_LOG_SCHEMA,
    )
    if purpose != "retract":
        rows.refuse_two_labels(lines)
    return lines


@dataclass(frozen=True)
class _Rows:
    """The rows of a label file (COLUMNS); rows are counted from 1, without the header of a CSV."""

    table: pa.Table

    def column(self, name: str) -> list[str | None]:
        return list(self.table[name].to_pylist())

    def stop_at(self, bad: Callable[[int], bool], *, problem: str, remedy: str) -> None:
        """Raise a LabelLogError that names the first rows that are `bad`, if there are any."""
        rows = [row for row in range(self.table.num_rows) if bad(row)]
        try:
            stop_at_rows(rows, row_name=self._row_name, problem=problem, remedy=f"{remedy}; nothing was written")
        except SourceError as error:
            raise LabelLogError(error.message) from error

    def _row_name(self, row: int) -> str:
        said = (self.table[name][row].as_py() for name in ("path", "image_id"))
        return f"row {row + 1} ({next((repr(text) for text in said if text), 'no image')})"

    def refuse_unnamed(self) -> None:
        paths, ids = self.column("path"), self.column("image_id")
        self.stop_at(
            lambda row: not paths[row] and not ids[row],
            problem="row without an image",
            remedy="give its path or its image_id",
        )

    def refuse_unlabelled(self) -> None:
        labels = self.column("label")
        self.stop_at(lambda row: not labels[row], problem="row without a label", remedy="label or remove it")

    def refuse_classes(self, classes: Sequence[str]) -> None:
        labels, known = self.column("label"), frozenset(classes)
        unknown = sorted({label for label in labels if label and label not in known})
        self.stop_at(
            lambda row: labels[row] is not None and labels[row] not in known,
            problem=f"label of an unknown class ({', '.join(map(repr, unknown[:5]))})",
            remedy=f"the classes of the data set are {', '.join(classes[:20])}",
        )

    def image_ids(self, index: pa.Table) -> list[str | None]:
        """The image of each row. An id and a path in one row must agree."""
        paths, ids = self.column("path"), self.column("image_id")
        self.stop_at(
            lambda row: bool(ids[row]) and not _WHOLE_ID.fullmatch(str(ids[row])),
            problem="image_id that is not whole",
            remedy="give all 64 characters (0-9, a-f)",
        )
        usable = _images_of_paths(index)
        there = frozenset(usable.values())
        listed = _listed_paths(paths, usable)
        named = [None if path is None else usable.get(path) for path in listed]
        self.stop_at(
            lambda row: listed[row] in usable and named[row] is None,
            problem="image in quarantine",
            remedy="remove the row, or repair the image and run again",
        )
        self.stop_at(
            lambda row: (bool(paths[row]) and named[row] is None) or (bool(ids[row]) and ids[row] not in there),
            problem="image that is not in the data set",
            remedy="name images as the source or the inbox lists them, after a run or `selftrain collect` took them in",
        )
        self.stop_at(
            lambda row: bool(paths[row]) and bool(ids[row]) and ids[row] != named[row],
            problem="path and image_id of different images",
            remedy="keep the right one",
        )
        return [image_id or name for image_id, name in zip(ids, named, strict=True)]

    def times(self, default: datetime) -> list[datetime | None]:
        """When each label was given; a time without a zone is UTC."""
        texts = self.column("when")
        times = [default if text is None else _time(text) for text in texts]
        self.stop_at(
            lambda row: times[row] is None, problem="time that is not ISO 8601", remedy="write 2026-01-31T14:05:00Z"
        )
        return times

    def settles(self) -> list[bool]:
        """Whether each row says that it settles."""
        said = self.column("settles")
        self.stop_at(
            lambda row: said[row] not in (None, SETTLES), problem="unknown word in `settles`", remedy=f"write {SETTLES}"
        )
        return [each == SETTLES for each in said]

    def refuse_two_labels(self, lines: pa.Table) -> None:
        ids, labels, settles = (lines[name].to_pylist() for name in ("image_id", "label", "settles"))
        first: dict[str, str] = {}
        for image_id, label, ends in zip(ids, labels, settles, strict=True):
            if ends:
                first.setdefault(image_id, label)
        self.stop_at(
            lambda row: settles[row] and labels[row] != first[ids[row]],
            problem="second label for an image that the file settles",
            remedy="keep one label for each image",
        )


def _images_of_paths(index: pa.Table) -> dict[str, str | None]:
    """Path -> image of all files that were ever read; None for a file in quarantine.

    A file whose bytes came again from the inbox is not stored twice: its row names the image that holds them.
    """
    columns = (index[name].to_pylist() for name in ("path", "image_id", "reason", "detail"))
    return {
        path: detail if reason == QuarantineReason.DUPLICATE and _WHOLE_ID.fullmatch(detail or "") else image_id
        for path, image_id, reason, detail in zip(*columns, strict=True)
    }


def _listed_paths(paths: list[str | None], usable: dict[str, str | None]) -> list[str | None]:
    """Each path as the index has it; local paths also match however they are written."""
    if all(path is None or path in usable for path in paths):
        return paths
    absolute = {os.path.abspath(path): path for path in usable if "://" not in path}
    return [
        path if path is None or path in usable else absolute.get(os.path.abspath(os.path.expanduser(path)), path)
        for path in paths
    ]


def _time(text: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
