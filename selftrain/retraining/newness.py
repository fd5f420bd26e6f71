"""Newness: which of the images that were taken in no decided run has seen, known by content and never by time."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def new_images(intake: pa.Table, *, seen_rows: int, elsewhere: pa.ChunkedArray) -> list[str]:
    """The image_ids, each once and in order, that the rows of `intake` after the first `seen_rows` bring.

    Rows without an image_id are unusable files. An image that an earlier row has, or that is among `elsewhere` (the
    image_ids of the experiment's own source), is a copy.
    """
    ids = intake["image_id"]
    known = set(ids[:seen_rows].drop_null().to_pylist())
    fresh = ids[seen_rows:].drop_null()
    fresh = fresh.filter(pc.invert(pc.is_in(fresh, value_set=_flat(elsewhere))))
    return [each for each in dict.fromkeys(fresh.to_pylist()) if each not in known]


def rows_seen(intake: pa.Table, listing: pa.Table) -> int:
    """How many rows of `intake`, from its first, a run saw that worked from `listing`.

    The intake only grows, and a listing holds all usable files of one moment, by path, size and time. Unusable files
    after the last usable one count as not seen, which changes nothing.
    """
    listed = set(zip(*(listing[name].to_pylist() for name in ("path", "size", "mtime_ns")), strict=True))
    rows = zip(*(intake[name].to_pylist() for name in ("path", "size", "mtime_ns")), strict=True)
    usable = np.asarray(pc.is_valid(intake["image_id"]))
    seen = [index for index, row in enumerate(rows) if usable[index] and row in listed]
    return seen[-1] + 1 if seen else 0


def _flat(column: pa.ChunkedArray) -> pa.Array:
    return column.drop_null().combine_chunks() if len(column) else pa.array([], pa.string())
