"""What if the threshold were another: the numbers that a page's slider shows, from quantiles of the pool."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from selftrain.evaluate.coverage import candidate_cutoffs
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels

MOST_CLASSES = 12


@dataclass(frozen=True)
class WhatIf:
    """One threshold for all classes at each of k cut-offs, highest first. Nothing is labelled or trained again.

    - `accepted` (k,): how many of the `pool` images reach the cut-off.
    - `precision`, `low` (k,): the share of right answers among the held-out images that reach it, and the lower end of
      its one-sided 95 % interval. None where no held-out image does, or without held-out labels.
    - `held_out` (k,): how many held-out images reach it.
    - `classes`, `mix`: the most frequent classes, and for each cut-off how many accepted images have each of them.
    - `chosen`: the position of the cut-off nearest to the median of the run's own.
    """

    pool: int
    cutoffs: tuple[float, ...]
    accepted: tuple[int, ...]
    precision: tuple[float | None, ...]
    low: tuple[float | None, ...]
    held_out: tuple[int, ...]
    classes: tuple[str, ...]
    mix: tuple[tuple[int, ...], ...]
    chosen: int


def what_if(labels: PseudoLabels) -> WhatIf | None:
    """The numbers for the slider over `labels`; None for an empty pool."""
    if not len(labels):
        return None
    confidence = labels.table["confidence"].to_numpy()
    predicted = labels.table["label"].to_numpy()
    cutoffs = np.asarray(labels.curve.cutoffs if labels.curve else candidate_cutoffs(confidence), np.float32)
    names, mix = _mix(confidence, predicted, cutoffs, labels.class_names)
    precision, low, held_out = _measured(labels, len(cutoffs))
    return WhatIf(
        pool=len(labels),
        cutoffs=tuple(cutoffs.tolist()),
        accepted=tuple(int(sum(row)) for row in mix),
        precision=precision,
        low=low,
        held_out=held_out,
        classes=names,
        mix=mix,
        chosen=int(np.abs(cutoffs - np.median(labels.cutoffs)).argmin()),
    )


def _mix(
    confidence: np.ndarray, predicted: np.ndarray, cutoffs: np.ndarray, class_names: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    """Per cut-off, how many images of each of the most frequent classes reach it, and how many of all others."""
    counts = np.bincount(predicted, minlength=len(class_names))
    frequent = np.sort(np.argsort(-counts, kind="stable")[:MOST_CLASSES])
    columns = [_reaching(confidence[predicted == index], cutoffs) for index in frequent]
    names = tuple(class_names[index] for index in frequent)
    if len(class_names) > MOST_CLASSES:
        names = (*names, f"{len(class_names) - MOST_CLASSES} other classes")
        columns.append(_reaching(confidence[~np.isin(predicted, frequent)], cutoffs))
    return names, tuple(tuple(row) for row in np.stack(columns, axis=1).tolist())


def _reaching(confidence: np.ndarray, cutoffs: np.ndarray) -> np.ndarray:
    below: np.ndarray = np.searchsorted(np.sort(confidence), cutoffs, side="left")
    return len(confidence) - below


def _measured(
    labels: PseudoLabels, cutoffs: int
) -> tuple[tuple[float | None, ...], tuple[float | None, ...], tuple[int, ...]]:
    if labels.curve is None:
        return (None,) * cutoffs, (None,) * cutoffs, (0,) * cutoffs
    columns = labels.curve.table().to_pydict()
    images = columns["images"]
    precision = tuple(value if count else None for value, count in zip(columns["precision"], images, strict=True))
    low = tuple(value if count else None for value, count in zip(columns["low"], images, strict=True))
    return precision, low, tuple(images)
