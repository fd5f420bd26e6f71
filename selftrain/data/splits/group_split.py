"""Groups in the split: images of one camera, patient or video go to one side together, whatever their classes."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from selftrain.data.hash_position import hash_position
from selftrain.data.sources.listing import Listing
from selftrain.errors import SourceError
from selftrain.naming import ROWS_NAMED, name_rows

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_FREE: Final = -1
_TRAIN, _VALIDATION, _TEST = range(3)
_NAMES: Final = ("train", "validation", "test")


@dataclass(frozen=True)
class UserGroups:
    """The group (n,) of each image, as a position in `names`; -1 for an image without one."""

    code: Int64s
    names: Sequence[str]

    def take(self, rows: Int64s) -> UserGroups:
        """The groups of these rows (k,)."""
        return UserGroups(self.code[rows], self.names)

    @property
    def any(self) -> bool:
        """Whether any image has a group."""
        return bool((self.code >= 0).any())

    def anywhere(self, marked: Bools) -> Bools:
        """(n,) `marked`, and every image whose group has a marked one."""
        spread = np.zeros(len(self.names) + 1, bool)  # the last one for images without a group
        spread[self.code[marked & (self.code >= 0)]] = True
        return np.asarray(marked | spread[self.code])


def no_groups(n: int) -> UserGroups:
    """n images without a group."""
    return UserGroups(np.full(n, -1), ())


def groups_of(listing: Listing, *, group_from: str | None) -> UserGroups:
    """The group of every listed file: what its table says, else what `group_from` (see config.Splitting) finds.

    The group of a pattern is what its parentheses hold, or the whole match if it has none. A path that it does not
    match has no group. Raises SourceError for a pattern that matches no path.
    """
    named = listing.optional("group")
    if group_from is not None:
        found = pa.array(_found(listing.table["path"].to_pylist(), group_from), pa.string())
        if found.null_count == len(found):
            raise SourceError(
                f"splitting.group_from: {group_from!r} matches none of the {len(listing)} paths, such as "
                f"{listing.table['path'][0].as_py()!r}; correct the pattern, or write 'parent'"
            )
        named = pc.coalesce(named, found)
    encoded = named.combine_chunks().dictionary_encode()
    code = np.asarray(pc.fill_null(encoded.indices, -1), dtype=np.int64)
    return UserGroups(code, encoded.dictionary.to_pylist())


def _found(paths: list[str], group_from: str) -> list[str | None]:
    if group_from == "parent":
        return [os.path.dirname(path) for path in paths]
    search = re.compile(group_from).search
    matches = [search(path) for path in paths]
    return [None if each is None else "/".join(filter(None, each.groups())) or each.group() for each in matches]


def position_of_group(name: str, *, seed: int) -> float:
    """A number in 0-1 that a group's name and the seed determine, whichever of its images are there."""
    return hash_position(b"group:" + name.encode(), seed=seed)


def refuse_cut_groups(groups: UserGroups, named: Int64s, before: Int64s) -> None:
    """Raise SourceError where the images (n,) of a group have more than one of the given splits.

    `named` is what the source says, `before` what an earlier manifest said; -1: nothing. The source comes first.
    """
    cut = _cut(groups, named)
    if cut:
        raise SourceError(
            f"the splits of the source cut groups: {cut}; give all images of a group the same split, or none"
        )
    cut = _cut(groups, np.where(named >= 0, named, before))
    if cut:
        raise SourceError(
            f"images were split before their groups were known: {cut}; a split never changes, so give the experiment "
            "another `name`, or remove these groups"
        )


def _cut(groups: UserGroups, level: Int64s) -> str:
    """The groups that lie in several splits, in words; empty if there are none."""
    rows = (groups.code >= 0) & (level >= 0)
    counts = np.zeros((len(groups.names), 3), np.int64)
    np.add.at(counts, (groups.code[rows], level[rows]), 1)
    cut = np.flatnonzero((counts > 0).sum(axis=1) > 1)
    named = []
    for k in cut[:ROWS_NAMED].tolist():
        parts = [f"{counts[k, split]} in {_NAMES[split]}" for split in np.flatnonzero(counts[k]).tolist()]
        named.append(f"{groups.names[k]!r} ({', '.join(parts)})")
    return name_rows(named, len(cut)) if len(cut) else ""


