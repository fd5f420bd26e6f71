"""The draw of images with objects: each split gets its share of the images, and of the objects of every class.

Images that a group or near-duplicates link stay together. Classes are served from the rarest on, each by the split that
has the least of its share so far (iterative stratification: Sechidis, Tsoumakas and Vlahavas, 2011).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from selftrain.data.annotations.counts import ObjectCounts
from selftrain.data.splits.group_draw import Given, LabelledImages, positions
from selftrain.data.splits.group_split import UserGroups, linked

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

_FREE: Final = -1
_TRAIN, _VALIDATION, _TEST = range(3)
_ORDER: Final = (_TRAIN, _VALIDATION, _TEST)
"""Who is served first: a class with one image can only be learned, and one with two is judged on validation."""


@dataclass(frozen=True)
class _Drawn:
    """Components that are drawn as one; `entries` are their pairs of (component, class) with a count of objects."""

    component: Int64s  # (entries,) ascending
    label: Int64s  # (entries,)
    count: Int64s  # (entries,) objects
    images: Int64s  # (components,)
    rank: Int64s  # (components,) by their hash
    pinned: Bools  # (components,) models have learned from one of its images: it can only become training data

    def of(self, component: int) -> slice:
        """The entries of a component."""
        return slice(*np.searchsorted(self.component, [component, component + 1]).tolist())


@dataclass
class _Shares:
    """What each split has, and what it should have: objects by class, and images. It changes as components come."""

    objects: Floats  # (3, classes) that it has
    holders: Int64s  # (3, classes) components and images with a fixed split that show the class
    images: Floats  # (3,) that it has
    wanted: Floats  # (3,) share of every class
    room: Floats  # (3,) images
    least: int  # images

    def add(self, drawn: _Drawn, component: int, split: int, sign: int = 1) -> None:
        """Count a component in a split; with -1, no longer."""
        own = drawn.of(component)
        self.objects[split, drawn.label[own]] += sign * drawn.count[own]
        self.holders[split, drawn.label[own]] += sign
        self.images[split] += sign * drawn.images[component]


def draw_by_objects(
    images: LabelledImages,
    group: Int64s,
    user_groups: UserGroups,
    level: Int64s,
    given: Given,
    contents: ObjectCounts,
) -> Int64s:
    """`level` (n,) with the splits of all images, by their `contents`.

    Where an earlier manifest has split images, new ones fall by their hash alone. A class that validation or test then
    lacks gets a new image there, if training keeps one. The images of a class may all be linked, or too few: then a
    split stays without it.
    """
    rows = np.flatnonzero(level == _FREE)
    if not len(rows):
        return level
    component = linked(group[rows], user_groups.code[rows])
    position = positions(images, rows, component, user_groups, seed=given.seed)
    drawn = _drawn(component, contents.take(rows), np.argsort(np.argsort(position, kind="stable")), images.seen[rows])
    shares = _shares(drawn, level, given, contents)
    known = bool(given.is_split.any())
    chosen = _by_hash(drawn, position, shares, given) if known else _filled(drawn, shares)
    _complete(drawn, chosen, shares)
    level = level.copy()
    level[rows] = chosen[component]
    return level


def _drawn(component: Int64s, contents: ObjectCounts, rank: Int64s, seen: Bools) -> _Drawn:
    pairs = np.stack([component[contents.image], contents.label], axis=1).reshape(-1, 2)
    found, place = np.unique(pairs, axis=0, return_inverse=True)
    count = np.bincount(place.reshape(-1), weights=contents.count, minlength=len(found)).astype(np.int64)
    pinned = np.bincount(component, weights=seen, minlength=len(rank)) > 0
    return _Drawn(found[:, 0], found[:, 1], count, np.bincount(component, minlength=len(rank)), rank, pinned)


def _shares(drawn: _Drawn, level: Int64s, given: Given, contents: ObjectCounts) -> _Shares:
    """What the images with a fixed split (`level` (n,), not -1) give each split, and the room for the others."""
    classes, free = len(contents.names), int(drawn.images.sum())
    fixed = level[contents.image] != _FREE
    objects, holders = np.zeros((3, classes)), np.zeros((3, classes), np.int64)
    at = (level[contents.image][fixed], contents.label[fixed])
    np.add.at(objects, at, contents.count[fixed])
    np.add.at(holders, at, 1)
    held = np.bincount(level[level != _FREE], minlength=3).astype(float)
    asked = np.where(given.shares > 0, np.maximum(np.rint(given.shares * free), given.least), 0.0)
    asked[_TRAIN] = max(free - asked.sum(), given.least)
    wanted = given.shares.copy()
    wanted[_TRAIN] = 1.0 - wanted.sum()
    return _Shares(objects, holders, held, wanted, held + asked, given.least)


def _filled(drawn: _Drawn, shares: _Shares) -> Int64s:
    """(components,) their splits: rarest class first, components by their hash, images without objects last."""
    chosen = np.full(len(drawn.images), _FREE)
    shown = np.bincount(drawn.label, minlength=shares.objects.shape[1])
    for k in [*np.lexsort((np.arange(len(shown)), shown)).tolist(), None]:
        mine = np.flatnonzero(chosen == _FREE) if k is None else drawn.component[drawn.label == k]
        for one in mine[np.argsort(drawn.rank[mine])].tolist():
            if chosen[one] == _FREE:
                chosen[one] = _neediest(drawn, shares, one, k)
                shares.add(drawn, one, chosen[one])
    return chosen


def _neediest(drawn: _Drawn, shares: _Shares, component: int, label: int | None) -> int:
    """The split with room for a component that has the least of its share of the class `label`, then of the images.

    There is room where the component brings the split nearer to its number of images.
    """
    size, left = drawn.images[component], shares.room - shares.images
    fits = [split for split in _ORDER if shares.wanted[split] > 0 and abs(left[split] - size) < abs(left[split])]
    fits = fits or [_TRAIN]

    def has(split: int) -> tuple[float, float, int]:
        share = shares.wanted[split]
        own = 0.0 if label is None else shares.objects[split, label] / share
        return own, shares.images[split] / share, _ORDER.index(split)

    return min(fits, key=has) if len(fits) > 1 else fits[0]


def _by_hash(drawn: _Drawn, position: Floats, shares: _Shares, given: Given) -> Int64s:
    """(components,) their splits by their hash alone, as those of an earlier manifest's later images."""
    to_test = position < given.shares[_TEST]
    to_validation = position < given.shares[_TEST] + given.shares[_VALIDATION]
    chosen = np.where(drawn.pinned | ~to_validation, _TRAIN, np.where(to_test, _TEST, _VALIDATION))
    for one, split in enumerate(chosen.tolist()):
        shares.add(drawn, one, split)
    shares.room = np.maximum(shares.images, shares.least)
    return chosen


