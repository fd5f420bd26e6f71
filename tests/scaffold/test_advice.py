"""What to mind about one's images: each warning is given where it is due, and only there."""

from __future__ import annotations

from typing import Any

import pytest

from selftrain.data.sources.survey import Survey
from selftrain.scaffold.advice import advice


def told(*, drawn: int = 1, training_labels: int = 1000, pretrained: bool = True, **changes: object) -> tuple[str, ...]:
    """The advice for two classes of 500 photos with 10,000 unlabelled ones, which wants none, but for `changes`."""
    facts: dict[str, Any] = {
        "labeled": "labeled",
        "unlabeled": "unlabeled",
        "classes": {"cat": 500, "dog": 500},
        "unlabeled_images": 10_000,
        "validation_images": 100,
        "test_images": 100,
        "ignored_files": 0,
        "formats": {"JPEG": 256},
        "sampled": 256,
        "unreadable": 0,
        "shortest_side": 100,
        "median_side": 160,
        "longest_side": 400,
        "grey": False,
    }
    seen = Survey.model_validate(facts | changes)
    return advice(seen, drawn=drawn, training_labels=training_labels, pretrained=pretrained)


def test_nothing_is_said_of_images_that_want_no_advice() -> None:
    assert told() == ()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (
            {"drawn": 3, "classes": {"cat": 20, "dog": 500}},
            "20 labelled images of 'cat' leave 4 for each of validation",
        ),
        ({"drawn": 2, "classes": {"cat": 20, "dog": 500}}, "leave 4 for the held-out split"),
        ({"unlabeled_images": 2_999}, "2999 unlabelled images for 1000 labelled ones"),
        (
            {"classes": {"cat": 20, "dog": 900}},
            "the largest class has 45 times the images of 'cat'; more images of 'cat' would help most",
        ),
        ({"pretrained": False}, "1000 labelled photos teach little from scratch"),
        ({"unreadable": 4}, "4 of 260 files looked at are not readable images"),
    ],
)
def test_what_is_amiss_is_named_with_its_numbers(asked: dict[str, Any], words: str) -> None:
    assert any(words in sentence for sentence in told(**asked))


def test_below_25_labels_a_class_from_scratch_a_method_that_learns_in_training_is_suggested() -> None:
    scratch = {"pretrained": False, "median_side": 32}
    (sentence,) = told(training_labels=48, **scratch)
    assert sentence.startswith("about 24 labels per class to train on: below 25")
    assert "student: {method: softmatch}" in sentence
    assert told(training_labels=50, **scratch) == ()
    assert told(training_labels=48) == ()
