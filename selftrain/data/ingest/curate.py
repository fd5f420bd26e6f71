"""Curation: the files that were read become a Manifest, without unusable files and copies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from selftrain import config
from selftrain.data.images.near_duplicates import groups
from selftrain.data.images.reasons import QuarantineReason
from selftrain.data.ingest.chunks import Limits
from selftrain.data.ingest.copies import (
    Pairs,
    conflicting,
    copies_by_bytes,
    copies_by_looks,
    copies_in_pool,
    held_out_copies,
)
from selftrain.data.ingest.left_out import (
    disputed_rows,
    groups_in_pool,
    naming_disputes,
    of_held_out_groups,
    reserved_rows,
)
from selftrain.data.ingest.listed_files import CODED_SPLITS, LeftOut, ListedFiles, SplitCode
from selftrain.data.label_map import LabelMap
from selftrain.data.manifest import Manifest
from selftrain.data.sources.listing import Listing
from selftrain.data.splits.split import assign
from selftrain.data.store.earlier_splits import EarlierSplits
from selftrain.data.store.image_store import ImageStore

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class CuratedRows:
    """A Manifest, and the files left out of it: the table `quarantine` (origin, reason, detail).

    `unusable` is how many of them count towards the limit of the quarantine. The others are only counted by reason:
    copies, images of held-out groups, reserved images, and those in dispute. `grouped`: whether any image has a group.
    """

    manifest: Manifest
    quarantine: pa.Table
    unusable: int
    held_out_copies: int
    unlabeled_copies: int
    held_out_groups: int
    reserved: int
    disputed: int
    misnamed: int
    grouped: bool


def curate(
    listing: Listing,
    index: pa.Table,
    store: ImageStore,
    *,
    names: tuple[str, ...],
    limits: Limits,
    splitting: config.Splitting,
    earlier: EarlierSplits,
) -> CuratedRows:
    """Make the Manifest of the files in `listing` from their rows in `index`; images keep their `earlier` splits.

    Raises SourceError where a class has too few images for a split, or given splits cut a group.
    """
    files = ListedFiles.join(listing, index, names, group_from=splitting.group_from)
    bad = unusable(files, limits)
    kept = _without(np.arange(len(listing)), bad)
    disputed = disputed_rows(files, listing, kept)
    kept = _without(kept, [disputed])
    bad.append(conflicting(files, kept))
    kept = _without(kept, bad[-1:])
    copies = copies_by_bytes(files, kept)
    kept = _without(kept, copies)
    among, across = copies_by_looks(files, kept, store)
    seen = files.groups.anywhere(_learned_from(files, across, earlier))
    with naming_disputes(len(disputed.rows)):
        split, giving_way, barred = _assigned(
            files, kept, among, names=names, splitting=splitting, before=earlier.labelled, seen=seen
        )
    kept = _without(kept, [giving_way, barred])
    held, twins = copies_in_pool(files, kept, split, across)
    kept = _without(kept, [*held, twins])
    grouped = groups_in_pool(files, kept, split)
    kept = _without(kept, [grouped])
    reserved = reserved_rows(files, kept, split, splitting=splitting, earlier=earlier)
    kept = _without(kept, [reserved])
    left_out = [*bad, disputed, *copies, giving_way, barred, *held, twins, grouped, reserved]
    return CuratedRows(
        manifest=Manifest.build(files.manifest_table(kept, split), LabelMap(names), bits=limits.bits),
        quarantine=pa.concat_tables([part.table(files) for part in left_out]).sort_by("origin"),
        unusable=sum(len(part.rows) for part in left_out if part.unusable),
        held_out_copies=sum(len(part.rows) for part in (copies[1], giving_way, *held)),
        unlabeled_copies=len(twins.rows),
        held_out_groups=len(barred.rows) + len(grouped.rows),
        reserved=len(reserved.rows),
        disputed=len(disputed.rows),
        misnamed=files.misnamed,
        grouped=files.groups.any,
    )


def unusable(files: ListedFiles, limits: Limits) -> list[LeftOut]:
    """Files that could not be read, and files that were read under other limits and do not meet `limits`."""
    rows = np.flatnonzero(files.content < 0)
    unread = files.table.select(["reason", "detail"]).take(pa.array(rows)).combine_chunks()
    width, height = files.column("width"), files.column("height")
    large = np.flatnonzero((files.content >= 0) & (width * height > limits.max_pixels))
    small = np.flatnonzero((files.content >= 0) & (np.minimum(width, height) < limits.min_side))
    parts = [LeftOut(rows, *(unread[name].combine_chunks() for name in ("reason", "detail")))]
    for outside, reason, allowed in (
        (large, QuarantineReason.TOO_LARGE, f"at most {limits.max_pixels / 1e6:g} million are allowed"),
        (small, QuarantineReason.TOO_SMALL, f"but the shorter side must have {limits.min_side}"),
    ):
        details = [f"{width[row]}x{height[row]} pixels, {allowed}" for row in outside]
        parts.append(LeftOut.because(reason, outside, pa.array(details, pa.string())))
    return parts


def _without(rows: Int64s, left_out: list[LeftOut]) -> Int64s:
    return np.setdiff1d(rows, np.concatenate([part.rows for part in left_out]), assume_unique=True)


def _learned_from(files: ListedFiles, across: Pairs, earlier: EarlierSplits) -> Bools:
    """(n,) True for a file of the pool of an earlier manifest, and for a labelled one that looks like such a file."""
    learned = earlier.in_pool(files.table["image_id"])
    labelled, unlabelled = across
    alike = labelled[learned[unlabelled]]
    learned[alike] = True
    return learned


def _assigned(
    files: ListedFiles,
    kept: Int64s,
    among: Pairs,
    *,
    names: tuple[str, ...],
    splitting: config.Splitting,
    before: Mapping[str, str],
    seen: Bools,
) -> tuple[Int64s, LeftOut, LeftOut]:
    """The SplitCode of every file (n), the labelled near-copies of held-out images, and those of held-out groups."""
    rows = kept[files.split[kept] != SplitCode.UNLABELED]
    pairs = (np.searchsorted(rows, among[0]), np.searchsorted(rows, among[1]))
    ids = np.asarray(files.table["image_id"].take(pa.array(rows)).to_pylist(), dtype=np.str_)
    of_source, group = files.split[rows], groups(len(rows), *pairs, files.label[rows])
    result = assign(
        ids,
        files.label[rows],
        group,
        splitting=splitting,
        class_names=names,
        source_splits=[None if code == SplitCode.OPEN else CODED_SPLITS[code] for code in of_source.tolist()],
        previous=before,
        seen=seen[rows],
        user_groups=files.groups.take(rows),
        contents=None if files.objects is None else files.objects.take(rows),
    )
    split = files.split.copy()
    for code, name in enumerate(CODED_SPLITS):
        split[rows[result.splits == name]] = code
    new = np.array([image_id not in before for image_id in ids.tolist()], dtype=np.bool_)
    copy_of = _copies_of_source_splits(of_source, split[rows], group, result.copy_of, new)
    out, barred = copy_of >= 0, (result.barred_by >= 0) & (copy_of < 0)
    copies = held_out_copies(files, rows[out], rows[copy_of[out]], "looks the same as")
    return split, copies, of_held_out_groups(files, rows[barred])


def _copies_of_source_splits(of_source: Int64s, split: Int64s, group: Int64s, copy_of: Int64s, new: Bools) -> Int64s:
    """`copy_of` (n,), which also leaves out new images that would follow a near-duplicate into a user's held-out set.

    An image does not enter a set that the user held out only because it looks like an image there.
    """
    copy_of = copy_of.copy()
    for code in (SplitCode.TEST, SplitCode.VALIDATION):
        named, first = np.unique(group[of_source == code], return_index=True)
        follows = (of_source == SplitCode.OPEN) & (split == code) & (copy_of < 0) & new & np.isin(group, named)
        leaders = np.flatnonzero(of_source == code)[first]
        copy_of[follows] = leaders[np.searchsorted(named, group[follows])]
    return copy_of
