"""Left-out images: those in dispute, those of held-out groups, and those that are reserved for validation and test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from selftrain import config
from selftrain.data.hash_position import hash_position
from selftrain.data.images.reasons import QuarantineReason
from selftrain.data.ingest.listed_files import CODED_SPLITS, LeftOut, ListedFiles, SplitCode
from selftrain.data.manifest import Split
from selftrain.data.sources.listing import Listing
from selftrain.data.splits.group_split import position_of_group
from selftrain.data.splits.split import drawn_shares
from selftrain.data.store.earlier_splits import EarlierSplits
from selftrain.errors import SourceError

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def disputed_rows(files: ListedFiles, listing: Listing, kept: Int64s) -> LeftOut:
    """The `kept` files whose labels contradict each other since one came late, or were taken back: none is used."""
    dispute = listing.optional("dispute").combine_chunks()
    rows = kept[np.asarray(pc.is_valid(dispute), dtype=np.bool_)[kept]]
    return LeftOut.because(QuarantineReason.CONFLICTING_LABEL, rows, dispute.take(pa.array(rows)), unusable=False)


@contextmanager
def naming_disputes(count: int) -> Iterator[None]:
    """Let a SourceError of the block also say that `count` images are in dispute: a class may lack just those."""
    try:
        yield
    except SourceError as error:
        if not count:
            raise
        raise SourceError(
            f"{error.message}. {count} images are left out because people disagree about their labels, or took "
            "them back: see `selftrain label --list` and quarantine.csv, and settle them"
        ) from error


def groups_in_pool(files: ListedFiles, kept: Int64s, split: Int64s) -> LeftOut:
    """The `kept` unlabelled files of a group with an image in validation or test; `split` (n,) is a SplitCode."""
    held = np.zeros(len(split), np.bool_)
    held[kept] = split[kept] <= SplitCode.VALIDATION
    pool = split[kept] == SplitCode.UNLABELED
    return of_held_out_groups(files, kept[pool & files.groups.anywhere(held)[kept]])


def of_held_out_groups(files: ListedFiles, rows: Int64s) -> LeftOut:
    """`rows` left out because an image of their group is in validation or test."""
    groups = files.groups
    details = [f"group {groups.names[code]!r} has images in validation or test" for code in groups.code[rows].tolist()]
    texts = pa.array(details, pa.string())
    return LeftOut.because(QuarantineReason.HELD_OUT_GROUP, rows, texts, unusable=False)


def reserved_rows(
    files: ListedFiles, kept: Int64s, split: Int64s, *, splitting: config.Splitting, earlier: EarlierSplits
) -> LeftOut:
    """The `kept` unlabelled files that wait for a label, of which their hash makes validation or test images.

    They are `splitting.reserve` of those whose hash does so. An image that was in the pool before stays there.
    """
    pool = kept[split[kept] == SplitCode.UNLABELED] if splitting.reserve else kept[:0]
    new = ~files.groups.anywhere(earlier.in_pool(files.table["image_id"]))[pool]
    rows = pool[new]
    given = {str(CODED_SPLITS[code]) for code in np.unique(files.split).tolist() if code < SplitCode.OPEN}
    shares = drawn_shares(splitting, given)
    test, validation = shares[2], shares[1]
    position = _positions(files, rows, seed=splitting.seed)
    to_test = position < test * splitting.reserve
    to_validation = (position >= test) & (position < test + validation * splitting.reserve)
    names = np.where(to_test, Split.TEST.value, Split.VALIDATION.value)[to_test | to_validation]
    details = [f"kept out of the pool: with a label it is a {name} image" for name in names.tolist()]
    rows = rows[to_test | to_validation]
    return LeftOut.because(QuarantineReason.RESERVED, rows, pa.array(details, pa.string()), unusable=False)


def _positions(files: ListedFiles, rows: Int64s, *, seed: int) -> npt.NDArray[np.float64]:
    """(k,) the hash of each file's group, or of its image, as the split takes it."""
    ids = files.table["image_id"].take(pa.array(rows)).to_pylist()
    names, codes = files.groups.names, files.groups.code[rows].tolist()
    return np.array(
        [
            hash_position(image_id.encode(), seed=seed) if code < 0 else position_of_group(names[code], seed=seed)
            for image_id, code in zip(ids, codes, strict=True)
        ],
        dtype=np.float64,
    )
