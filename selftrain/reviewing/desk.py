"""The desk: takes people's answers to the questions of a queue, and writes each one to the label log at once."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

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


Line = Mapping[str, Any]


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
        self._stamp: object = None
        self._opened = datetime.now(UTC)
        self._news: list[News] = []
        self._thread = threading.Lock()
        with self._thread:
            self._read()
            self._news.clear()

    def answer(self, image_ids: Sequence[str], label: str, who: str) -> None:
        """Write `label`, a class or NONE_OF_THEM, for the images `image_ids`, all or none.

        - For an image that had labels when it was shown, it settles what they said.
        - It replaces an earlier answer of the same person.
        - A label that another person gives meanwhile is a conflict, as in `selftrain label`.

        Raises InputError for an unknown image, class or person, and LabelLogError where the log cannot be written.
        """
        if label != NONE_OF_THEM and label not in self.classes:
            raise InputError(f"{label!r} is not a class of the data set; load the page again")
        self._check(image_ids, who)
        now = datetime.now(UTC)
        with self._thread, log_locked(self._folder):
            self._read()
            self._write([line for each in dict.fromkeys(image_ids) for line in self._said(each, label, who, now)], who)

    def undo(self, image_ids: Sequence[str], label: str, who: str) -> None:
        """Take back that `who` said `label` of `image_ids`, last of all; what was said before, and by others, holds.

        Where it is not what they said last, nothing changes. Raises InputError for an unknown image or person, and
        LabelLogError where the log cannot be written.
        """
        self._check(image_ids, who)
        now = datetime.now(UTC)
        with self._thread, log_locked(self._folder):
            self._read()
            lines: list[Line] = []
            for each in dict.fromkeys(image_ids):
                own = [line for line in _holding(self._lines.get(each, [])) if line["who"] == who]
                if own and own[-1]["label"] == _of(label):
                    lines += self._without(each, own[-1], now)
            self._write(lines, who)

    def news(self, since: int) -> tuple[News, ...]:
        """What was answered after the answer number `since`, here or by another process, oldest first."""
        with self._thread:
            if log_stamp(self._folder) != self._stamp:
                with log_locked(self._folder):
                    self._read()
            return tuple(self._news[max(since, 0) : max(since, 0) + MOST_NEWS])

    def standing(self) -> dict[str, News]:
        """The newest answer of each image that was answered since the desk was opened."""
        with self._thread:
            return {each.image_id: each for each in self._news if each.label is not None}

    def _check(self, image_ids: Sequence[str], who: str) -> None:
        unknown = [each for each in image_ids if each not in self._by_id]
        if unknown or not image_ids or len(image_ids) > MOST_NEWS:
            raise InputError(
                f"{unknown[0] if unknown else len(image_ids)} is not an image of this queue; load it again"
            )
        if not who.strip() or len(who) > MOST_WHO:
            raise InputError(f"a person has a name of 1 to {MOST_WHO} characters, to whom the log gives the answer")

    def _said(self, image_id: str, label: str, who: str, now: datetime) -> list[Line]:
        """The lines by which `who` says `label` of an image; none if that holds already."""
        question, holding = self._by_id[image_id], _holding(self._lines.get(image_id, []))
        shown = question.shown or (question.labels[0] if question.labels else None)
        settles = bool(question.labels) or label == NONE_OF_THEM
        own = [line for line in holding if line["who"] == who and line["when"] >= self._opened]
        if own and (own[-1]["label"], own[-1]["settles"]) == (_of(label), settles):
            return []
        before = self._without(image_id, own[-1], now) if own else []
        if label == NONE_OF_THEM and question.labels:  # what the person saw is taken back, and then contradicted
            before.append(_line(image_id, None, who, now, settles=False, shown=shown))
        return [*before, _line(image_id, _of(label), who, now, settles=settles, shown=shown)]

    def _without(self, image_id: str, said: Line, now: datetime) -> list[Line]:
        """The lines after which all holds that was said of an image, but for `said` and what it took back itself."""
        lines = self._lines[image_id]
        mine = [row for row, line in enumerate(lines) if (line["who"], line["when"]) == (said["who"], said["when"])]
        before, after = _holding(lines[: mine[0]]), [line for row, line in enumerate(lines) if row > mine[-1]]
        return [_line(image_id, None, str(said["who"]), now, settles=False, shown=None), *before, *_holding(after)]

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
        holding = _holding(lines)
        label = str(holding[-1]["label"] or NONE_OF_THEM) if holding else None
        self._news.append(News(len(self._news) + 1, image_id, label, who))


def _holding(lines: Sequence[Line]) -> list[Line]:
    """Of the lines of one image, those that were not taken back later."""
    back = [row for row, line in enumerate(lines) if line["label"] is None and not line["settles"]]
    return list(lines[back[-1] + 1 if back else 0 :])


def _of(label: str) -> str | None:
    """A label as the log's column holds it."""
    return None if label == NONE_OF_THEM else label


def _line(image_id: str, label: str | None, who: str, when: datetime, *, settles: bool, shown: str | None) -> Line:
    return {"image_id": image_id, "label": label, "who": who, "when": when, "settles": settles, "shown": shown}
