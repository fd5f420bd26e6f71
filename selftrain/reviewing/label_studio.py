"""Label Studio: a queue as tasks with the model's answers, and the labels of an export.

The formats are those of Label Studio's documentation: "Label Studio JSON format of annotated tasks", and "Import
pre-annotated data".
"""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from selftrain.errors import LabelLogError
from selftrain.retraining.label_file import SETTLES
from selftrain.reviewing.questions import Question, local_file

COLUMNS = ("image_id", "label", "who", "when", "shown", "settles")
LOCAL_FILES = "/data/local-files/?d="  # Label Studio serves its machine's files here, if it is told to


def as_tasks(questions: Sequence[Question], *, picture: Callable[[str], tuple[bytes, str]]) -> str:
    """The queue as tasks of Label Studio, JSON. The model's answer is a prediction, with the teacher as model version.

    The labelling interface needs an Image called `image`, and Choices called `label` with the classes. Files of this
    machine and addresses are named; of any other image, such as one in an archive, the task holds what `picture` gives
    by its image_id: a file that browsers show, and its media type.
    """
    return json.dumps([_task(each, picture) for each in questions], indent=1, ensure_ascii=False)


def _task(question: Question, picture: Callable[[str], tuple[bytes, str]]) -> dict[str, object]:
    url, path = _url(question, picture), question.path
    data: dict[str, object] = {"image": url, "image_id": question.image_id, "path": path, "why": question.why}
    data |= {"shown": question.shown, "settles": question.settled_by_answer}
    if question.shown is None:
        return {"data": data}
    choice = {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": [question.shown]}}
    version = f"round {question.round}, teacher {(question.teacher or '')[:12]}"
    return {"data": data, "predictions": [{"model_version": version, "score": question.confidence, "result": [choice]}]}


def _url(question: Question, picture: Callable[[str], tuple[bytes, str]]) -> str:
    if "://" in question.path:
        return question.path
    file = local_file(question.path)
    if file is not None:
        return LOCAL_FILES + quote(str(file).lstrip("/"))
    data, kind = picture(question.image_id)
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def labels_of_export(path: Path) -> tuple[str, int, int]:
    """The labels of an export at `path` as a label file (CSV), how many they are, and how many tasks have none.

    Each annotation is a label, so that two people who disagree are a conflict. Where a task says so, annotations settle
    as long as they agree. Raises LabelLogError for any other file, and for a task that does not name its image or has
    several labels in an annotation.
    """
    try:
        tasks = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise LabelLogError(f"{path} cannot be read as JSON: {error}; export from Label Studio as JSON") from error
    if not isinstance(tasks, list):
        raise LabelLogError(f"{path} holds no list of tasks; export from Label Studio as JSON")
    text, labels, without = io.StringIO(), 0, 0
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for number, task in enumerate(tasks, start=1):
        try:
            rows = list(_rows(task))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise LabelLogError(
                f"{path}: task {number} is not one that `selftrain review --to-label-studio` wrote, with one "
                f"choice per annotation ({error}); nothing was written"
            ) from error
        writer.writerows(rows)
        labels, without = labels + len(rows), without + (not rows)
    return text.getvalue(), labels, without


def _rows(task: Any) -> Iterator[tuple[str, str, str, str, str, str]]:
    data = task["data"]
    said: list[str] = []
    for annotation in task["annotations"]:
        if annotation.get("was_cancelled"):
            continue  # skipped
        choices = [each for result in annotation["result"] for each in result["value"]["choices"]]
        if not choices:
            continue
        (label,) = choices
        said.append(label)
        settles = SETTLES if data.get("settles") and len(set(said)) == 1 else ""
        when = annotation.get("updated_at") or annotation.get("created_at") or ""
        who = _who(annotation.get("completed_by"))
        yield str(data["image_id"]), str(label), who, str(when), str(data.get("shown") or ""), settles


def _who(completed_by: Any) -> str:
    """Who annotated: an address, else the number of the person there."""
    if isinstance(completed_by, dict):
        completed_by = completed_by.get("email") or completed_by.get("id")
    if completed_by is None:
        return ""
    return completed_by if isinstance(completed_by, str) else f"label-studio-{completed_by}"
