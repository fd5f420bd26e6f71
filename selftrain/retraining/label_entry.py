"""Label entry: labels that people give later go into a data set's label log, and conflicts are listed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from selftrain.data.label_log import LABEL_LOG_SCHEMA, NONE_OF_THEM, append_lines, in_force, read_log, standing
from selftrain.data.manifest import Manifest
from selftrain.data.sources.late_labels import with_labels
from selftrain.data.sources.listing import Listing
from selftrain.data.store.image_store import ImageStore
from selftrain.errors import LabelLogError
from selftrain.retraining.label_file import LabelledBy, Purpose, read_label_file

SOURCE = "source"  # who gave a label that stood in the data set before the log


class Said(BaseModel):
    """One label of an image: who gave it, when, and what was shown."""

    model_config = ConfigDict(frozen=True)

    label: str
    who: str
    when: datetime
    settles: bool
    shown: str | None = None


class Conflict(BaseModel):
    """An image whose labels contradict each other: none of them is used until one is settled."""

    model_config = ConfigDict(frozen=True)

    image_id: str
    path: str
    labels: tuple[str, ...]
    said: tuple[Said, ...]


class LabelReport(BaseModel):
    """What the label log of a data set says: `added` lines this time, `known` rows that it had already.

    `labelled` counts images with a label of the log, `retracted` those whose labels were taken back, with none since.
    """

    model_config = ConfigDict(frozen=True)

    dataset: str
    added: int = 0
    known: int = 0
    lines: int
    labelled: int
    retracted: int = 0
    conflicts: tuple[Conflict, ...]


@dataclass(frozen=True)
class LabelledSet:
    """A data set that labels are given to: its store, and the name that the report calls it by.

    `classes` gives the classes of a data set that was collected, but that no run has made a manifest of.
    """

    store: ImageStore
    name: str
    classes: Callable[[], Sequence[str]] = tuple

    def take(self, path: Path, *, default: LabelledBy, purpose: Purpose = "add") -> LabelReport:
        """Add the rows of the label file at `path` to the log, all or none; rows that it has already are left out.

        A label of the manifest that one of the rows contradicts is added as the line of the source, so that the log
        alone says what is in conflict. Rows that retract become lines without a label. Raises LabelLogError where the
        rows do not fit the data set.
        """
        with self.store.locked():
            manifest, index, log = self._manifest(), self.store.index(), read_log(self.store.root)
            if manifest is None and not index.num_rows:
                raise LabelLogError(f"the data set {self.name!r} holds no image yet; run or collect once, then label")
            names = manifest.label_map.names if manifest is not None else self.classes()
            lines = read_label_file(path, index, classes=names, default=default, purpose=purpose)
            if purpose == "retract":
                new = added = _taking_back(lines, log)
            else:
                new = _not_known(lines, log, default)
                added = pa.concat_tables([_contradicted(new, log, manifest, default.when), new])
            if added.num_rows:
                append_lines(self.store.root, added)
        return self.report().model_copy(update={"added": new.num_rows, "known": lines.num_rows - new.num_rows})

    def report(self) -> LabelReport:
        """What the log says now."""
        log = read_log(self.store.root)
        now = standing(log)
        return LabelReport(
            dataset=self.name,
            lines=log.num_rows,
            labelled=len(now.agreed),
            retracted=len(now.retracted),
            conflicts=_conflicts(log, list(now.disputed), self.store.index()) if now.disputed else (),
        )

    def _manifest(self) -> Manifest | None:
        """That of the last run; None before the first."""
        return Manifest.read(self.store.manifest_path) if self.store.manifest_path.exists() else None


def labelled_listing(listing: Listing, store: ImageStore) -> Listing:
    """`listing` with the labels of the store's label log."""
    log = read_log(store.root)
    return with_labels(listing, log, store.index()) if log.num_rows else listing


