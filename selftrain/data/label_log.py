"""The label log: what people said of images after they were taken in; lines are added and never changed.

It is a Parquet file, and a file of the newest lines beside it: adding to that one does not write all others again.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from selftrain.data.label_tail import LABEL_TAIL, Tail, append_to_tail, read_tail
from selftrain.errors import LabelLogError
from selftrain.files.locks import locked
from selftrain.files.writing import replace

LABEL_LOG = "label_log.parquet"
NONE_OF_THEM = "(none of the classes)"
"""How reports name the answer that an image shows none of the classes: a line without a label that settles."""
MOST_TAIL_BYTES = 1_000_000  # then its lines go into the Parquet file
_FOLDED = b"selftrain.folded_tail"
LABEL_LOG_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        (
            "label",
            pa.string(),
        ),  # null: all before is taken back; if it settles: none of the classes
        ("who", pa.string()),
        ("when", pa.timestamp("us", tz="UTC")),
        ("settles", pa.bool_()),  # the line ends an earlier conflict
        ("shown", pa.string()),  # the label that was on the screen, such as a model's answer; null: none
    ]
)


@dataclass(frozen=True)
class Standing:
    """What a log says by now: image_id -> label where people agree, image_id -> labels where they do not.

    - Labels of images in `settled` were given to end a conflict: they hold against the source's own.
    - Images in `retracted` had labels that were taken back, and none since.
    - Of images in `excluded` people say alone that they show none of the classes.
    """

    agreed: Mapping[str, str]
    settled: frozenset[str]
    disputed: Mapping[str, tuple[str, ...]]
    retracted: frozenset[str] = frozenset()
    excluded: frozenset[str] = frozenset()


def log_locked(folder: Path) -> AbstractContextManager[int]:
    """Hold the log of `folder` for writing. A command that holds the store too takes the store's lock first."""
    return locked(folder.with_name(f"{folder.name}.labels.lock"))


def log_stamp(folder: Path) -> tuple[tuple[int, int], ...]:
    """Times (ns) and sizes of the log's files: they differ once anyone has added a line."""
    paths = [path for path in (folder / LABEL_LOG, folder / LABEL_TAIL) if path.exists()]
    return tuple((path.stat().st_mtime_ns, path.stat().st_size) for path in paths)


def read_log(folder: Path) -> pa.Table:
    """The lines of the log in a data set's `folder`, oldest first; none if there is no log.

    Raises LabelLogError for a damaged log: its labels cannot be made again.
    """
    tail = read_tail(folder / LABEL_TAIL)  # before the other file, which takes its lines over
    table, folded = _read_parquet(folder / LABEL_LOG)
    if tail is None or tail.id == folded:
        return table
    return pa.concat_tables([table, _lines_of(tail, folder)])


def append_lines(folder: Path, lines: pa.Table) -> None:
    """Add `lines` to the log in `folder`, all or none. It takes the log's lock.

    Raises LabelLogError where the log cannot be written, such as on a full disk; it stays as it was.
    """
    with log_locked(folder):
        _fold(folder, lines.select(LABEL_LOG_SCHEMA.names).cast(LABEL_LOG_SCHEMA))


def append_answers(folder: Path, lines: pa.Table) -> None:
    """Add a few `lines` to the log in `folder`, all or none, without writing the others again. Hold `log_locked`.

    They are on the disk when it returns. Raises LabelLogError where they cannot be written; the log stays as it was.
    """
    path = folder / LABEL_TAIL
    if path.exists() and path.stat().st_size > MOST_TAIL_BYTES:
        _fold(folder, LABEL_LOG_SCHEMA.empty_table())
    folded = _folded_tail(folder / LABEL_LOG)
    try:
        append_to_tail(path, lines.select(LABEL_LOG_SCHEMA.names).to_pylist(), spent=folded)
    except OSError as error:
        raise _not_written(path, error) from error


def _fold(folder: Path, lines: pa.Table) -> None:
    """Write one Parquet file of all lines and `lines`, then remove the tail; the log's lock is held."""
    tail = read_tail(folder / LABEL_TAIL)
    table = pa.concat_tables([read_log(folder), lines])
    if tail is not None:
        table = table.replace_schema_metadata({_FOLDED: tail.id.encode()})
    try:
        replace(folder / LABEL_LOG, lambda part: pq.write_table(table, part, compression="zstd"), durable=True)
        (folder / LABEL_TAIL).unlink(missing_ok=True)
    except OSError as error:
        raise _not_written(folder / LABEL_LOG, error) from error


