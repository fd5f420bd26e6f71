"""Annotations: an immutable table with one row per object, beside the Manifest's one row per image."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from selftrain.data import columns
from selftrain.data.annotations.invariants import refuse_broken
from selftrain.data.label_map import LabelMap
from selftrain.data.manifest import LabelSource
from selftrain.errors import ManifestError
from selftrain.files.writing import replace

Int64s = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Texts: TypeAlias = Sequence[str] | npt.NDArray[np.str_] | pa.Array | pa.ChunkedArray

_TEXT_SET = pa.dictionary(pa.int32(), pa.string())
CORNERS = ("x0", "y0", "x1", "y1")

ANNOTATION_SCHEMA = pa.schema(
    [
        pa.field("image_id", _TEXT_SET, nullable=False),  # as in the Manifest; a source's own name until ingest
        pa.field("label", pa.int32(), nullable=False),  # index into the LabelMap
        *(pa.field(name, pa.float32(), nullable=False) for name in CORNERS),  # pixels of the original image
        pa.field("crowd", pa.bool_(), nullable=False),  # a region of many objects, or unsure: neither right nor wrong
        pa.field("mask", pa.large_binary()),  # COCO's compressed run lengths, of the image's height and width
        pa.field("source", _TEXT_SET, nullable=False),  # human | pseudo
        pa.field("score", pa.float32()),  # 0-1, of a pseudo-label or a detection
        pa.field("teacher", _TEXT_SET),  # the model that said so, as in the Manifest
        pa.field("round", pa.int16()),
        pa.field("annotation_id", pa.string()),  # the user's own id, as text
    ]
)

_FORMAT = b"1"
_FORMAT_KEY, _LABELS_KEY = b"selftrain.annotations", b"selftrain.label_map"


@dataclass(frozen=True, eq=False)
class Annotations:
    """An immutable table with ANNOTATION_SCHEMA, sorted by image and content, and its LabelMap. `build` makes one.

    A box reaches from (x0, y0) to (x1, y1), in pixels of the original image as it is displayed (EXIF applied). Pixel 0
    reaches from 0 to 1. Detections are objects of source `pseudo`.
    """

    table: pa.Table
    label_map: LabelMap

    @classmethod
    def build(cls, table: pa.Table, label_map: LabelMap) -> Annotations:
        """Annotations of `table`, cast to ANNOTATION_SCHEMA and sorted; missing nullable columns become null.

        Raises ManifestError for a wrong schema, and for rows that break an invariant; it names up to five of them.
        """
        conformed = _with_sorted_images(columns.conform(table, ANNOTATION_SCHEMA))
        order = _order(conformed)
        if not bool(np.all(order[:-1] < order[1:])):
            conformed = conformed.take(pa.array(order)).combine_chunks()
        refuse_broken(conformed, classes=len(label_map))
        return cls(conformed, label_map)

    @classmethod
    def empty(cls, label_map: LabelMap) -> Annotations:
        """No object at all."""
        return cls.build(ANNOTATION_SCHEMA.empty_table(), label_map)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of all values and of the class names, in whatever order the rows came."""
        digest = hashlib.sha256(json.dumps(self.label_map.names).encode())
        columns.update_digest(digest, self.table)
        return digest.hexdigest()

    def write(self, path: Path) -> None:
        """Write one Parquet file; a reader sees the old file or the new one, whole."""
        labels = json.dumps(self.label_map.names).encode()
        table = self.table.replace_schema_metadata({_FORMAT_KEY: _FORMAT, _LABELS_KEY: labels})
        repeating = [name for name in ANNOTATION_SCHEMA.names if name not in ("mask", "annotation_id")]
        replace(path, lambda part: pq.write_table(table, part, compression="zstd", use_dictionary=repeating))

    @classmethod
    def read(cls, path: Path) -> Annotations:
        """The Annotations that `write` left at `path`; their invariants are checked again.

        Raises ManifestError if the file is missing, or if `write` did not write it.
        """
        try:
            table = pq.ParquetFile(path).read()
        except (OSError, pa.ArrowInvalid) as error:
            raise ManifestError(f"cannot read annotations at {path}: {error}; run ingest again") from error
        metadata = table.schema.metadata or {}
        if metadata.get(_FORMAT_KEY) != _FORMAT or _LABELS_KEY not in metadata:
            raise ManifestError(f"{path} is a Parquet file, but not annotations of format 1; run ingest again")
        return cls.build(table, LabelMap(tuple(json.loads(metadata[_LABELS_KEY]))))

    @cached_property
    def image_ids(self) -> tuple[str, ...]:
        """The images (m,) that have an object, sorted."""
        return tuple(self._images.dictionary.to_pylist())

    @cached_property
    def offsets(self) -> Int64s:
        """(m + 1,) the objects of `image_ids[i]` are the rows from `offsets[i]` up to `offsets[i + 1]`."""
        counts = np.bincount(self.image_codes, minlength=len(self._images.dictionary))
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    @cached_property
    def image_codes(self) -> Int64s:
        """(rows,) the position in `image_ids` of each object's image; it never falls."""
        return np.asarray(self._images.indices, dtype=np.int64)

    @property
    def _images(self) -> pa.DictionaryArray:
        return self.table.column("image_id").chunk(0)

    def spans(self, image_ids: Texts) -> tuple[Int64s, Int64s]:
        """First row (n,) and number of objects (n,) of each of these n images; an image without objects has 0."""
        wanted = image_ids if isinstance(image_ids, pa.Array | pa.ChunkedArray) else pa.array(image_ids, pa.string())
        found = pc.index_in(wanted, value_set=self._images.dictionary)
        place = np.asarray(pc.fill_null(found, len(self.offsets) - 1), dtype=np.int64)
        ends = np.append(self.offsets, self.offsets[-1])
        return ends[place], ends[place + 1] - ends[place]

    @cached_property
    def boxes(self) -> Floats:
        """(rows, 4) x0, y0, x1, y1 in pixels."""
        return np.stack([np.asarray(self.table.column(name), dtype=np.float32) for name in CORNERS], axis=1)

    @cached_property
    def labels(self) -> Int32s:
        """(rows,) index into the LabelMap."""
        return np.asarray(self.table.column("label"), dtype=np.int32)

    @cached_property
    def crowd(self) -> Bools:
        """(rows,) regions that are neither right nor wrong."""
        return np.asarray(self.table.column("crowd"), dtype=np.bool_)

    @cached_property
    def has_mask(self) -> Bools:
        """(rows,) objects with an outline."""
        return np.asarray(pc.is_valid(self.table.column("mask")))

    def masks(self, rows: slice) -> list[bytes | None]:
        """The compressed run lengths of these rows; None for an object without an outline."""
        found: list[bytes | None] = self.table.column("mask")[rows].to_pylist()
        return found

    @cached_property
    def scores(self) -> Floats:
        """(rows,) scores 0-1; NaN for a human label."""
        return np.asarray(pc.fill_null(self.table.column("score"), np.nan), dtype=np.float32)

    @cached_property
    def is_human(self) -> Bools:
        """(rows,) objects that a person marked."""
        return np.asarray(columns.codes(self.table.column("source"), list(LabelSource)) == 0)

    def take(self, rows: Int64s | Bools) -> Annotations:
        """The objects of these rows, as positions (k,) or as a mask (rows,)."""
        chosen = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        return Annotations.build(self.table.take(pa.array(chosen, pa.int64())), self.label_map)

    def of_images(self, image_ids: Texts) -> Annotations:
        """The objects of these images alone; an image may have none."""
        return self.take(rows_of(*self.spans(image_ids)))

    def without_full_masks(self) -> tuple[str, ...]:
        """The images with an object that has no outline: they teach boxes, but no masks."""
        lacking = np.unique(self.image_codes[~self.has_mask & ~self.crowd])
        return tuple(self.image_ids[code] for code in lacking.tolist())

    def with_image_ids(self, names: Texts, image_ids: Texts) -> Annotations:
        """The same objects under other image ids: `names` (n,) become `image_ids` (n,).

        Objects of images that are not in `names` are dropped, as a quarantined file's must be. Two names may become
        one id only if one of them has no objects: raises ManifestError, since the image would have each object twice.
        """
        new = image_ids if isinstance(image_ids, pa.Array | pa.ChunkedArray) else pa.array(image_ids, pa.string())
        old = names if isinstance(names, pa.Array | pa.ChunkedArray) else pa.array(names, pa.string())
        kept = self.of_images(old)
        place = pc.index_in(kept._images.dictionary, value_set=old)
        renamed = new.take(place)
        if pc.count_distinct(renamed).as_py() < len(renamed):
            raise ManifestError(
                "two of the images with objects have the same image_id: they are copies. Leave out the objects of one"
            )
        renamed = renamed.combine_chunks() if isinstance(renamed, pa.ChunkedArray) else renamed
        column = pa.DictionaryArray.from_arrays(kept._images.indices, renamed)
        return Annotations.build(columns.with_columns(kept.table, {"image_id": column}), self.label_map)

    def and_also(self, others: Annotations) -> Annotations:
        """These objects and those of `others`, which must have the same classes; raises ManifestError if not."""
        if others.label_map != self.label_map:
            raise ManifestError(
                f"classes differ: {self.label_map.names} and {others.label_map.names}; read both with the same classes"
            )
        return Annotations.build(pa.concat_tables([self.table, others.table]), self.label_map)