def _not_known(lines: pa.Table, log: pa.Table, default: LabelledBy) -> pa.Table:
    """The `lines` that neither the log nor an earlier one of them says already.

    A settling line is known where its label is settled, or was by the same person at the same time. Any other is known
    if the same person gave the same label, at the same time if the file has one: a file that comes twice adds nothing.
    """
    holding = in_force(log)
    now, keys, ends = standing(log), _keys(holding), holding["settles"].to_pylist()
    ended = {key for key, settles in zip(keys, ends, strict=True) if settles}
    seen = {*keys, *((*key[:3], None) for key in keys)}
    taken: set[Key] = set()
    new: list[int] = []
    for row, (key, settles) in enumerate(zip(_keys(lines), lines["settles"].to_pylist(), strict=True)):
        image_id, label, who, when = key
        key = (image_id, label, who, None if when == default.when else when)
        is_settled = key in ended or (image_id in now.settled and now.agreed.get(image_id) == label)
        if key not in taken and not (is_settled if settles else key in seen):
            new.append(row)
        taken.add(key)
    return lines.take(pa.array(new, pa.int64()))


def _taking_back(lines: pa.Table, log: pa.Table) -> pa.Table:
    """`lines` as those that take labels back, one per image; images whose labels are taken back already are left out.

    Raises LabelLogError for an image that has no label of the log, or not the one that its line names.
    """
    said: dict[str, set[str | None]] = {}
    now, before = standing(log), in_force(log)
    for image_id, label in zip(before["image_id"].to_pylist(), before["label"].to_pylist(), strict=True):
        said.setdefault(image_id, {None}).add(label)
    rows: dict[str, int] = {}
    for row, (image_id, label, _, _) in enumerate(_keys(lines)):
        if image_id not in now.retracted and label not in said.get(image_id, ()):
            what = f"the label {label!r}" if label else "a label"
            raise LabelLogError(
                f"row {row + 1}: the image {image_id} has not got {what} by `selftrain label`, so there is nothing to "
                "take back; remove the row. Nothing was written"
            )
        if image_id not in now.retracted:
            rows.setdefault(image_id, row)
    taken = lines.take(pa.array(list(rows.values()), pa.int64()))
    return taken.set_column(1, LABEL_LOG_SCHEMA.field("label"), pa.nulls(taken.num_rows, pa.string()))


Key = tuple[str, str | None, str, datetime | None]


def _keys(lines: pa.Table) -> list[Key]:
    return list(zip(*(lines[name].to_pylist() for name in ("image_id", "label", "who", "when")), strict=True))


def _contradicted(lines: pa.Table, log: pa.Table, manifest: Manifest | None, when: datetime) -> pa.Table:
    """Lines with the manifest's own labels of the images to which `lines` give another one, if the log lacks them."""
    if manifest is None:
        return LABEL_LOG_SCHEMA.empty_table()
    log = in_force(log)
    ids = lines["image_id"].unique()
    rows = np.asarray(pc.fill_null(pc.index_in(ids, manifest.table["image_id"].combine_chunks()), -1))
    labels = manifest.labels()[rows]
    own = {
        image_id: manifest.label_map.names[label]
        for image_id, row, label in zip(ids.to_pylist(), rows, labels, strict=True)
        if row >= 0 and label >= 0
    }
    logged = set(zip(log["image_id"].to_pylist(), log["label"].to_pylist(), strict=True))
    pairs = zip(lines["image_id"].to_pylist(), lines["label"].to_pylist(), strict=True)
    against = {image_id for image_id, label in pairs if own.get(image_id, label) != label}
    new = sorted(image_id for image_id in against if (image_id, own[image_id]) not in logged)
    columns = {
        "image_id": new,
        "label": [own[image_id] for image_id in new],
        "who": [SOURCE] * len(new),
        "when": [when] * len(new),
        "settles": [False] * len(new),
        "shown": [None] * len(new),
    }
    return pa.table(columns, schema=LABEL_LOG_SCHEMA)


def _conflicts(log: pa.Table, image_ids: list[str], index: pa.Table) -> tuple[Conflict, ...]:
    """The disputed images with everything that was said of each, in the order in which the first conflicts began."""
    log = in_force(log)
    lines = log.filter(pc.is_in(log["image_id"], pa.array(image_ids))).to_pylist()
    paths = dict(zip(index["image_id"].to_pylist(), index["path"].to_pylist(), strict=True))
    said: dict[str, list[Said]] = {image_id: [] for image_id in image_ids}
    for line in lines:
        said[line["image_id"]].append(Said.model_validate({**line, "label": line["label"] or NONE_OF_THEM}))
    disputed = standing(log).disputed
    return tuple(
        Conflict(image_id=each, path=paths.get(each, ""), labels=disputed[each], said=tuple(said[each]))
        for each in image_ids
    )
