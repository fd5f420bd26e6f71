"""Late labels: a listing with the labels that people gave after its images were taken in."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from selftrain.data.label_log import Standing, standing
from selftrain.data.sources.listing import OPTIONAL_SCHEMA, Listing


def with_labels(listing: Listing, log: pa.Table, index: pa.Table) -> Listing:
    """`listing` with the labels of the label log `log`; `index` (a store's) says which image a file is.

    - An image without a label gets the one that people agree on. Its split is then ours to choose.
    - A label that settles a conflict replaces the source's own, in the same split.
    - An image whose labels contradict each other has none, and the column `dispute` names them. The labels may be
      those of several people, or one of a person and one of the source.
    - An image whose labels were taken back, and which has none of the source's, is left out in the same way: it may
      have been a validation or test image, and must not come into the pool.

    A file that was never read, or has changed since, stays as it is.
    """
    if log.num_rows == 0 or len(listing) == 0:
        return listing
    now, table = standing(log), listing.table
    ids, own = _image_ids(listing, index), table["label"].combine_chunks()
    said = _looked_up(ids, list(now.agreed), list(now.agreed.values()))
    against = pc.and_(pc.not_equal(own, said), pc.invert(_among(ids, now.settled)))
    against = pc.fill_null(against, False)
    disputed = pc.or_(_among(ids, now.disputed), _among(ids, ids.filter(against).drop_null().unique().to_pylist()))
    retracted = pc.and_(_among(ids, now.retracted), pc.is_null(own))
    disputed = pc.or_(pc.or_(disputed, retracted), _among(ids, now.excluded))
    newly = pc.and_(pc.is_null(own), pc.is_valid(said))
    nothing = pa.scalar(None, pa.string())
    columns = {
        "label": pc.if_else(disputed, nothing, pc.coalesce(said, own)),
        "split": pc.if_else(pc.or_(disputed, newly), nothing, table["split"].combine_chunks()),
        "dispute": pc.if_else(disputed, _details(ids, own, said, now), nothing),
    }
    return _with_columns(listing, columns)


def _image_ids(listing: Listing, index: pa.Table) -> pa.Array:
    """(rows,) the image that each file is, by its path, size and time; null if it was not read as it is now."""
    table = listing.table
    position = pc.index_in(table["path"], value_set=index["path"].combine_chunks()).combine_chunks()
    read = index.select(["size", "mtime_ns", "image_id"]).combine_chunks().take(position)
    same = [pc.equal(read[name].combine_chunks(), table[name].combine_chunks()) for name in ("size", "mtime_ns")]
    known = pc.fill_null(pc.and_(*same), False)
    return pc.if_else(known, read["image_id"].combine_chunks(), pa.scalar(None, pa.string()))


def _among(ids: pa.Array, wanted: Iterable[str]) -> pa.Array:
    """(rows,) True where the image is one of `wanted`; False for an unknown image."""
    return pc.is_in(ids, value_set=pa.array(list(wanted), pa.string()))


def _looked_up(ids: pa.Array, keys: list[str], values: list[str]) -> pa.Array:
    """(rows,) the value of each image's key; null where there is none."""
    return pa.array(values, pa.string()).take(pc.index_in(ids, value_set=pa.array(keys, pa.string())))


def _details(ids: pa.Array, own: pa.Array, said: pa.Array, now: Standing) -> pa.Array:
    """(rows,) the labels that contradict each other, or that they were taken back, in words."""
    texts = [f"people disagree: {' and '.join(map(repr, labels))}" for labels in now.disputed.values()]
    people = _looked_up(ids, list(now.disputed), texts)
    back = _looked_up(ids, list(now.retracted), ["its label was taken back"] * len(now.retracted))
    none = _looked_up(ids, list(now.excluded), ["people say that it shows none of the classes"] * len(now.excluded))
    source = pc.binary_join_element_wise("people disagree: '", own, "' in the source, '", said, "' in the log", "")
    copy = pa.scalar("people disagree: a copy of it has another label in the source")
    return pc.coalesce(people, none, source, back, copy)


def _with_columns(listing: Listing, columns: dict[str, pa.Array]) -> Listing:
    table = listing.table
    for name, values in columns.items():
        if name in table.column_names:
            table = table.set_column(table.column_names.index(name), table.schema.field(name), values)
        else:
            table = table.append_column(OPTIONAL_SCHEMA.field(name), values)
    return Listing.build(table, ignored=listing.ignored)
