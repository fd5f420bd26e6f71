"""Newness: which of the images that were taken in no decided run has seen, known by content and never by time."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selftrain.data.intake_table import stored_names


def new_images(intake: pa.Table, *, seen_rows: int) -> list[str]:
    """The image_ids, each once and in order, that the rows of `intake` after the first `seen_rows` bring.

    A row with a reason brings none: its file is unusable, was left out, or is a copy of what the data set held.
    """
    rows = intake.slice(seen_rows)
    brought = rows.filter(pc.and_(pc.is_valid(rows["image_id"]), pc.is_null(rows["reason"])))
    return list(dict.fromkeys(brought["image_id"].to_pylist()))


def rows_seen(intake: pa.Table, listing: pa.Table) -> int:
    """How many rows of `intake`, from its first, a run saw that worked from `listing`.

    The intake only grows, and a listing holds the images of one moment, each once. Rows that bring no image count as
    seen if a later one that does was seen; those after it change nothing.
    """
    names = pa.array(stored_names(intake), pa.string())
    listed = np.asarray(pc.is_in(names, value_set=listing["path"].combine_chunks()))
    seen = np.flatnonzero(listed & np.asarray(pc.is_valid(intake["image_id"])))
    return int(seen[-1]) + 1 if len(seen) else 0
