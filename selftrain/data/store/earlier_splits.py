"""Earlier splits: the split that each image had in an earlier manifest, also of images that left the data set."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from selftrain.data.manifest import Manifest, Split
from selftrain.data.store.image_store import ImageStore
from selftrain.files.writing import replace

Bools = npt.NDArray[np.bool_]
DEPARTED = "departed.parquet"
_SCHEMA = pa.schema([("image_id", pa.string()), ("split", pa.string())])


@dataclass(frozen=True)
class EarlierSplits:
    """One row (image_id, split) for every image that a manifest of the data set ever held, as last split."""

    table: pa.Table

    @classmethod
    def of(cls, store: ImageStore, previous: Manifest | None) -> EarlierSplits:
        """Those of `previous`, the store's manifest, and of the images that left it before."""
        path = store.root / DEPARTED
        departed = pq.ParquetFile(path).read() if path.exists() else _SCHEMA.empty_table()
        if previous is None:
            return cls(departed)
        return cls(_later_first(previous.table.select(_SCHEMA.names).cast(_SCHEMA), departed))

    @cached_property
    def labelled(self) -> dict[str, str]:
        """image_id -> split of the images with human labels."""
        rows = self.table.filter(pc.not_equal(self.table["split"], str(Split.UNLABELED)))
        return dict(zip(rows["image_id"].to_pylist(), rows["split"].to_pylist(), strict=True))

    def in_pool(self, image_ids: pa.Array | pa.ChunkedArray) -> Bools:
        """(n,) True for an image that was last seen in the unlabelled pool: models may have learned from it."""
        pool = self.table.filter(pc.equal(self.table["split"], str(Split.UNLABELED)))["image_id"]
        return np.array(pc.is_in(image_ids, value_set=pool.combine_chunks()), dtype=np.bool_)

    def remember(self, store: ImageStore, manifest: Manifest) -> None:
        """Keep the splits of those that `manifest` has no longer: an image that comes back goes where it was."""
        gone = self.table.filter(
            pc.invert(pc.is_in(self.table["image_id"], manifest.table["image_id"].combine_chunks()))
        )
        path = store.root / DEPARTED
        if gone.num_rows or path.exists():
            replace(path, lambda part: pq.write_table(gone.sort_by("image_id"), part, compression="zstd"))


def _later_first(later: pa.Table, departed: pa.Table) -> pa.Table:
    """Both tables as one; an image in both has the split of `later`."""
    only = departed.filter(pc.invert(pc.is_in(departed["image_id"], later["image_id"].combine_chunks())))
    return pa.concat_tables([later, only]).combine_chunks()
