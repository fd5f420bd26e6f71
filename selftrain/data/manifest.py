"""The Manifest: one immutable row per image, with its place, its split and its label."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from selftrain.data import columns
from selftrain.data.label_map import LabelMap
from selftrain.errors import ManifestError
from selftrain.files.writing import replace

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class Split(StrEnum):
    """What an image is for; every image is in exactly one split."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"
    UNLABELED = "unlabeled"


class LabelSource(StrEnum):
    """Who gave a label."""

    HUMAN = "human"
    PSEUDO = "pseudo"


_TEXT_SET = pa.dictionary(pa.int32(), pa.string())

SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),  # sha256 of the encoded bytes, hex
        pa.field("shard", _TEXT_SET, nullable=False),  # file name inside the store's shards/; not in the digest
        pa.field("index", pa.int32(), nullable=False),  # record in the shard; not in the digest
        pa.field("origin", pa.string(), nullable=False),  # where the user keeps it; not in the digest
        pa.field("width", pa.int32(), nullable=False),  # pixels, as displayed (EXIF applied)
        pa.field("height", pa.int32(), nullable=False),
        pa.field("phash", pa.uint64(), nullable=False),
        pa.field("split", _TEXT_SET, nullable=False),
        pa.field("label", pa.int32()),  # index into the LabelMap
        pa.field("label_source", _TEXT_SET),
        pa.field("confidence", pa.float32()),  # calibrated confidence of the pseudo-label
        pa.field("weight", pa.float32(), nullable=False),  # in the loss
        pa.field("probs", pa.list_(pa.float16())),  # (classes,)
        pa.field("round", pa.int16()),
        pa.field("teacher", _TEXT_SET),
    ]
)

_FORMAT = b"1"
_FORMAT_KEY, _LABELS_KEY, _BITS_KEY = b"selftrain.manifest", b"selftrain.label_map", b"selftrain.bits"
_PSEUDO_ONLY = ("confidence", "probs", "round", "teacher")
_RANDOM_TEXT = ("image_id", "origin")  # almost all values differ, so a Parquet dictionary would not help
_NAMED_ROWS = 5


