"""The listed files of a source, the results of reading them, and those left out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from selftrain.data import columns
from selftrain.data.annotations.counts import ObjectCounts
from selftrain.data.images.reasons import QuarantineReason
from selftrain.data.manifest import LabelSource, Split
from selftrain.data.sources.listing import Listing
from selftrain.data.splits.group_split import UserGroups, groups_of

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

QUARANTINE_SCHEMA = pa.schema([("origin", pa.string()), ("reason", pa.string()), ("detail", pa.string())])
CODED_SPLITS: Final = (Split.TEST, Split.VALIDATION, Split.TRAIN, Split.UNLABELED)


class SplitCode(IntEnum):
    """A file's split; all but OPEN are positions in CODED_SPLITS. Of copies, the one with the lowest code is kept."""

    TEST = 0
    VALIDATION = 1
    TRAIN = 2
    UNLABELED = 3
    OPEN = 4  # labelled, and ingest chooses its split


@dataclass(frozen=True)
class ListedFiles:
    """The listed files (n), sorted by path, and the results of reading; columns of equal length."""

    table: pa.Table  # path and the columns of the index
    content: Int64s  # equal for files with equal bytes; -1 for a file that could not be used
    label: Int64s  # -1: none
    split: Int64s  # SplitCode
    groups: UserGroups
    objects: ObjectCounts | None = None  # of a detector's images

    @classmethod
    def join(
        cls, listing: Listing, index: pa.Table, names: tuple[str, ...], *, group_from: str | None = None
    ) -> ListedFiles:
        """Every row of `listing` with its row of `index`; `group_from` names the groups that the listing does not."""
        position = pc.index_in(listing.table["path"], value_set=index["path"].combine_chunks()).combine_chunks()
        read = index.drop_columns(["path", "size", "mtime_ns"]).combine_chunks().take(position)
        table = pa.table({"path": listing.table["path"], **{name: read[name] for name in read.column_names}})
        label = _codes(listing.table["label"], names)
        split = _codes(listing.table["split"], CODED_SPLITS)
        split = np.where(split >= 0, split, np.where(label >= 0, SplitCode.OPEN, SplitCode.UNLABELED))
        content = table["image_id"].combine_chunks().dictionary_encode().indices
        groups = groups_of(listing, group_from=group_from)
        objects = ObjectCounts.read(listing.table["objects"]) if "objects" in listing.table.column_names else None
        return cls(table, np.asarray(pc.fill_null(content, -1), dtype=np.int64), label, split, groups, objects)

    @property
    def misnamed(self) -> int:
        """How many usable files have a name that announces another format."""
        noted = pc.and_(pc.is_null(self.table["reason"]), pc.is_valid(self.table["detail"]))
        return int(pc.sum(noted).as_py() or 0)

    def column(self, name: str) -> Int64s:
        """A column of integers without nulls (0 where the file could not be used)."""
        return np.asarray(pc.fill_null(self.table[name], 0), dtype=np.int64)

    def paths(self, rows: Int64s) -> pa.Array:
        """The paths (k,) of these rows (k,)."""
        return self.table["path"].combine_chunks().take(pa.array(rows))

    def manifest_table(self, rows: Int64s, split: Int64s) -> pa.Table:
        """The columns of a Manifest for `rows`; `split` is the SplitCode of every file (n)."""
        part = self.table.take(pa.array(rows)).combine_chunks()
        label = self.label[rows]
        human = np.where(label >= 0, 0, -1)
        names = ("image_id", "shard", "index", "width", "height", "phash")
        return pa.table(
            {
                **{name: part[name] for name in names},
                "origin": part["path"],
                "split": columns.from_codes(split[rows], CODED_SPLITS),
                "label": pa.array(label.astype(np.int32), mask=label < 0),
                "label_source": columns.from_codes(human, [LabelSource.HUMAN]),
                "weight": pa.array(np.ones(len(rows), dtype=np.float32)),
            }
        )


@dataclass(frozen=True)
class LeftOut:
    """Rows (k) of ListedFiles that are left out of the manifest, each with a reason and a detail."""

    rows: Int64s
    reasons: pa.Array  # k strings
    details: pa.Array  # k strings
    unusable: bool = True  # False: a copy that was only left out

    @classmethod
    def because(
        cls, reason: QuarantineReason, rows: Int64s, details: pa.Array | str, *, unusable: bool = True
    ) -> LeftOut:
        """`rows` left out for one reason, with a detail for each or one for all."""
        texts = _repeated(details, len(rows)) if isinstance(details, str) else details
        return cls(rows, _repeated(reason, len(rows)), texts, unusable)

    def table(self, files: ListedFiles) -> pa.Table:
        """The rows of the quarantine table."""
        return pa.table([files.paths(self.rows), self.reasons, self.details], schema=QUARANTINE_SCHEMA)


def _codes(column: pa.ChunkedArray, values: tuple[str, ...]) -> Int64s:
    """Positions of a string column's values in `values`; -1 for null."""
    positions = pc.index_in(column, value_set=pa.array([str(value) for value in values], pa.string()))
    return np.asarray(pc.fill_null(positions, -1).to_numpy(), dtype=np.int64)


def _repeated(text: str, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(str(text), pa.string()), count)
