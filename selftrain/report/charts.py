"""Charts: confidence and thresholds, confusion and training, each drawn to a PNG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, PowerNorm
from matplotlib.ticker import MaxNLocator

from selftrain.evaluate.evaluation import EvaluationReport
from selftrain.report.drawing import (
    BLUE,
    GREY,
    INK,
    LONGEST_NAME,
    ORANGE,
    PALE,
    VERMILION,
    count_axis,
    figure,
    percent_axis,
    plain,
    title,
    unticked,
    with_commas,
)
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels, RejectionReason

Doubles = npt.NDArray[np.float64]
BINS = 40
MOST_PANELS = 30
MOST_COUNTS = 20
MOST_NAMES = 50
KINDS = (
    (RejectionReason.ACCEPTED, "accepted", BLUE),
    (RejectionReason.OVER_QUOTA, "over the class's quota", ORANGE),
    (RejectionReason.BELOW_THRESHOLD, "below the threshold", PALE),
)


def confidence_overall(labels: PseudoLabels, path: Path) -> Path:
    """Draw a histogram of the confidences in the pool, and the share that each threshold accepts. A PNG at `path`."""
    with figure(path, width=8.6, height=3.4) as drawn:
        histogram, curve = drawn.subplots(1, 2, width_ratios=[3, 2])
        counts = _counts(labels)
        _stacked(histogram, counts, _lines(labels.cutoffs), tallest=counts.sum(axis=0).max())
        histogram.set(xlabel="confidence of the predicted class", ylabel="images")
        _legend(histogram, labels)
        _share_accepted(curve, labels)
        title(drawn, f"{_round(labels)}{_accepted_of(labels)}, threshold {labels.threshold}")
    return path


def confidence_per_class(labels: PseudoLabels, path: Path) -> Path:
    """Draw the confidence per class: small histograms, or rows of counts beyond 30 classes. A PNG at `path`."""
    if len(labels.class_names) > MOST_PANELS:
        return _confidence_rows(labels, path)
    classes = len(labels.class_names)
    columns = min(5, classes)
    rows = -(-classes // columns)
    predicted = labels.table["label"].to_numpy()
    counted = [_counts(labels, predicted == index) for index in range(classes)]
    tallest = max(counts.sum(axis=0).max() for counts in counted)
    with figure(path, width=1.9 * max(columns, 3) + 0.6, height=1.45 * rows + 1.1) as drawn:
        panels = drawn.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat
        for index, panel in enumerate(panels):
            if index >= classes:
                panel.set_visible(False)
                continue
            _stacked(panel, counted[index], _lines(labels.cutoffs[index : index + 1]), tallest=tallest)
            panel.set_xticks([0, 0.5, 1])
            sums = counted[index].sum(axis=1).astype(int)
            panel.set_title(f"{plain(labels.class_names[index])}  {sums[0]:,} of {sums.sum():,}", fontsize=8)
            panel.tick_params(labelbottom=index + columns >= classes)
        title(drawn, f"{_round(labels)}accepted of the images predicted as each class")
        drawn.supxlabel("confidence of the predicted class", fontsize=9)
        drawn.supylabel("images", fontsize=9)
    return path


def confusion_matrix(report: EvaluationReport, path: Path) -> Path:
    """Draw the confusion matrix: shares of each true class, with counts for up to 20 classes. A PNG at `path`."""
    counts = np.array(report.confusion, dtype=np.int64)
    classes = len(counts)
    support = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, support, out=np.full(counts.shape, np.nan), where=support > 0)
    side = float(np.clip(0.36 * classes + 1.6, 3.4, 14))
    with figure(path, width=side + 0.9, height=side + 0.3) as drawn:
        axes = drawn.subplots()
        # Without counts, the shading must show a confusion of a few percent.
        norm = PowerNorm(gamma=1.0 if classes <= MOST_COUNTS else 0.5, vmin=0, vmax=1)
        image = axes.imshow(shares, cmap="Blues", norm=norm, aspect="equal")
        axes.set_facecolor("#F1F2F3")
        _name_ticks(axes, report.class_names)
        axes.set(xlabel="predicted", ylabel="true")
        unticked(axes)
        if classes <= MOST_COUNTS:
            for row, column in zip(*np.nonzero(counts), strict=True):
                colour = "white" if shares[row, column] > 0.55 else INK
                axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", color=colour, fontsize=7)
        bar = drawn.colorbar(image, ax=axes, shrink=0.7, label="share of the true class")
        percent_axis(bar.ax.yaxis)
        unticked(bar.ax)
        low, high = report.interval
        interval = f"{100 * (1 - report.alpha):g} % interval {100 * low:.1f} to {100 * high:.1f}"
        axes.set_title(f"Accuracy {100 * report.accuracy:.1f} % of {report.images:,} images\n({interval})")
    return path


def training_curves(curve: pa.Table, path: Path) -> Path:
    """Draw loss and validation accuracy by step, and mark the kept weights. A PNG at `path`.

    `curve` has a row per validation, with the columns step, loss, validation_loss, validation_accuracy and kept.
    """
    step = _column(curve, "step")
    with figure(path, width=8.6, height=3.2) as drawn:
        loss, accuracy = drawn.subplots(1, 2)
        loss.plot(step, _column(curve, "loss"), color=GREY, marker="o", markersize=3, label="training, as optimised")
        loss.plot(step, _column(curve, "validation_loss"), color=BLUE, marker="o", markersize=3, label="validation")
        loss.set(xlabel="step", ylabel="loss")
        loss.set_ylim(bottom=0)
        loss.legend()
        reached = _column(curve, "validation_accuracy")
        accuracy.plot(step, reached, color=BLUE, marker="o", markersize=3)
        accuracy.set(xlabel="step", ylabel="validation accuracy")
        percent_axis(accuracy.yaxis)
        for axes in (loss, accuracy):
            axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
            axes.grid(axis="y", color=PALE, linewidth=0.5)
            axes.margins(x=0.04)
        for best in np.flatnonzero(_column(curve, "kept")):
            accuracy.scatter(step[best], reached[best], s=48, facecolors="none", edgecolors=VERMILION, zorder=3)
            title(drawn, f"Kept: step {step[best]:,.0f}, validation accuracy {100 * reached[best]:.1f} %")
    return path


def _confidence_rows(labels: PseudoLabels, path: Path) -> Path:
    """Draw how many images have each confidence: one row per class, with its threshold."""
    classes = len(labels.class_names)
    predicted = labels.table["label"].to_numpy()
    confidence = labels.table["confidence"].to_numpy()
    counts, _, _ = np.histogram2d(predicted, confidence, bins=(classes, BINS), range=((-0.5, classes - 0.5), (0, 1)))
    with figure(path, width=7.2, height=float(np.clip(0.12 * classes + 1.4, 5, 13))) as drawn:
        axes = drawn.subplots()
        image = axes.imshow(
            np.ma.masked_equal(counts, 0),
            cmap="Blues",
            norm=LogNorm(vmin=0.4, vmax=max(2.0, float(counts.max()))),
            aspect="auto",
            extent=(0, 1, classes - 0.5, -0.5),
            interpolation="nearest",
        )
        cuts = np.repeat(np.asarray(labels.cutoffs), 2)
        if cuts.any():
            edges = np.repeat(np.arange(classes + 1) - 0.5, 2)[1:-1]
            axes.plot(cuts, edges, color=VERMILION, linewidth=1.2)
        _name_rows(axes, labels.class_names)
        axes.set(xlabel="confidence of the predicted class", xlim=(0, 1))
        unticked(axes)
        bar = drawn.colorbar(image, ax=axes, shrink=0.5, label="images")
        with_commas(bar.ax.yaxis)
        unticked(bar.ax)
        title(drawn, f"{_round(labels)}{_accepted_of(labels)}\nOne row per predicted class; the line is its threshold")
    return path


def _counts(labels: PseudoLabels, chosen: npt.NDArray[np.bool_] | None = None) -> Doubles:
    """How many images of each of KINDS are in each bin of confidence: (kinds, bins)."""
    table = labels.table if chosen is None else labels.table.filter(pa.array(chosen))
    confidence = table["confidence"].to_numpy()
    reason = table["reason"].to_numpy()
    return np.stack([np.histogram(confidence[reason == kind], BINS, (0, 1))[0] for kind, _, _ in KINDS]).astype(float)


def _stacked(axes: Axes, counts: Doubles, lines: tuple[float, ...], *, tallest: float) -> None:
    edges = np.linspace(0, 1, BINS + 1)
    below = np.zeros(BINS)
    for kind, (_, name, colour) in zip(counts, KINDS, strict=True):
        axes.stairs(below + kind, edges, baseline=below, fill=True, color=colour, label=name)
        below = below + kind
    for line in lines:
        axes.axvline(line, color=VERMILION, linewidth=_thickness(lines))
    axes.set(xlim=(0, 1), ylim=(0, 1.05 * max(1.0, tallest)))
    count_axis(axes.yaxis)


def _legend(axes: Axes, labels: PseudoLabels) -> None:
    handles, _ = axes.get_legend_handles_labels()
    used = [handle for handle, (kind, _, _) in zip(handles, KINDS, strict=True) if labels.count(kind)]
    if used:
        axes.legend(handles=used, loc="upper left")


def _share_accepted(axes: Axes, labels: PseudoLabels) -> None:
    """Draw the share of the pool with a confidence of at least x, and mark the thresholds on it."""
    confidence = np.sort(labels.table["confidence"].to_numpy())
    at = np.linspace(0, 1, 501)
    cutoffs = _lines(labels.cutoffs)
    lines = np.array(cutoffs)

    def share(threshold: Doubles) -> Doubles:
        below = np.searchsorted(confidence, threshold.astype(np.float32), side="left")
        return (len(confidence) - below) / max(1, len(confidence))

    axes.plot(at, share(at), color=BLUE)
    axes.vlines(lines, 0, 1.02, color=VERMILION, linewidth=_thickness(cutoffs))
    axes.scatter(lines, share(lines), color=VERMILION, s=18, zorder=3)
    axes.set(xlabel="threshold", ylabel="share of the pool at or above it", xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(color=PALE, linewidth=0.5)
    percent_axis(axes.yaxis)


def _lines(cutoffs: tuple[float, ...]) -> tuple[float, ...]:
    """The thresholds to draw: each once, without those that accept everything."""
    return tuple(sorted({cutoff for cutoff in cutoffs if cutoff > 0}))


def _thickness(lines: tuple[float, ...]) -> float:
    return 1.2 if len(lines) <= 8 else 0.5


def _round(labels: PseudoLabels) -> str:
    """The beginning of a title; labels made outside a run have round 0."""
    return f"Round {labels.round}: " if labels.round else ""


def _accepted_of(labels: PseudoLabels) -> str:
    accepted, pool = labels.count(RejectionReason.ACCEPTED), len(labels)
    share = f" ({100 * accepted / pool:.0f} %)" if pool else ""
    return f"{accepted:,} of {pool:,} images accepted{share}"


def _name_ticks(axes: Axes, names: tuple[str, ...]) -> None:
    _name_rows(axes, names)
    positions = axes.get_yticks()
    shown = [text.get_text() for text in axes.get_yticklabels()]
    slanted = max((len(name) for name in shown), default=0) > 3
    axes.set_xticks(positions, shown, rotation=45 if slanted else 0, ha="right" if slanted else "center")
    if slanted:
        axes.tick_params(axis="x", pad=1)


def _name_rows(axes: Axes, names: tuple[str, ...]) -> None:
    every = -(-len(names) // MOST_NAMES)
    shown = range(0, len(names), every)
    axes.set_yticks(list(shown), [plain(names[index], longest=LONGEST_NAME) for index in shown])


def _column(curve: pa.Table, name: str) -> Doubles:
    values: Doubles = curve[name].to_numpy().astype(np.float64)
    return values


__all__ = ["confidence_overall", "confidence_per_class", "confusion_matrix", "training_curves"]
