"""The data of a detector's training: the images of a manifest, from the store, with the objects beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from selftrain.data.annotations.table import CORNERS, Annotations
from selftrain.data.manifest import Manifest, Split
from selftrain.data.store.dataset import Dataset
from selftrain.evaluate.average_precision import Boxes
from selftrain.selflabel.detection.photos import WHOLE, Photos, longest_for, objects_of, outlined

if TYPE_CHECKING:
    from selftrain.learn.detection.scenes import Scenes
    from selftrain.learn.shapes.objects import Objects


@dataclass(frozen=True)
class DetectionData:
    """Images of a manifest, and what people marked in them; `objects` may lack those of some splits."""

    manifest: Manifest
    objects: Annotations
    dataset: Dataset

    @property
    def class_names(self) -> tuple[str, ...]:
        """What is to be found; the manifest's own labels are strata."""
        return self.objects.label_map.names

    def scenes(self, split: Split, *, longest: int = WHOLE) -> Scenes:
        """The images of a split with their objects, at most `longest` pixels long."""
        from selftrain.learn.detection.scenes import Scenes

        images = self._images(split)
        shards = images["shard"].cast(pa.string()).to_pylist()
        index, store = images["index"].to_numpy(), self.dataset.store
        photos = Photos(
            len(shards), lambda at: store.read([shards[at]], index[at : at + 1].astype(np.int64))[0], longest=longest
        )
        return Scenes(photos, objects_of(self.objects, images, name="image_id", longest=longest))

    def marked(self, split: Split) -> list[Boxes]:
        """What people marked in each image of a split, in its own pixels."""
        own = objects_of(self.objects, self._images(split), name="image_id", longest=WHOLE)
        return [marked_boxes(each) for each in own]

    def outlined(self) -> float:
        """The share of the training images' objects that have an outline."""
        return outlined(self.objects, self._images(Split.TRAIN), name="image_id")

    def as_annotations(self, split: Split, found: Sequence[Boxes], *, teacher: str) -> Annotations:
        """Detections in each image of a split as a table: the model `teacher` found them."""
        ids = self._images(split)["image_id"].to_pylist()
        counts = [len(each.boxes) for each in found]
        boxes = np.concatenate([np.empty((0, 4), np.float32), *(each.boxes for each in found)])
        columns = {
            "image_id": np.repeat(np.array(ids, object), counts),
            "label": np.concatenate([np.empty(0, np.int64), *(each.classes for each in found)]),
            **{name: boxes[:, k] for k, name in enumerate(CORNERS)},
            "crowd": np.zeros(len(boxes), np.bool_),
            "mask": [mask for each in found for mask in _counts(each)],
            "source": ["pseudo"] * len(boxes),
            "score": np.concatenate([np.empty(0, np.float32), *(each.scores for each in found)]),
            "teacher": [teacher] * len(boxes),
            "round": np.zeros(len(boxes), np.int16),
        }
        return Annotations.build(pa.table(columns), self.objects.label_map)

    def found(self, split: Split, detections: Annotations) -> list[Boxes]:
        """What `as_annotations` made a table of, for each image of a split."""
        first, count = detections.spans(self._images(split)["image_id"])
        spans = [slice(int(start), int(start + many)) for start, many in zip(first, count, strict=True)]
        labels = detections.labels.astype(np.int64)
        return [Boxes.found(detections.boxes[each], labels[each], detections.scores[each]) for each in spans]

    def longest(self, view: int) -> int:
        """See `photos.longest_for`, by the training images."""
        return longest_for(self.objects, self._images(Split.TRAIN), name="image_id", view=view)

    def _images(self, split: Split) -> pa.Table:
        return self.manifest.table.take(pa.array(self.manifest.rows(split)))


def marked_boxes(objects: Objects) -> Boxes:
    """What people marked in an image, with its masks, as an evaluation reads it."""
    return Boxes.marked(objects.boxes, objects.classes, objects.ignored, _masks(objects))


def _masks(objects: Objects) -> NDArray[np.object_] | None:
    """The masks (k,) of what people marked, as pycocotools has them; None for an object without one."""
    if objects.outlines is None:
        return None
    out = np.empty(len(objects), object)
    for row, outline in enumerate(objects.outlines):
        out[row] = None if outline is None else outline.whole
    return out


def _counts(found: Boxes) -> list[bytes | None]:
    return [None] * len(found.boxes) if found.masks is None else [each["counts"] for each in found.masks]
