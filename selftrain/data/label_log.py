"""The label log: what people said of images after they were taken in; lines are added and never changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from selftrain.errors import LabelLogError
from selftrain.files.writing import replace

LABEL_LOG = "label_log.parquet"
LABEL_LOG_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("label", pa.string()),  # null: all labels that were given before are taken back
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
    """

    agreed: Mapping[str, str]
    settled: frozenset[str]
    disputed: Mapping[str, tuple[str, ...]]
    retracted: frozenset[str] = frozenset()


def read_log(folder: Path) -> pa.Table:
    """The lines of the log in a data set's `folder`, oldest first; none if there is no log.

    Raises LabelLogError for a damaged log: its labels cannot be made again.
    """
    path = folder / LABEL_LOG
    if not path.exists():
        return pa.Table.from_batches([], schema=LABEL_LOG_SCHEMA)  # empty_table would import pandas
    try:
        return pq.ParquetFile(path).read().select(LABEL_LOG_SCHEMA.names).cast(LABEL_LOG_SCHEMA)
    except (OSError, KeyError, pa.ArrowException) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise LabelLogError(
            f"{path} cannot be read: {reason}; `selftrain restore` brings back the log of an earlier version"
        ) from error


def append_lines(folder: Path, lines: pa.Table) -> None:
    """Add `lines` to the log in `folder`, all or none; the store's lock must be held.

    Raises LabelLogError where the log cannot be written, such as on a full disk; it stays as it was.
    """
    table = pa.concat_tables([read_log(folder), lines.select(LABEL_LOG_SCHEMA.names).cast(LABEL_LOG_SCHEMA)])
    try:
        replace(folder / LABEL_LOG, lambda part: pq.write_table(table, part, compression="zstd"), durable=True)
    except OSError as error:
        reason = error.strerror or (str(error).splitlines() or ["unknown error"])[0]
        raise LabelLogError(
            f"{folder / LABEL_LOG} cannot be written: {reason}; nothing was added, make room or the folder writable"
        ) from error


def standing(log: pa.Table) -> Standing:
    """What the lines of `log`, oldest first, come to.

    Labels of one image that differ are a conflict: none of them counts until a line settles it. A later line with
    another label begins a new conflict. A line without a label takes back all that was said of its image before.

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
        if label is None:
            said.pop(image_id, None)
            settled.discard(image_id)
            retracted.add(image_id)
        elif settles:
            said[image_id] = {label: None}
            settled.add(image_id)
        else:
            said.setdefault(image_id, {})[label] = None
    return Standing(
        agreed={image_id: next(iter(labels)) for image_id, labels in said.items() if len(labels) == 1},
        settled=frozenset(settled),
        disputed={image_id: tuple(labels) for image_id, labels in said.items() if len(labels) > 1},
        retracted=frozenset(retracted),
    )


def in_force(log: pa.Table) -> pa.Table:
    """The lines of `log`, oldest first, that were not taken back later; nor those that took back.

    >>> lines = {"image_id": ["a", "b", "a", "a"], "label": ["cat", "dog", None, "cow"]}
    >>> in_force(pa.table(lines))["label"].to_pylist()
    ['dog', 'cow']
    """
    last: dict[str, int] = {}
    ids, labels = log["image_id"].to_pylist(), log["label"].to_pylist()
    for row, (image_id, label) in enumerate(zip(ids, labels, strict=True)):
        if label is None:
            last[image_id] = row
    return log.filter(pa.array([row > last.get(image_id, -1) for row, image_id in enumerate(ids)], pa.bool_()))
