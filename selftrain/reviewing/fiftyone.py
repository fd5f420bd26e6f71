"""FiftyOne: a queue as its data set of classified images, with what the model says and why each image is asked about.

The format is that of FiftyOne's documentation, "FiftyOneImageClassificationDataset": `data.json` says where each image
is, `labels.json` what it shows. FiftyOne must be told of the first: `data_path="data.json"`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from selftrain.files.writing import replace, replace_text
from selftrain.reviewing.questions import Question, local_file

DATA, LABELS = "data.json", "labels.json"


def write_fiftyone(
    questions: Sequence[Question], classes: Sequence[str], folder: Path, *, picture: Callable[[str], tuple[bytes, str]]
) -> None:
    """Write the queue to `folder`. An image without an answer has no label.

    Files of this machine stay where they are. Of an image that is elsewhere, `picture` gives by its image_id a file
    that browsers show, with its media type; `folder` holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    places = {each.image_id: _place(each, folder, picture) for each in questions}
    labels = {"classes": list(classes), "labels": {each.image_id: _label(each) for each in questions}}
    replace_text(folder / DATA, json.dumps(places, indent=1, ensure_ascii=False))
    replace_text(folder / LABELS, json.dumps(labels, indent=1, ensure_ascii=False))


def _place(question: Question, folder: Path, picture: Callable[[str], tuple[bytes, str]]) -> str:
    file = local_file(question.path)
    if file is None:
        data, kind = picture(question.image_id)
        file = (folder / f"{question.image_id}.{kind.removeprefix('image/')}").absolute()
        replace(file, lambda scratch: scratch.write_bytes(data))
    return str(file)


def _label(question: Question) -> dict[str, object] | None:
    if question.shown is None:
        return None
    attributes = {"why": question.why, "round": question.round, "teacher": question.teacher}
    return {"label": question.shown, "confidence": question.confidence, "attributes": attributes}
