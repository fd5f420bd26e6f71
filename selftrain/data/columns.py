"""Arrow columns: casts, codes and digests without a Python object per row."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from selftrain.errors import ManifestError

_BLOCK_ROWS = 1 << 18
_HEX = np.zeros(256, bool)
_HEX[np.frombuffer(b"0123456789abcdef", np.uint8)] = True


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """`table` with exactly the columns and types of `schema`, one chunk each; a missing nullable column is null.

    Raises ManifestError for a column that is unknown, missing or of another type, or has nulls that are not allowed.
    """
    unknown = sorted(set(table.column_names) - set(schema.names))
    missing = [field.name for field in schema if not field.nullable and field.name not in table.column_names]
    if unknown or missing:
        raise ManifestError(
            f"wrong columns: unknown {unknown or 'none'}, missing {missing or 'none'}; allowed are {schema.names}"
        )
    return pa.table([_conform_column(table, field) for field in schema], schema=schema)


def _conform_column(table: pa.Table, field: pa.Field) -> pa.Array:
    if field.name not in table.column_names:
        return pa.nulls(table.num_rows, field.type)
    column = table.column(field.name)
    if column.null_count and not field.nullable:
        row = int(np.flatnonzero(np.asarray(pc.is_null(column)))[0])
        raise ManifestError(f"column {field.name!r} has {column.null_count} nulls, first at row {row}; none is allowed")
    try:
        if column.type != field.type and pa.types.is_dictionary(field.type):
            column = column.cast(field.type.value_type).dictionary_encode()
        column = column.cast(field.type)
        if column.num_chunks == 1 and column.chunk(0).offset == 0:
            return column.chunk(0)  # not copied: that would double the memory of ten million rows
        array = pa.chunked_array(column.chunks, column.type).unify_dictionaries().combine_chunks()
    except pa.ArrowInvalid as error:
        raise ManifestError(f"column {field.name!r} must be {field.type}, got {column.type}: {error}") from error
    except pa.ArrowNotImplementedError as error:
        raise ManifestError(f"column {field.name!r} must be {field.type}, got {column.type}") from error
    return array if isinstance(array, pa.Array) else pa.concat_arrays(array.chunks)


def with_columns(table: pa.Table, columns: Mapping[str, pa.Array | pa.ChunkedArray]) -> pa.Table:
    """`table` with its columns of these names replaced by `columns`."""
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, values)
    return table


def fixed_width(column: pa.ChunkedArray, width: int) -> npt.NDArray[np.bytes_] | None:
    """Text of exactly `width` ASCII bytes per row as a numpy 'S' array; None if a row has another length."""
    parts = []
    for chunk in column.chunks:
        offsets, data = raw_text(chunk)
        if not bool(np.all(np.diff(offsets) == width)):
            return None
        parts.append(np.frombuffer(data, f"S{width}"))
    return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, f"S{width}"), *parts])


def is_hex(ids: npt.NDArray[np.bytes_]) -> npt.NDArray[np.bool_]:
    """(rows,) True where all bytes are 0-9a-f."""
    result = np.empty(len(ids), bool)
    for start in range(0, len(ids), _BLOCK_ROWS):
        block = np.ascontiguousarray(ids[start : start + _BLOCK_ROWS])
        result[start : start + len(block)] = _HEX[block.view(np.uint8).reshape(len(block), -1)].all(axis=1)
    return result


def codes(column: pa.ChunkedArray, values: Sequence[str]) -> npt.NDArray[np.int8]:
    """(rows,) position of each text in `values`; -1 for null and for any other text."""
    parts = [np.empty(0, np.int8)]
    for chunk in column.chunks:
        positions = [values.index(text) if text in values else -1 for text in chunk.dictionary.to_pylist()]
        lookup = np.array([*positions, -1], np.int8)
        parts.append(lookup[np.asarray(pc.fill_null(chunk.indices, len(positions)))])
    return np.concatenate(parts)


def from_codes(positions: npt.NDArray[np.integer], values: Sequence[str] | type[Any]) -> pa.DictionaryArray:
    """The inverse of `codes`: dictionary-encoded text, null where the position is negative."""
    indices = pa.array(positions.astype(np.int32), mask=positions < 0)
    return pa.DictionaryArray.from_arrays(indices, pa.array([str(value) for value in values], pa.string()))


def rows_where(column: pa.ChunkedArray, predicate: Callable[[str], bool]) -> npt.NDArray[np.bool_]:
    """(rows,) True where `predicate` holds for the dictionary-encoded text; called once per distinct text."""
    parts = [np.empty(0, bool)]
    for chunk in column.chunks:
        holds = np.array([*(predicate(text) for text in chunk.dictionary.to_pylist()), False], bool)
        parts.append(holds[np.asarray(pc.fill_null(chunk.indices, len(holds) - 1))])
    return np.concatenate(parts)


def sparse(n: int, rows: npt.NDArray[np.int64], values: object, dtype: type[np.generic]) -> pa.Array:
    """A column of n numbers: values[k], or `values` if it is one number, at rows[k]; null elsewhere."""
    full, filled = np.zeros(n, dtype), np.zeros(n, bool)
    full[rows] = values
    filled[rows] = True
    return pa.array(full, mask=~filled)


def sparse_lists(n: int, rows: npt.NDArray[np.int64], values: npt.NDArray[np.floating] | None) -> pa.Array:
    """A column of n float16 lists: values[k] at rows[k], null elsewhere."""
    if values is None:
        return pa.nulls(n, pa.list_(pa.float16()))
    filled = np.zeros(n, bool)
    filled[rows] = True
    offsets = np.concatenate([[0], np.cumsum(filled * values.shape[1])]).astype(np.int32)
    flat = values[np.argsort(rows, kind="stable")].astype(np.float16).ravel()
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat), mask=pa.array(~filled))


def list_values(column: pa.ChunkedArray | pa.Array, width: int) -> npt.NDArray[np.float32]:
    """The lists of a column, each of `width` numbers, as float32 (k, width); null lists are left out."""
    return np.asarray(pc.list_flatten(column), dtype=np.float32).reshape(-1, width)


def bad_probabilities(column: pa.ChunkedArray, classes: int) -> npt.NDArray[np.bool_]:
    """(rows,) True where a list does not have `classes` values, or has one outside 0-1; a null list passes."""
    parts = [np.empty(0, bool)]
    for chunk in column.chunks:
        lengths = np.asarray(pc.fill_null(pc.list_value_length(chunk), 0))
        bad = np.asarray(pc.is_valid(chunk)) & (lengths != classes)
        values = np.asarray(chunk.flatten())
        outside = ~((values >= 0) & (values <= 1)) if len(values) else np.empty(0, bool)
        bad[np.repeat(np.arange(len(chunk)), lengths)[outside]] = True
        parts.append(bad)
    return np.concatenate(parts)


def update_digest(digest: hashlib._Hash, table: pa.Table) -> None:
    """Feed the column names and values of `table` to `digest`; its chunks, offsets and dictionaries do not count."""
    for name in table.column_names:
        digest.update(f"{name}:{table.num_rows};".encode())
        for start in range(0, table.num_rows, _BLOCK_ROWS):
            for part in _canonical(table.column(name).slice(start, _BLOCK_ROWS)):
                digest.update(part)


def _canonical(column: pa.ChunkedArray) -> Iterator[Any]:
    """The validity bits of one block of rows, the lengths of its lists or texts, and its little-endian values."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    array = pa.concat_arrays(column.chunks)
    yield np.packbits(np.asarray(pc.is_valid(array)))
    if pa.types.is_list(array.type):
        yield np.asarray(pc.fill_null(pc.list_value_length(array), 0)).astype("<i4")
        yield _little_endian(array.flatten())
    elif pa.types.is_string(array.type) or pa.types.is_large_binary(array.type):
        offsets, data = raw_text(pc.fill_null(array, ""))
        yield np.diff(offsets).astype("<i4")
        yield data
    elif pa.types.is_boolean(array.type):
        yield np.packbits(np.asarray(pc.fill_null(array, False)))
    else:
        yield _little_endian(pc.fill_null(array, 0))


def _little_endian(array: pa.Array) -> npt.NDArray[Any]:
    values = np.ascontiguousarray(array)
    return values.astype(values.dtype.newbyteorder("<"), copy=False)


def raw_text(array: pa.StringArray | pa.LargeBinaryArray) -> tuple[npt.NDArray[Any], memoryview]:
    """The offsets (rows + 1,) of an array of texts or bytes, and its bytes between the first and the last offset."""
    _, offset_buffer, data = array.buffers()
    width: type[Any] = np.int64 if pa.types.is_large_binary(array.type) else np.int32
    if not len(array):
        return np.zeros(1, width), memoryview(b"")
    offsets = np.frombuffer(offset_buffer, width)[array.offset : array.offset + len(array) + 1]
    return offsets, memoryview(data if data is not None else b"")[offsets[0] : offsets[-1]]
