"""Manifest frames: a manifest as the pandas tables that the expectations check.

`images` has one row per image, `classes` one per class and labelled split, `dataset` one row of totals. The schema has
a table of its own, with one row per column. Everything is vectorised: no row is a Python object.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from selftrain.data.manifest import SCHEMA, LabelSource, Manifest, Split
from selftrain.data.store.quality import QualityReport, quality

if TYPE_CHECKING:
    import pandas as pd

    from selftrain.data.store.image_store import ImageStore

LABELED = (Split.TRAIN, Split.VALIDATION, Split.TEST)
HELD_OUT = (Split.VALIDATION, Split.TEST)
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Frames:
    """The tables, the hints at unfit images, and whether near-duplicates were confirmed by pixels, not hashes alone."""

    images: pd.DataFrame
    classes: pd.DataFrame
    dataset: pd.DataFrame
    quality: QualityReport
    pixels_compared: bool


def schema_frame(manifest: Manifest) -> pd.DataFrame:
    """One row per column of the schema or the table: `column`, `expected` type ('none'), `found` type ('missing')."""
    import pandas as pd

    expected = {field.name: str(field.type) for field in SCHEMA}
    actual = {field.name: str(field.type) for field in manifest.table.schema}
    names = [*expected, *(name for name in actual if name not in expected)]
    rows = [(name, expected.get(name, "none"), actual.get(name, "missing")) for name in names]
    return pd.DataFrame(rows, columns=["column", "expected", "found"])


def frames(manifest: Manifest, quarantine_share: float, store: ImageStore | None) -> Frames:
    """The tables of `manifest`, whose schema must be right. `quarantine_share` is the share (0-1) of source files."""
    images = _images(manifest)
    crossing, disagreeing = _alike(manifest, images, store)
    images["near_copy_of"] = _named(images, *crossing)
    images["labelled_apart"] = _named(images, *disagreeing)
    classes = _classes(manifest)
    train = classes.loc[classes["split"] == str(Split.TRAIN), "images"].to_numpy()
    present = train[train > 0]
    hints = quality(manifest, store)
    totals = {
        "images": len(manifest),
        "unlabeled": len(manifest.rows(Split.UNLABELED)),
        "class_ratio": float(present.max() / present.min()) if len(present) else 1.0,
        "quarantine_share": quarantine_share,
        "hint_share": hints.share,
    }
    import pandas as pd

    return Frames(images, classes, pd.DataFrame([totals]), hints, pixels_compared=store is not None)


def _images(manifest: Manifest) -> pd.DataFrame:
    import pandas as pd

    table = manifest.table
    texts = table.select(["image_id", "origin"]).to_pandas(types_mapper={SCHEMA.field("origin").type: _text()}.get)
    split = table["split"].to_pandas().astype("category")
    label = table["label"].cast("float64").to_numpy()  # null becomes NaN
    human = pc.fill_null(pc.equal(table["label_source"].cast("string"), str(LabelSource.HUMAN)), False).to_numpy()
    width, height = table["width"].to_numpy(), table["height"].to_numpy()
    shared = texts["image_id"].duplicated(keep=False)
    twice = texts[shared].assign(split=split[shared].astype(str)).groupby("image_id")["split"].nunique()
    return pd.DataFrame(
        {
            "image_id": texts["image_id"],
            "origin": texts["origin"],
            "split": split,
            "label": label,
            "label_missing": split.isin(LABELED).to_numpy() & np.isnan(label),
            "human": human,
            "not_human": split.isin(HELD_OUT).to_numpy() & ~human,
            "splits": texts["image_id"].map(twice).fillna(1).astype("int32") if shared.any() else 1,
            "short_side": np.minimum(width, height),
            "long_side": np.maximum(width, height),
        }
    )


def _text() -> pd.ArrowDtype:
    import pandas as pd
    import pyarrow as pa

    return pd.ArrowDtype(pa.string())


def _classes(manifest: Manifest) -> pd.DataFrame:
    """Counts of human-labelled images per class and labelled split, zeros included."""
    import pandas as pd

    labels = manifest.labels()
    source = pc.fill_null(manifest.table["label_source"].cast("string"), "").to_numpy(zero_copy_only=False)
    parts = []
    for split in LABELED:
        rows = manifest.rows(split)
        rows = rows[(source[rows] == str(LabelSource.HUMAN)) & (labels[rows] >= 0)]
        counts = np.bincount(labels[rows], minlength=len(manifest.label_map))[: len(manifest.label_map)]
        parts.append(pd.DataFrame({"class": manifest.label_map.names, "split": str(split), "images": counts}))
    return pd.concat(parts, ignore_index=True)


def _named(images: pd.DataFrame, i: Rows, j: Rows) -> pd.Series[str]:
    """Per image, the image that the pairs (i, j) join it with: 'id (origin, split)'; else null.

    Each pair is in one row: that of the image in the split that matters less, of training before validation and test.
    """
    import pandas as pd

    rank = images["split"].map({str(Split.TEST): 2, str(Split.VALIDATION): 1}).astype("float").fillna(0).to_numpy()
    rows, first = np.unique(np.where(rank[i] < rank[j], i, j), return_index=True)
    copies = images.iloc[np.where(rank[i] < rank[j], j, i)[first]]
    names = copies["image_id"].astype(str).str[:12] + " (" + copies["origin"].astype(str) + ", "
    result = pd.Series(None, index=images.index, dtype="object")
    result.iloc[rows] = (names + copies["split"].astype(str) + ")").to_numpy()
    return result


def _alike(
    manifest: Manifest, images: pd.DataFrame, store: ImageStore | None
) -> tuple[tuple[Rows, Rows], tuple[Rows, Rows]]:
    """Near-duplicate pairs in different splits, at least one held out; and those whose human labels differ.

    Near-duplicates have perceptual hashes within 2 bits and, if there is a `store` to compare them, close pixels. A
    pair of the second kind is none of the first. Without a store the second is empty: hashes alone take one digit for
    another.
    """
    from selftrain.data.images.near_duplicates import near_duplicates

    split = images["split"].cat.codes.to_numpy()
    held_out = images["split"].isin(HELD_OUT).to_numpy()
    label = np.where(images["human"], manifest.labels(), -1)

    def disagreeing(i: Rows, j: Rows) -> npt.NDArray[np.bool_]:
        return np.asarray((label[i] != label[j]) & (label[i] >= 0) & (label[j] >= 0))

    def wanted(i: Rows, j: Rows) -> npt.NDArray[np.bool_]:
        crossing = (split[i] != split[j]) & (held_out[i] | held_out[j])
        return np.asarray(np.where(disagreeing(i, j), store is not None, crossing))

    thumbnails = None if store is None else partial(_gray, manifest, store)
    i, j = near_duplicates(manifest.table["phash"].to_numpy(), thumbnails, wanted=wanted)
    apart = disagreeing(i, j)
    return (i[~apart], j[~apart]), (i[apart], j[apart])


def _gray(manifest: Manifest, store: ImageStore, rows: Rows) -> npt.NDArray[np.uint8]:
    """(k, 32, 32) grey thumbnails of these rows."""
    place = manifest.table.select(["shard", "index"]).take(rows)
    return store.gray(place["shard"].cast("string").to_pylist(), place["index"].to_numpy())
