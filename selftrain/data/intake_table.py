"""The intake: one row per file that was ever taken in from the inbox, what became of it, and what the champion said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from selftrain.errors import ManifestError
from selftrain.files.writing import replace

INTAKE = "intake.parquet"  # in the folder of the data set's store, which DVC versions as a whole
NOT_SAMPLED = "not_sampled"
"""The reason of a file that the sampling rule left out: it was not read, and does not count as quarantined."""
COPY = "duplicate"
"""The reason of a usable file whose bytes the data set held already; it has an image id."""

INTAKE_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),  # as listed: in the folder, or a URL
        pa.field("size", pa.int64(), nullable=False),  # bytes
        pa.field("mtime_ns", pa.int64(), nullable=False),
        pa.field("version", pa.string(), nullable=False),  # the server's etag, or ""
        pa.field("image_id", pa.string()),  # null: not usable
        pa.field("reason", pa.string()),  # null: a new image; only COPY comes with an image id
        pa.field("taken_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("run", pa.string(), nullable=False),  # of the run that collected it, or ""
        pa.field("answer", pa.string()),  # what a model had said of it in production
        pa.field("confidence", pa.float64()),
        pa.field("answered_by", pa.string()),  # that model's version
    ]
)


@dataclass(frozen=True)
class Answer:
    """What a model said of an image in production."""

    label: str
    confidence: float
    model_version: str


@dataclass(frozen=True)
class IntakeRow:
    """One file of the inbox, once it was taken in.

    `image_id` None: it could not be used, for `reason`. `reason` None: an image that the data set did not hold.
    """

    path: str
    size: int
    mtime_ns: int
    version: str
    image_id: str | None
    reason: str | None
    taken_at: datetime
    run: str
    answer: str | None = None
    confidence: float | None = None
    answered_by: str | None = None


def intake_path(store: Path) -> Path:
    """The file of the intake in the folder of a store."""
    return store / INTAKE


def read_intake(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The intake at `path`, or some of its columns; empty where nothing was taken in yet.

    Raises ManifestError for a damaged file: to forget what was taken in is worse than to stop.
    """
    names = list(columns or INTAKE_SCHEMA.names)
    try:
        return pq.read_table(path, columns=names).select(names).replace_schema_metadata(None)
    except FileNotFoundError:
        return INTAKE_SCHEMA.empty_table().select(names)
    except (pa.ArrowException, KeyError) as error:
        raise ManifestError(
            f"the intake {str(path)!r} is damaged ({(str(error).splitlines() or [''])[0]}); restore the data set with "
            "`selftrain restore`, or delete the file to take in everything again"
        ) from error


def append_intake(path: Path, rows: Sequence[IntakeRow]) -> None:
    """Add `rows` at the end; a reader sees none or all of them. The caller holds the store's lock."""
    if not rows:
        return
    added = pa.Table.from_pylist([asdict(row) for row in rows], schema=INTAKE_SCHEMA)
    table = pa.concat_tables([read_intake(path), added])
    replace(path, lambda to: pq.write_table(table, to), durable=True)


def stored_names(intake: pa.Table) -> list[str]:
    """For each row of `intake`, the name under which the store's index holds the file.

    It is the path. A later version of a file that was taken in before gets its size, time and version behind it, so
    that both images stay.
    """
    names: list[str] = []
    before: set[str] = set()
    columns = (intake[name].to_pylist() for name in ("path", "size", "mtime_ns", "version"))
    for path, size, mtime_ns, version in zip(*columns, strict=True):
        names.append(later_name(path, size, mtime_ns, version) if path in before else path)
        before.add(path)
    return names


def held_images(intake: pa.Table) -> pa.Table:
    """The rows of `intake` that hold an image, the first for each, with the column `name` of the store's index."""
    named = intake.append_column("name", pa.array(stored_names(intake), pa.string()))
    ids = named["image_id"].to_pylist()
    first = {image_id: row for row, image_id in reversed(list(enumerate(ids))) if image_id is not None}
    return named.take(pa.array(sorted(first.values()), pa.int64()))


def later_name(path: str, size: int, mtime_ns: int, version: str) -> str:
    """The name in the store's index of a file whose `path` the intake holds already, with other content."""
    return f"{path}#{size}-{mtime_ns}{version and '-'}{version}"