@dataclass(frozen=True, eq=False)
class Manifest:
    """An immutable table with SCHEMA, sorted by `image_id`, and its LabelMap. `Manifest.build` makes one.

    `bits` is how many of 16 bits its grey pictures fill, as `ingest.bits` says.
    """

    table: pa.Table
    label_map: LabelMap
    bits: int | None = None

    def read_as(self, bits: int | None) -> Manifest:
        """The same images, of which the grey ones are read by `bits` of 16; None: as they are read now."""
        return self if bits is None or bits == self.bits else dataclasses.replace(self, bits=bits)

    @classmethod
    def build(cls, table: pa.Table, label_map: LabelMap, *, bits: int | None = None) -> Manifest:
        """A Manifest of `table`, cast to SCHEMA and sorted by `image_id`; missing nullable columns become null.

        Raises ManifestError for a wrong schema, and for rows that break an invariant; it names up to five of them.
        """
        conformed = columns.conform(table, SCHEMA)
        ids = columns.fixed_width(conformed.column("image_id"), 64)
        if ids is None:
            raise ManifestError("image_id must be a sha256 in hex, 64 characters; compute it with decode.examine")
        if not bool(np.all(ids[:-1] <= ids[1:])):
            order = np.argsort(ids, kind="stable")
            ids = ids[order]
            conformed = conformed.take(pa.array(order)).combine_chunks()
        manifest = cls(conformed, label_map, bits)
        _refuse_broken(manifest, ids)
        return manifest

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of all columns except `origin`, `shard` and `index`, and of the class names.

        It is the same on every machine, and does not depend on whether the images came at once or day by day.
        """
        values = self._digest(self.table.drop_columns(["origin", "shard", "index"]))
        if self.bits is not None:
            values.update(f"bits {self.bits}".encode())
        return values.hexdigest()

    def split_digest(self, split: Split) -> str:
        """sha256 (hex) of one split's ids and labels, and of the class names; it identifies a test set.

        How its pictures are read does not count: a test set that was looked at stays one.
        """
        return self._digest(self.table.select(["image_id", "label"]).take(pa.array(self.rows(split)))).hexdigest()

    def _digest(self, table: pa.Table) -> hashlib._Hash:
        digest = hashlib.sha256(json.dumps(self.label_map.names).encode())
        columns.update_digest(digest, table)
        return digest

    def write(self, path: Path) -> None:
        """Write one Parquet file; a reader sees the old file or the new one, whole."""
        labels = json.dumps(self.label_map.names).encode()
        bits = {} if self.bits is None else {_BITS_KEY: str(self.bits).encode()}
        table = self.table.replace_schema_metadata({_FORMAT_KEY: _FORMAT, _LABELS_KEY: labels, **bits})
        repeating = [name for name in SCHEMA.names if name not in _RANDOM_TEXT and name != "probs"]
        replace(path, lambda part: pq.write_table(table, part, compression="zstd", use_dictionary=repeating))

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """The Manifest that `write` left at `path`; its invariants are checked again.

        Raises ManifestError if the file is missing, or if `write` did not write it.
        """
        try:
            table = pq.ParquetFile(path).read()  # read_table would import pandas, which takes longer than reading
        except (OSError, pa.ArrowInvalid) as error:
            raise ManifestError(f"cannot read a manifest at {path}: {error}; run ingest again") from error
        metadata = table.schema.metadata or {}
        if metadata.get(_FORMAT_KEY) != _FORMAT or _LABELS_KEY not in metadata:
            raise ManifestError(f"{path} is a Parquet file, but not a manifest of format 1; run ingest again")
        bits = int(metadata[_BITS_KEY]) if _BITS_KEY in metadata else None
        return cls.build(table, LabelMap(tuple(json.loads(metadata[_LABELS_KEY]))), bits=bits)

    def rows(self, *splits: Split) -> Int64s:
        """Positions in the table, ascending, of the images in any of `splits`."""
        wanted = [code for code, split in enumerate(Split) if split in splits]
        return np.flatnonzero(np.isin(self._split_codes, wanted))

    @cached_property
    def _split_codes(self) -> npt.NDArray[np.int8]:
        return columns.codes(self.table.column("split"), list(Split))

    def labels(self) -> npt.NDArray[np.int32]:
        """(rows,) index into the LabelMap; -1 for an image without a label."""
        return np.asarray(pc.fill_null(self.table.column("label"), -1), dtype=np.int32)

    def image_ids(self) -> npt.NDArray[np.str_]:
        """(rows,) fixed-width text, 256 bytes per row; prefer `table["image_id"]` for millions of rows."""
        ids = columns.fixed_width(self.table.column("image_id"), 64)
        return np.empty(0, "U64") if ids is None else ids.astype("U64")

    def human_labels_used(self) -> int:
        """How many images have a human label: training, validation and test together."""
        return int(np.count_nonzero(columns.codes(self.table.column("label_source"), list(LabelSource)) == 0))

    def labeled(self) -> Manifest:
        """A manifest of the images with human labels alone; a change in the unlabelled pool does not change it."""
        return self.part(Split.TRAIN, Split.VALIDATION, Split.TEST)

    def part(self, *splits: Split) -> Manifest:
        """A manifest of these splits, without pseudo-labels; a change in the other splits does not change it."""
        plain = self.without_pseudo_labels()
        return Manifest.build(plain.table.take(plain.rows(*splits)), self.label_map, bits=self.bits)

    def class_counts(self, split: Split) -> Int64s:
        """(classes,) how many images of each class a split holds."""
        return np.bincount(self.labels()[self.rows(split)], minlength=len(self.label_map)).astype(np.int64)

    def without_pseudo_labels(self) -> Manifest:
        """The manifest as ingest made it: every pseudo-labelled image is unlabelled again, with weight 1."""
        pseudo = columns.codes(self.table.column("label_source"), list(LabelSource)) == 1
        if not pseudo.any():
            return self
        splits = np.where(pseudo, list(Split).index(Split.UNLABELED), self._split_codes)
        weight = np.asarray(self.table.column("weight"), dtype=np.float32)
        plain: dict[str, pa.Array | pa.ChunkedArray] = {
            "split": columns.from_codes(splits, list(Split)),
            "weight": pa.array(np.where(pseudo, np.float32(1), weight)),
            **{name: pa.nulls(len(self), SCHEMA.field(name).type) for name in _PSEUDO_ONLY},
        }
        for name in ("label", "label_source"):
            nothing = pa.nulls(len(self), SCHEMA.field(name).type)
            plain[name] = pc.if_else(pa.array(pseudo), nothing, self.table.column(name))
        return Manifest.build(columns.with_columns(self.table, plain), self.label_map, bits=self.bits)

    def with_pseudo_labels(
        self,
        image_ids: Sequence[str] | npt.NDArray[np.str_] | pa.Array | pa.ChunkedArray,
        *,
        labels: npt.NDArray[np.integer],
        confidence: npt.NDArray[np.floating],
        probs: npt.NDArray[np.floating] | None,
        weight: float | npt.NDArray[np.floating],
        round: int,
        teacher: str,
    ) -> Manifest:
        """A manifest in which these k unlabelled images are training images; earlier pseudo-labels are dropped.

        labels (k,) int; confidence (k,) 0-1; probs (k, classes) or None; weight, one for all or (k,). Raises
        ManifestError if an image is not in the unlabelled pool, or is given twice.
        """
        base = self.without_pseudo_labels()
        rows, n = base.pool_rows(image_ids), len(base)
        marked = np.zeros(n, bool)
        marked[rows] = True
        splits = np.where(marked, list(Split).index(Split.TRAIN), base._split_codes)
        sources = np.where(marked, 1, columns.codes(base.table.column("label_source"), list(LabelSource)))
        weights = np.asarray(base.table.column("weight"), dtype=np.float32).copy()
        weights[rows] = weight
        marks = columns.sparse(n, rows, labels, np.int32)
        new = {
            "split": columns.from_codes(splits, list(Split)),
            "label": pc.if_else(pa.array(marked), marks, base.table.column("label")),
            "label_source": columns.from_codes(sources, LabelSource),
            "confidence": columns.sparse(n, rows, confidence, np.float32),
            "weight": pa.array(weights),
            "probs": columns.sparse_lists(n, rows, None if probs is None else np.asarray(probs)),
            "round": columns.sparse(n, rows, round, np.int16),
            "teacher": columns.from_codes(np.where(marked, 0, -1), [teacher]),
        }
        return Manifest.build(columns.with_columns(base.table, new), self.label_map, bits=self.bits)

    def pool_rows(self, image_ids: Sequence[str] | npt.NDArray[np.str_] | pa.Array | pa.ChunkedArray) -> Int64s:
        """The rows (k,) of these k images of the unlabelled pool.

        Raises ManifestError if an image is not in the pool, or is given twice.
        """
        is_column = isinstance(image_ids, pa.Array | pa.ChunkedArray)
        wanted = image_ids if is_column else pa.array(image_ids, pa.string())
        positions = pc.index_in(wanted, value_set=self.table.column("image_id").combine_chunks())
        rows = np.asarray(pc.fill_null(positions, -1), dtype=np.int64)
        outside = (rows < 0) | (self._split_codes[rows] != list(Split).index(Split.UNLABELED))
        if outside.any():
            named = [str(wanted[int(k)]) for k in np.flatnonzero(outside)[:_NAMED_ROWS]]
            raise ManifestError(
                f"{int(outside.sum())} images for pseudo-labels are not in the unlabelled pool: {', '.join(named)}; "
                "pass image_ids of split 'unlabeled' of this manifest"
            )
        if len(np.unique(rows)) != len(rows):
            raise ManifestError("an image was given two pseudo-labels; pass each image_id once")
        return rows


def _refuse_broken(manifest: Manifest, ids: npt.NDArray[np.bytes_]) -> None:
    for rule, broken in _invariants(manifest, ids):
        rows = np.flatnonzero(broken)
        if len(rows):
            origin = manifest.table.column("origin")
            named = [f"{ids[row].decode()[:12]} ({origin[int(row)].as_py()})" for row in rows[:_NAMED_ROWS]]
            more = ", ..." if len(rows) > _NAMED_ROWS else ""
            raise ManifestError(f"{len(rows)} rows break the rule that {rule}: {', '.join(named)}{more}")


def _invariants(manifest: Manifest, ids: npt.NDArray[np.bytes_]) -> Iterator[tuple[str, Bools]]:
    """Each rule in words, with a mask (rows,) of the rows that break it."""
    table, n = manifest.table, len(manifest)
    split = manifest._split_codes
    source = columns.codes(table.column("label_source"), list(LabelSource))
    labelled = np.asarray(pc.is_valid(table.column("label")))
    has_source = np.asarray(pc.is_valid(table.column("label_source")))
    pseudo = source == list(LabelSource).index(LabelSource.PSEUDO)
    held_out = np.isin(split, [list(Split).index(Split.VALIDATION), list(Split).index(Split.TEST)])
    unlabeled = split == list(Split).index(Split.UNLABELED)

    yield "image_id is lower-case hex", ~columns.is_hex(ids)
    yield "an image_id comes once", np.append(ids[1:] == ids[:-1], np.zeros(min(n, 1), bool))
    yield "shard is a plain file name", columns.rows_where(table.column("shard"), lambda name: not _is_plain(name))
    for name, least in (("index", 0), ("width", 1), ("height", 1)):
        yield f"{name} is at least {least}", np.asarray(table.column(name)) < least
    yield f"split is one of {', '.join(Split)}", split < 0
    yield f"label_source is one of {', '.join(LabelSource)}", has_source & (source < 0)
    labels = manifest.labels()
    yield (
        f"label is below {len(manifest.label_map)} classes",
        labelled & ((labels < 0) | (labels >= len(manifest.label_map))),
    )
    yield "a label and its source come together", labelled != has_source
    yield "an image has a label if and only if its split is not unlabeled", labelled == unlabeled
    yield "validation and test hold only human labels", held_out & pseudo
    for name in ("confidence", "round", "teacher"):
        yield (
            f"a pseudo-label has a {name}, and nothing else has one",
            np.asarray(pc.is_valid(table.column(name))) != pseudo,
        )
    yield "only a pseudo-label has probs", np.asarray(pc.is_valid(table.column("probs"))) & ~pseudo
    confidence = np.asarray(pc.fill_null(table.column("confidence"), 0.0))
    yield "confidence is in 0-1", ~((confidence >= 0) & (confidence <= 1))
    weight = np.asarray(table.column("weight"))
    yield "weight is finite and not negative", ~(np.isfinite(weight) & (weight >= 0))
    yield (
        "probs hold one probability per class",
        columns.bad_probabilities(table.column("probs"), len(manifest.label_map)),
    )


def _is_plain(name: str) -> bool:
    return bool(name) and not name.startswith(".") and not any(sign in name for sign in "/\\:\0")
