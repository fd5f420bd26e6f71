"""Copies: files with the same bytes or nearly the same pixels, and which of them is kept."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from selftrain.data.images.near_duplicates import near_duplicates
from selftrain.data.images.reasons import QuarantineReason
from selftrain.data.ingest.listed_files import LeftOut, ListedFiles, SplitCode
from selftrain.data.store.image_store import ImageStore
from selftrain.data.store.shards import Gray

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Pairs = tuple[Int64s, Int64s]


def conflicting(files: ListedFiles, kept: Int64s) -> LeftOut:
    """The `kept` files whose bytes occur with more than one label; all of them are left out."""
    labeled = kept[files.label[kept] >= 0]
    order = labeled[np.lexsort((files.label[labeled], files.content[labeled]))]
    content, label = files.content[order], files.label[order]
    differs = (content[1:] == content[:-1]) & (label[1:] != label[:-1])
    rows = kept[np.isin(files.content[kept], content[1:][differs])]
    detail = "files with the same bytes have different labels; keep one"
    return LeftOut.because(QuarantineReason.CONFLICTING_LABEL, rows, detail)


def copies_by_bytes(files: ListedFiles, kept: Int64s) -> list[LeftOut]:
    """Files with the same bytes as another, among the labelled and among the unlabelled `kept` files.

    The first by path stays, but a given test image stays before a validation image, and that before a training image.
    If the two are in different splits, the one that is left out is a held-out copy; otherwise it is a duplicate. No
    copy counts as unusable: nothing is lost with it, and a camera in production may well send an image twice.
    """
    rank = np.minimum(files.split[kept], SplitCode.UNLABELED)
    rank[files.split[kept] == SplitCode.OPEN] = SplitCode.TRAIN
    pool = (files.split[kept] == SplitCode.UNLABELED).astype(np.int64)
    key = files.content[kept] * 2 + pool
    order = np.lexsort((kept, rank, key))
    starts = np.flatnonzero(np.diff(key[order], prepend=-1))
    keeper = np.repeat(order[starts], np.diff(starts, append=len(order)))
    copy = order != keeper
    order, keeper = order[copy], keeper[copy]
    held = rank[order] != rank[keeper]
    return [
        _duplicates(files, kept[order[~held]], kept[keeper[~held]], "same bytes as"),
        held_out_copies(files, kept[order[held]], kept[keeper[held]], "same bytes as"),
    ]


def copies_by_looks(files: ListedFiles, kept: Int64s, store: ImageStore) -> tuple[Pairs, Pairs]:
    """Near-duplicate pairs of `kept` rows: both labelled; and one labelled (first), the other unlabelled (second).

    Pairs of unlabelled images have no consequence and are not searched for.
    """
    shards = files.table["shard"].combine_chunks().take(pa.array(kept)).dictionary_encode()
    records = np.asarray(files.column("index")[kept], dtype=np.int64)
    shard_names = np.asarray(shards.dictionary.to_pylist(), dtype=object)
    shard_codes = np.asarray(shards.indices.to_numpy())
    labeled = files.split[kept] != SplitCode.UNLABELED

    def thumbnails(rows: Int64s) -> Gray:
        return store.gray(shard_names[shard_codes[rows]], records[rows])

    def with_a_label(i: Int64s, j: Int64s) -> Bools:
        return np.asarray(labeled[i] | labeled[j])

    hashes = np.asarray(pc.fill_null(files.table["phash"], 0), dtype=np.uint64)[kept]
    i, j = near_duplicates(hashes, thumbnails, wanted=with_a_label)
    first, second = np.where(labeled[i], i, j), np.where(labeled[i], j, i)
    both = labeled[second]
    return (kept[first[both]], kept[second[both]]), (kept[first[~both]], kept[second[~both]])


def copies_in_pool(files: ListedFiles, kept: Int64s, split: Int64s, across: Pairs) -> tuple[list[LeftOut], LeftOut]:
    """Unlabelled exact or near copies of held-out images, and unlabelled exact copies of training images.

    `split` (n,) holds the SplitCode of every file; `across` are the second pairs of `copies_by_looks`.
    """
    labeled, pool = kept[split[kept] != SplitCode.UNLABELED], kept[split[kept] == SplitCode.UNLABELED]
    order = labeled[np.argsort(files.content[labeled], kind="stable")]
    where = np.searchsorted(files.content[order], files.content[pool])
    twin = order[np.minimum(where, len(order) - 1)]
    same = files.content[twin] == files.content[pool]
    pool, twin = pool[same], twin[same]
    held = split[twin] <= SplitCode.VALIDATION
    first, second = across
    near = (split[first] <= SplitCode.VALIDATION) & np.isin(first, kept) & ~np.isin(second, pool)
    rows, position = np.unique(second[near], return_index=True)
    exact = held_out_copies(files, pool[held], twin[held], "same bytes as")
    alike = held_out_copies(files, rows, first[near][position], "looks the same as")
    return [exact, alike], _duplicates(files, pool[~held], twin[~held], "same bytes as the labelled")


def held_out_copies(files: ListedFiles, rows: Int64s, keepers: Int64s, relation: str) -> LeftOut:
    """`rows` left out because they are copies of the validation or test images `keepers`."""
    details = _details(files, keepers, relation)
    return LeftOut.because(QuarantineReason.HELD_OUT_COPY, rows, details, unusable=False)


def _duplicates(files: ListedFiles, rows: Int64s, keepers: Int64s, relation: str) -> LeftOut:
    """`rows` left out because they are copies of `keepers`, which are not held out."""
    return LeftOut.because(QuarantineReason.DUPLICATE, rows, _details(files, keepers, relation), unusable=False)


def _details(files: ListedFiles, keepers: Int64s, relation: str) -> pa.Array:
    """'<relation> <path>' for each of `keepers`."""
    if not len(keepers):
        return pa.array([], pa.string())
    return pc.binary_join_element_wise(pa.scalar(relation), files.paths(keepers), " ")
