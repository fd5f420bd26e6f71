"""A loop of heads on frozen backbones, from end to end: each backbone reads each image once."""

from __future__ import annotations

from pathlib import Path

import pytest

from selftrain.config import DigitsSource, Experiment, Fixed, Gate, PseudoLabel, Student, Teacher
from selftrain.data.ingest.ingest import ingest
from selftrain.data.manifest import Split
from selftrain.data.sources.source import open_source
from selftrain.data.store.dataset import open_dataset
from selftrain.evaluate.statistics.forecast import LabelForecast
from selftrain.learn.models.contract import FORECAST_FILE
from selftrain.learn.training.checkpoint import Checkpoints
from selftrain.selflabel.loop import evaluate_on_test, run_loop

BACKBONE = "wide_resnet_16_1"
pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
]


def weights_in(folder: Path, seed: int) -> str:
    from selftrain.learn.networks.backbones import build, save_weights

    path = folder / f"{seed}.weights.h5"
    save_weights(build(BACKBONE, image_size=16, classes=10, seed=seed), path)
    return str(path)


@pytest.mark.slow
def test_two_rounds_of_heads_ask_each_backbone_once_of_each_image(tmp_path: Path) -> None:
    first, second = (weights_in(tmp_path, seed) for seed in (1, 2))
    e = Experiment(
        source=DigitsSource(labeled=100, validation=60, test=60),
        workspace=str(tmp_path / "ws"),
        image_size=16,
        control="supervised",
        teacher=Teacher(backbone=BACKBONE, weights=first, head="fitted", steps=0, augmentation="digits"),
        student=Student(backbone=BACKBONE, weights=second, head="fitted", steps=0, augmentation="digits"),
        pseudo_label=PseudoLabel(labeler="propagate", threshold=Fixed(value=0.5)),
        gate=Gate(min_rounds=2, max_rounds=2),
    )
    source, dataset = open_source(e.source), open_dataset(e.place, e.machine)
    manifest = ingest(source, source.scan(), dataset.store, settings=e.ingest, splitting=e.splitting).manifest
    result = run_loop(
        e, manifest, dataset, folder=tmp_path / "models", checkpoints=Checkpoints(tmp_path / "checkpoints")
    )
    assert len(result.labels) == 2
    assert any("similar images" in each for each in result.labels[0].findings)
    used = len(manifest) - len(manifest.rows(Split.TEST))
    kept = sorted(path.stat().st_size for path in dataset.workspace.features_cache.glob("*.index"))
    assert [size // 20 for size in kept] == [used, used]
    assert result.baseline.contract.image_steps == 0
    assert result.baseline.contract.lineage == ()
    told = LabelForecast.read((result.baseline.folder / FORECAST_FILE).read_text(encoding="utf-8"))
    assert told.labels == 100
    assert [each.labels for each in told.points] == [16, 32, 64, 128]
    assert [each.more for each in told.gains] == [50, 100, 200]
    assert evaluate_on_test(result).on_labels is not None
    later = sorted(path.stat().st_size // 20 for path in dataset.workspace.features_cache.glob("*.index"))
    assert later[-1] == len(manifest)
