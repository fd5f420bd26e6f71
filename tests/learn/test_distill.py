"""Distillation from end to end: a small model learns a right one's answers, is saved, loaded and asked."""

from pathlib import Path

import numpy as np
import pytest

from selftrain.errors import ConfigError, SourceError
from selftrain.learn.distill import distill

pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning"),
    # Keras's own save copies TensorFlow variables in a way that numpy 2 deprecates.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

COLOURS = np.array(["blue", "green", "red"])


def painted(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy images (n, 16, 16, 3) of one colour each, and its name."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    images = rng.integers(0, 60, (n, 16, 16, 3))
    images[np.arange(n), :, :, 2 - labels] += rng.integers(60, 180, (n, 1, 1))
    return images.astype(np.uint8), COLOURS[labels]


def test_a_student_that_saw_few_labels_answers_as_its_teacher(tmp_path: Path, colour_model: Path) -> None:
    from selftrain.learn.contract import load, read_contract
    from selftrain.learn.curve import read_curve

    said: list[str] = []
    found = distill(
        teacher=colour_model,
        images=painted(90, seed=1)[0],
        labeled=painted(30, seed=2),
        out=tmp_path / "small",
        backbone="efficientnet_b0_050",
        steps=60,
        batch_size=16,
        learning_rate=0.01,
        augmentation="none",
        validate_every=30,
        workspace=tmp_path / "work",
        progress=lambda done, total, note="": said.append(note.split(":")[0]),
    )
    model, contract = load(tmp_path / "small")
    images, labels = painted(60, seed=3)
    answers = COLOURS[model.predict_on_batch(images).argmax(axis=1)]
    assert (answers == labels).mean() >= 0.8
    assert contract == found.saved.contract
    assert contract.lineage == (read_contract(colour_model).identity,)
    assert (contract.class_names, contract.image_size, contract.backbone) == (tuple(COLOURS), 16, "efficientnet_b0_050")
    assert found.teacher_accuracy == 1.0
    assert found.parameters == model.count_params()
    assert read_curve(tmp_path / "small")["step"].to_pylist() == [30, 60]
    assert {"the teacher's answers", "distill"} <= set(said)


def test_what_cannot_be_distilled_is_said_before_training(tmp_path: Path, colour_model: Path) -> None:
    images, labels = painted(6, seed=1)
    with pytest.raises(ConfigError, match="no labels to validate on"):
        distill(teacher=colour_model, images=images, out=tmp_path / "x", workspace=tmp_path)
    with pytest.raises(SourceError, match="label 'pink'"):
        distill(
            teacher=colour_model,
            images=images,
            validation=(images, np.where(labels == "red", "pink", labels)),
            out=tmp_path / "x",
            workspace=tmp_path,
        )
    with pytest.raises(ConfigError, match="too few labelled images"):
        distill(
            teacher=colour_model,
            images=images,
            labeled=(images[:1], labels[:1]),
            out=tmp_path / "x",
            workspace=tmp_path,
        )
    assert not (tmp_path / "x").exists()