def _complete(drawn: _Drawn, chosen: Int64s, shares: _Shares) -> None:
    """Move components (in `chosen`) until each split shows every class that another can spare, and has enough images.

    Where a split then has more images than its room, one goes back that is not the only one there of any class.
    """
    shown = np.bincount(drawn.label, minlength=shares.objects.shape[1])
    splits = [split for split in _ORDER if shares.wanted[split] > 0]
    for k in np.lexsort((np.arange(len(shown)), shown)).tolist():
        for split in splits:
            if shown[k] and not shares.holders[split, k]:
                _fetch(drawn, chosen, shares, split, of_class=k)
    for split in splits:
        while shares.images[split] < shares.least and _fetch(drawn, chosen, shares, split):
            pass


def _fetch(drawn: _Drawn, chosen: Int64s, shares: _Shares, split: int, *, of_class: int | None = None) -> bool:
    """Whether another split, training if it can, could spare a component for `split`, which then came."""
    last = of_class if split == _TRAIN else None  # what nobody learns need not be judged
    able = _spared(drawn, chosen, shares, though_last_of=last) & (chosen != split) & ~drawn.pinned
    able &= shares.images[chosen] - drawn.images >= shares.least
    if of_class is not None:
        able &= np.bincount(drawn.component, weights=drawn.label == of_class, minlength=len(chosen)) > 0
    if (able & (chosen == _TRAIN)).any():
        able &= chosen == _TRAIN
    moved = _smallest(drawn, able)
    if moved is None:
        return False
    source = int(chosen[moved])
    _move(drawn, chosen, shares, moved, split)
    over = shares.images[split] - shares.room[split]
    back = _spared(drawn, chosen, shares) & (chosen == split) & (drawn.images <= over) & ~drawn.pinned
    back[moved] = False
    returned = _smallest(drawn, back)
    if returned is not None:
        _move(drawn, chosen, shares, returned, source)
    return True


def _spared(drawn: _Drawn, chosen: Int64s, shares: _Shares, *, though_last_of: int | None = None) -> Bools:
    """(components,) those that are not the only one in their split of any of their classes, but for one class."""
    only = (shares.holders[chosen[drawn.component], drawn.label] < 2) & (drawn.label != though_last_of)
    return np.asarray(np.bincount(drawn.component, weights=only, minlength=len(chosen)) == 0)


def _smallest(drawn: _Drawn, which: Bools) -> int | None:
    """Of the components `which`, the one with the fewest images, the first by its hash."""
    candidates = np.flatnonzero(which)
    if not len(candidates):
        return None
    return int(candidates[np.lexsort((drawn.rank[candidates], drawn.images[candidates]))[0]])


def _move(drawn: _Drawn, chosen: Int64s, shares: _Shares, component: int, split: int) -> None:
    shares.add(drawn, component, int(chosen[component]), -1)
    shares.add(drawn, component, split)
    chosen[component] = split
