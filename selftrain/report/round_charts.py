"""Charts over the rounds of a run: each model's accuracy, and the classes of its pseudo-labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from selftrain.config import METRIC_NAMES
from selftrain.evaluate.statistics.intervals import wilson
from selftrain.report.drawing import BLUE, GREY, ORANGE, PALE, VERMILION, figure, percent_axis, plain
from selftrain.selflabel.rounds.history import Round
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels

Doubles = npt.NDArray[np.float64]
MOST_CLASSES = 30
_ROUND_COLOURS = (BLUE, ORANGE, VERMILION, "#009E73", "#CC79A7", "#56B4E9")
_CLASS_COLOURS = (*_ROUND_COLOURS, "#8C6D31", "#7B4FA3", "#5E8C31", "#B23A48")


def accuracy_by_round(rounds: Sequence[Round], path: Path, *, metric: str = "accuracy") -> Path:
    """Draw each model's validation accuracy with its 95 % interval, and mark the models that were kept.

    Another `metric`, such as map, has no interval.

    A model that diverged has no accuracy and is left out. Raises InputError without any round to draw.
    """
    drawn_rounds = [each for each in rounds if each.diverged is None]
    with figure(path, width=6.4, height=2.9) as drawn:
        axes = drawn.subplots()
        at = [each.index for each in drawn_rounds]
        reached = np.array([each.validation_accuracy for each in drawn_rounds])
        axes.plot(at, reached, color=BLUE, linewidth=1.5, zorder=2)
        for each in drawn_rounds:
            if each.validation_images and metric == "accuracy":
                right = round(each.validation_accuracy * each.validation_images)
                low, high = wilson(right, each.validation_images)
                axes.vlines(each.index, low, high, color=PALE, linewidth=5, zorder=1)
            face = BLUE if each.kept else "none"
            axes.scatter(each.index, each.validation_accuracy, s=40, facecolors=face, edgecolors=BLUE, zorder=3)
        axes.set_xticks(at, ["first teacher" if index == 0 else f"round {index}" for index in at])
        axes.set_ylabel(f"validation {METRIC_NAMES[metric]}")
        axes.grid(axis="y", color=PALE, linewidth=0.5)
        axes.margins(x=0.12, y=0.12)
        if metric == "accuracy":
            percent_axis(axes.yaxis)
    return path


def accuracy_of_runs(runs: Sequence[Sequence[Round]], path: Path, *, metric: str = "accuracy") -> Path:
    """Draw the validation accuracy of each model of several runs, called A, B and so on; kept models are filled."""
    with figure(path, width=6.4, height=2.9) as drawn:
        axes = drawn.subplots()
        for name, rounds, colour in zip("ABCDEF", runs, _ROUND_COLOURS, strict=False):
            at, reached = [each.index for each in rounds], [each.validation_accuracy for each in rounds]
            faces = [colour if each.kept else "none" for each in rounds]
            axes.plot(at, reached, color=colour, linewidth=1.5, zorder=2, label=f"run {name}")
            axes.scatter(at, reached, s=40, facecolors=faces, edgecolors=colour, zorder=3)
        most = max(each.index for rounds in runs for each in rounds)
        axes.set_xticks(range(most + 1), ["first teacher", *(f"round {index}" for index in range(1, most + 1))])
        axes.set_ylabel(f"validation {METRIC_NAMES[metric]}")
        axes.grid(axis="y", color=PALE, linewidth=0.5)
        axes.margins(x=0.12, y=0.12)
        axes.legend(loc="best")
        if metric == "accuracy":
            percent_axis(axes.yaxis)
    return path


def class_mix(labels: Sequence[PseudoLabels], human: Sequence[int], path: Path) -> Path:
    """Draw each class's share of the accepted pseudo-labels, per round, beside its share of the human labels.

    `human` (classes,) counts the human training labels. With more than 30 classes, those that moved furthest are drawn.
    """
    names = labels[-1].class_names
    known = _shares(np.asarray(human, np.float64))
    given = [_shares(each.accepted_per_class().astype(np.float64)) for each in labels]
    moved = np.abs(given[-1] - known)
    shown = np.sort(np.argsort(-moved, kind="stable")[:MOST_CLASSES])
    with figure(path, width=6.4, height=0.32 * len(shown) + 0.9) as drawn:
        axes = drawn.subplots()
        rows = np.arange(len(shown))
        axes.barh(rows, known[shown], color=PALE, height=0.72, label="human labels")
        for index, share in enumerate(given[-len(_ROUND_COLOURS) :]):
            colour = _ROUND_COLOURS[index]
            label = f"accepted in round {labels[-len(_ROUND_COLOURS) :][index].round}"
            axes.scatter(share[shown], rows, color=colour, s=26, label=label, zorder=3)
        axes.set_yticks(rows, [plain(names[index]) for index in shown])
        axes.invert_yaxis()
        axes.set_xlabel("share of the labels")
        percent_axis(axes.xaxis)
        axes.grid(axis="x", color=PALE, linewidth=0.5)
        axes.tick_params(axis="y", length=0, labelcolor=GREY)
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return path


def _shares(counts: Doubles) -> Doubles:
    return counts / max(1.0, float(counts.sum()))
