"""Gathering: the queue of a run, and what its page shows beside each image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selftrain.adapters.report.gathering import reviewed
from selftrain.adapters.runs.records import find_record, workspace_of
from selftrain.config import Place
from selftrain.data.label_log import NONE_OF_THEM, Standing, read_log, standing
from selftrain.data.manifest import Manifest, Split
from selftrain.data.store.dataset import Dataset
from selftrain.errors import InputError
from selftrain.reviewing.left_out import left_out_images
from selftrain.reviewing.questions import Question, questions
from selftrain.reviewing.queues import Material, QueueName, review_queue
from selftrain.reviewing.vectors import kept_vectors
from selftrain.selflabel.rounds.record import RunRecord
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels


@dataclass(frozen=True)
class RunToReview:
    """What a run and its data set hold for a review.

    - `standing`: what people have said of images by now.
    - `paths`: image_id -> where the user keeps it. `places`: image_id -> its shard, and its number there.
    - `labels`: image_id -> the labels that it has today, of the source or the log.
    - `bits`: how many of 16 bits its grey pictures fill.
    """

    record: RunRecord
    dataset: Dataset
    material: Material
    classes: tuple[str, ...]
    standing: Standing
    paths: Mapping[str, str]
    places: Mapping[str, tuple[str, int]]
    labels: Mapping[str, tuple[str, ...]]
    bits: int | None = None

    def queue(self, name: QueueName, *, limit: int, seed: int, spread_out: bool) -> tuple[Question, ...]:
        """The questions of the queue `name`, most urgent first, without images that people labelled since.

        Raises InputError where it holds none, or the run has not stored what it needs.
        """
        found = review_queue(
            self.material, name, limit=limit, seed=seed, known=self._known(name), spread_out=spread_out
        )
        if not found:
            raise InputError(
                f"the queue {name} holds no image that people have not labelled: take another --queue, such as "
                "uncertain"
            )
        return questions(self.material, found, paths=self.paths, labels=self.labels)

    def _known(self, name: QueueName) -> frozenset[str]:
        """The images that the queue does not ask about again."""
        now = self.standing
        match name:
            case QueueName.MISLABELLED:  # a label of the log may be wrong too, unless it was given against a doubt
                return frozenset((*now.settled, *now.disputed, *now.excluded))
            case QueueName.QUARANTINE:  # a label that does not settle leaves a conflict of the source as it is
                return frozenset((*now.settled.difference(now.disputed), *now.excluded))
            case _:
                return frozenset((*now.agreed, *now.disputed, *now.excluded))

    def read(self, image_id: str) -> bytes:
        """The image file `image_id` of the store. Raises KeyError for an unknown one, ManifestError for a lost one."""
        shard, number = self.places[image_id]
        return self.dataset.store.read([shard], np.array([number], np.int64))[0]


def place_of(run_id: str | None) -> tuple[RunRecord, Place]:
    """The record of the run with the id, name or prefix `run_id`, and where its data set is; None: the latest.

    Raises SourceError for an unknown run.
    """
    record = find_record(run_id)
    return record, Place(workspace=str(workspace_of(record.run_id)), dataset=record.name)


def gather(run_id: str | None) -> RunToReview:
    """What the run with the id, name or prefix `run_id` holds for a review; None: the latest.

    Raises SourceError for an unknown run, InputError for a detector's, and LabelLogError for a damaged label log.
    """
    record, rounds, dataset, manifest = reviewed(run_id)
    return to_review(record, rounds, dataset, manifest)


def to_review(
    record: RunRecord, rounds: tuple[PseudoLabels, ...], dataset: Dataset, stored: Manifest | None
) -> RunToReview:
    """What a run with this `record`, the pseudo-labels of its `rounds`, and its data set hold for a review.

    The manifest of the data set counts; `stored` is that of the run, for a data set that has none. Raises InputError
    for a detector's run: to the next one, an image with a class and without boxes would be background.
    """
    if record.metric == "map":
        raise InputError(
            f"run {record.run_id[:8]} trains a detector, and a review asks for classes; correct boxes in the tool that "
            "drew them, and give the next run the new COCO file"
        )
    store = dataset.store
    manifest = Manifest.read(store.manifest_path) if store.manifest_path.exists() else stored
    index, now = store.index(), standing(read_log(store.root))
    kept = index.filter(pc.is_valid(index["shard"]))
    ids, paths, *places = (kept[name].to_pylist() for name in ("image_id", "path", "shard", "index"))
    own = {} if manifest is None else _human_labels(manifest)
    pool = rounds[-1].table["image_id"].to_pylist() if rounds else []
    seen = [*own, *(each for each in pool if each not in own)]
    classes = manifest.label_map.names if manifest is not None else rounds[-1].class_names if rounds else ()
    material = Material(
        rounds=rounds,
        labels=own,
        left_out=left_out_images(store.quarantine_path, index, now.disputed),
        vectors=kept_vectors(dataset.workspace.features_cache, seen),
        label_vectors=kept_vectors(dataset.workspace.features_cache, list(own)),
    )
    return RunToReview(
        record=record,
        dataset=dataset,
        material=material,
        classes=tuple(classes),
        standing=now,
        paths=dict(zip(ids, paths, strict=True)),
        places=dict(zip(ids, zip(*places, strict=True), strict=True)),
        labels=_labels(own, now),
        bits=None if manifest is None else manifest.bits,
    )


def _human_labels(manifest: Manifest) -> dict[str, str]:
    """The human labels of training and validation; test stays out of what is looked at by a model's answers."""
    rows = np.sort(np.concatenate([manifest.rows(Split.TRAIN), manifest.rows(Split.VALIDATION)]))
    codes = manifest.labels()[rows]
    ids = manifest.table["image_id"].take(pa.array(rows)).to_pylist()
    names = manifest.label_map.names
    pairs = zip(ids, codes.tolist(), strict=True)
    return {image_id: names[code] for image_id, code in pairs if code >= 0}


def _labels(own: Mapping[str, str], now: Standing) -> dict[str, tuple[str, ...]]:
    """All that holds of what people said of each image, and the source."""
    said = {image_id: {label: None} for image_id, label in own.items()}
    for image_id, label in now.agreed.items():
        said[image_id] = {label: None}
    for image_id, labels in now.disputed.items():
        said[image_id] = dict.fromkeys(labels)
    for image_id in now.excluded:
        said[image_id] = {NONE_OF_THEM: None}
    return {image_id: tuple(labels) for image_id, labels in said.items()}
