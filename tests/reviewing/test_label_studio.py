"""Label Studio: what a queue is as tasks, and what an export says."""

import base64
import csv
import io
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from selftrain.errors import LabelLogError
from selftrain.reviewing.label_studio import as_tasks, labels_of_export
from selftrain.reviewing.questions import Question, as_csv

ASKED = Question(
    "a" * 64, "photos/a b.jpg", "uncertain", (("cat", 0.5), ("dog", 0.25)), round=2, teacher="0123456789abcdef"
)
UNASKED = Question("b" * 64, "s3://shop/b.jpg", "left out")
PICTURE = (b"a picture", "image/webp")


def tasks_of(*questions: Question) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(as_tasks(questions, picture=lambda _: PICTURE))
    return found


def test_a_task_carries_the_answer_of_the_model_and_who_gave_it() -> None:
    asked, unasked = tasks_of(ASKED, UNASKED)
    (prediction,) = asked["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("round 2, teacher 0123456789ab", 0.5)
    assert prediction["result"][0]["value"] == {"choices": ["cat"]}
    assert unasked["data"]["image"] == "s3://shop/b.jpg"
    assert "predictions" not in unasked


def test_a_task_names_a_file_of_this_machine_and_holds_the_picture_of_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (packed,) = tasks_of(ASKED)
    assert packed["data"]["image"] == "data:image/webp;base64," + base64.b64encode(PICTURE[0]).decode()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a b.jpg").touch()
    (there,) = tasks_of(ASKED)
    assert there["data"]["image"] == f"/data/local-files/?d={quote(str(tmp_path).lstrip('/'))}/photos/a%20b.jpg"
    assert packed["data"]["path"] == there["data"]["path"] == "photos/a b.jpg"


def annotated(tmp_path: Path, *annotations: dict[str, object]) -> Path:
    (task,) = tasks_of(ASKED)
    path = tmp_path / "export.json"
    path.write_text(json.dumps([{**task, "annotations": list(annotations)}]))
    return path


def choice(*labels: str) -> list[dict[str, object]]:
    return [{"from_name": "label", "type": "choices", "value": {"choices": list(labels)}}]


def test_each_annotation_is_a_label_of_whoever_gave_it(tmp_path: Path) -> None:
    first = {
        "completed_by": {"id": 3, "email": "eve@x.org"},
        "updated_at": "2026-12-01T10:00:00Z",
        "result": choice("cat"),
    }
    second = {"completed_by": 7, "result": choice("dog")}
    text, labels, without = labels_of_export(
        annotated(tmp_path, first, second, {"was_cancelled": True, "result": choice("cow")})
    )
    rows = list(csv.DictReader(io.StringIO(text)))
    assert (labels, without) == (2, 0)
    assert [(row["image_id"], row["label"], row["who"], row["when"], row["shown"]) for row in rows] == [
        ("a" * 64, "cat", "eve@x.org", "2026-12-01T10:00:00Z", "cat"),
        ("a" * 64, "dog", "label-studio-7", "", "cat"),
    ]


DOUBTED = Question("a" * 64, "/photos/a.jpg", "labelled cat", labels=("cat",))


def test_annotations_settle_a_doubted_label_until_two_of_them_differ(tmp_path: Path) -> None:
    (task,) = tasks_of(DOUBTED)
    path = tmp_path / "export.json"
    said = [
        {"completed_by": number, "result": choice(label)} for number, label in enumerate(["dog", "dog", "cow", "dog"])
    ]
    path.write_text(json.dumps([{**task, "annotations": said}]))
    rows = list(csv.DictReader(io.StringIO(labels_of_export(path)[0])))
    assert [(row["label"], row["settles"]) for row in rows] == [
        ("dog", "yes"),
        ("dog", "yes"),
        ("cow", ""),
        ("dog", ""),
    ]
    (row,) = csv.DictReader(io.StringIO(as_csv([DOUBTED])))
    assert row["settles"] == "yes"


def test_what_is_not_such_an_export_is_refused_with_the_number_of_the_task(tmp_path: Path) -> None:
    with pytest.raises(LabelLogError, match=r"task 1 .* one\s+choice"):
        labels_of_export(annotated(tmp_path, {"result": choice("cat", "dog")}))
    path = tmp_path / "other.json"
    for text in ('{"a": 1}', "nothing", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(LabelLogError, match="export from Label Studio as JSON"):
            labels_of_export(path)
    path.write_text('[{"image": "x", "choice": "cat"}]')
    with pytest.raises(LabelLogError, match="task 1 is not one"):
        labels_of_export(path)


def test_the_list_to_fill_in_names_the_answer_how_sure_it_is_and_why() -> None:
    first, second = csv.DictReader(io.StringIO(as_csv([ASKED, UNASKED])))
    assert (first["label"], first["shown"], first["confidence"], first["why"]) == ("", "cat", "0.5000", "uncertain")
    assert (second["shown"], second["confidence"]) == ("", "")
