"""Listing: what a source holds now (paths, labels, splits, sizes and times), found without reading any image."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from selftrain.data.images.formats import HEADER_BYTES, sniff
from selftrain.data.images.names import IMAGE_SUFFIXES, LEFT_BEHIND, SIDECARS, named_like_an_image
from selftrain.errors import SourceError

LISTING_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("split", pa.string()),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("mtime_ns", pa.int64(), nullable=False),
    ]
)
# Columns that a listing has only where one of their values is not null: most data sets have none of them.
OPTIONAL_SCHEMA = pa.schema([pa.field(name, pa.string()) for name in ("group", "dispute", "objects")])
UNREADABLE_SIZE = -1


@dataclass(frozen=True)
class Listing:
    """One row per source image, sorted by path; `ignored` counts the files that hold no image.

    `label` and `split` are what the source says, null where it says nothing. `size` is in bytes (-1: unknown),
    `mtime_ns` in nanoseconds. A file whose path, size and time stay the same is not read again. Where there are any,
    `group` names the camera, patient or video of an image, `dispute` the labels that people disagree about, and
    `objects` says how many objects of each class people marked in it, as `ObjectCounts.texts` does.
    `notes` are decisions of the source that its owner should know of.
    """

    table: pa.Table
    ignored: int = 0
    notes: tuple[str, ...] = ()

    @classmethod
    def build(cls, table: pa.Table, *, ignored: int = 0, notes: tuple[str, ...] = ()) -> Listing:
        """The Listing of `table`, cast to LISTING_SCHEMA and sorted by path; optional columns of nulls are dropped."""
        extra = [field for field in OPTIONAL_SCHEMA if field.name in table.column_names]
        extra = [field for field in extra if table[field.name].null_count < table.num_rows]
        schema = pa.schema([*LISTING_SCHEMA, *extra])
        return cls(table.select(schema.names).cast(schema).sort_by("path").combine_chunks(), ignored, notes)

    def optional(self, name: str) -> pa.ChunkedArray:
        """The optional column `name` (rows,), of nulls where the listing does not have it."""
        if name in self.table.column_names:
            return self.table[name]
        return pa.chunked_array([pa.nulls(len(self), OPTIONAL_SCHEMA.field(name).type)])

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) over all columns: it changes whenever a file, its label or its split does."""
        sha = hashlib.sha256()
        for name in self.table.column_names:
            column = self.table.column(name)
            sha.update(name.encode())
            if pa.types.is_integer(column.type):
                sha.update(column.to_numpy().astype("<i8").tobytes())
                continue
            lengths = pc.fill_null(pc.binary_length(column), -1)
            sha.update(lengths.to_numpy().astype("<i8").tobytes())
            for chunk in column.drop_null().chunks:
                sha.update(_text_bytes(chunk))
        return sha.hexdigest()

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def write(self, path: Path) -> None:
        """Write as Parquet."""
        metadata = {b"ignored": str(self.ignored).encode()}
        pq.write_table(self.table.replace_schema_metadata(metadata), path)

    @classmethod
    def read(cls, path: Path) -> Listing:
        """The Listing that `write` wrote."""
        table = pq.read_table(path)
        ignored = int((table.schema.metadata or {}).get(b"ignored", b"0"))
        return cls.build(table, ignored=ignored)


def _text_bytes(chunk: pa.Array) -> bytes:
    """All characters of a string array without nulls, in order."""
    _, offsets, data = chunk.buffers()
    if data is None or len(chunk) == 0:
        return b""
    ends = np.frombuffer(offsets, dtype=np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
    return bytes(memoryview(data)[ends[0] : ends[-1]])


@dataclass
class FoundFiles:
    """Image files below one folder, as three columns of equal length; `ignored` counts the other files.

    `folders` are the real folders that were read, by device and inode, with the path on which each was met.
    """

    paths: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    mtimes_ns: list[int] = field(default_factory=list)
    ignored: int = 0
    folders: dict[tuple[int, int], str] = field(default_factory=dict)


def find_images(folder: str, *, apart_from: tuple[str, ...] = ()) -> FoundFiles:
    """All image files below `folder`, in no particular order; what is not named like one is known by its first bytes.

    Hidden files and folders are skipped. Links are followed, each real folder once, so that a cycle ends. The folders
    `apart_from` are left out: an unlabelled folder inside the labelled one is not a class. A dangling link is listed
    with size -1, and fails when it is read. Raises SourceError for a folder that cannot be read.
    """
    files = FoundFiles()
    visited = {_identity(path) for path in apart_from if os.path.isdir(path)} - {_identity(folder)}
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        identity = _identity(current)
        if identity in visited:
            continue
        visited.add(identity)
        files.folders[identity] = current
        waiting += _scan_folder(current, files)
    return files


def _scan_folder(folder: str, files: FoundFiles) -> list[str]:
    """Add the files of one folder to `files`; returns its sub-folders, last name first."""
    try:
        with os.scandir(folder) as entries:
            ordered = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda e: e.name)
    except OSError as error:
        raise SourceError(
            f"folder {folder!r} cannot be read ({error.strerror}); make it readable or move it"
        ) from error
    folders = []
    for entry in ordered:
        try:
            status = entry.stat()
            is_dir, is_file = entry.is_dir(), entry.is_file()
        except OSError:
            status, is_dir, is_file = None, False, True
        if is_dir and entry.name.lower() in LEFT_BEHIND:
            files.ignored += 1
        elif is_dir:
            folders.append(entry.path)
        elif not is_file or not (named_like_an_image(entry.name) or _begins_like_an_image(entry)):
            files.ignored += 1
        else:
            files.paths.append(_as_text(entry.path))
            files.sizes.append(UNREADABLE_SIZE if status is None else status.st_size)
            files.mtimes_ns.append(0 if status is None else status.st_mtime_ns)
    return folders[::-1]


def endings_of(folder: str) -> dict[str, list[str]]:
    """The images in `folder` itself: name without ending -> names with it."""
    found: dict[str, list[str]] = {}
    for name in sorted(os.listdir(folder)):
        stem, dot, suffix = name.rpartition(".")
        if dot and stem and suffix.lower() in IMAGE_SUFFIXES:
            found.setdefault(stem, []).append(name)
    return found


def _begins_like_an_image(entry: os.DirEntry[str]) -> bool:
    """Whether the first bytes of a file with another name are those of an image. One that cannot be opened is none."""
    if entry.name.rpartition(".")[2].lower() in SIDECARS:
        return False
    try:
        with open(entry.path, "rb") as file:
            return sniff(file.read(HEADER_BYTES)) is not None
    except OSError:
        return False


def _as_text(path: str) -> str:
    """`path` with escapes for bytes that are not UTF-8; such a file is listed, and quarantined when read."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _identity(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError as error:
        raise SourceError(f"folder {path!r} cannot be read ({error.strerror}); check the path") from error
    return status.st_dev, status.st_ino
