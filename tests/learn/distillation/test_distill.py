"""Distillation from end to end: a small model learns a right one's answers, is saved, loaded and asked."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from selftrain.config import Distillation, Precision
from selftrain.errors import ConfigError, PredictionError, SourceError
from selftrain.learn.distillation.distill import distill

pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning"),
    # Keras's own save copies TensorFlow variables in a way that numpy 2 deprecates.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

COLOURS = np.array(["blue", "green", "red"])
SHORT = Distillation(backbone="wide_resnet_16_1", steps=2, batch_size=8, augmentation="none", validate_every=1)


def painted(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy images (n, 16, 16, 3) of one colour each, and its name."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    images = rng.integers(0, 60, (n, 16, 16, 3))
    images[np.arange(n), :, :, 2 - labels] += rng.integers(60, 180, (n, 1, 1))
    return images.astype(np.uint8), COLOURS[labels]


@pytest.mark.slow
def test_a_student_that_saw_few_labels_answers_as_its_teacher(tmp_path: Path, colour_model: Path) -> None:
    from selftrain.learn.models.contract import read_contract
    from selftrain.learn.models.loading import load
    from selftrain.learn.training.curve import read_curve

    said: list[str] = []
    found = distill(
        teacher=colour_model,
        images=np.concatenate([painted(90, seed=1)[0], painted(30, seed=2)[0]]),
        labeled=painted(30, seed=2),
        out=tmp_path / "small",
        recipe=Distillation(steps=60, batch_size=16, learning_rate=0.01, augmentation="none", validate_every=30),
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
    assert found.held_out >= 1
    assert found.images + found.held_out == 90 + 30
    assert found.repeated + found.held_out == 30
    assert read_curve(tmp_path / "small")["step"].to_pylist() == [30, 60]
    assert {"the teacher's answers", "distill"} <= set(said)


@pytest.mark.slow
def test_in_bfloat16_its_steps_are_others_and_its_model_is_float32(tmp_path: Path, colour_model: Path) -> None:
    from selftrain.learn.models.loading import load

    def losses(precision: Precision) -> list[float]:
        found = distill(
            teacher=colour_model,
            images=painted(16, seed=1)[0],
            validation=painted(6, seed=2),
            out=tmp_path / precision,
            recipe=SHORT.model_copy(update={"steps": 3, "precision": precision}),
            workspace=tmp_path / "work",
        )
        return found.curve["loss"].to_pylist()

    exact, mixed = losses("float32"), losses("mixed_bfloat16")
    assert exact != mixed
    assert np.allclose(exact, mixed, atol=0.2)
    assert load(tmp_path / "mixed_bfloat16")[0].dtype_policy.name == "float32"


def test_a_recipe_that_does_not_fit_is_refused_before_anything_is_read(tmp_path: Path, colour_model: Path) -> None:
    for recipe, message in (
        (Distillation(backbone="resnet_9000"), r"recipe\.backbone: unknown backbone 'resnet_9000'"),
        (Distillation(freeze_steps=5), r"recipe\.freeze_steps is 5, and would do nothing"),
    ):
        with pytest.raises(ConfigError, match=message):
            distill(teacher=colour_model, images=None, out=tmp_path / "x", recipe=recipe, workspace=tmp_path)
    assert not list(tmp_path.iterdir())


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


def refused(teacher: Path, out: Path, workspace: Path) -> str:
    """What `distill` says before it looks at any image."""
    with pytest.raises(ConfigError) as error:
        distill(teacher=teacher, images=None, out=out, workspace=workspace)
    return error.value.message


def test_an_out_that_holds_anything_else_is_refused_first_and_left_as_it_is(
    tmp_path: Path, colour_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("my only copy")
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    teacher = shutil.copytree(colour_model, tmp_path / "teacher")
    for name in ("precious", "link"):
        assert "holds other files (thesis.txt)" in refused(teacher, tmp_path / name, tmp_path / "work")
    assert "thesis.txt is not a folder" in refused(teacher, tmp_path / "precious" / "thesis.txt", tmp_path / "work")
    assert "not made from the same models" in refused(teacher, teacher, tmp_path / "work")
    assert "work' lies in out=" in refused(teacher, tmp_path / "out", tmp_path / "out" / "work")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert f"{tmp_path}/out/work" in refused(Path("~/teacher"), Path("~/out"), Path("~/out/work"))
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "my only copy"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "precious", "teacher"]


@pytest.mark.slow
def test_a_finished_distillation_is_called_again_into_the_same_folder(tmp_path: Path, colour_model: Path) -> None:
    def small() -> object:
        found = distill(
            teacher=colour_model,
            images=painted(16, seed=1)[0],
            validation=painted(6, seed=2),
            out=tmp_path / "small",
            recipe=SHORT,
            workspace=tmp_path / "work",
        )
        return found.saved.contract.values_sha256, sorted(path.name for path in (tmp_path / "small").iterdir())

    assert small() == small()


def brought(path: Path) -> Path:
    """A user's own model of the strongest colour, of pixels from 0 to 1, in the order of COLOURS."""
    import keras

    image = keras.Input((16, 16, 3))
    inside = keras.layers.GlobalAveragePooling2D()(image)
    model = keras.Model(image, last := keras.layers.Dense(3, use_bias=False, activation="softmax")(inside))
    model.layers[-1].set_weights([np.eye(3, dtype=np.float32)[:, ::-1] * 30])
    assert last is model.output
    model.save(path)
    return path


def test_a_model_that_is_brought_teaches_as_it_reads_images(tmp_path: Path) -> None:
    from selftrain.learn.adoption.formats import digest_of

    call = {
        "teacher": brought(tmp_path / "mine.keras"),
        "images": painted(24, seed=1)[0],
        "validation": painted(30, seed=2),
        "out": tmp_path / "small",
        "recipe": SHORT,
        "workspace": tmp_path / "work",
    }
    with pytest.raises(ConfigError, match="give class_names="):
        distill(**call)
    found = distill(**call, class_names=tuple(COLOURS))
    assert found.teacher_accuracy == 1.0
    assert found.saved.contract.class_names == tuple(COLOURS)
    assert found.saved.contract.lineage
    assert digest_of(tmp_path / "mine.keras") not in ("", *found.saved.contract.lineage)  # its weights name it
    with pytest.raises(PredictionError, match="not clearly better than chance"):
        distill(**call, class_names=("red", "blue", "green"))


def test_what_a_saved_model_knows_is_not_said_again(tmp_path: Path, colour_model: Path) -> None:
    with pytest.raises(ConfigError, match="leave out class_names, pixels and bits"):
        distill(teacher=colour_model, images=None, out=tmp_path / "x", class_names=tuple(COLOURS), workspace=tmp_path)
