"""Presets that cannot be used are refused in one line; a preset is identified by what its files hold."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from selftrain.errors import BackboneError
from selftrain.learn.foundation.presets import content, load_backbone, load_converter, located
from tests.learn.foundation import tiny_presets

pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_presets.vit(tmp_path_factory.mktemp("presets") / "vit")


@pytest.fixture
def copied(vit: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(vit, tmp_path / "vit"))


def refused(preset: Path | str) -> str:
    with pytest.raises(BackboneError) as caught:
        load_backbone(str(preset))
    assert "\n" not in caught.value.message
    return caught.value.message


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    assert "did you mean 'dinov2_small'" in refused("dinov2_smal")


def test_a_folder_without_a_converter_is_refused_as_its_range_would_be_a_guess(copied: Path) -> None:
    (copied / "image_converter.json").unlink()
    assert "lacks image_converter.json" in refused(copied)


def test_weights_that_are_missing_or_cut_off_are_refused(copied: Path) -> None:
    weights = copied / "model.weights.h5"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "its backbone could not be loaded" in refused(copied)
    weights.unlink()
    assert "its backbone could not be loaded" in refused(copied)


def test_a_config_that_is_damaged_or_names_foreign_code_is_refused(copied: Path) -> None:
    config = copied / "config.json"
    told = json.loads(config.read_text())
    config.write_text(json.dumps({**told, "module": "os", "class_name": "system", "registered_name": None}))
    assert "its backbone could not be loaded" in refused(copied)
    config.write_text("{")
    assert "its backbone could not be loaded" in refused(copied)


def test_a_handle_that_cannot_be_fetched_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "could not be loaded" in refused("hf://selftrain-tests/nothing")


def test_a_converter_that_is_not_of_images_is_refused(copied: Path) -> None:
    (copied / "image_converter.json").write_text("[]")
    with pytest.raises(BackboneError, match=r"its image_converter\.json could not be loaded"):
        load_converter(str(copied))


def test_a_preset_is_identified_by_its_files_wherever_they_lie(vit: Path, copied: Path) -> None:
    assert content(str(vit)) == content(str(copied))
    (copied / "image_converter.json").write_text((copied / "image_converter.json").read_text() + " ")
    assert content(str(vit)) != content(str(copied))
    assert content("dinov2_small").startswith("dinov2_small of keras-hub ")


def test_a_folder_goes_before_a_published_name(vit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(vit, tmp_path / "dinov2_small")
    monkeypatch.chdir(tmp_path)
    assert located("dinov2_small") == str(tmp_path / "dinov2_small")
    assert located("dinov2_base") == "dinov2_base"
