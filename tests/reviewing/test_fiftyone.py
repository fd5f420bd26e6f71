"""A queue as FiftyOne's data set of classified images."""

from __future__ import annotations

import json
from pathlib import Path

from selftrain.reviewing.fiftyone import write_fiftyone
from selftrain.reviewing.questions import Question


def test_the_images_stay_where_they_are_and_carry_the_answer_and_the_reason(tmp_path: Path) -> None:
    asked = [
        Question("a" * 64, "s3://bucket/a.png", "new", answers=(("cat", 0.75), ("dog", 0.25)), round=2, teacher="t"),
        Question("b" * 64, "photos/b.png", "random"),
    ]
    write_fiftyone(asked, ("cat", "dog"), tmp_path / "set")
    places = json.loads((tmp_path / "set" / "data.json").read_text())
    assert places == {"a" * 64: "s3://bucket/a.png", "b" * 64: str(Path("photos/b.png").absolute())}
    labels = json.loads((tmp_path / "set" / "labels.json").read_text())
    assert labels["classes"] == ["cat", "dog"]
    attributes = {"why": "new", "round": 2, "teacher": "t"}
    assert labels["labels"] == {
        "a" * 64: {"label": "cat", "confidence": 0.75, "attributes": attributes},
        "b" * 64: None,
    }
