"""Predictions of many files: a Parquet table with a row per image, written part by part so that it can be continued."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from selftrain.autolabeling.folders.sources import ListedImage, ListedSources
from selftrain.errors import ConfigError
from selftrain.files.locks import wait_for_lock
from selftrain.files.places import check_folder
from selftrain.files.writing import replace
from selftrain.learn.models.calibrate import softmax
from selftrain.learn.models.contract import Contract
from selftrain.progress import Progress, silent

Floats = npt.NDArray[np.floating]
Logits = Callable[[npt.NDArray[np.uint8]], Floats]
PART: Final = 4096  # images; what a killed command loses at most
MARK: Final = b"selftrain.predictions"  # metadata of our tables: the digest of what they were made from


class PredictionSummary(BaseModel):
    """What `predict_table` wrote: `errors` of the `images` have no label, `found` were predicted by a run before."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    out: Path
    model_version: str
    images: int
    errors: int
    found: int


def check_table(out: Path) -> None:
    """Raise ConfigError unless `out` can be written: it is missing, or a table that `predict_table` wrote."""
    check_folder(out.parent, option="--out")
    if out.exists() and _mark(out) is None:
        raise ConfigError(f"{out} exists and is not a table of predictions; move it, or choose another --out")


@dataclass(frozen=True)
class Predictor:
    """A model that answers batches of `batch_size` images; `called` is its name in the table.

    `compiled` makes the function from uint8 images (n, side, side, 3) to logits (n, classes).
    """

    compiled: Callable[[], Logits]
    contract: Contract
    called: str
    batch_size: int = 32

    @cached_property
    def logits(self) -> Logits:
        """Made at its first use: what was predicted before needs no model."""
        return self.compiled()

    @property
    def schema(self) -> pa.Schema:
        """The columns of the table."""
        classes = pa.struct([pa.field(name, pa.float32()) for name in self.contract.class_names])
        columns = {"path": pa.string(), "label": pa.string(), "confidence": pa.float32(), "probabilities": classes}
        return pa.schema({**columns, "error": pa.string(), "model_version": pa.string()})

    def key(self, images: Sequence[ListedImage]) -> str:
        """The name of the part of `images`: another one for another model, other files or contents, or other pixels."""
        reading = self.contract.brought.model_dump_json() if self.contract.brought else ""
        bits = [] if self.contract.bits is None else [f"{self.contract.bits} bits"]
        asked = [self.contract.weights_sha256, str(self.contract.temperature), self.called, reading, *bits]
        listed = [f"{image.path}\0{image.state}\0{image.error}" for image in images]
        return hashlib.sha256("\n".join([*asked, *self.contract.class_names, *listed]).encode()).hexdigest()


def predict_table(
    predictor: Predictor, sources: ListedSources, out: Path, *, progress: Progress = silent
) -> PredictionSummary:
    """Write `out`: path, label, confidence, probabilities (a struct of the classes), error and model_version per image.

    Finished parts lie in a hidden folder beside `out` until it is whole. A command that was killed continues with them,
    if neither the model nor the files of a part changed. Raises ConfigError where another process writes `out`.
    """
    count = len(sources.images)
    parts = {start: sources.images[start : start + PART] for start in range(0, count, PART)}
    keys = {start: predictor.key(part) for start, part in parts.items()}
    mark = hashlib.sha256(" ".join(keys.values()).encode()).hexdigest().encode()
    if out.exists() and _mark(out) == mark:
        return _summary(out, predictor.called, found=count)
    found = 0
    with alone(out) as folder:
        for start, part in parts.items():
            if (folder / keys[start]).is_file():
                found += len(part)
                continue
            table = _table(predictor, part, sources.threads, _shifted(progress, start, count))
            replace(folder / keys[start], partial(pq.write_table, table))
        files = [folder / key for key in keys.values()]
        replace(out, partial(_join, files, predictor.schema.with_metadata({MARK: mark})))
        shutil.rmtree(folder)
    return _summary(out, predictor.called, found=found)


def _table(predictor: Predictor, images: Sequence[ListedImage], threads: int, progress: Progress) -> pa.Table:
    """The rows of one part."""
    from selftrain.learn.models.predict import read_ahead
    from selftrain.learn.models.predict_files import FilePixels

    reads = {image.path: image.read for image in images}
    size = min(predictor.batch_size, len(images))
    pixels = FilePixels(
        tuple(reads),
        predictor.contract.image_size,
        as_ingest=False,
        read=lambda path: reads[path](path),
        threads=threads,
        bits=predictor.contract.bits,
    )
    logits: list[Floats] = []
    with pixels:
        for done, batch in read_ahead(pixels, np.arange(len(images)), size, padded=False):
            logits.append(predictor.logits(batch))
            progress(done, len(images))
    probs = softmax(np.concatenate(logits), predictor.contract.temperature)
    errors = {row: f"{unread.reason}: {unread.detail}" for row, unread in pixels.unread.items()}
    errors |= {row: image.error for row, image in enumerate(images) if image.error is not None}
    return _columns(predictor, [image.path for image in images], probs, errors)


def _columns(predictor: Predictor, paths: Sequence[str], probs: Floats, errors: Mapping[int, str]) -> pa.Table:
    """`paths` with their answers; a row in `errors` has nothing else."""
    names = predictor.contract.class_names
    unread = np.isin(np.arange(len(paths)), list(errors))
    best = probs.argmax(axis=1)
    columns = [pa.array(column, pa.float32()) for column in probs.T]
    classes = pa.StructArray.from_arrays(columns, list(names), mask=pa.array(unread))
    return pa.table(
        {
            "path": list(paths),
            "label": pa.array([names[place] for place in best], mask=unread),
            "confidence": pa.array(probs.max(axis=1).astype(np.float32), mask=unread),
            "probabilities": classes,
            "error": [errors.get(row) for row in range(len(paths))],
            "model_version": [predictor.called] * len(paths),
        },
        schema=predictor.schema,
    )


def _join(parts: Sequence[Path], schema: pa.Schema, file: Path) -> None:
    with pq.ParquetWriter(file, schema) as writer:
        for part in parts:
            writer.write_table(pq.read_table(part).cast(schema))


def parts_of(out: Path) -> Path:
    """The hidden folder beside `out` for its finished parts."""
    return out.with_name(f".{out.name}.parts")


@contextmanager
def alone(out: Path) -> Iterator[Path]:
    """The folder of the parts of `out`, while no other process writes there; raises ConfigError while one does."""
    folder = parts_of(out)
    lock = wait_for_lock(folder / "lock")
    if lock is None:
        raise ConfigError(f"another process writes {out}; wait for it, or choose another --out")
    try:
        yield folder
    finally:
        os.close(lock)


def _mark(out: Path) -> bytes | None:
    """What the table `out` was made from; None where the file is not a table of ours."""
    try:
        metadata: Mapping[bytes, bytes] = pq.read_schema(out).metadata or {}
    except (OSError, pa.ArrowInvalid):
        return None
    return metadata.get(MARK)


def _summary(out: Path, called: str, *, found: int) -> PredictionSummary:
    errors = pq.read_table(out, columns=["error"]).column("error")
    read = errors.null_count
    return PredictionSummary(out=out, model_version=called, images=len(errors), errors=len(errors) - read, found=found)


def _shifted(progress: Progress, start: int, count: int) -> Progress:
    def show(done: int, total: int, note: str = "") -> None:
        del total  # that of a part
        progress(start + done, count, note)

    return show
