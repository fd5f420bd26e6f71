"""Lines: what the label log must gain so that an answer about one image holds, or is taken back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, TypeAlias

Line: TypeAlias = Mapping[str, Any]
Key: TypeAlias = tuple[object, object, object]


@dataclass(frozen=True)
class ImageLines:
    """The `lines` of the log about an image, oldest first: `opened` of them are older than the desk.

    - `settles`: an answer ends what the source and the older lines said.
    - `shown`: the label that stood on the page.

    The first answer since the desk was opened settles, if any does. One that contradicts it later makes a conflict.
    """

    image_id: str
    lines: tuple[Line, ...]
    opened: int
    settles: bool
    shown: str | None

    @property
    def answers(self) -> list[Line]:
        """What people said since the desk was opened, and did not take back."""
        return self._apart()[1]

    def answered(self, label: str | None, who: str, now: datetime) -> list[Line]:
        """The lines by which `who` says `label` (None: none of the classes); none if that holds already."""
        older, answers = self._apart()
        own = [line for line in answers if line["who"] == who]
        others = [line for line in answers if line["who"] != who]
        if own and own[-1]["label"] == label and (others or bool(own[-1]["settles"]) >= self.settles):
            return []
        settles = self.settles or label is None
        said = [*others, self._line(label, who, now, settles=settles, shown=self.shown)]
        if own or (label is None and self.settles and older and not others):  # what the person saw is taken back too
            return self._anew(older, said, who, now)
        return self._flagged(said)[-1:]

    def taken_back(self, label: str | None, who: str, now: datetime) -> list[Line]:
        """The lines after which `who` has not said `label`, but what they said before it; none if it was not last."""
        older, answers = self._apart()
        own = [row for row, line in enumerate(answers) if line["who"] == who]
        if not own or answers[own[-1]]["label"] != label:
            return []
        before = self._replaced_by(answers[own[-1]])
        return self._anew(older, [*answers[: own[-1]], *before, *answers[own[-1] + 1 :]], who, now)

    def _apart(self) -> tuple[list[Line], list[Line]]:
        """The older lines that hold, or would without an answer that the image shows none of the classes; the answers.

        What anyone took back since is in neither.
        """
        older = holding(self.lines[: self.opened])
        keys = {key_of(line) for line in older}
        backs = [row for row, line in enumerate(self.lines) if row >= self.opened and _takes_back(line)]
        for start, end in pairwise([*backs, len(self.lines)]):
            restated = self.lines[start + 1 : end]
            if not restated or not _is_none(restated[0]):
                older = [line for line in older if key_of(line) in {key_of(each) for each in restated}]
        return older, [line for line in holding(self.lines) if key_of(line) not in keys]

    def _replaced_by(self, said: Line) -> list[Line]:
        """The person's own answer that `said` corrected, as a list; empty if there was none."""
        key = key_of(said)
        first = next(row for row, line in enumerate(self.lines) if key_of(line) == key and not _takes_back(line))
        back = next((row for row in range(first, -1, -1) if _takes_back(self.lines[row])), None)
        if back is None or (self.lines[back]["who"], self.lines[back]["when"]) != (said["who"], said["when"]):
            return []
        older = {key_of(line) for line in holding(self.lines[: self.opened])}
        own = [line for line in holding(self.lines[:back]) if line["who"] == said["who"]]
        return [line for line in own if key_of(line) not in older][-1:]

    def _anew(self, older: Sequence[Line], answers: Sequence[Line], who: str, now: datetime) -> list[Line]:
        """Take all back, then say again what holds."""
        kept = [] if answers and _is_none(answers[0]) and self.settles else older
        return [self._line(None, who, now, settles=False, shown=None), *kept, *self._flagged(answers)]

    def _flagged(self, answers: Sequence[Line]) -> list[Line]:
        """`answers`, of which the first settles, and those that agree with all before them."""
        if not self.settles:
            return list(answers)
        labels = [line["label"] for line in answers]
        return [
            {**line, "settles": line["label"] is None or all(each == line["label"] for each in labels[:row])}
            for row, line in enumerate(answers)
        ]

    def _line(self, label: str | None, who: str, when: datetime, *, settles: bool, shown: str | None) -> Line:
        said = {"image_id": self.image_id, "label": label, "who": who, "when": when}
        return {**said, "settles": settles, "shown": shown}


def holding(lines: Sequence[Line]) -> list[Line]:
    """Of the lines of one image, those that were not taken back later."""
    back = [row for row, line in enumerate(lines) if _takes_back(line)]
    return list(lines[back[-1] + 1 if back else 0 :])


def _takes_back(line: Line) -> bool:
    return line["label"] is None and not line["settles"]


def _is_none(line: Line) -> bool:
    """Whether it says that the image shows none of the classes."""
    return line["label"] is None and bool(line["settles"])


def key_of(line: Line) -> Key:
    """What stays the same where a line is said again."""
    return line["who"], line["when"], line["label"]
