"""A detector's experiment: its own metrics, its own source, and what cannot be trained."""

from __future__ import annotations

from typing import Any

import pytest

from selftrain.config import parse
from selftrain.errors import ConfigError
from selftrain.selflabel.rounds.start import refuse_detection

SOURCE = {"kind": "coco", "annotations": "labels.json", "images": "photos", "unlabeled": "more"}
BOXES: dict[str, Any] = {"task": "detection", "source": SOURCE}


def test_a_detector_is_judged_by_map_unless_something_else_is_said() -> None:
    e = parse(BOXES)
    assert (e.gate.metric, e.gate.target, e.registry.floors) == ("map", 0.3, {"map": 0.1})
    said = parse({**BOXES, "gate": {"metric": "ap50", "target": 0.7}, "registry": {"floors": {"ap50": 0.5}}})
    assert (said.gate.metric, said.gate.target, said.registry.floors) == ("ap50", 0.7, {"ap50": 0.5})
    assert parse({}).gate.metric == "accuracy"


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"task": "detection"}, "boxes come from a source of kind 'coco'"),
        ({"source": SOURCE}, "task is 'classification' and source.kind 'coco'"),
        ({**BOXES, "gate": {"metric": "accuracy"}}, "gate.metric has 'accuracy'; `task: detection` knows map and ap50"),
        ({**BOXES, "registry": {"floors": {"accuracy": 0.5}}}, "registry.floors has 'accuracy'"),
        ({"gate": {"metric": "map"}}, "`task: classification` knows accuracy and macro_f1"),
        ({**BOXES, "detection": {"view": 100}}, "a multiple of 32 from 64"),
        ({**BOXES, "detection": {"batch_size": 7}}, "give an even number"),
        ({**BOXES, "detection": {"backbone": "efficientnet_b9"}}, "detection.backbone"),
        ({**BOXES, "detection": {"steps": 5}}, "did you mean"),
        ({**BOXES, "detection": {"student_backbone": "efficientnet_b1"}}, "set detection.method to 'noisy_student'"),
        ({**BOXES, "detection": {"student_weights": "imagenet"}}, "detection.student_weights is 'imagenet', and by"),
        ({**BOXES, "detection": {"method": "noisy_student", "student_backbone": "b9"}}, "detection.student_backbone"),
        ({**BOXES, "teacher": {"start": "zero_shot"}}, "teacher.start is 'zero_shot'"),
        ({**BOXES, "retrain": {"any_of": {"drift": True}}}, "retrain.any_of.drift is for classification"),
        ({**BOXES, "retrain": {"all_of": {"performance": 0.0}}}, "retrain.all_of.performance is for classification"),
    ],
)
def test_what_does_not_fit_together_is_told(values: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        parse(values)


def test_what_knows_classifiers_alone_refuses_a_detector() -> None:
    with pytest.raises(ConfigError, match="a fixed graph of rounds knows classifiers alone"):
        refuse_detection(parse(BOXES), "a fixed graph of rounds")
    refuse_detection(parse({}), "a fixed graph of rounds")
