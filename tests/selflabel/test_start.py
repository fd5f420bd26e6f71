"""What a student starts from, round after round."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from selftrain.config import DigitsSource, Experiment, Fixed, Gate, PseudoLabel, Student, Teacher
from selftrain.data.ingest.ingest import ingest
from selftrain.data.sources.source import open_source
from selftrain.data.store.dataset import open_dataset
from selftrain.learn.training.checkpoint import Checkpoints

RATE = 5e-3

pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
]


@pytest.mark.slow
def test_the_first_student_is_new_and_the_second_goes_on_from_it(tmp_path: Path) -> None:
    from selftrain.learn.models.loading import load
    from selftrain.selflabel.loop import run_loop

    e = Experiment(
        workspace=str(tmp_path / "workspace"),
        image_size=16,
        source=DigitsSource(labeled=100, validation=100, test=1400),
        # A teacher that learns nothing: its student is better, is kept, and teaches the next one.
        teacher=Teacher(backbone="wide_resnet_16_2", steps=1, learning_rate=1e-12, batch_size=8),
        student=Student(start="student", backbone="wide_resnet_16_1", steps=40, learning_rate=RATE, finish_steps=0),
        pseudo_label=PseudoLabel(threshold=Fixed(value=0.999)),
        gate=Gate(target=1.0, min_rounds=2, max_rounds=2),
    )
    source = open_source(e.source)
    manifest = ingest(
        source, source.scan(), open_dataset(e.place).store, settings=e.ingest, splitting=e.splitting
    ).manifest
    looped = run_loop(
        e,
        manifest,
        open_dataset(e.place, e.machine),
        folder=tmp_path / "models",
        checkpoints=Checkpoints(tmp_path / "checkpoints"),
    )
    teacher, first, second = looped.history.rounds
    assert (teacher.backbone, first.backbone, second.backbone) == (e.teacher.backbone, *[e.student.backbone] * 2)
    assert first.kept
    before, after = (load(looped.models[index].folder)[0].trainable_weights for index in (1, 2))
    moved = [np.abs(one.numpy() - other.numpy()).mean() for one, other in zip(before, after, strict=True)]
    drawn = [np.abs(one.numpy()).mean() for one in before if len(one.shape) == 4]
    # Forty steps at this rate move a weight far less than another draw of the first weights would.
    assert max(moved) < 0.5 * np.mean(drawn), (moved, drawn)
    assert second.validation_accuracy > teacher.validation_accuracy
