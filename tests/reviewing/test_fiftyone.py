"""A queue as FiftyOne's data set of classified images."""

from __future__ import annotations

import json
from pathlib import Path

from selftrain.reviewing.fiftyone import write_fiftyone
from selftrain.reviewing.questions import Question


def test_files_stay_where_they_are_and_the_folder_holds_the_pictures_of_any_other_image(tmp_path: Path) -> None:
    kept = tmp_path / "b.png"
    kept.touch()
    asked = [
        Question("a" * 64, "s3://bucket/a.png", "new", answers=(("cat", 0.75), ("dog", 0.25)), round=2, teacher="t"),
        Question("b" * 64, str(kept), "random"),
    ]
    folder = tmp_path / "set"
    write_fiftyone(asked, ("cat", "dog"), folder, picture=lambda each: (each[0].encode(), "image/webp"))
    places = json.loads((folder / "data.json").read_text())
    written = folder / f"{'a' * 64}.webp"
    assert places == {"a" * 64: str(written), "b" * 64: str(kept)}
    assert written.read_bytes() == b"a"
    labels = json.loads((folder / "labels.json").read_text())
    assert labels["classes"] == ["cat", "dog"]
    attributes = {"why": "new", "round": 2, "teacher": "t"}
    assert labels["labels"] == {
        "a" * 64: {"label": "cat", "confidence": 0.75, "attributes": attributes},
        "b" * 64: None,
    }