@dataclass(frozen=True)
class Followed:
    """Splits (n,) of the images whose group or near-duplicates determine them, and the images that are left out.

    `near` (n,) are the near-duplicate groups; an image that is left out has one of its own. `copy_of` (n,) is the row
    of an image that looks the same and has its split already; `barred_by` (n,) that of an image of the same group that
    the source holds out. Both are -1 for an image that stays in.
    """

    level: Int64s
    near: Int64s
    copy_of: Int64s
    barred_by: Int64s


def follow_groups(named: Int64s, before: Int64s, near: Int64s, groups: UserGroups) -> Followed:
    """Where groups and near-duplicates (`near`) put the images (n,) whose split neither the source nor `before` fixes.

    - An image goes where its group is. It enters no set that the source holds out: it is left out.
    - A group without a split goes with its near-duplicates; into the highest split, where these have several.
    - An image gives way to an image with a fixed split that looks the same, and lies elsewhere or is held out by name.
    """
    fixed = np.where(named >= 0, named, before)
    free = fixed == _FREE
    barred_by = np.where(free & (groups.code >= 0), _first_rows(groups.code, named > _TRAIN)[groups.code], -1)
    by_name = np.where(free, _first_rows(near, named > _TRAIN)[near], -1)
    out = (barred_by >= 0) | (by_name >= 0)
    level = np.where(free & (groups.code >= 0), _highest(groups.code, fixed)[groups.code], fixed)
    level[out] = _FREE
    rows = np.flatnonzero((level == _FREE) & ~out)
    component = linked(near[rows], groups.code[rows])
    level[rows] = _highest(component, _highest(near, level)[near[rows]])[component]
    lowest, highest = _lowest(near, fixed)[near], _highest(near, fixed)[near]
    elsewhere = free & (level != _FREE) & (highest != _FREE) & ((lowest != level) | (highest != level))
    copy_of = np.where(elsewhere, _first_rows(near, fixed == highest)[near], by_name)
    out |= elsewhere
    alone = near.max(initial=-1) + 1 + np.arange(len(near))
    apart = np.unique(np.where(out, alone, near), return_inverse=True)[1]
    return Followed(np.where(out, _TRAIN, level), apart, copy_of, np.where(copy_of < 0, barred_by, -1))


def linked(near: Int64s, code: Int64s) -> Int64s:
    """(k,) numbers of the components into which near-duplicates and groups (-1: none) link k images.

    >>> linked(np.array([0, 1, 1, 2]), np.array([5, 5, -1, -1])).tolist()
    [0, 0, 0, 1]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    k, grouped = len(near), np.flatnonzero(code >= 0)
    by_near = np.unique(near, return_inverse=True)[1]
    by_group = np.unique(code[grouped], return_inverse=True)[1]
    nodes = k + 2 * k
    i, j = np.concatenate([np.arange(k), grouped]), np.concatenate([k + by_near, 2 * k + by_group])
    graph = coo_array((np.ones(len(i), bool), (i, j)), shape=(nodes, nodes))
    return np.asarray(np.unique(connected_components(graph, directed=False)[1][:k], return_inverse=True)[1])


def _highest(key: Int64s, level: Int64s) -> Int64s:
    """By key, the highest level of its rows (n,); one entry more for the key -1, and -1 where there is none."""
    result = np.full(int(key.max(initial=-1)) + 2, _FREE)
    np.maximum.at(result, key[key >= 0], level[key >= 0])
    return result


def _lowest(key: Int64s, level: Int64s) -> Int64s:
    """By key, the lowest level of its rows (n,) that have one; 3 where there is none."""
    result = np.full(int(key.max(initial=-1)) + 2, len(_NAMES))
    rows = (key >= 0) & (level >= 0)
    np.minimum.at(result, key[rows], level[rows])
    return result


def _first_rows(key: Int64s, which: Bools) -> Int64s:
    """By key, the first of its rows (n,) that are `which`; -1 where there is none, and for the key -1."""
    result = np.full(int(key.max(initial=-1)) + 2, -1)
    rows = np.flatnonzero(which & (key >= 0))[::-1]
    result[key[rows]] = rows
    return result
