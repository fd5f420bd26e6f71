"""Parquet of Hugging Face: images as structs of bytes and path, class names in the schema's metadata."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from selftrain.data.lists.columns import ROLES
from selftrain.data.places.place import INSIDE, Found, split_named, splits_noted
from selftrain.errors import SourceError
from selftrain.naming import name_rows


@dataclass(frozen=True)
class ParquetImages:
    """The images of Parquet files with one schema, a row each; `label` names the column of labels, None: the usual."""

    files: Sequence[str]
    label: str | None = None

    def find(self, *, labelled: bool) -> Found:
        found = Found()
        schemas = {path: _schema(path) for path in self.files}
        for path, schema in schemas.items():
            _add(found, path, schema, self.label, labelled=labelled, several=len(self.files) > 1)
        if labelled:
            _refuse_nameless(schemas, self.label)
        found.notes += splits_noted(found, len(self.files))
        return found

    def holds(self, path: str) -> bool:
        return path.partition(INSIDE)[0] in self.files

    def read(self, path: str) -> bytes:
        file, _, rest = path.partition(INSIDE)
        row = int(rest.partition("-")[0])
        try:
            return _bytes_at(file, os.stat(file).st_mtime_ns, row)
        except (pa.ArrowException, IndexError) as error:
            raise OSError(f"row {row} of {file!r} cannot be read: {error}; download the file again") from error


def holds_images(path: str) -> bool:
    """Whether the file at `path` is a Parquet table with the images themselves, and not a list of paths."""
    if not path.lower().endswith((".parquet", ".pq")):
        return False
    try:
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowException):
        return False  # whoever reads it as a list says so
    return any(pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0 for field in schema)


@dataclass(frozen=True)
class _Columns:
    """The columns of one file: of the image, and of label and group, where there are any."""

    image: str
    label: str | None
    group: str | None
    names: tuple[str, ...]  # of the classes, in the order of their numbers; () where labels are words


@dataclass(frozen=True)
class _Schema:
    path: str
    schema: pa.Schema

    @cached_property
    def features(self) -> Mapping[str, Any]:
        """What Hugging Face wrote about the columns; {} where nobody did."""
        written = (self.schema.metadata or {}).get(b"huggingface")
        try:
            found = json.loads(written)["info"]["features"] if written else {}
        except (ValueError, KeyError, TypeError):
            return {}
        return found if isinstance(found, dict) else {}

    def columns(self, label: str | None, *, labelled: bool) -> _Columns:
        names = self.schema.names
        image = next((name for name in names if self._holds_images(name)), None)
        if image is None:
            raise SourceError(
                f"{self.path!r} has no column of images (bytes, or a struct of bytes and path); it has "
                f"{name_rows(names)}. For a list with paths, give --table"
            )
        chosen = self._label(label, [name for name in names if name != image]) if labelled else None
        classes = self.features.get(chosen or "", {})
        known = classes.get("names") if isinstance(classes, dict) else None
        group = next((name for name in names if name.strip().lower() in ROLES["group"]), None)
        return _Columns(image, chosen, group, tuple(known or ()))

    def others(self, image: str) -> list[str]:
        """What is said where there are more columns of images than the one that is read."""
        unused = [name for name in self.schema.names if name != image and self._holds_images(name)]
        return [f"{self.path!r}: the images are read from {image!r}, not from {name_rows(unused)}"] if unused else []

    def _holds_images(self, name: str) -> bool:
        feature, kind = self.features.get(name), self.schema.field(name).type
        if isinstance(feature, dict) and feature.get("_type") == "Image":
            return True
        if pa.types.is_struct(kind):
            return bool(kind.get_field_index("bytes") >= 0)
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    def _label(self, wished: str | None, names: Sequence[str]) -> str:
        classes = [
            name for name, one in self.features.items() if isinstance(one, dict) and one.get("_type") == "ClassLabel"
        ]
        if wished is not None:
            if wished not in names:
                raise SourceError(f"{self.path!r} has no column {wished!r}; it has {name_rows(list(names))}")
            return wished
        usual = [name for alias in ROLES["label"] for name in names if name.strip().lower() == alias]
        if usual or len(classes) == 1:
            return usual[0] if usual else classes[0]
        raise SourceError(
            f"{self.path!r}: which column holds the labels? It has {name_rows(list(names))}; name it behind the path: "
            f"'{self.path}{INSIDE}{(classes or [*names, 'label'])[0]}'"
        )


def _schema(path: str) -> _Schema:
    try:
        return _Schema(path, pq.read_schema(path))
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{path!r} cannot be read as Parquet ({error}); download it again") from error


def _refuse_nameless(schemas: Mapping[str, _Schema], label: str | None) -> None:
    """Raise SourceError for a file whose labels are numbers without names, where another file names its numbers."""
    named, nameless = None, None
    for path, schema in schemas.items():
        columns = schema.columns(label, labelled=True)
        if columns.names:
            named = path
        elif columns.label and pa.types.is_integer(schema.schema.field(columns.label).type):
            nameless = path
    if named and nameless:
        raise SourceError(
            f"{nameless!r} has numbers as labels and no names for them, and {named!r} has names: each number would be "
            "a class beside them. Write the file again with the features of the others, or leave it out"
        )


def _add(found: Found, path: str, schema: _Schema, label: str | None, *, labelled: bool, several: bool) -> None:
    columns = schema.columns(label, labelled=labelled)
    found.notes += schema.others(columns.image)
    is_struct = pa.types.is_struct(schema.schema.field(columns.image).type)
    hinted = is_struct and schema.schema.field(columns.image).type.get_field_index("path") >= 0
    wanted = [name for name in (columns.label, columns.group) if name] + ([f"{columns.image}.path"] if hinted else [])
    try:
        file = pq.ParquetFile(path)
        count, table = file.metadata.num_rows, file.read(columns=wanted) if wanted else None
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{path!r} cannot be read as Parquet ({error}); download it again") from error
    labels = _named(table[columns.label].to_pylist(), columns, path) if table and columns.label else [None] * count
    groups = table[columns.group].to_pylist() if table and columns.group else [None] * count
    hints = table[columns.image].to_pylist() if table and hinted else [None] * count
    split = split_named(os.path.basename(path)) if several else None
    mtime_ns = os.stat(path).st_mtime_ns
    for row, (each, group, hint) in enumerate(zip(labels, groups, hints, strict=True)):
        base = os.path.basename((hint or {}).get("path") or "image")
        found.add(
            f"{path}{INSIDE}{row:09d}-{base}",
            label=each,
            size=0,
            mtime_ns=mtime_ns,
            split=split,
            group=None if group is None else str(group),
            word=not columns.names,
        )


def _named(values: list[Any], columns: _Columns, path: str) -> list[str | None]:
    """The labels of a column: names for the numbers of a ClassLabel; -1, NaN and nothing mean that there is none."""
    several = [str(row + 1) for row, value in enumerate(values) if isinstance(value, list | dict)]
    if several:
        raise SourceError(
            f"{path!r}: several labels in {columns.label!r}, rows {name_rows(several)}; selftrain gives one class to "
            "an image"
        )
    if columns.names:
        known = dict(enumerate(columns.names))
        strange = [str(row + 1) for row, value in enumerate(values) if value not in (None, -1) and value not in known]
        if strange:
            raise SourceError(
                f"{path!r}: labels outside the {len(known)} classes of its metadata: rows {name_rows(strange)}"
            )
        return [None if value in (None, -1) else known[value] for value in values]
    return [None if value is None or value == "" or value != value else _word(value) for value in values]


def _word(value: object) -> str:
    """A label as text; a whole number that is stored as a float loses its `.0`."""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def _bytes_at(file: str, mtime_ns: int, row: int) -> bytes:
    starts = _starts(file, mtime_ns)
    group = int(np.searchsorted(starts, row, side="right")) - 1
    value = _row_group(file, mtime_ns, group)[row - int(starts[group])].as_py()
    data = value.get("bytes") if isinstance(value, dict) else value
    if data is None:
        raise FileNotFoundError(f"row {row} of {file!r} names its image by a path and holds no bytes; embed the images")
    return bytes(data)


@lru_cache(maxsize=64)
def _starts(file: str, mtime_ns: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The first row of each row group."""
    del mtime_ns
    metadata = pq.read_metadata(file)
    rows = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    return np.cumsum([0, *rows])[:-1]


@lru_cache(maxsize=2)
def _row_group(file: str, mtime_ns: int, group: int) -> pa.ChunkedArray:
    """The images of one row group: rows are asked for in order."""
    del mtime_ns
    image = _schema(file).columns(None, labelled=False).image
    return pq.ParquetFile(file).read_row_group(group, columns=[image])[image]
