"""What do groups and late labels cost on 100,000 images? The split with groups, over the split without them.

Half of the images lie in groups of five, of mixed classes; 1 in 50 has a near-duplicate. The new night adds a tenth to
a set that is split already. Late labels: 100,000 lines of the log, given to a listing of 100,000 files.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from benchmarks import timing
from benchmarks.record import Check, Result
from selftrain.config import Splitting
from selftrain.data.sources.late_labels import with_labels
from selftrain.data.sources.listing import Listing
from selftrain.data.splits.group_split import UserGroups, groups_of
from selftrain.data.splits.split import assign

ROWS, CLASSES = 100_000, 10
COST, SECONDS = 2.0, 2.0
REPETITIONS = 5
NOON = datetime(2026, 12, 1, tzinfo=UTC)


def measure(*, quick: bool) -> Result:
    """The split of all images, of a night more, and the late labels, in turns."""
    rows = ROWS // 20 if quick else ROWS
    ids, labels, near, groups = _images(rows)
    known = {"splitting": Splitting(), "class_names": [str(k) for k in range(CLASSES)]}
    old = rows * 9 // 10
    first = assign(ids[:old], labels[:old], near[:old], user_groups=groups.take(np.arange(old)), **known)
    before = dict(zip(ids[:old].tolist(), first.splits.tolist(), strict=True))
    listing, log, index = _labelled_later(ids)
    calls = {
        "alone": lambda: assign(ids, labels, near, **known),
        "grouped": lambda: assign(ids, labels, near, user_groups=groups, **known),
        "a_night_more": lambda: assign(ids, labels, near, user_groups=groups, previous=before, **known),
        "groups_of_paths": lambda: groups_of(listing, group_from=r"camera(\d+)"),
        "late_labels": lambda: with_labels(listing, log, index),
    }
    taken = timing.in_turns(calls, repetitions=1 if quick else REPETITIONS)
    seconds = {name: timing.median(times).cpu for name, times in taken.items()}
    extra = seconds["groups_of_paths"] + seconds["late_labels"]
    ratio = seconds["grouped"] / seconds["alone"]
    return Result(
        checks=(
            Check(
                what=f"{ROWS:,} rows, split with groups over split without", measured=ratio, relation="<=", target=COST
            ),
            Check(
                what=f"{ROWS:,} rows, groups of paths and late labels",
                measured=extra,
                relation="<",
                target=SECONDS,
                unit="s",
            ),
        ),
        details={"images": rows, "seconds": timing.as_json(taken)},
    )


def _images(rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, UserGroups]:
    """Ids, labels, near-duplicate groups and groups of `rows` images."""
    rng = np.random.default_rng(0)
    ids = np.array([hashlib.sha256(str(k).encode()).hexdigest() for k in range(rows)])
    labels = rng.integers(0, CLASSES, rows)
    near = np.arange(rows)
    copies = rng.choice(np.arange(1, rows), rows // 50, replace=False)
    copies = copies[labels[copies] == labels[copies - 1]]
    near[copies] = copies - 1
    code = np.where(np.arange(rows) < rows // 2, np.arange(rows) // 5, -1)
    return ids, labels, near, UserGroups(code, [f"camera{k}" for k in range(rows // 10)])


def _labelled_later(ids: np.ndarray) -> tuple[Listing, pa.Table, pa.Table]:
    """A listing of unlabelled files, a log with a label of each, and the index that ties the two."""
    rows = len(ids)
    paths = pa.array([f"inbox/camera{k // 5}/{k:06d}.jpg" for k in range(rows)])
    ones = pa.array(np.ones(rows, np.int64))
    nothing = pa.nulls(rows, pa.string())
    listing = Listing.build(
        pa.table({"path": paths, "label": nothing, "split": nothing, "size": ones, "mtime_ns": ones})
    )
    index = pa.table({"path": paths, "size": ones, "mtime_ns": ones, "image_id": pa.array(ids)})
    log = {"image_id": pa.array(ids), "label": ["0"] * rows, "when": [NOON] * rows, "settles": [False] * rows}
    return listing, pa.table(log), index
