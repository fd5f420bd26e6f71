"""Screening: the listed files with what reading found, and those among them that cannot be used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from selftrain.data.images.decode import QuarantineReason
from selftrain.data.ingest.chunks import Limits
from selftrain.data.manifest import LabelSource, Split
from selftrain.data.sources.listing import Listing

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

QUARANTINE_SCHEMA = pa.schema([("origin", pa.string()), ("reason", pa.string()), ("detail", pa.string())])
# Codes in the order in which copies are kept: a held-out image before a training one, that before an unlabelled one.
# OPEN is a labelled image whose split is ours to choose.
CODED_SPLITS: Final = (Split.TEST, Split.VALIDATION, Split.TRAIN, Split.UNLABELED)
TEST, VALIDATION, TRAIN, UNLABELED, OPEN = range(5)


@dataclass(frozen=True)
class Files:
    """The listed files (n), in the order of their paths, with what reading found; columns of equal length."""

    table: pa.Table  # path and the columns of the index
    content: Int64s  # equal for files with equal bytes; -1 for a file that could not be used
    label: Int64s  # -1: none
    split: Int64s  # code

    @classmethod
    def join(cls, listing: Listing, index: pa.Table, names: tuple[str, ...]) -> Files:
        """Every row of `listing` with its row of `index`."""
        position = pc.index_in(listing.table["path"], value_set=index["path"].combine_chunks()).combine_chunks()
        found = index.drop_columns(["path", "size", "mtime_ns"]).combine_chunks().take(position)
        table = pa.table({"path": listing.table["path"], **{name: found[name] for name in found.column_names}})
        label = _codes(listing.table["label"], names)
        split = _codes(listing.table["split"], CODED_SPLITS)
        split = np.where(split >= 0, split, np.where(label >= 0, OPEN, UNLABELED))
        content = table["image_id"].combine_chunks().dictionary_encode().indices
        return cls(table, np.asarray(pc.fill_null(content, -1), dtype=np.int64), label, split)

    def column(self, name: str) -> Int64s:
        """A column of integers without nulls (0 where the file could not be used)."""
        return np.asarray(pc.fill_null(self.table[name], 0), dtype=np.int64)


@dataclass(frozen=True)
class LeftOut:
    """Rows (k) of Files that do not enter the manifest, with one reason and a detail each."""

    rows: Int64s
    reasons: pa.Array  # k strings
    details: pa.Array  # k strings
    unusable: bool = True  # False: a copy that was only left out

    def table(self, files: Files) -> pa.Table:
        origins = files.table["path"].take(pa.array(self.rows))
        return pa.table([origins, self.reasons, self.details], schema=QUARANTINE_SCHEMA)


def broken(files: Files, limits: Limits) -> list[LeftOut]:
    """Files that could not be read, and those outside of `limits` that were read under others."""
    rows = np.flatnonzero(files.content < 0)
    unread = files.table.select(["reason", "detail"]).take(pa.array(rows)).combine_chunks()
    width, height = files.column("width"), files.column("height")
    large = np.flatnonzero((files.content >= 0) & (width * height > limits.max_pixels))
    small = np.flatnonzero((files.content >= 0) & (np.minimum(width, height) < limits.min_side))
    parts = [LeftOut(rows, *(unread[name].combine_chunks() for name in ("reason", "detail")))]
    for found, reason, allowed in (
        (large, QuarantineReason.TOO_LARGE, f"at most {limits.max_pixels / 1e6:g} million are allowed"),
        (small, QuarantineReason.TOO_SMALL, f"the shorter side must have {limits.min_side}"),
    ):
        details = [f"{width[row]}x{height[row]} pixels, {allowed}" for row in found]
        parts.append(LeftOut(found, _repeated(reason, len(found)), pa.array(details, pa.string())))
    return parts


def conflicting(files: Files, kept: Int64s) -> LeftOut:
    """All of the `kept` files whose bytes carry more than one label."""
    labeled = kept[files.label[kept] >= 0]
    order = labeled[np.lexsort((files.label[labeled], files.content[labeled]))]
    content, label = files.content[order], files.label[order]
    differs = (content[1:] == content[:-1]) & (label[1:] != label[:-1])
    rows = kept[np.isin(files.content[kept], content[1:][differs])]
    details = _repeated("the same bytes carry different labels; keep one", len(rows))
    return LeftOut(rows, _repeated(QuarantineReason.CONFLICTING_LABEL, len(rows)), details)


def duplicate_groups(files: Files, kept: Int64s) -> list[LeftOut]:
    """Copies by bytes among the labelled and among the unlabelled `kept` files.

    The first by path stays, a given test image before a validation image before a training image. What has to give
    way to a held-out image is a held-out copy, everything else a duplicate. No copy counts as unusable: nothing of
    it is lost, and what a camera in production sends twice is no reason to stop.
    """
    rank = np.minimum(files.split[kept], UNLABELED)
    rank[files.split[kept] == OPEN] = TRAIN
    pool = (files.split[kept] == UNLABELED).astype(np.int64)
    key = files.content[kept] * 2 + pool
    order = np.lexsort((kept, rank, key))
    starts = np.flatnonzero(np.diff(key[order], prepend=-1))
    keeper = np.repeat(order[starts], np.diff(starts, append=len(order)))
    copy = order != keeper
    order, keeper = order[copy], keeper[copy]
    held = rank[order] != rank[keeper]
    same = LeftOut(
        kept[order[~held]],
        _repeated(QuarantineReason.DUPLICATE, int((~held).sum())),
        copy_details(files, kept[keeper[~held]], "same bytes as"),
        unusable=False,
    )
    return [same, held_out(files, kept[order[held]], kept[keeper[held]], "same bytes as")]


def held_out(files: Files, rows: Int64s, keepers: Int64s, relation: str) -> LeftOut:
    """`rows` left out because they are copies of the validation or test images `keepers`."""
    reasons = _repeated(QuarantineReason.HELD_OUT_COPY, len(rows))
    return LeftOut(rows, reasons, copy_details(files, keepers, relation), unusable=False)


def unlabeled_copies(files: Files, rows: Int64s, keepers: Int64s) -> LeftOut:
    """Unlabelled `rows` left out because they are copies of the labelled training images `keepers`."""
    details = copy_details(files, keepers, "same bytes as the labelled")
    return LeftOut(rows, _repeated(QuarantineReason.DUPLICATE, len(rows)), details, unusable=False)


def copy_details(files: Files, keepers: Int64s, relation: str) -> pa.Array:
    """'<relation> <path>' for each of `keepers`."""
    paths = files.table["path"].combine_chunks().take(pa.array(keepers))
    return pc.binary_join_element_wise(pa.scalar(relation), paths, " ") if len(keepers) else pa.array([], pa.string())


def manifest_table(files: Files, rows: Int64s, split: Int64s) -> pa.Table:
    """The columns of a Manifest for `rows` of `files`, in the split with code `split` (n files)."""
    part = files.table.take(pa.array(rows)).combine_chunks()
    label = files.label[rows]
    human = pa.array(np.where(label >= 0, 0, -1), mask=label < 0, type=pa.int32())
    columns = {name: part[name] for name in ("image_id", "shard", "index", "width", "height", "phash")}
    return pa.table(
        {
            **columns,
            "origin": part["path"],
            "split": pa.DictionaryArray.from_arrays(
                pa.array(split[rows].astype(np.int32)), [str(s) for s in CODED_SPLITS]
            ),
            "label": pa.array(label.astype(np.int32), mask=label < 0),
            "label_source": pa.DictionaryArray.from_arrays(human, [str(LabelSource.HUMAN)]),
            "weight": pa.array(np.ones(len(rows), dtype=np.float32)),
        }
    )


def _codes(column: pa.ChunkedArray, values: tuple[str, ...]) -> Int64s:
    """Positions of a string column's values in `values`; -1 for null."""
    found = pc.index_in(column, value_set=pa.array([str(value) for value in values], pa.string()))
    return np.asarray(pc.fill_null(found, -1).to_numpy(), dtype=np.int64)


def _repeated(text: str, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(str(text), pa.string()), count)
