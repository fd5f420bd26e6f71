"""Object counts: how many objects of each class an image shows, as a listing keeps them and as a split weighs them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

if TYPE_CHECKING:
    from selftrain.data.annotations.table import Annotations, Texts

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ObjectCounts:
    """The objects of n images: columns of equal length (k,), one row for each class that an image shows.

    `image` are the rows of the images, ascending, and `label` positions in `names`; `count` is 1 or more.
    """

    image: Int64s
    label: Int64s
    count: Int64s
    names: tuple[str, ...]

    @classmethod
    def of(cls, annotations: Annotations, image_ids: Texts) -> ObjectCounts:
        """The objects of the images `image_ids` (n,), crowds aside."""
        first, many = annotations.spans(image_ids)
        image = np.repeat(np.arange(len(first)), many)
        rows = np.arange(int(many.sum())) + np.repeat(first - (np.cumsum(many) - many), many)
        real = ~annotations.crowd[rows]
        pairs = np.stack([image[real], annotations.labels[rows][real]], axis=1).astype(np.int64)
        found, count = np.unique(pairs, axis=0, return_counts=True)
        return cls(found[:, 0], found[:, 1], count.astype(np.int64), annotations.label_map.names)

    @classmethod
    def read(cls, texts: pa.ChunkedArray | pa.Array) -> ObjectCounts:
        """The counts in `texts` (n,), as `texts` makes them; null for an image of which nothing is known."""
        rows = [(row, json.loads(text)) for row, text in enumerate(texts.to_pylist()) if text is not None]
        names = tuple(sorted({name for _, said in rows for name in said}))
        code = {name: k for k, name in enumerate(names)}
        found = [(row, code[name], many) for row, said in rows for name, many in sorted(said.items())]
        table = np.array(found, np.int64).reshape(-1, 3)
        return cls(table[:, 0], table[:, 1], table[:, 2], names)

    def texts(self, n: int) -> list[str]:
        """One text for each of the n images: a JSON object from the names of classes to counts.

        >>> ObjectCounts(np.array([0, 0]), np.array([0, 1]), np.array([3, 1]), ("cell", "dust")).texts(2)
        ['{"cell": 3, "dust": 1}', '{}']
        """
        said: list[dict[str, int]] = [{} for _ in range(n)]
        for image, label, count in zip(self.image.tolist(), self.label.tolist(), self.count.tolist(), strict=True):
            said[image][self.names[label]] = count
        return [json.dumps(each, sort_keys=True, ensure_ascii=False) for each in said]

    def take(self, rows: Int64s) -> ObjectCounts:
        """The counts of the images at `rows`, ascending, which become rows 0 to k - 1."""
        place = np.searchsorted(rows, self.image)
        inside = np.isin(self.image, rows)
        return ObjectCounts(place[inside], self.label[inside], self.count[inside], self.names)

    def of_images(self, chosen: npt.NDArray[np.bool_]) -> ObjectCounts:
        """The counts of the images where `chosen` (n,) is true; rows keep their numbers."""
        own = chosen[self.image]
        return ObjectCounts(self.image[own], self.label[own], self.count[own], self.names)
