"""Answers: what the final models of two runs said on the test images that both runs hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from selftrain.evaluate.detail import ClassComparison, compare_classes
from selftrain.evaluate.detection import DetectionReport
from selftrain.evaluate.evaluation import Comparison, EvaluationReport, paired
from selftrain.selflabel.rounds.record import RunRecord


@dataclass(frozen=True)
class ComparedRun:
    """One of two runs: what it stored, as far as it is there.

    - `truth`: the label of each test image as a class index, by image id.
    - `settings`: the experiment, as nested mappings.
    - `made`: facts on how it was made, such as the version of Python, by name.
    """

    record: RunRecord
    evaluation: EvaluationReport | None = None
    detection: DetectionReport | None = None
    truth: Mapping[str, int] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    made: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """An image of both test sets: its label, and what run A (`first`) and run B (`second`) answered, as class names."""

    image_id: str
    label: str
    first: str
    second: str

    @property
    def gained(self) -> bool:
        """Whether only run B is right."""
        return self.second == self.label != self.first

    @property
    def lost(self) -> bool:
        """Whether only run A is right."""
        return self.first == self.label != self.second


@dataclass(frozen=True)
class SharedTest:
    """The images of both test sets, in the order of their ids, and how many images could not be joined.

    - `only_first`, `only_second`: images that one run alone tested.
    - `relabelled`: images of both whose label is another one in the other run. They are left out of `answers`.
    """

    answers: tuple[Answer, ...]
    only_first: int
    only_second: int
    relabelled: int

    @property
    def same(self) -> bool:
        """Whether both runs tested the same images, with the same labels."""
        return not (self.only_first or self.only_second or self.relabelled)

    @property
    def gained(self) -> tuple[Answer, ...]:
        """The images on which only run B is right."""
        return tuple(each for each in self.answers if each.gained)

    @property
    def lost(self) -> tuple[Answer, ...]:
        """The images on which only run A is right."""
        return tuple(each for each in self.answers if each.lost)

    @property
    def swapped(self) -> int:
        """How many images both runs answer wrongly, each in its own way."""
        return sum(each.label != each.first != each.second != each.label for each in self.answers)


@dataclass(frozen=True)
class ConfusionChange:
    """How often images of the class `label` were answered as `answer` by run A and by run B."""

    label: str
    answer: str
    first: int
    second: int


def all_known(run: ComparedRun) -> bool:
    """Whether the run stored the answer to every one of its test images."""
    return run.evaluation is not None and len(run.evaluation.answers(run.truth)) == run.evaluation.images


def share(first: ComparedRun, second: ComparedRun) -> SharedTest:
    """Join the answers of two runs by image id. Classes are compared by name. Both runs must be `all_known`."""
    (labels, answers), (other_labels, other_answers) = _named(first), _named(second)
    joined = sorted(labels.keys() & other_labels.keys())
    kept = [name for name in joined if labels[name] == other_labels[name]]
    return SharedTest(
        answers=tuple(Answer(name, labels[name], answers[name], other_answers[name]) for name in kept),
        only_first=len(labels) - len(joined),
        only_second=len(other_labels) - len(joined),
        relabelled=len(joined) - len(kept),
    )


def _named(run: ComparedRun) -> tuple[dict[str, str], dict[str, str]]:
    """The label and the answer of each test image, as class names."""
    if run.evaluation is None:
        return {}, {}
    names, answers = run.evaluation.class_names, run.evaluation.answers(run.truth)
    return (
        {image_id: names[label] for image_id, label in run.truth.items()},
        {image_id: names[answer] for image_id, answer in answers.items()},
    )


def overall(answers: Sequence[Answer]) -> Comparison | None:
    """Run B against run A, paired by image; None without an image."""
    return paired(_right(answers, "second"), _right(answers, "first")) if answers else None


def per_class(answers: Sequence[Answer]) -> tuple[ClassComparison, ...]:
    """Run B against run A on the images of each class, in the order of names."""
    names = tuple(sorted({each.label for each in answers}))
    truth = np.array([names.index(each.label) for each in answers], np.int64)
    return compare_classes(truth, _right(answers, "second"), _right(answers, "first"), names)


def _right(answers: Sequence[Answer], run: str) -> npt.NDArray[np.bool_]:
    return np.array([getattr(each, run) == each.label for each in answers], np.bool_)


def confusion_changes(answers: Iterable[Answer], *, most: int) -> tuple[ConfusionChange, ...]:
    """The up to `most` confusions whose count changed most from run A to run B, largest change first."""
    wrong = [each for each in answers if each.label != each.first or each.label != each.second]
    before = Counter((each.label, each.first) for each in wrong if each.first != each.label)
    after = Counter((each.label, each.second) for each in wrong if each.second != each.label)
    found = [
        ConfusionChange(label, answer, before[label, answer], after[label, answer])
        for label, answer in sorted(before.keys() | after.keys())
        if before[label, answer] != after[label, answer]
    ]
    return tuple(sorted(found, key=lambda each: -abs(each.second - each.first))[:most])


def drawn(answers: Sequence[Answer], *, most: int) -> tuple[Answer, ...]:
    """Up to `most` of `answers`, in turn from each class, and in the order of image ids within a class."""
    turns: Counter[str] = Counter()
    ranked = []
    for each in sorted(answers, key=lambda each: each.image_id):
        ranked.append((turns[each.label], each.label, each))
        turns[each.label] += 1
    return tuple(each for _, _, each in sorted(ranked, key=lambda row: row[:2])[:most])
