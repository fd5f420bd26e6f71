"""Questions: the images of a queue with all that a person should see beside them, and the classes they choose from."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from selftrain.retraining.label_file import SETTLES
from selftrain.reviewing.queues import Found, Material
from selftrain.reviewing.spreading import nearest

BEST, NEIGHBOURS = 3, 4


@dataclass(frozen=True)
class Question:
    """An image to label.

    - `path`: where the user keeps it. `why`: the reason why it is asked for.
    - `answers`: the classes that the model finds most probable, with their probabilities; empty if it was not asked.
    - `round`, `teacher`: whose answers these are.
    - `labels`: what the image is called today, if it has labels; several that differ are a conflict.
    - `twin`: an image that looks nearly the same; None without one.
    - `disputed`: it is left out because labels contradict each other, those of the source too, or were taken back.
    """

    image_id: str
    path: str
    why: str
    answers: tuple[tuple[str, float], ...] = ()
    round: int | None = None
    teacher: str | None = None
    labels: tuple[str, ...] = ()
    twin: str | None = None
    disputed: bool = False

    @property
    def shown(self) -> str | None:
        """The label that the person sees as the model's answer."""
        return self.answers[0][0] if self.answers else None

    @property
    def settled_by_answer(self) -> bool:
        """Whether an answer ends what was said before, as with `selftrain label --settle`."""
        return self.disputed or bool(self.labels)

    @property
    def confidence(self) -> float | None:
        """The probability of `shown`."""
        return self.answers[0][1] if self.answers else None


def questions(
    material: Material, found: Sequence[Found], *, paths: Mapping[str, str], labels: Mapping[str, tuple[str, ...]]
) -> tuple[Question, ...]:
    """A question for each image that was `found`; `paths` and `labels` go by image_id."""
    answers = _answers(material, [image_id for image_id, _ in found])
    last = material.rounds[-1] if material.rounds else None
    disputed = dict(material.left_out.disputed)
    return tuple(
        Question(
            image_id,
            paths.get(image_id, ""),
            why,
            answers=answers.get(image_id, ()),
            round=last.round if last is not None and image_id in answers else None,
            teacher=last.teacher if last is not None and image_id in answers else None,
            labels=labels.get(image_id, ()),
            twin=material.left_out.twins.get(image_id),
            disputed=image_id in disputed,
        )
        for image_id, why in found
    )


def local_file(path: str) -> Path | None:
    """The file on this machine with the image kept at `path`; None: it is in an archive, a bucket or a package."""
    file = Path(path)
    return file.absolute() if path and file.is_file() else None


def _answers(material: Material, ids: Sequence[str]) -> dict[str, tuple[tuple[str, float], ...]]:
    """What the last round answered for those of `ids` that it was asked about, the most probable classes first."""
    if not material.rounds:
        return {}
    last, wanted = material.rounds[-1], frozenset(ids)
    rows = [row for row, each in enumerate(last.table["image_id"].to_pylist()) if each in wanted]
    if not rows:
        return {}
    taken = np.array(rows, np.int64)
    probs = last.probs()[taken]
    order = np.argsort(-probs, axis=1, kind="stable")[:, :BEST]
    best = np.take_along_axis(probs, order, axis=1).tolist()
    names = last.table["image_id"].take(taken).to_pylist()
    return {
        image_id: tuple((last.class_names[code], prob) for code, prob in zip(codes, values, strict=True))
        for image_id, codes, values in zip(names, order.tolist(), best, strict=True)
    }


@dataclass(frozen=True)
class Neighbours:
    """Finds the labelled images that look most like others; without features it finds none."""

    material: Material

    def of(self, ids: Sequence[str]) -> dict[str, tuple[tuple[str, str], ...]]:
        """image_id -> the nearest labelled images and their labels, the nearest first, for those with features."""
        labels, vectors = self.material.labels, self.material.vectors
        if vectors is None:
            vectors = self.material.label_vectors
        if vectors is None:
            return {}
        labelled = [each for each in labels if vectors.holds(each)]
        asked = [each for each in ids if vectors.holds(each)]
        rows = nearest(vectors.of(asked), vectors.of(labelled), count=NEIGHBOURS + 1)  # it may be its own nearest
        return {
            image_id: tuple((labelled[row], labels[labelled[row]]) for row in near if labelled[row] != image_id)[
                :NEIGHBOURS
            ]
            for image_id, near in zip(asked, rows.tolist(), strict=True)
        }


def as_csv(questions: Sequence[Question]) -> str:
    """The queue as a label file (CSV) whose column `label` is empty, for `selftrain label --from`.

    The column `settles` says where a label ends what was said before, as an answer on the page does.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "image_id", "label", "shown", "settles", "confidence", "why"))
    for each in questions:
        sure = "" if each.confidence is None else f"{each.confidence:.4f}"
        settles = SETTLES if each.settled_by_answer else ""
        writer.writerow((each.path, each.image_id, "", each.shown or "", settles, sure, each.why))
    return text.getvalue()