def _read_parquet(path: Path) -> tuple[pa.Table, str | None]:
    """The lines of the Parquet file, and the id of the tail whose lines it took over last."""
    if not path.exists():
        return pa.Table.from_batches([], schema=LABEL_LOG_SCHEMA), None  # empty_table would import pandas
    try:
        file = pq.ParquetFile(path)
        return file.read().select(LABEL_LOG_SCHEMA.names).cast(LABEL_LOG_SCHEMA), _folded_in(file.schema_arrow)
    except (OSError, KeyError, pa.ArrowException) as error:
        raise _damaged(path, error) from error


def _folded_tail(path: Path) -> str | None:
    try:
        return _folded_in(pq.read_schema(path)) if path.exists() else None
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, error) from error


def _folded_in(schema: pa.Schema) -> str | None:
    folded = (schema.metadata or {}).get(_FOLDED)
    return None if folded is None else str(folded.decode())


def _lines_of(tail: Tail, folder: Path) -> pa.Table:
    try:
        return pa.Table.from_pylist(list(tail.rows), schema=LABEL_LOG_SCHEMA)
    except (pa.ArrowException, AttributeError, TypeError) as error:
        raise _damaged(folder / LABEL_TAIL, error) from error


def _damaged(path: Path, error: Exception) -> LabelLogError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return LabelLogError(
        f"{path} cannot be read: {reason}; `selftrain restore` brings back the log of an earlier version"
    )


def _not_written(path: Path, error: OSError) -> LabelLogError:
    reason = error.strerror or (str(error).splitlines() or ["unknown error"])[0]
    return LabelLogError(f"{path} cannot be written: {reason}; nothing was added, make room or the folder writable")


def standing(log: pa.Table) -> Standing:
    """What the lines of `log`, oldest first, come to.

    Labels of one image that differ are a conflict: none of them counts until a line settles it. A later line with
    another label begins a new conflict. A line without a label takes back all that was said of its image before; one
    that settles says that the image shows none of the classes, which is a conflict with any label.

    >>> lines = {"image_id": ["a", "a", "b"], "label": ["cat", "dog", "cat"], "settles": [False, False, False]}
    >>> standing(pa.table(lines)).disputed
    {'a': ('cat', 'dog')}
    """
    said: dict[str, dict[str, None]] = {}
    settled: set[str] = set()
    retracted: set[str] = set()
    columns = (log[name].to_pylist() for name in ("image_id", "label", "settles"))
    for image_id, label, settles in zip(*columns, strict=True):
        retracted.discard(image_id)
        if label is None and settles:
            said.setdefault(image_id, {})[NONE_OF_THEM] = None
        elif label is None:
            said.pop(image_id, None)
            settled.discard(image_id)
            retracted.add(image_id)
        elif settles:
            said[image_id] = {label: None}
            settled.add(image_id)
        else:
            said.setdefault(image_id, {})[label] = None
    alone = {image_id: next(iter(labels)) for image_id, labels in said.items() if len(labels) == 1}
    return Standing(
        agreed={image_id: label for image_id, label in alone.items() if label != NONE_OF_THEM},
        settled=frozenset(settled),
        disputed={image_id: tuple(labels) for image_id, labels in said.items() if len(labels) > 1},
        retracted=frozenset(retracted),
        excluded=frozenset(image_id for image_id, label in alone.items() if label == NONE_OF_THEM),
    )


def in_force(log: pa.Table) -> pa.Table:
    """The lines of `log`, oldest first, that were not taken back later; nor those that took back.

    >>> lines = {"image_id": ["a", "b", "a", "a"], "label": ["cat", "dog", None, "cow"], "settles": [False] * 4}
    >>> in_force(pa.table(lines))["label"].to_pylist()
    ['dog', 'cow']
    """
    last: dict[str, int] = {}
    ids, labels, settles = (log[name].to_pylist() for name in ("image_id", "label", "settles"))
    for row, (image_id, label, settled) in enumerate(zip(ids, labels, settles, strict=True)):
        if label is None and not settled:
            last[image_id] = row
    return log.filter(pa.array([row > last.get(image_id, -1) for row, image_id in enumerate(ids)], pa.bool_()))
