"""Left-out files: how many a data set's quarantine table holds, and what can still be shown of some."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from selftrain.data.images.thumbnails import remnant
from selftrain.data.store.dataset import Dataset
from selftrain.errors import SelftrainError
from selftrain.report.page.run_facts import LeftOutFile

SHOWN = 6
"""Files per reason."""
MOST_BYTES = 64_000_000
"""Of a file that is read again for its picture."""


def counted(dataset: Dataset) -> dict[str, int]:
    """How many files the data set's table of left-out files holds, by reason."""
    return dict(Counter(reason for reason, _, _ in _rows(dataset)).most_common())


def left_out_files(dataset: Dataset, bits: int | None = None) -> dict[str, tuple[LeftOutFile, ...]]:
    """The first six files of each reason, in the order of the table, each with what can still be shown of it.

    Pixels come from the store, or else from the file itself, if it lies on this machine. Nothing is changed. `bits` is
    how many of 16 bits the grey pictures of the set fill.
    """
    first: dict[str, list[tuple[str, str]]] = {}
    for reason, path, detail in _rows(dataset):
        if len(first.setdefault(reason, [])) < SHOWN:
            first[reason].append((path, detail))
    index = dataset.store.index()
    index = index.filter(pc.is_valid(index["shard"]))
    paths, shards, numbers = (index[name].to_pylist() for name in ("path", "shard", "index"))
    stored = dict(zip(paths, zip(shards, numbers, strict=True), strict=True)) if first else {}
    return {
        reason: tuple(
            LeftOutFile(path, detail, _picture(dataset, path, stored.get(path), bits)) for path, detail in files
        )
        for reason, files in first.items()
    }


def _rows(dataset: Dataset) -> Iterator[tuple[str, str, str]]:
    """Reason, path and detail of each left-out file."""
    table = dataset.store.quarantine_path
    if not table.is_file():
        return
    with table.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            yield row.get("reason") or "?", row.get("origin") or "?", row.get("detail") or ""


def _picture(dataset: Dataset, path: str, place: tuple[str, int] | None, bits: int | None) -> str:
    try:
        if place is not None:
            return remnant(dataset.store.read([place[0]], np.array([place[1]], np.int64))[0], bits=bits)
        file = Path(path)
        small = file.is_file() and file.stat().st_size <= MOST_BYTES
        return remnant(file.read_bytes(), bits=bits) if small else ""
    except (OSError, ValueError, SelftrainError):
        return ""
