"""The head of a card: Hugging Face's own classes read it, and the text below it is what people read."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from selftrain.data.annotations.run_lengths import mask_of
from selftrain.evaluate.average_precision import Boxes
from selftrain.evaluate.detection import evaluate_detector
from selftrain.learn.detection.saving import DetectorContract
from selftrain.report.cards.detector_card import detector_card
from selftrain.report.cards.head import Result, TrainedOn, head, without_head
from tests.report.cards.test_model_card import TRAINED_ON, card_of, compared, contract, rounds

pytestmark = pytest.mark.keras


def classifier_card() -> str:
    return card_of(contract("cat", "dog"), compared(19, 12), rounds())


def boxes_card(masks: np.ndarray | None = None) -> str:
    box, ball = np.array([[0, 0, 9, 9]], np.float32), np.array([0])
    marked = [Boxes.marked(box, ball, np.array([False]), masks)] * 4
    found = [Boxes.found(box, ball, np.ones(1, np.float32), masks)] * 4
    report = evaluate_detector(found, marked, class_names=("ball", "unseen"))
    made = DetectorContract(backbone="small", class_names=("ball", "unseen"), strides=(8,), manifest_digest="m" * 64)
    return detector_card(made, report, rounds(), TRAINED_ON)


def test_hugging_face_reads_the_results_of_a_classifier() -> None:
    hub = pytest.importorskip("huggingface_hub", reason="NOT CHECKED: huggingface_hub is not installed")
    data = hub.ModelCard(classifier_card(), ignore_metadata_errors=False).data
    assert (data.library_name, data.pipeline_tag, data.license) == ("keras", "image-classification", None)
    assert data.metrics == ["accuracy", "f1", "ece"]
    assert data.model_name == "pets: the 2nd"
    accuracy, f1, _ = data.eval_results
    assert (accuracy.metric_type, accuracy.metric_value) == ("accuracy", 0.95)
    assert (accuracy.dataset_name, accuracy.dataset_split) == ("my pets", "test")
    assert f1.task_type == "image-classification"
    again = hub.ModelCardData(**{**data.to_dict(), "license": "apache-2.0"})  # as a user completes it
    assert "license: apache-2.0" in again.to_yaml()


def test_hugging_face_reads_the_results_of_a_detector() -> None:
    hub = pytest.importorskip("huggingface_hub", reason="NOT CHECKED: huggingface_hub is not installed")
    data = hub.ModelCard(boxes_card(), ignore_metadata_errors=False).data
    assert data.pipeline_tag == "object-detection"
    assert {each.metric_type: each.metric_value for each in data.eval_results} == {"map": 1, "map_50": 1, "map_75": 1}
    assert {each.dataset_args["manifest"] for each in data.eval_results} == {"m" * 64}


def test_a_detectors_card_has_the_interval_of_outlines() -> None:
    (mask,) = np.empty((1, 1), object)
    mask[0] = {"size": [9, 9], "counts": mask_of(np.ones((9, 9), np.bool_))}
    assert "| mAP, outlines of 4 objects | 1.000 (1.000 to 1.000) |" in boxes_card(mask)
    assert "outlines of" not in boxes_card()


@pytest.mark.parametrize("name", ["a: b", "---\nlicense: mit", "# no", "'\"", "ü 鳥"])
def test_no_name_can_break_the_head(name: str) -> None:
    made = TrainedOn(name, name, {"test": 3})
    text = head(made, pipeline="image-classification", results=[Result("accuracy", name, 0.5)], manifest_digest="d")
    found = yaml.safe_load(text.removeprefix("---\n").removesuffix("\n---"))
    assert found["model-index"][0]["name"] == name
    assert found["model-index"][0]["results"][0]["dataset"]["name"] == name
    assert "license" not in found
    assert text.split("\n").count("---") == 2


def test_below_the_head_a_card_begins_with_its_title() -> None:
    assert without_head(classifier_card()).startswith("# Image classifier: 2 classes\n")
    assert without_head(boxes_card()).startswith("# Object detector: 2 classes\n")
    assert without_head("# No head\n---\nx\n---\n") == "# No head\n---\nx\n---\n"


def test_a_detectors_card_tells_its_limits() -> None:
    assert "No test image shows unseen, so its precision there is unknown." in boxes_card()
