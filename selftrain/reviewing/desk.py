"""The desk: takes people's answers to the questions of a queue, and writes each one to the label log at once."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from selftrain.data.label_log import (
    LABEL_LOG_SCHEMA,
    NONE_OF_THEM,
    append_answers,
    log_locked,
    log_stamp,
    read_log,
)
from selftrain.errors import InputError
from selftrain.reviewing.lines import ImageLines, Line
from selftrain.reviewing.questions import Question

MOST_NEWS = 5000  # of images at once, and of names of a person
MOST_WHO = 200


@dataclass(frozen=True)
class News:
    """What an image is called since the answer `number`: `label` by `who`; None: it waits for an answer again."""

    number: int
    image_id: str
    label: str | None
    who: str


class Desk:
    """Answers to `questions`, written to the label log in the data set's `folder`; `classes` are the allowed labels.

    Any number of threads and processes may answer at once: each looks at the log, and adds to it, while it holds the
    log's lock. An answer that the same person has given already adds nothing, so that it can be sent twice.
    """

    def __init__(self, folder: Path, classes: Sequence[str], questions: Iterable[Question]) -> None:
        self._folder = folder
        self.classes = tuple(classes)
        self.questions = tuple(questions)
        self._by_id = {each.image_id: each for each in self.questions}
        self._lines: dict[str, list[Line]] = {}
        self._opened: dict[str, int] = {}
        self._stamp: object = None
        self._news: list[News] = []
        self._thread = threading.Lock()
        with self._thread:
            self._read()
            self._news.clear()
        self._opened = {image_id: len(lines) for image_id, lines in self._lines.items()}

    def answer(self, image_ids: Sequence[str], label: str, who: str) -> None:
        """Write `label`, a class or NONE_OF_THEM, for the images `image_ids`, all or none.

        - For an image that had labels when it was shown, or is in conflict, it settles what they said.
        - It replaces an earlier answer of the same person.
        - Another label that another person gave since the desk was opened is a conflict, as in `selftrain label`.

        Raises InputError for an unknown image, class or person, and LabelLogError where the log cannot be written.
        """
        if label != NONE_OF_THEM and label not in self.classes:
            raise InputError(f"{label!r} is not a class of the data set; load the page again")
        who = self._checked(image_ids, who)
        now = datetime.now(UTC)
        with self._thread, log_locked(self._folder):
            self._read()
            each_of = dict.fromkeys(image_ids)
            self._write([line for each in each_of for line in self._of(each).answered(_in_log(label), who, now)], who)

    def undo(self, image_ids: Sequence[str], label: str, who: str) -> None:
        """Take back that `who` said `label` of `image_ids`, last of all; what was said before, and by others, holds.

        Where it is not what they said last, nothing changes. Raises InputError for an unknown image or person, and
        LabelLogError where the log cannot be written.
        """
        who = self._checked(image_ids, who)
        now = datetime.now(UTC)
        with self._thread, log_locked(self._folder):
            self._read()
            each_of = dict.fromkeys(image_ids)
            self._write([line for each in each_of for line in self._of(each).taken_back(_in_log(label), who, now)], who)

    def news(self, since: int) -> tuple[News, ...]:
        """What was answered after the answer number `since`, here or by another process, oldest first."""
        with self._thread:
            if log_stamp(self._folder) != self._stamp:
                with log_locked(self._folder):
                    self._read()
            return tuple(self._news[max(since, 0) : max(since, 0) + MOST_NEWS])

    def standing(self) -> dict[str, News]:
        """The newest answer of each image that was answered since the desk was opened, if it was not taken back."""
        with self._thread:
            newest = {each.image_id: each for each in self._news}
        return {image_id: each for image_id, each in newest.items() if each.label is not None}

    def _checked(self, image_ids: Sequence[str], who: str) -> str:
        """The name of the person, without spaces around it: "anna " is anna."""
        unknown = [each for each in image_ids if each not in self._by_id]
        if unknown or not image_ids or len(image_ids) > MOST_NEWS:
            raise InputError(
                f"{unknown[0] if unknown else len(image_ids)} is not an image of this queue; load it again"
            )
        if not who.strip() or len(who) > MOST_WHO:
            raise InputError(f"a person has a name of 1 to {MOST_WHO} characters, to whom the log gives the answer")
        return who.strip()

    def _of(self, image_id: str) -> ImageLines:
        question = self._by_id[image_id]
        return ImageLines(
            image_id,
            tuple(self._lines.get(image_id, ())),
            opened=self._opened.get(image_id, 0),
            settles=question.settled_by_answer,
            shown=question.shown or (question.labels[0] if question.labels else None),
        )

    def _write(self, lines: Sequence[Line], who: str) -> None:
        if not lines:
            return
        append_answers(self._folder, pa.Table.from_pylist(list(lines), schema=LABEL_LOG_SCHEMA))
        for image_id in dict.fromkeys(str(line["image_id"]) for line in lines):
            new = [line for line in lines if line["image_id"] == image_id]
            self._take(image_id, [*self._lines.get(image_id, []), *new], who)
        self._stamp = log_stamp(self._folder)

    def _read(self) -> None:
        """Take over what other processes wrote."""
        stamp = log_stamp(self._folder)
        if stamp == self._stamp:
            return
        log = read_log(self._folder)
        mine = pc.is_in(log["image_id"], value_set=pa.array(list(self._by_id), pa.string()))
        found: dict[str, list[Line]] = {}
        for line in log.filter(mine).to_pylist():
            found.setdefault(line["image_id"], []).append(line)
        for image_id, lines in found.items():
            if len(lines) != len(self._lines.get(image_id, [])):
                self._take(image_id, lines, str(lines[-1]["who"]))
        self._stamp = stamp

    def _take(self, image_id: str, lines: list[Line], who: str) -> None:
        self._lines[image_id] = lines
        answers = self._of(image_id).answers
        label = str(answers[-1]["label"] or NONE_OF_THEM) if answers else None
        self._news.append(News(len(self._news) + 1, image_id, label, who))


def _in_log(label: str) -> str | None:
    """A label as the log's column holds it."""
    return None if label == NONE_OF_THEM else label
