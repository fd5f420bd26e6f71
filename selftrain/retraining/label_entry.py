"""Label entry: labels that people give later go into a data set's label log, and conflicts are listed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from selftrain.data.label_log import LABEL_LOG_SCHEMA, append_lines, read_log, standing
from selftrain.data.manifest import Manifest
from selftrain.data.sources.late_labels import with_labels
from selftrain.data.sources.listing import Listing
from selftrain.data.store.image_store import ImageStore
from selftrain.errors import LabelLogError
from selftrain.retraining.label_file import LabelledBy, read_label_file

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
    """What the label log of a data set says: `added` lines this time, `known` rows that it had already."""

    model_config = ConfigDict(frozen=True)

    dataset: str
    added: int = 0
    known: int = 0
    lines: int
    labelled: int
    conflicts: tuple[Conflict, ...]


@dataclass(frozen=True)
class LabelledSet:
    """A data set that labels are given to: its store, and the name that the report calls it by."""

    store: ImageStore
    name: str

    def take(self, path: Path, *, default: LabelledBy, settle: bool) -> LabelReport:
        """Add the rows of the label file at `path` to the log, all or none; rows that it has already are left out.

        A label of the manifest that one of the rows contradicts is added as the line of the source, so that the log
        alone says what is in conflict. Raises LabelLogError where the rows do not fit the data set.
        """
        with self.store.locked():
            manifest, index, log = self._manifest(), self.store.index(), read_log(self.store.root)
            names = manifest.label_map.names
            lines = read_label_file(path, index, classes=names, default=default, settles=settle)
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
            conflicts=_conflicts(log, list(now.disputed), self.store.index()) if now.disputed else (),
        )

    def _manifest(self) -> Manifest:
        if not self.store.manifest_path.exists():
            raise LabelLogError(f"the data set {self.name!r} holds no image yet; run once, then give labels")
        return Manifest.read(self.store.manifest_path)


def labelled_listing(listing: Listing, store: ImageStore) -> Listing:
    """`listing` with the labels of the store's label log."""
    log = read_log(store.root)
    return with_labels(listing, log, store.index()) if log.num_rows else listing


def _not_known(lines: pa.Table, log: pa.Table, default: LabelledBy) -> pa.Table:
    """The `lines` that neither the log nor an earlier one of them says already.

    A settling line is known where its label is settled. Any other is known if the same person gave the same label, at
    the same time if the file has one: a file that comes twice adds nothing.
    """
    now, keys = standing(log), _keys(log)
    seen = {*keys, *((*key[:3], None) for key in keys)}
    taken: set[Key] = set()
    new: list[int] = []
    for row, (key, settles) in enumerate(zip(_keys(lines), lines["settles"].to_pylist(), strict=True)):
        image_id, label, who, when = key
        key = (image_id, label, who, None if when == default.when else when)
        is_settled = image_id in now.settled and now.agreed.get(image_id) == label
        if key not in taken and not (is_settled if settles else key in seen):
            new.append(row)
        taken.add(key)
    return lines.take(pa.array(new, pa.int64()))


Key = tuple[str, str, str, datetime | None]


def _keys(lines: pa.Table) -> list[Key]:
    return list(zip(*(lines[name].to_pylist() for name in ("image_id", "label", "who", "when")), strict=True))


def _contradicted(lines: pa.Table, log: pa.Table, manifest: Manifest, when: datetime) -> pa.Table:
    """Lines with the manifest's own labels of the images to which `lines` give another one, if the log lacks them."""
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
    lines = log.filter(pc.is_in(log["image_id"], pa.array(image_ids))).to_pylist()
    paths = dict(zip(index["image_id"].to_pylist(), index["path"].to_pylist(), strict=True))
    said: dict[str, list[Said]] = {image_id: [] for image_id in image_ids}
    for line in lines:
        said[line["image_id"]].append(Said.model_validate(line))
    disputed = standing(log).disputed
    return tuple(
        Conflict(image_id=each, path=paths.get(each, ""), labels=disputed[each], said=tuple(said[each]))
        for each in image_ids
    )
