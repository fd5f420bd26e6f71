"""The split: each labelled image is assigned to training, validation or test once, and stays there."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from selftrain.config import Splitting
from selftrain.data.annotations.counts import ObjectCounts
from selftrain.data.hash_position import hash_position
from selftrain.data.manifest import Split
from selftrain.data.splits.group_draw import Given, LabelledImages, draw_together
from selftrain.data.splits.group_split import Followed, UserGroups, follow_groups, no_groups, refuse_cut_groups
from selftrain.data.splits.object_draw import draw_by_objects
from selftrain.errors import SourceError

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

# In rising precedence: if a near-duplicate pair lies across two of them, the image in the earlier one is left out.
LABELED: Final = (Split.TRAIN, Split.VALIDATION, Split.TEST)
_TRAIN, _VALIDATION, _TEST = range(3)
_FREE: Final = -1


class TooFewImagesError(SourceError):
    """A class has too few images in a split; `counts` are those of the first such class in each split."""

    def __init__(self, message: str, counts: Mapping[str, int]) -> None:
        super().__init__(message)
        self.counts = counts


@dataclass(frozen=True)
class SplitAssignment:
    """Where each of n labelled images goes."""

    splits: npt.NDArray[np.str_]  # (n,) train | validation | test
    copy_of: Int64s  # (n,) row of the held-out image for which this near-copy is left out; -1: this image is kept
    barred_by: Int64s  # (n,) row of an image that the source holds out, whose group this one must not join; -1: kept

    @property
    def kept(self) -> Bools:
        """(n,) True where the image may be used."""
        return (self.copy_of < 0) & (self.barred_by < 0)


@dataclass(frozen=True)
class _Free:
    """Groups without a fixed split; columns of equal length."""

    groups: Int64s
    labels: Int64s
    sizes: Int64s  # images
    position: npt.NDArray[np.float64]  # their hash, 0-1
    seen: Bools  # models have learned from one of its images without its label

    def by_class(self) -> Iterator[tuple[int, _Free]]:
        """Each label with its groups, in order of their hash."""
        order = np.lexsort((self.position, self.labels))
        for mine in np.split(order, np.flatnonzero(np.diff(self.labels[order])) + 1):
            if len(mine):
                groups, labels, sizes = self.groups[mine], self.labels[mine], self.sizes[mine]
                yield int(labels[0]), _Free(groups, labels, sizes, self.position[mine], self.seen[mine])


def assign(
    image_ids: Sequence[str] | npt.NDArray[np.str_],
    labels: npt.NDArray[np.integer],
    groups: npt.NDArray[np.integer],
    *,
    splitting: Splitting,
    class_names: Sequence[str],
    source_splits: Sequence[str | None] | None = None,
    previous: Mapping[str, str] | None = None,
    seen: Bools | None = None,
    user_groups: UserGroups | None = None,
    contents: ObjectCounts | None = None,
) -> SplitAssignment:
    """Split n labelled images; unique ids (n,), labels (n,) >= 0, near-duplicate groups (n,) within one label each.

    - `source_splits`: the split that the source names for an image, or None; it is kept. If the source names a split
      for any image, no other images are drawn for that split.
    - `previous`: image_id -> split of an earlier manifest. Nothing in it moves; new members of a group follow it.
    - Other groups follow a hash of `splitting.seed` and their smallest image_id. A class that is split for the first
      time gets its exact shares, in the order of the hashes. Later groups go where their hash alone puts them.
    - No group lies in two splits: the copy in the lesser one (train < validation < test) is left out, see `copy_of`.
    - `seen` (n,): models learned from the image before it had a label. It becomes a training image, unless its class is
      split for the first time: no earlier model knows that class.
    - `user_groups`: images of one camera, patient or video lie on one side, see `group_split`.
    - `contents`: the objects in each image, for a detector. The splits share those of every class, see `object_draw`.

    Raises a SourceError that names the classes with fewer than `splitting.min_per_class` images in a split, or the
    groups that given splits cut.
    """
    ids = np.asarray(image_ids, dtype=np.str_)
    label: Int64s = np.asarray(labels, dtype=np.int64)
    rank = _ranks(ids)
    group: Int64s = np.unique(np.asarray(groups), return_inverse=True)[1]
    named = _codes([None] * len(ids) if source_splits is None else source_splits)
    before = _codes([(previous or {}).get(image_id) for image_id in ids.tolist()])
    stays = (before >= 0) & ((named < 0) | (named == before))
    images = LabelledImages(ids, label, rank, np.zeros(len(ids), np.bool_) if seen is None else seen)
    users = user_groups if user_groups is not None else no_groups(len(ids))
    fixed = _fixed(named, before, group, rank, users)
    kept, level = (fixed.copy_of < 0) & (fixed.barred_by < 0), fixed.level
    given = Given(
        counts=_counts(label, level, (level != _FREE) & kept, len(class_names)),
        is_split=np.bincount(label[stays], minlength=len(class_names)) > 0,
        shares=drawn_shares(splitting, set(source_splits or ())),
        least=splitting.min_per_class,
        seed=splitting.seed,
    )
    if contents is not None:
        drawn = draw_by_objects(images, fixed.near, users, level, given, contents.of_images(kept))
    elif users.any:
        drawn = draw_together(images, fixed.near, users, level, given)
    else:
        drawn = _drawn(images, group, level, given)
    _refuse_few(label, drawn, kept, fixed.near, given.least, class_names, users)
    return SplitAssignment(np.array(LABELED, dtype=np.str_)[drawn], fixed.copy_of, fixed.barred_by)


def _fixed(named: Int64s, before: Int64s, group: Int64s, rank: Int64s, users: UserGroups) -> Followed:
    """The splits that need no draw: those of the source and of `before`, and of all that follows them."""
    level = np.where(named >= 0, named, before)
    stays = (before >= 0) & (level == before)
    nothing = np.full(len(level), -1)
    followed = Followed(level, group, nothing, nothing)
    if users.any:
        refuse_cut_groups(users, named, before)
        followed = follow_groups(named, before, group, users)
    level, copy_of = _settle(followed.level, stays, followed.near, rank)
    copy_of = np.where(followed.copy_of >= 0, followed.copy_of, copy_of)
    return Followed(level, followed.near, copy_of, followed.barred_by)


def _drawn(images: LabelledImages, group: Int64s, level: Int64s, given: Given) -> Int64s:
    """`level` (n,) with the splits of all images; a near-duplicate group without one is drawn with its class."""
    by_group = np.full(len(level), _FREE)
    for k, one in _free_groups(images, group, level, seed=given.seed).by_class():
        is_split = bool(given.is_split[k])
        by_group[one.groups] = _draw(one, given.counts[k], is_split=is_split, shares=given.shares, least=given.least)
    return np.where(level == _FREE, by_group[group], level)


def _ranks(ids: npt.NDArray[np.str_]) -> Int64s:
    """(n,) the position of each id in the order of their bytes."""
    rank = np.empty(len(ids), np.int64)
    rank[np.argsort(ids.astype(np.bytes_))] = np.arange(len(ids))
    return rank


def _codes(splits: Sequence[str | None]) -> Int64s:
    names: Mapping[str | None, int] = {split.value: code for code, split in enumerate(LABELED)}
    return np.fromiter((names.get(split, _FREE) for split in splits), np.int64, len(splits))


def drawn_shares(splitting: Splitting, named: Collection[str | None]) -> npt.NDArray[np.float64]:
    """(3,) the share of each split; 0 for training, which gets the rest, and for the splits that the source names.

    >>> drawn_shares(Splitting(validation=0.25, test=0.5), {"test"}).tolist()
    [0.0, 0.25, 0.0]
    """
    validation = 0.0 if Split.VALIDATION in named else splitting.validation
    test = 0.0 if Split.TEST in named else splitting.test
    return np.array([0.0, validation, test])


def _settle(level: Int64s, stays: Bools, group: Int64s, rank: Int64s) -> tuple[Int64s, Int64s]:
    """In groups with a fixed split, let the other members follow it, or leave them out as copies."""
    count = int(group.max(initial=-1)) + 1
    highest = np.full(count, _FREE)
    np.maximum.at(highest, group, level)
    kept_highest, kept_lowest = np.full(count, _FREE), np.full(count, len(LABELED))
    np.maximum.at(kept_highest, group[stays], level[stays])
    np.minimum.at(kept_lowest, group[stays], level[stays])

    lower = (level != _FREE) & (level < highest[group])
    # Two images of an earlier manifest may be linked only by a new image. They stay, and the new image is left out.
    outranked = lower & ~(stays & (kept_highest == highest)[group])
    torn = (level == _FREE) & (kept_lowest < kept_highest)[group]
    follows = (level == _FREE) & ~torn
    settled = np.where(follows, highest[group], np.where(torn, _TRAIN, level))

    by_id = np.lexsort((rank, -level, group))
    _, first = np.unique(group[by_id], return_index=True)
    return settled, np.where(outranked | torn, by_id[first][group], -1)


def _free_groups(images: LabelledImages, group: Int64s, level: Int64s, *, seed: int) -> _Free:
    """The groups without a fixed split; each has the hash position of its smallest image_id."""
    rows = np.flatnonzero(level == _FREE)
    order = rows[np.lexsort((images.rank[rows], group[rows]))]
    heads = order[np.unique(group[order], return_index=True)[1]]
    return _Free(
        groups=group[heads],
        labels=images.label[heads],
        sizes=np.bincount(group, minlength=1)[group[heads]],
        position=np.array([hash_position(image_id.encode(), seed=seed) for image_id in images.ids[heads].tolist()]),
        seen=np.bincount(group, weights=images.seen, minlength=1)[group[heads]] > 0,
    )


def _draw(one: _Free, have: Int64s, *, is_split: bool, shares: npt.NDArray[np.float64], least: int) -> Int64s:
    """(groups,) the split of each free group of one class; `have` (3,) counts the images that have a split already.

    `is_split`: an earlier manifest has split the class.
    """
    if is_split:
        to_test = one.position < shares[_TEST]
        to_validation = one.position < shares[_TEST] + shares[_VALIDATION]
        chosen = np.where(to_test, _TEST, np.where(to_validation, _VALIDATION, _TRAIN))
        chosen = np.where(one.seen, _TRAIN, chosen)
    else:
        chosen = _fill(one, shares, least)
    return _top_up(one, chosen, have, shares, least, pinned=one.seen & is_split)


def _fill(one: _Free, shares: npt.NDArray[np.float64], least: int) -> Int64s:
    """Fill test, then validation, to their exact shares of images; a group that fits in neither goes to training."""
    room = np.where(shares > 0, np.maximum(np.rint(shares * one.sizes.sum()), least), 0)
    chosen = np.full(len(one.sizes), _TRAIN)
    for k, size in enumerate(one.sizes.tolist()):
        for split in (_TEST, _VALIDATION):
            if size <= room[split]:
                chosen[k], room[split] = split, room[split] - size
                break
    return chosen


def _top_up(
    one: _Free, chosen: Int64s, have: Int64s, shares: npt.NDArray[np.float64], least: int, *, pinned: Bools
) -> Int64s:
    """Into a split with fewer than `least` images, move the smallest groups that other splits can spare."""
    chosen, counts = chosen.copy(), have + np.bincount(chosen, weights=one.sizes, minlength=3)
    for split in (_TEST, _VALIDATION, _TRAIN):
        while counts[split] < least and (split == _TRAIN or shares[split] > 0):
            spare = np.flatnonzero((chosen != split) & (counts[chosen] - one.sizes >= least) & ~pinned)
            if not len(spare):
                break
            moved = spare[np.argmin(one.sizes[spare])]
            counts[chosen[moved]] -= one.sizes[moved]
            counts[split] += one.sizes[moved]
            chosen[moved] = split
    return chosen


def _refuse_few(
    label: Int64s,
    level: Int64s,
    kept: Bools,
    group: Int64s,
    least: int,
    class_names: Sequence[str],
    user_groups: UserGroups,
) -> None:
    counts = _counts(label, level, kept, len(class_names))
    few = np.argwhere(counts < least)
    if not len(few):
        return
    images = np.bincount(label, minlength=len(class_names))
    pairs = np.unique(np.stack([label, group], axis=1), axis=0)
    distinct = np.bincount(pairs[:, 0], minlength=len(class_names))
    lines = [
        f"class {class_names[k]!r} has {counts[k, split]} in {LABELED[split]} "
        f"(of {images[k]} labelled images, near-duplicates counted once: {distinct[k]}"
        f"{_in_groups(k, label, user_groups)})"
        for k, split in few[:5]
    ]
    more = f", and {len(few) - 5} more" if len(few) > 5 else ""
    raise TooFewImagesError(
        f"too few labelled images: {'; '.join(lines)}{more}. Each class needs {least} in each of train, validation and "
        "test: add images, leave the class out, or change splitting.validation, .test or .min_per_class",
        dict(zip(LABELED, counts[few[0, 0]].tolist(), strict=True)),
    )


def _in_groups(k: int, label: Int64s, user_groups: UserGroups) -> str:
    """In how many groups the images of class `k` are: whole groups may leave a split without a class."""
    if not user_groups.any:
        return ""
    code = user_groups.code[(label == k) & (user_groups.code >= 0)]
    return f", in {len(np.unique(code))} groups"


def _counts(label: Int64s, level: Int64s, which: Bools, classes: int) -> Int64s:
    """(classes, 3) images of each class in each split, among the rows `which`."""
    return np.bincount(label[which] * 3 + level[which], minlength=classes * 3).reshape(-1, 3)
