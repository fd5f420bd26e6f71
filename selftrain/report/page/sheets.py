"""Contact sheets: which images of a round a page shows, and what it says of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from selftrain.selflabel.selection.pseudo_labels import PseudoLabels, RejectionReason

Ints = npt.NDArray[np.int64]
MOST_IMAGES = 24
"""Images per contact sheet, whatever the pool."""
MOST_ROUNDS = 4
"""The newest rounds have contact sheets and charts; the table of rounds holds all."""
_REASONS = {
    RejectionReason.ACCEPTED: "at or above the threshold",
    RejectionReason.BELOW_THRESHOLD: "below the threshold",
    RejectionReason.OVER_QUOTA: "over the quota of its class",
}


@dataclass(frozen=True)
class Entry:
    """One pseudo-label on a sheet: the image, what its teacher said, and why it was or was not accepted."""

    image_id: str
    label: str
    confidence: float
    accepted: bool
    reason: str
    before: str | None = None


@dataclass(frozen=True)
class Sheet:
    """Some images of a round: `total` fit the title, and `rule` says which of them are shown."""

    title: str
    rule: str
    total: int
    entries: tuple[Entry, ...]


def sheets(labels: PseudoLabels, before: PseudoLabels | None = None) -> tuple[Sheet, ...]:
    """The sheets of a round: accepted, borderline, rejected, and flipped since the round `before`."""
    table = labels.table
    accepted = np.asarray(table["accepted"], dtype=np.bool_)
    predicted = table["label"].to_numpy().astype(np.int64)
    drawn = _drawn_order(table)
    distance = np.abs(table["confidence"].to_numpy() - np.asarray(labels.cutoffs)[predicted])
    by_chance = "drawn by image id, evenly over the predicted classes"
    kept, rest = np.flatnonzero(accepted), np.flatnonzero(~accepted)
    found = [
        _sheet("Accepted", by_chance, labels, _evenly(kept, predicted, drawn)),
        _borderline(labels, kept, rest, distance),
        _sheet("Rejected", by_chance, labels, _evenly(rest, predicted, drawn)),
    ]
    if before is not None:
        rows, old = _flipped(labels, before)
        rule = f"another label than in round {before.round}; the most confident come first"
        found.append(_sheet("Flipped", rule, labels, rows, [before.class_names[each] for each in old]))
    return tuple(found)


def shown(labels: Sequence[PseudoLabels]) -> list[tuple[PseudoLabels, tuple[Sheet, ...]]]:
    """The newest rounds with their sheets, newest first."""
    newest = range(len(labels) - 1, max(-1, len(labels) - 1 - MOST_ROUNDS), -1)
    return [(labels[index], sheets(labels[index], labels[index - 1] if index else None)) for index in newest]


def _sheet(title: str, rule: str, labels: PseudoLabels, rows: Ints, old: Sequence[str] = ()) -> Sheet:
    return Sheet(title, rule, len(rows), _entries(labels, rows[:MOST_IMAGES], old))


def _borderline(labels: PseudoLabels, kept: Ints, rest: Ints, distance: npt.NDArray[np.float64]) -> Sheet:
    """Those nearest to the threshold of their class: half accepted, half rejected, as far as there are any."""
    half = MOST_IMAGES // 2
    above, below = (rows[np.argsort(distance[rows], kind="stable")][:half] for rows in (kept, rest))
    rows = np.concatenate([above, below])
    rule = f"the {half} accepted and the {half} rejected images nearest to the threshold of their class"
    return Sheet("Borderline", rule, len(rows), _entries(labels, rows))


def _entries(labels: PseudoLabels, rows: Ints, old: Sequence[str] = ()) -> tuple[Entry, ...]:
    columns = labels.table.select(["image_id", "label", "confidence", "accepted", "reason"]).take(pa.array(rows))
    return tuple(
        Entry(
            image_id=row["image_id"],
            label=labels.class_names[row["label"]],
            confidence=row["confidence"],
            accepted=row["accepted"],
            reason=_REASONS[RejectionReason(row["reason"])],
            before=old[index] if old else None,
        )
        for index, row in enumerate(columns.to_pylist())
    )


def _drawn_order(table: pa.Table) -> Ints:
    """(n,) the place of each row in the order of image ids. These are digests, so the order is one by chance."""
    order: Ints = pc.sort_indices(table["image_id"]).to_numpy().astype(np.int64)
    place: Ints = np.empty_like(order)
    place[order] = np.arange(len(order))
    return place


def _evenly(rows: Ints, predicted: Ints, drawn: Ints) -> Ints:
    """`rows`, taken in turn from each predicted class, in drawn order within a class."""
    ranked = rows[np.lexsort((drawn[rows], predicted[rows]))]
    classes = predicted[ranked]
    starts = np.flatnonzero(np.append(True, classes[1:] != classes[:-1])) if len(ranked) else np.zeros(0, np.int64)
    turn = np.arange(len(ranked)) - np.repeat(starts, np.diff(np.append(starts, len(ranked))))
    order: Ints = np.lexsort((classes, turn))
    return ranked.take(order)


def _flipped(labels: PseudoLabels, before: PseudoLabels) -> tuple[Ints, list[int]]:
    """Rows with another label than `before`, the most confident first, and their old labels."""
    position = pc.index_in(labels.table["image_id"], value_set=before.table["image_id"].combine_chunks())
    place = np.asarray(pc.fill_null(position, -1), dtype=np.int64)
    old = np.append(before.table["label"].to_numpy(), -1)[place]
    rows = np.flatnonzero((place >= 0) & (old != labels.table["label"].to_numpy()))
    rows = rows[np.argsort(-labels.table["confidence"].to_numpy()[rows], kind="stable")]
    return rows, old[rows[:MOST_IMAGES]].tolist()
