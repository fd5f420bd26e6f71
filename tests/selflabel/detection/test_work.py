"""The work of detection: new networks as students, and a control that diverges ends no run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from selftrain.config import CocoSource, Detection, Experiment
from selftrain.data.ingest.ingest import ingest
from selftrain.data.manifest import Split
from selftrain.data.sources.coco import CocoImages
from selftrain.data.store.dataset import open_dataset
from selftrain.learn.training.checkpoint import Checkpoints
from selftrain.selflabel.teaching.task import Destination
from tests.learn.detection.drawn_coco import coco, pool

if TYPE_CHECKING:
    from selftrain.learn.detection.saving import SavedDetector
    from selftrain.selflabel.detection.data import DetectionData

pytestmark = [
    pytest.mark.keras,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


def drawn(tmp_path: Path, settings: Detection) -> tuple[DetectionData, SavedDetector]:
    """Drawn scenes as a run has them, and a detector for them that was not trained."""
    from selftrain.learn.detection.network import DetectorShape, build_detector
    from selftrain.learn.detection.saving import DetectorContract, save_detector
    from selftrain.selflabel.detection.data import DetectionData

    labels, more = coco(tmp_path / "labelled", images=30, seed=0), pool(tmp_path / "more", images=4)
    source = CocoSource(annotations=str(labels), images=str(labels.parent / "photos"), unlabeled=str(more))
    e = Experiment(source=source, task="detection", detection=settings, workspace=str(tmp_path / "ws"))
    images, dataset = CocoImages(source), open_dataset(e.place)
    manifest = ingest(images, images.scan(), dataset.store, settings=e.ingest, splitting=e.splitting).manifest
    data = DetectionData(manifest, images.objects_in(manifest), dataset)
    shape = DetectorShape(settings.backbone, len(data.class_names), strides=(8, 16))
    contract = DetectorContract(
        backbone=shape.backbone, class_names=data.class_names, strides=shape.strides, longest=64, image_steps=80
    )
    return data, save_detector(build_detector(shape, seed=1), contract, tmp_path / "teacher")


def test_a_noisy_student_is_a_larger_network_and_so_is_its_control(tmp_path: Path) -> None:
    from selftrain.selflabel.detection.work import teach, train_longer

    settings = Detection(
        view=64, student_steps=3, batch_size=2, method="noisy_student", student_backbone="mobilenet_v2_050"
    )
    data, teacher = drawn(tmp_path, settings)

    def into(name: str) -> Destination:
        return Destination(tmp_path / name, Checkpoints(tmp_path / "checkpoints"))

    student, _ = teach(data, teacher, (0.01,) * len(data.class_names), settings, seed=2, into=into("student"))
    assert (student.contract.backbone, student.contract.image_steps) == ("mobilenet_v2_050", 3 * 2)
    assert student.contract.lineage == (teacher.contract.identity,)
    assert student.contract.strides == teacher.contract.strides
    network, before = student.open().model, teacher.open().model
    assert network.count_params() > before.count_params()
    means = [each for each in network.non_trainable_variables if each.name == "moving_mean"]
    assert means
    assert all(np.any(each.numpy() != 0) for each in means)  # those of its own views: it began without weights
    control = train_longer(data, teacher, settings, rounds=1, seed=2, into=into("control"))
    assert (control.contract.backbone, control.contract.image_steps) == ("mobilenet_v2_050", 80 + 3 * 2)


def test_a_control_that_diverges_is_told_and_not_compared(tmp_path: Path) -> None:
    from selftrain.learn.models import divergence
    from selftrain.selflabel.detection.answers import report_on_test
    from selftrain.selflabel.detection.work import train_longer

    settings = Detection(view=64, backbone="mobilenet_v2_035", student_steps=20, batch_size=2, learning_rate=1e9)
    data, teacher = drawn(tmp_path, settings)
    into = Destination(tmp_path / "control", Checkpoints(tmp_path / "checkpoints"))
    control = train_longer(data, teacher, settings, rounds=1, seed=2, into=into)
    assert "step" in (divergence.reason(control) or "")
    report, found = report_on_test(data, teacher, teacher, control)
    assert (report.control, report.control_diverged) == (None, divergence.reason(control))
    assert report.comparison is not None
    assert set(found.table["image_id"].to_pylist()) <= set(data.manifest.part(Split.TEST).image_ids())
