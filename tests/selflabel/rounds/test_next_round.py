"""The next round as a value: what is done while the loop goes on, and that nothing is done after its end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from selftrain.config import Experiment, Gate, Guards, Machine, Notify
from selftrain.learn.models.contract import Contract, SavedModel
from selftrain.selflabel.rounds.history import History
from selftrain.selflabel.rounds.next_round import RoundResult, Work, next_round, settings_of_rounds
from selftrain.selflabel.rounds.plan import Plan
from selftrain.selflabel.rounds.results import teacher_round
from selftrain.selflabel.rounds.scores import Scores
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels
from tests.selflabel.rounds.test_results import MODEL, NAMES, SCORES, manifest_of, measured_labels

MANIFEST = manifest_of(training=6, pool=90)
STUDENT = SavedModel(Path("student"), Contract(backbone="by_hand_b", image_size=16, class_names=NAMES))
EXPERIMENT = Experiment.model_validate({"student": {"backbone": "wide_resnet_16_1"}})


@dataclass
class Worker:
    """Labels, trains and scores as it was told, and writes down what it was asked for."""

    accuracies: Iterator[float]
    asked: list[str] = field(default_factory=list)

    def label(self, coming: Plan) -> PseudoLabels:
        self.asked.append(f"label {coming.index}")
        return measured_labels(60)

    def train(self, coming: Plan, labels: PseudoLabels) -> SavedModel:
        self.asked.append(f"train {coming.index}")
        return STUDENT

    def score(self, student: SavedModel) -> Scores:
        self.asked.append("score")
        return SCORES.model_copy(update={"accuracy": next(self.accuracies)})


def loop(gate: Gate, *accuracies: float, guards: Guards | None = None) -> tuple[list[RoundResult], list[str]]:
    """A step for each round that the gate allows, as in a fixed graph, and what was asked for."""
    e = EXPERIMENT.model_copy(update={"gate": gate, "guards": guards or Guards()})
    worker = Worker(iter(accuracies))
    work = Work(label=worker.label, train=worker.train, score=worker.score)
    history = History().with_round(teacher_round(MANIFEST, MODEL, SCORES, gate))
    results: list[RoundResult] = []
    for _ in range(gate.max_rounds):
        results.append(next_round(e, MANIFEST, history, work))
        history = results[-1].history
    return results, worker.asked


def test_after_a_round_that_passes_nothing_is_asked_for_and_the_history_stays() -> None:
    results, asked = loop(Gate(target=0.95, max_rounds=3), 0.96)
    assert asked == ["label 1", "train 1", "score"]
    assert results[1] == results[2] == RoundResult(results[0].history)
    assert results[2].finished is None


def test_a_loop_without_an_early_end_uses_every_round() -> None:
    results, asked = loop(Gate(target=0.99, max_rounds=3), 0.92, 0.94, 0.96)
    assert [each for each in asked if each.startswith("train")] == ["train 1", "train 2", "train 3"]
    assert [each.finished.index for each in results if each.finished is not None] == [1, 2, 3]


def test_a_gate_without_least_rounds_may_end_the_loop_before_its_first_round() -> None:
    results, asked = loop(Gate(target=0.9, min_rounds=0, max_rounds=2))
    assert asked == []
    assert results[-1].newest_kept(MODEL) is MODEL


def test_where_a_guard_stops_the_loop_the_labels_are_left_and_no_student() -> None:
    guards = Guards(empty_classes=0, actions={"empty_classes": "stop"})  # all labels are of one class
    results, asked = loop(Gate(max_rounds=2), guards=guards)
    assert asked == ["label 1"]
    assert results[0].labels is not None
    assert results[0].student is None
    assert results[1] == RoundResult(results[0].history)


@pytest.mark.parametrize(("accuracy", "teacher"), [(0.93, STUDENT), (0.5, MODEL)])
def test_the_next_teacher_is_the_student_only_if_it_was_kept(accuracy: float, teacher: SavedModel) -> None:
    (only,), _ = loop(Gate(target=0.99, max_rounds=1), accuracy)
    assert only.newest_kept(MODEL) is teacher


def test_what_no_round_depends_on_is_not_among_its_settings() -> None:
    e = Experiment(name="a", seed=3, gate=Gate(max_rounds=5))
    other = e.model_copy(update={"title": "T", "machine": Machine(workers=1), "notify": Notify()})
    assert settings_of_rounds(other) == settings_of_rounds(e)
    assert (settings_of_rounds(e).seed, settings_of_rounds(e).gate.max_rounds) == (3, 5)


def test_an_augmentation_that_follows_from_the_source_is_the_same_among_the_settings_of_rounds() -> None:
    photos = Experiment.model_validate({"source": {"kind": "folder", "labeled": "here"}})
    for e in (photos, Experiment()):
        assert settings_of_rounds(e).student == e.student
        assert settings_of_rounds(e).teacher == e.teacher
