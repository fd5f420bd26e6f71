"""The next round: from a history to a longer one, or to the same where the loop has ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from selftrain.config import Experiment, parse
from selftrain.data.manifest import Manifest
from selftrain.learn.models.contract import SavedModel
from selftrain.selflabel.rounds.gate import judge
from selftrain.selflabel.rounds.history import History, Round, Verdict
from selftrain.selflabel.rounds.outcome import minutes
from selftrain.selflabel.rounds.plan import Plan, plan
from selftrain.selflabel.rounds.results import student_round, with_guards, with_round_of
from selftrain.selflabel.rounds.scores import Scores
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels

SETTINGS = frozenset(
    {"name", "workspace", "source", "task", "seed", "image_size", "control"}
    | {"teacher", "student", "pseudo_label", "gate", "guards"}
)
"""What a round depends on. `source` is one of them: the augmentation that is left out follows from it."""


def settings_of_rounds(e: Experiment) -> Experiment:
    """`e` with only the settings that a round depends on. All others have their defaults."""
    return parse(e.model_dump(mode="json", include=set(SETTINGS), exclude_unset=True))


@dataclass(frozen=True)
class Work:
    """How the work of a round is done: the plan names its teacher, which labels the pool and may lend its weights."""

    label: Callable[[Plan], PseudoLabels]
    train: Callable[[Plan, PseudoLabels], SavedModel]
    score: Callable[[SavedModel], Scores]


@dataclass(frozen=True)
class RoundResult:
    """What a round gave.

    There are no `labels` if the loop had ended before, and no `student` if a guard ended it at the labels.
    """

    history: History
    labels: PseudoLabels | None = None
    student: SavedModel | None = None

    @property
    def finished(self) -> Round | None:
        """The student's round."""
        return self.history.latest if self.student is not None else None

    def newest_kept(self, teacher: SavedModel) -> SavedModel:
        """The next round's teacher: the student if it was kept, else its own `teacher`."""
        return self.student if self.student is not None and self.history.latest.kept else teacher


def next_round(e: Experiment, manifest: Manifest, history: History, work: Work) -> RoundResult:
    """Do the round after `history`. Where the gate or a guard has ended the loop, nothing is done."""
    if judge(e.gate, history, minutes=minutes(history)) is not Verdict.CONTINUE:
        return RoundResult(history)
    coming = plan(e, history)
    labels = work.label(coming)
    history = with_guards(history, e.guards, manifest, labels, method=coming.recipe.method)
    if history.stopped:
        return RoundResult(history, labels)
    student = work.train(coming, labels)
    scores = work.score(student)
    latest = student_round(coming.index, manifest, labels, student, scores, e.gate, method=e.student.method)
    return RoundResult(with_round_of(history, e.guards, e.gate, latest), labels, student)
