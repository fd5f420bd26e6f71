"""The work of detection: a control that diverges ends no run, and no number stands for it."""

from pathlib import Path

import pytest

from selftrain.config import CocoSource, Detection, Experiment
from selftrain.data.ingest.ingest import ingest
from selftrain.data.manifest import Split
from selftrain.data.sources.coco import CocoImages
from selftrain.data.store.dataset import open_dataset
from selftrain.learn.training.checkpoint import Checkpoints
from selftrain.selflabel.teaching.task import Destination
from tests.learn.detection.drawn_coco import coco, pool

pytestmark = [
    pytest.mark.keras,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


def test_a_control_that_diverges_is_told_and_not_compared(tmp_path: Path) -> None:
    from selftrain.learn.detection.network import DetectorShape, build_detector
    from selftrain.learn.detection.saving import DetectorContract, save_detector
    from selftrain.learn.models import divergence
    from selftrain.selflabel.detection.data import DetectionData
    from selftrain.selflabel.detection.work import report_on_test, train_longer

    labels, more = coco(tmp_path / "labelled", images=30, seed=0), pool(tmp_path / "more", images=4)
    settings = Detection(view=64, backbone="mobilenet_v2_035", student_steps=20, batch_size=2, learning_rate=1e9)
    source = CocoSource(annotations=str(labels), images=str(labels.parent / "photos"), unlabeled=str(more))
    e = Experiment(source=source, task="detection", detection=settings, workspace=str(tmp_path / "ws"))
    images, dataset = CocoImages(source), open_dataset(e.place)
    manifest = ingest(images, images.scan(), dataset.store, settings=e.ingest, splitting=e.splitting).manifest
    data = DetectionData(manifest, images.objects_in(manifest), dataset)
    shape = DetectorShape(settings.backbone, len(data.class_names), strides=(8, 16))
    contract = DetectorContract(
        backbone=shape.backbone, class_names=data.class_names, strides=shape.strides, longest=64
    )
    teacher = save_detector(build_detector(shape, seed=1), contract, tmp_path / "teacher")
    into = Destination(tmp_path / "control", Checkpoints(tmp_path / "checkpoints"))
    control = train_longer(data, teacher, settings, rounds=1, seed=2, into=into)
    assert "step" in (divergence.reason(control) or "")
    report, found = report_on_test(data, teacher, teacher, control)
    assert (report.control, report.control_diverged) == (None, divergence.reason(control))
    assert report.comparison is not None
    assert set(found.table["image_id"].to_pylist()) <= set(manifest.part(Split.TEST).image_ids())
