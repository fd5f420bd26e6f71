"""A representation from a folder or arrays to the line of YAML that a teacher starts from."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from selftrain.config import Pretraining
from selftrain.errors import BackboneError, ConfigError, SourceError
from selftrain.learn.pretraining.representation import learn_representation

pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning"),
    # Keras's own save copies TensorFlow variables in a way that numpy 2 deprecates.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`input_shape` is undefined or non-square:UserWarning"),
]


def images(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 32, 32, 3), np.uint8)


def tiny(**settings: Any) -> Pretraining:
    """A recipe of one step of four images."""
    return Pretraining(**{"backbone": "wide_resnet_16_1", "steps": 1, "batch_size": 4, **settings})


@pytest.mark.slow
def test_a_teacher_starts_from_what_was_learned_by_one_line_of_yaml(tmp_path: Path) -> None:
    from selftrain.config import parse
    from selftrain.learn.networks.backbones import build
    from selftrain.learn.networks.variables import read

    found = learn_representation(
        images=images(12),
        labeled=(images(6, seed=1), np.array(["cat", "dog"] * 3)),
        recipe=Pretraining(backbone="mobilenet_v2_035", steps=2, batch_size=4, look_every=1),
        workspace=tmp_path,
    )
    assert found.weights == tmp_path / "representations" / "mobilenet_v2_035-simclr.weights.h5"
    assert found.curve["step"].to_pylist() == [1, 2]
    assert found.curve["knn_accuracy"].to_pylist()[-1] == found.knn_after
    assert (found.images, found.unreadable) == (12, 0)

    teacher = parse(yaml.safe_load(found.yaml)).teacher
    start = build(teacher.backbone, image_size=32, classes=2, weights=teacher.weights)
    fresh = build(teacher.backbone, image_size=32, classes=2)
    own, first = (read(model.get_layer("backbone").trainable_weights) for model in (start, fresh))
    assert max(np.abs(one - other).max() for one, other in zip(own, first, strict=True)) > 1e-4


def test_what_cannot_be_learned_from_is_said_first(tmp_path: Path) -> None:
    from selftrain.data.store.pixels import ArrayPixels

    with pytest.raises(BackboneError, match=r"ends in \.weights\.h5"):
        learn_representation(images=images(4), out=tmp_path / "x.h5", workspace=tmp_path)
    with pytest.raises(SourceError, match="Pixels of 32 px, but image_size is 64"):
        learn_representation(images=ArrayPixels(images(4)), recipe=Pretraining(image_size=64), workspace=tmp_path)
    with pytest.raises(ConfigError, match="4 images for batches of 8"):
        learn_representation(images=images(4), recipe=tiny(batch_size=8), workspace=tmp_path)
    with pytest.raises(SourceError, match=r"1 labelled image\(s\)"):
        learn_representation(
            images=images(4),
            labeled=(images(1), np.array(["cat"])),
            recipe=tiny(),
            workspace=tmp_path,
        )
    assert not list(tmp_path.rglob("*.h5"))


def learned(workspace: Path, *, seed: int = 0, out: Path | None = None) -> Path:
    """Weights learned in one step from the images of `seed`."""
    return learn_representation(images=images(4, seed), recipe=tiny(), out=out, workspace=workspace).weights


@pytest.mark.slow
def test_weights_of_other_images_are_not_replaced_and_the_same_call_gives_the_same(tmp_path: Path) -> None:
    import h5py

    def values(path: Path) -> list[bytes]:
        found: list[bytes] = []
        with h5py.File(path) as file:
            file.visititems(
                lambda _, item: found.append(item[()].tobytes()) if isinstance(item, h5py.Dataset) else None
            )
        return found

    weights = learned(tmp_path)
    before, first = weights.read_bytes(), values(weights)
    with pytest.raises(ConfigError, match=r"learned from other images, with other settings or by an earlier version"):
        learned(tmp_path, seed=1)
    assert weights.read_bytes() == before
    assert values(learned(tmp_path)) == first


@pytest.mark.slow
def test_weights_of_other_strides_are_not_replaced(tmp_path: Path) -> None:
    def strided(reduce_strides: bool) -> Path:
        return learn_representation(
            images=images(4),
            recipe=tiny(backbone="efficientnet_b0_050", reduce_strides=reduce_strides),
            workspace=tmp_path,
        ).weights

    weights = strided(True)
    before = weights.read_bytes()
    with pytest.raises(ConfigError, match="with other settings"):
        strided(False)
    assert weights.read_bytes() == before


def test_a_file_that_was_not_learned_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import h5py

    text, folder, own = (tmp_path / f"{name}.weights.h5" for name in ("text", "folder", "own"))
    text.write_bytes(b"my own weights")
    folder.mkdir()
    with h5py.File(own, "w") as file:
        file["w"] = [1.0]
    before = own.read_bytes()
    for out in (text, folder, own):
        with pytest.raises(ConfigError, match="was not written by learn_representation; it was left as it is"):
            learned(tmp_path / "work", out=out)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=f"{tmp_path}/own"):
        learned(Path("~/work"), out=Path("~/own.weights.h5"))
    with pytest.raises(ConfigError, match="cannot create"):
        learned(tmp_path / "work", out=text / "below.weights.h5")
    assert (text.read_bytes(), own.read_bytes()) == (b"my own weights", before)
