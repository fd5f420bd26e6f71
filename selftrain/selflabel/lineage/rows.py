"""Label rows: what teachers said of images as flat tables, a row an image and round: who said it, and why it counted.

They are read from files of pseudo-labels a group of rows at a time, without a Python object a row. Besides one group,
only the ids and origins of the manifest are held.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from selftrain.data.columns import fixed_width
from selftrain.errors import ConfigError
from selftrain.files.places import check_folder
from selftrain.files.writing import replace
from selftrain.selflabel.lineage.descent import Trust
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels

_TEXT_SET = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string()),
        pa.field("origin", pa.string()),
        pa.field("run", _TEXT_SET),
        pa.field("round", pa.int16()),
        pa.field("teacher", _TEXT_SET),
        pa.field("version", _TEXT_SET),
        pa.field("trust", _TEXT_SET),
        pa.field("class", _TEXT_SET),
        pa.field("confidence", pa.float32()),
        pa.field("threshold", _TEXT_SET),
        pa.field("cutoff", pa.float32()),
        pa.field("accepted", pa.bool_()),
        pa.field("reason", pa.string()),
        pa.field("weight", pa.float32()),
    ]
)
ORIGINS = ["image_id", "origin"]  # of a manifest
AFTER_HEX = "g"


class LabelRow(BaseModel):
    """What one teacher said of one image; `cutoff` is the lowest confidence at which the predicted class passed.

    `version` are the addresses of the teacher's model in the registry, if it has any.
    """

    model_config = ConfigDict(frozen=True)

    image_id: str
    origin: str | None
    run: str
    round: int
    teacher: str
    version: str | None
    trust: Trust
    predicted: str
    confidence: float
    probabilities: dict[str, float]
    threshold: str
    cutoff: float
    accepted: bool
    reason: str
    weight: float


@dataclass(frozen=True)
class RoundLabels:
    """One round's pseudo-labels: the run that made them, their facts (no row), and what their teacher is worth now."""

    run: str
    facts: PseudoLabels
    version: str | None = None
    trust: Trust = Trust.TRUSTED


def open_labels(file: IO[bytes]) -> pq.ParquetFile:
    """The table in `file`, any store's open file: this module's functions read it in the thread that calls them.

    Threads of Arrow's own would hold Python's objects, and a command that ends while they let go of them aborts.
    """
    return pq.ParquetFile(file, pre_buffer=False)


def head(file: pq.ParquetFile, path: object) -> PseudoLabels:
    """The facts of the pseudo-labels in `file`, without a row; PredictionError, naming `path`, if it holds none."""
    return PseudoLabels.of(file.schema_arrow.empty_table(), path)


def matching_ids(file: pq.ParquetFile, prefix: str) -> pa.ChunkedArray:
    """The image_ids in `file`, a manifest's or pseudo-labels', that begin with `prefix`."""
    chunks = [chunk for _, table in _groups(file, ["image_id"], prefix) for chunk in table["image_id"].chunks]
    return pa.chunked_array(chunks, pa.string())


def rows(
    given: RoundLabels, labels: pq.ParquetFile, manifest: pq.ParquetFile | None = None, *, prefix: str = ""
) -> Iterator[pa.Table]:
    """The rows of `labels` whose image_id begins with `prefix`: SCHEMA, and a column `p_<class>` for each class.

    `manifest` says where their images are from.
    """
    origins = _origins(manifest, prefix)
    for group, found in _groups(labels, ["image_id"], prefix):
        if found.num_rows:
            table = labels.read_row_group(group, use_threads=False)
            yield _flat(given, table.filter(_begins(table, prefix)) if prefix else table, origins)


def values(table: pa.Table) -> list[LabelRow]:
    """Each row of a table that `rows` gave, as a value."""
    found = []
    for row in table.to_pylist():
        probabilities = {name[2:]: row[name] for name in table.column_names if name.startswith("p_")}
        found.append(LabelRow(**row, predicted=row["class"], probabilities=probabilities))
    return found


def class_counts(labels: pq.ParquetFile, *, classes: int) -> npt.NDArray[np.int64]:
    """How many labels of each class there are, and how many were accepted, (classes, 2)."""
    counts = np.zeros((classes, 2), np.int64)
    for batch in labels.iter_batches(columns=["label", "accepted"], use_threads=False):
        label = np.asarray(batch.column("label"))
        accepted = batch.column("accepted").to_numpy(zero_copy_only=False).astype(bool)
        counts[:, 0] += np.bincount(label, minlength=classes)
        counts[:, 1] += np.bincount(label[accepted], minlength=classes)
    return counts