def rows_of(first: Int64s, count: Int64s) -> Int64s:
    """The rows (sum of `count`,) of spans that begin at `first` (n,).

    >>> rows_of(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    before = np.repeat(np.cumsum(count) - count, count)
    return np.asarray(np.arange(int(count.sum())) - before + np.repeat(first, count), dtype=np.int64)


def _with_sorted_images(table: pa.Table) -> pa.Table:
    """`table` whose dictionary of images is sorted, and holds the images that occur."""
    if not table.num_rows:
        empty = pa.DictionaryArray.from_arrays(pa.array([], pa.int32()), pa.array([], pa.string()))
        return columns.with_columns(table, {"image_id": empty})
    encoded = table.column("image_id").chunk(0)
    codes = np.asarray(encoded.indices, dtype=np.int64)
    present = np.flatnonzero(np.bincount(codes, minlength=len(encoded.dictionary)))
    names = encoded.dictionary.take(pa.array(present))
    order = np.asarray(pc.sort_indices(names), dtype=np.int64)
    rank = np.zeros(len(encoded.dictionary), np.int32)
    rank[present[order]] = np.arange(len(present))
    ordered = pa.DictionaryArray.from_arrays(pa.array(rank[codes]), names.take(pa.array(order)))
    return columns.with_columns(table, {"image_id": ordered})


def _order(table: pa.Table) -> Int64s:
    """(rows,) the order by image, class and box; what is alike in these is ordered by everything else."""
    first = [np.asarray(table.column(name), dtype=np.float32) for name in reversed(CORNERS)]
    images = np.asarray(table.column("image_id").chunk(0).indices) if table.num_rows else np.empty(0, np.int32)
    keys = [*first, np.asarray(table.column("label")), images]
    order = np.lexsort(keys)
    alike = np.ones(max(len(order) - 1, 0), bool)
    for key in keys:
        alike &= key[order[1:]] == key[order[:-1]]
    if not alike.any():
        return order
    return np.lexsort([_rest(table), *keys])


def _rest(table: pa.Table) -> Int64s:
    """(rows,) ranks of all that a row holds beside image, class and box."""
    names = ["annotation_id", "score", "source", "teacher", "round", "crowd", "mask"]
    plain = [
        column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
        for column in (table.column(name) for name in names)
    ]
    plain = [column.cast(pa.int8()) if pa.types.is_boolean(column.type) else column for column in plain]
    rest = pa.table(plain, names=names)
    order = np.asarray(pc.sort_indices(rest, sort_keys=[(name, "ascending") for name in names]), dtype=np.int64)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank
