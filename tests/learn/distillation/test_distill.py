"""Distillation from end to end: a small model learns a right one's answers, is saved, loaded and asked."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from selftrain.config import Precision
from selftrain.data.store.pixels import ArrayPixels
from selftrain.errors import ConfigError, SourceError
from selftrain.learn.distillation.distill import NO_LABEL, Material, distill, material
from selftrain.learn.models.contract import Contract

pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning"),
    # Keras's own save copies TensorFlow variables in a way that numpy 2 deprecates.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

COLOURS = np.array(["blue", "green", "red"])
CONTRACT = Contract(backbone="by_hand", image_size=16, class_names=tuple(COLOURS))


def painted(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy images (n, 16, 16, 3) of one colour each, and its name."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    images = rng.integers(0, 60, (n, 16, 16, 3))
    images[np.arange(n), :, :, 2 - labels] += rng.integers(60, 180, (n, 1, 1))
    return images.astype(np.uint8), COLOURS[labels]


def sorted_out(images: object, labeled: object, validation: object, folder: Path) -> Material:
    return material(images, labeled, validation, CONTRACT, folder / "cache", seed=0)


def seen(found: Material) -> list[bytes]:
    """The pixels of each image that is learnt from."""
    return [image.tobytes() for image in found.pixels.gather(found.rows)]


def judged(found: Material) -> set[bytes]:
    return {image.tobytes() for image in found.judged.pixels.gather(found.judged.rows)}


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
            backbone="wide_resnet_16_1",
            steps=3,
            batch_size=8,
            augmentation="none",
            validate_every=1,
            precision=precision,
            workspace=tmp_path / "work",
        )
        return found.curve["loss"].to_pylist()

    exact, mixed = losses("float32"), losses("mixed_bfloat16")
    assert exact != mixed
    assert np.allclose(exact, mixed, atol=0.2)
    assert load(tmp_path / "mixed_bfloat16")[0].dtype_policy.name == "float32"


def test_the_labelled_fifth_that_validates_is_not_learnt_from_among_all_photos(
    tmp_path: Path, paint: Callable[..., Path]
) -> None:
    for number in range(30):
        photo = paint(tmp_path / "all" / f"{number}.png", COLOURS[number % 3], seed=number)
        if number < 24:
            copy = tmp_path / "labeled" / COLOURS[number % 3] / f"copy-{number}.png"
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(photo, copy)
    found = sorted_out(tmp_path / "all", tmp_path / "labeled", None, tmp_path)
    assert not judged(found) & set(seen(found))
    assert len(judged(found)) == found.held_out >= 1
    assert len(set(seen(found))) == len(seen(found)) == 30 - found.held_out
    assert (found.labels == NO_LABEL).sum() == 6


@pytest.mark.parametrize("kind", ["array", "Pixels", "files"])
def test_given_validation_images_are_not_learnt_from_with_or_without_label(
    kind: str, tmp_path: Path, paint: Callable[..., Path]
) -> None:
    from selftrain.data.images.decode import decode

    files = [paint(tmp_path / "all" / f"{n:02}.png", COLOURS[n % 3], side=16, seed=n) for n in range(12)]
    images = np.stack([decode(file.read_bytes(), 16, max_pixels=10**6) for file in files])
    names = COLOURS[np.arange(12) % 3]
    pool = {"array": images, "Pixels": ArrayPixels(images), "files": files}[kind]
    found = sorted_out(pool, (images[:6], names[:6]), (images[4:8], names[4:8]), tmp_path)
    assert not judged(found) & set(seen(found))
    assert sorted(seen(found)) == sorted(image.tobytes() for image in images[[0, 1, 2, 3, 8, 9, 10, 11]])
    assert (found.labels >= 0).sum() == 4  # an image that has a label is kept with it
    assert (found.held_out, found.repeated) == (4 + 2, 4)


def test_an_image_that_comes_twice_is_learnt_from_once(tmp_path: Path) -> None:
    images, names = painted(9, seed=1)
    found = sorted_out(np.concatenate([images, images[:5]]), None, painted(6, seed=2), tmp_path)
    assert seen(found) == [image.tobytes() for image in images]
    assert (found.held_out, found.repeated) == (0, 5)
    with pytest.raises(ConfigError, match=r"validation holds all 9 images; give images= that it does not hold"):
        sorted_out(images, None, (images, names), tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps is 0; it should be greater than or equal to 1"),
        ({"augmentation": "photos"}, "augmentation is 'photos'; it should be 'none', 'digits' or 'natural'"),
        ({"precision": "float16"}, "precision is 'float16'; it should be 'float32' or 'mixed_bfloat16'"),
        ({"temperature": 0.0}, "temperature is 0.0; .* above 0"),
        ({"label_weight": 1.5}, "label_weight is 1.5; .* 0 to 1"),
    ],
)
def test_a_setting_that_is_not_allowed_is_named(
    tmp_path: Path, colour_model: Path, settings: dict[str, object], message: str
) -> None:
    images, labels = painted(6, seed=1)
    with pytest.raises(ConfigError, match=message):
        distill(
            teacher=colour_model,
            images=images,
            labeled=(images, labels),
            out=tmp_path / "x",
            workspace=tmp_path,
            **settings,
        )


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
    assert "thesis.txt is none" in refused(teacher, tmp_path / "precious" / "thesis.txt", tmp_path / "work")
    assert "not made of the same ones" in refused(teacher, teacher, tmp_path / "work")
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
            backbone="wide_resnet_16_1",
            steps=2,
            batch_size=8,
            augmentation="none",
            validate_every=1,
            workspace=tmp_path / "work",
        )
        return found.saved.contract.values_sha256, sorted(path.name for path in (tmp_path / "small").iterdir())

    assert small() == small()
