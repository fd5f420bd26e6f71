"""The space: the images of a run as points, with what people and each round's teacher said of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selftrain.report.page.run_facts import ReportedRun, Space
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels

COLOURS = 10
WIDTH, HEIGHT, EDGE = 1000, 600, 12


@dataclass(frozen=True)
class Point:
    """A point as it is drawn first, after the last round: its place, its mark, and the class of its colour."""

    x: float
    y: float
    mark: str
    colour: str


def points(run: ReportedRun) -> tuple[Point, ...]:
    """The points of the first plane, after the last round."""
    if run.space is None:
        return ()
    facts = _facts(run, run.space)
    last = facts["rounds"][-1] if facts["rounds"] else None
    found = []
    for at, label, (x, y) in zip(range(len(run.space.ids)), run.space.labels, facts["planes"][0]["at"], strict=True):
        accepted = last is not None and last["accepted"][at]
        said = label if label >= 0 else last["label"][at] if accepted and last is not None else -1
        mark = "person" if label >= 0 else "taught" if accepted else "left"
        found.append(Point(x, y, mark, facts["colours"][said] if said >= 0 else "none"))
    return tuple(found)


def space_facts(run: ReportedRun) -> dict[str, Any] | None:
    """What the page's script needs to draw the points of each plane after each round; None where there are none."""
    return None if run.space is None else _facts(run, run.space)


def legend(run: ReportedRun) -> tuple[tuple[str, str], ...]:
    """Each colour with its class; further classes share the last one."""
    if run.space is None:
        return ()
    facts = _facts(run, run.space)
    named = [
        (colour, name) for colour, name in zip(facts["colours"], facts["classes"], strict=True) if colour != "more"
    ]
    more = len(facts["classes"]) - len(named)
    return (*named, ("more", f"{more} other classes")) if more else tuple(named)


def _facts(run: ReportedRun, space: Space) -> dict[str, Any]:
    names = run.labels[-1].class_names
    return {
        "classes": names,
        "colours": _colours(space, len(names)),
        "names": space.names,
        "people": space.labels,
        "planes": [{"method": method, "at": _drawn(at)} for method, at in space.planes.items()],
        "rounds": [_round(labels, space.ids) for labels in run.labels if len(labels)],
    }


def _drawn(at: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    across, down = WIDTH - 2 * EDGE, HEIGHT - 2 * EDGE
    return [(round(EDGE + across * x, 1), round(HEIGHT - EDGE - down * y, 1)) for x, y in at]


def _colours(space: Space, classes: int) -> list[str]:
    """A colour for each of the classes that most images are drawn of."""
    counts = np.bincount([each for each in space.counted if each >= 0], minlength=classes)
    frequent = sorted(np.argsort(-counts, kind="stable")[:COLOURS].tolist())
    return [f"c{frequent.index(each)}" if each in frequent else "more" for each in range(classes)]


def _round(labels: PseudoLabels, ids: Sequence[str]) -> dict[str, Any]:
    """What the teacher of a round said of each of `ids`; label -1 where it was not in the pool."""
    table = labels.table
    place = pc.index_in(pa.array(ids, pa.string()), value_set=table["image_id"].combine_chunks())
    rows = np.asarray(pc.fill_null(place, -1), np.int64)
    there = rows >= 0

    def of(name: str) -> np.ndarray:
        return np.asarray(table[name])[rows] if len(table) else np.zeros(len(rows))

    return {
        "round": labels.round,
        "label": np.where(there, of("label"), -1).astype(int).tolist(),
        "accepted": (there & of("accepted").astype(bool)).astype(int).tolist(),
        "confidence": np.where(there, of("confidence"), 0).astype(float).round(3).tolist(),
    }