def check_label_file(out: Path) -> None:
    """Raise ConfigError unless `out` is a new .parquet or .csv file in a folder that can be written to."""
    if out.suffix not in (".parquet", ".csv"):
        raise ConfigError(f"--out {out} is no table; name a new .parquet or .csv file")
    if out.exists():
        raise ConfigError(f"{out} exists and was left as it was; give another --out")
    check_folder(out.parent, option="--out")


def write_rows(tables: Iterable[pa.Table], out: Path, *, class_names: Sequence[str]) -> int:
    """Write what `rows` gave, of one round or many, to `out` (.parquet or .csv), whole or not at all; returns how many.

    `class_names` are those of all rounds; a probability that a round's model has not is null.
    """
    schema = pa.schema([*SCHEMA, *(pa.field(f"p_{name}", pa.float32()) for name in class_names)])
    if out.suffix == ".csv":
        schema = pa.schema([(field.name, _plain(field.type)) for field in schema])
    counted = 0

    def write(part: Path) -> None:
        nonlocal counted
        writer_of = pyarrow.csv.CSVWriter if out.suffix == ".csv" else pq.ParquetWriter
        with writer_of(part, schema) as writer:
            for table in tables:
                writer.write_table(_conformed(table, schema))
                counted += table.num_rows

    out.parent.mkdir(parents=True, exist_ok=True)
    replace(out, write)
    return counted


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    there, count = set(table.column_names), table.num_rows
    columns = [
        table[field.name].cast(field.type) if field.name in there else pa.nulls(count, field.type) for field in schema
    ]
    return pa.table(columns, schema=schema)


def _groups(file: pq.ParquetFile, columns: list[str], prefix: str) -> Iterator[tuple[int, pa.Table]]:
    """(number, rows whose image_id begins with `prefix`) of the groups that may hold such; the others stay unread."""
    for group in range(file.metadata.num_row_groups):
        known = file.metadata.row_group(group).column(0).statistics  # of image_id, the first column of each such file
        ranged = prefix and known is not None and known.has_min_max
        if ranged and (known.max < prefix or known.min >= prefix + AFTER_HEX):
            continue
        table = file.read_row_group(group, columns=columns, use_threads=False)
        yield group, table.filter(_begins(table, prefix)) if prefix else table


def _begins(table: pa.Table, prefix: str) -> pa.ChunkedArray:
    return pc.starts_with(table["image_id"], prefix)


@dataclass(frozen=True)
class _Origins:
    """Where the user keeps images: `places` aligned with their sorted `ids`."""

    ids: npt.NDArray[np.bytes_]
    places: pa.ChunkedArray

    def of(self, image_ids: pa.ChunkedArray) -> pa.ChunkedArray:
        """The place of each image, null where it is not known."""
        wanted = fixed_width(image_ids, self.ids.itemsize)
        if wanted is None or not len(self.ids):
            return pa.chunked_array([pa.nulls(len(image_ids), pa.string())])
        found = np.minimum(np.searchsorted(self.ids, wanted), len(self.ids) - 1)
        return self.places.take(pa.array(found, mask=self.ids[found] != wanted))


def _origins(manifest: pq.ParquetFile | None, prefix: str) -> _Origins:
    tables = [] if manifest is None else [table for _, table in _groups(manifest, ORIGINS, prefix)]
    table = pa.concat_tables(tables) if tables else pa.table({name: pa.array([], pa.string()) for name in ORIGINS})
    ids = fixed_width(table["image_id"], 64)
    return _Origins(np.empty(0, "S64") if ids is None else ids, table["origin"])


def _flat(given: RoundLabels, table: pa.Table, origins: _Origins) -> pa.Table:
    facts, count = given.facts, table.num_rows
    labels = table["label"].to_numpy()
    names = pa.array(facts.class_names, pa.string())
    columns = {
        "image_id": table["image_id"],
        "origin": origins.of(table["image_id"]),
        "run": _same(given.run, count),
        "round": pa.array(np.full(count, facts.round, np.int16)),
        "teacher": _same(facts.teacher, count),
        "version": _same(given.version, count),
        "trust": _same(given.trust.value, count),
        "class": pa.DictionaryArray.from_arrays(pa.array(labels, pa.int32()), names),
        "confidence": table["confidence"],
        "threshold": _same(facts.threshold, count),
        "cutoff": pa.array(np.asarray(facts.cutoffs, np.float32)[labels]),
        "accepted": table["accepted"],
        "reason": table["reason"],
        "weight": table["weight"],
    }
    columns |= {f"p_{name}": pc.list_element(table["probs"], k) for k, name in enumerate(facts.class_names)}
    return pa.table(columns)


def _same(value: str | None, count: int) -> pa.Array:
    """One text `count` times, held once."""
    if value is None:
        return pa.nulls(count, _TEXT_SET)
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([value], pa.string()))
