"""The draw of groups: which split a group without one gets, with all images that it and near-duplicates link."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from selftrain.data.hash_position import hash_position
from selftrain.data.splits.group_split import UserGroups, linked, position_of_group

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

_FREE: Final = -1
_TRAIN, _VALIDATION, _TEST = range(3)


@dataclass(frozen=True)
class LabelledImages:
    """The labelled images (n,): ids, labels, the rank of their ids, and whether models learned from them before."""

    ids: npt.NDArray[np.str_]
    label: Int64s
    rank: Int64s
    seen: Bools


@dataclass(frozen=True)
class Given:
    """What a draw starts from: the images that have a split already, and what each split shall get."""

    counts: Int64s  # (classes, 3) images that have a split
    is_split: Bools  # (classes,) an earlier manifest has split the class
    shares: Floats  # (3,) of each split; 0 for training, which gets the rest
    least: int  # images of a class in each split
    seed: int


def draw_together(
    images: LabelledImages, group: Int64s, user_groups: UserGroups, level: Int64s, given: Given
) -> Int64s:
    """`level` (n,) with the splits of all images; images that a group or a near-duplicate links are drawn as one."""
    rows = np.flatnonzero(level == _FREE)
    code = user_groups.code[rows]
    component = linked(group[rows], code)
    count = int(component.max(initial=-1)) + 1
    pairs, number = np.unique(np.stack([component, images.label[rows]], axis=1), axis=0, return_counts=True)
    seen = np.bincount(component, weights=images.seen[rows], minlength=count) > 0
    position = positions(images, rows, component, user_groups, seed=given.seed)
    level = level.copy()
    level[rows] = _draw(_Drawn(pairs[:, 0], pairs[:, 1], number, position, seen), given)[component]
    return level


def positions(images: LabelledImages, rows: Int64s, component: Int64s, user_groups: UserGroups, *, seed: int) -> Floats:
    """(components,) the hash of the first group by name, whichever images came; of the smallest id without a group."""
    code = user_groups.code[rows]
    count = len(user_groups.names)
    by_name = np.append(np.argsort(np.argsort(np.array(user_groups.names, dtype=np.str_))), 0)  # the last one for -1
    key = np.where(code >= 0, by_name[code], count + images.rank[rows])
    order = np.lexsort((key, component))
    heads = rows[order[np.unique(component[order], return_index=True)[1]]]
    names, ids = user_groups.names, images.ids
    return np.array(
        [
            position_of_group(names[group], seed=seed) if group >= 0 else hash_position(ids[row].encode(), seed=seed)
            for row, group in zip(heads.tolist(), user_groups.code[heads].tolist(), strict=True)
        ]
    )


@dataclass(frozen=True)
class _Drawn:
    """Components that are drawn together: `entries` are their pairs of (component, class) with a count of images."""

    component: Int64s  # (entries,) ascending
    label: Int64s  # (entries,)
    count: Int64s  # (entries,)
    position: Floats  # (components,) their hash, 0-1
    pinned: Bools  # (components,) models have learned from one of its images: it can only become training data

    def sums(self, values: npt.NDArray[np.integer | np.bool_]) -> Int64s:
        """(components,) sums of `values` (entries,)."""
        return np.bincount(self.component, weights=values, minlength=len(self.position)).astype(np.int64)

    def all_of(self, holds: Bools) -> Bools:
        """(components,) whether `holds` (entries,) is true of all entries of a component."""
        return np.asarray(self.sums(~holds) == 0)


def _draw(drawn: _Drawn, given: Given) -> Int64s:
    """(components,) the split of each component.

    Where an earlier manifest has split one of its classes, a component falls by its hash alone. The others come as near
    to the exact shares of each class as whole components can.
    """
    known, shares = drawn.sums(given.is_split[drawn.label]) > 0, given.shares
    to_test = drawn.position < shares[_TEST]
    to_validation = drawn.position < shares[_TEST] + shares[_VALIDATION]
    chosen = np.where(to_test, _TEST, np.where(to_validation, _VALIDATION, _TRAIN))
    chosen = np.where(known, chosen, _fill(drawn, ~known, given))
    pinned = drawn.pinned & known
    return _top_up(drawn, np.where(pinned, _TRAIN, chosen), given, pinned=pinned)


def _fill(drawn: _Drawn, which: Bools, given: Given) -> Int64s:
    """The split of the components `which`, in order of their hash: one is held out if that comes nearer to the shares.

    The distance is counted in images, over all classes.
    """
    entries, shares = which[drawn.component], given.shares
    totals = np.bincount(drawn.label[entries], weights=drawn.count[entries], minlength=len(given.counts))
    wanted = np.where(shares > 0, np.maximum(np.rint(totals[:, None] * shares), given.least), 0)
    room: list[list[float]] = wanted.T.tolist()
    ends = np.searchsorted(drawn.component, np.arange(len(which) + 1)).tolist()
    label, count = drawn.label.tolist(), drawn.count.tolist()
    chosen = np.full(len(which), _TRAIN)
    order = np.argsort(drawn.position, kind="stable")
    for one in order[which[order]].tolist():
        mine = range(ends[one], ends[one + 1])
        for split in (_TEST, _VALIDATION):
            left = room[split]
            if sum(abs(left[label[k]]) - abs(left[label[k]] - count[k]) for k in mine) > 0:
                chosen[one] = split
                for k in mine:
                    left[label[k]] -= count[k]
                break
    return chosen


def _top_up(drawn: _Drawn, chosen: Int64s, given: Given, *, pinned: Bools) -> Int64s:
    """Where a class has fewer than `least` images in a split, move in the smallest component that others can spare."""
    chosen, counts, least = chosen.copy(), given.counts.copy(), given.least
    np.add.at(counts, (drawn.label, chosen[drawn.component]), drawn.count)
    sizes = drawn.sums(drawn.count)
    present = np.bincount(drawn.label, minlength=len(counts)) > 0
    for split in (_TEST, _VALIDATION, _TRAIN):
        if split != _TRAIN and given.shares[split] <= 0:
            continue
        for k in np.flatnonzero(present & (counts[:, split] < least)).tolist():
            while counts[k, split] < least:
                spared = counts[drawn.label, chosen[drawn.component]] - drawn.count >= least
                spare = drawn.all_of(spared) & (drawn.sums(drawn.label == k) > 0) & (chosen != split) & ~pinned
                if not spare.any():
                    break
                moved = np.flatnonzero(spare)[np.lexsort((drawn.position[spare], sizes[spare]))[0]]
                mine = drawn.component == moved
                np.subtract.at(counts, (drawn.label[mine], chosen[moved]), drawn.count[mine])
                np.add.at(counts, (drawn.label[mine], split), drawn.count[mine])
                chosen[moved] = split
    return chosen
