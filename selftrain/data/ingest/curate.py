"""Curation: the files that were read become a Manifest - screened, free of copies across splits, splits assigned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from selftrain import config
from selftrain.data.images.phash import close_pixels, groups, near_pair_blocks
from selftrain.data.ingest.chunks import Limits
from selftrain.data.ingest.screening import (
    CODED_SPLITS,
    OPEN,
    QUARANTINE_SCHEMA,
    TEST,
    UNLABELED,
    VALIDATION,
    Files,
    LeftOut,
    broken,
    conflicting,
    duplicate_groups,
    held_out,
    manifest_table,
    unlabeled_copies,
)
from selftrain.data.ingest.split import assign
from selftrain.data.manifest import LabelMap, Manifest, Split
from selftrain.data.sources.listing import Listing
from selftrain.data.store.image_store import ImageStore
from selftrain.data.store.shards import Gray

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Pairs = tuple[Int64s, Int64s]
_COMPARED_AT_ONCE = 1 << 16
_CROWD = 256  # images that share a hash, above which phash pairs neighbours by rank alone


@dataclass(frozen=True)
class CuratedRows:
    """A Manifest, and what is not in it: `quarantine` (origin, reason, detail), of which `unusable` files count."""

    manifest: Manifest
    quarantine: pa.Table
    unusable: int
    held_out_copies: int
    unlabeled_copies: int


def curate(
    listing: Listing,
    index: pa.Table,
    store: ImageStore,
    *,
    names: tuple[str, ...],
    limits: Limits,
    splitting: config.Splitting,
    previous: Manifest | None,
) -> CuratedRows:
    """The Manifest of the files in `listing`, read as `index` says; splits of `previous` are kept.

    Raises SourceError where a class has too few images for a split.
    """
    files = Files.join(listing, index, names)
    bad = broken(files, limits)
    kept = _without(np.arange(len(listing)), bad)
    bad.append(conflicting(files, kept))
    kept = _without(kept, bad[-1:])
    copies = duplicate_groups(files, kept)
    kept = _without(kept, copies)
    among, across = _near_duplicates(files, kept, store)
    split, giving_way = _assigned(files, kept, among, names=names, splitting=splitting, previous=previous)
    kept = _without(kept, [giving_way])
    held, twins = _copies_in_pool(files, kept, split, across)
    kept = _without(kept, [*held, twins])
    left_out = [*bad, *copies, giving_way, *held, twins]
    tables = [QUARANTINE_SCHEMA.empty_table(), *(part.table(files) for part in left_out)]
    manifest = Manifest.build(manifest_table(files, kept, split), LabelMap(names))
    return CuratedRows(
        manifest=manifest,
        quarantine=pa.concat_tables(tables).sort_by("origin"),
        unusable=sum(len(part.rows) for part in left_out if part.unusable),
        held_out_copies=sum(len(part.rows) for part in (copies[1], giving_way, *held)),
        unlabeled_copies=len(twins.rows),
    )


def _without(rows: Int64s, left_out: list[LeftOut]) -> Int64s:
    return np.setdiff1d(rows, np.concatenate([part.rows for part in left_out]), assume_unique=True)


def _near_duplicates(files: Files, kept: Int64s, store: ImageStore) -> tuple[Pairs, Pairs]:
    """Near-duplicate pairs of `kept` rows: labelled with labelled, and labelled (first) with unlabelled (second).

    Pairs within the pool are of no consequence and not looked at.
    """
    shards = files.table["shard"].combine_chunks().take(pa.array(kept)).dictionary_encode()
    records = np.asarray(files.column("index")[kept], dtype=np.int64)
    shard_names = np.asarray(shards.dictionary.to_pylist(), dtype=object)
    shard_codes = np.asarray(shards.indices.to_numpy())

    def thumbnails(rows: Int64s) -> Gray:
        return store.gray(shard_names[shard_codes[rows]], records[rows])

    hashes = np.asarray(pc.fill_null(files.table["phash"], 0), dtype=np.uint64)[kept]
    labeled = files.split[kept] != UNLABELED
    empty = np.empty(0, dtype=np.int64)
    found: tuple[list[Pairs], list[Pairs]] = ([(empty, empty)], [(empty, empty)])
    for i, j in near_pair_blocks(hashes, rank=_brightness(hashes, thumbnails)):
        wanted = labeled[i] | labeled[j]
        i, j = i[wanted], j[wanted]
        for start in range(0, len(i), _COMPARED_AT_ONCE):
            a, b = i[start : start + _COMPARED_AT_ONCE], j[start : start + _COMPARED_AT_ONCE]
            close = close_pixels(thumbnails(a), thumbnails(b))
            a, b = a[close], b[close]
            a, b = np.where(labeled[a], a, b), np.where(labeled[a], b, a)
            both = labeled[b]
            found[0].append((kept[a[both]], kept[b[both]]))
            found[1].append((kept[a[~both]], kept[b[~both]]))
    among, across = (tuple(np.concatenate(column) for column in zip(*part, strict=True)) for part in found)
    return (among[0], among[1]), (across[0], across[1])


def _brightness(hashes: npt.NDArray[np.uint64], thumbnails: Callable[[Int64s], Gray]) -> npt.NDArray[np.float32] | None:
    """Mean grey of each image, to tell apart a crowd that shares a hash (blank pages); None where there is no crowd."""
    _, counts = np.unique(hashes, return_counts=True)
    if counts.max(initial=0) <= _CROWD:
        return None
    starts = range(0, len(hashes), _COMPARED_AT_ONCE)
    blocks = [np.arange(start, min(start + _COMPARED_AT_ONCE, len(hashes))) for start in starts]
    return np.concatenate([thumbnails(block).mean(axis=(1, 2), dtype=np.float32) for block in blocks])


def _assigned(
    files: Files,
    kept: Int64s,
    among: Pairs,
    *,
    names: tuple[str, ...],
    splitting: config.Splitting,
    previous: Manifest | None,
) -> tuple[Int64s, LeftOut]:
    """The split code of every file (n), and the labelled near-copies of held-out images, which give way to them."""
    rows = kept[files.split[kept] != UNLABELED]
    pairs = (np.searchsorted(rows, among[0]), np.searchsorted(rows, among[1]))
    codes = [str(code) for code in CODED_SPLITS]
    ids = np.asarray(files.table["image_id"].take(pa.array(rows)).to_pylist(), dtype=np.str_)
    given, group = files.split[rows], groups(len(rows), *pairs, files.label[rows])
    before = {} if previous is None else _splits_of(previous)
    result = assign(
        ids,
        files.label[rows],
        group,
        splitting=splitting,
        class_names=names,
        given=[None if code == OPEN else codes[code] for code in given.tolist()],
        previous=before,
    )
    split = files.split.copy()
    for code, name in enumerate(codes):
        split[rows[result.splits == name]] = code
    new = np.array([image_id not in before for image_id in ids.tolist()], dtype=np.bool_)
    copy_of = _copies_of_given(given, split[rows], group, result.copy_of, new)
    out = copy_of >= 0
    return split, held_out(files, rows[out], rows[copy_of[out]], "looks the same as")


def _copies_of_given(given: Int64s, split: Int64s, group: Int64s, copy_of: Int64s, new: Bools) -> Int64s:
    """`copy_of` (n,), and the same for new images that would follow their like into a held-out set of the source's own.

    What the user set apart gains no images by looks alone.
    """
    copy_of = copy_of.copy()
    for code in (TEST, VALIDATION):
        named, first = np.unique(group[given == code], return_index=True)
        follows = (given == OPEN) & (split == code) & (copy_of < 0) & new & np.isin(group, named)
        leaders = np.flatnonzero(given == code)[first]
        copy_of[follows] = leaders[np.searchsorted(named, group[follows])]
    return copy_of


def _splits_of(manifest: Manifest) -> dict[str, str]:
    """image_id -> split of the human-labelled images."""
    table = manifest.table.take(pa.array(manifest.rows(Split.TRAIN, Split.VALIDATION, Split.TEST)))
    return dict(zip(table["image_id"].to_pylist(), table["split"].to_pylist(), strict=True))


def _copies_in_pool(files: Files, kept: Int64s, split: Int64s, across: Pairs) -> tuple[list[LeftOut], LeftOut]:
    """Unlabelled copies, by bytes or by looks, of held-out images; and copies by bytes of training images."""
    labeled, pool = kept[split[kept] != UNLABELED], kept[split[kept] == UNLABELED]
    order = labeled[np.argsort(files.content[labeled], kind="stable")]
    where = np.searchsorted(files.content[order], files.content[pool])
    twin = order[np.minimum(where, len(order) - 1)]
    same = files.content[twin] == files.content[pool]
    pool, twin = pool[same], twin[same]
    held = split[twin] <= VALIDATION
    first, second = across
    near = (split[first] <= VALIDATION) & np.isin(first, kept) & ~np.isin(second, pool)
    rows, position = np.unique(second[near], return_index=True)
    exact = held_out(files, pool[held], twin[held], "same bytes as")
    alike = held_out(files, rows, first[near][position], "looks the same as")
    return [exact, alike], unlabeled_copies(files, pool[~held], twin[~held])
