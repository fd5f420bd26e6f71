"""Left-out files: counted, and shown as far as they can be, from a real ingest."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from selftrain import config
from selftrain.adapters.report.left_out import SHOWN, counted, left_out_files
from selftrain.config import Machine
from selftrain.data.ingest.ingest import ingest
from selftrain.data.sources.source import open_source
from selftrain.data.store.dataset import Dataset
from selftrain.files.workspace import Workspace


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """20 images in two classes, a copy of one, eight truncated ones and a text file."""
    root = tmp_path_factory.mktemp("set")
    rng = np.random.default_rng(0)
    for index in range(20):
        path = root / "labeled" / f"class{index % 2}" / f"{index:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (24, 24, 3)).astype(np.uint8)).save(path)
    pool = root / "pool"
    pool.mkdir()
    whole = (root / "labeled" / "class0" / "00.png").read_bytes()
    (pool / "copy.png").write_bytes(whole)
    for index in range(8):
        (pool / f"cut{index}.png").write_bytes(whole[: 700 + index])
    (pool / "text.jpg").write_bytes(b"this is not an image")
    dataset = Dataset(Workspace(root / "workspace"), "set", Machine())
    source = open_source(config.FolderSource(labeled=str(root / "labeled"), unlabeled=str(pool)))
    settings = config.Ingest(max_quarantine=1.0)
    ingest(source, source.scan(), dataset.store, settings=settings, splitting=config.Splitting(), workers=1)
    return dataset


def test_files_are_counted_by_reason_and_some_are_shown(dataset: Dataset) -> None:
    counts, files = counted(dataset), left_out_files(dataset)
    assert counts["truncated"] == 8
    assert counts["not_an_image"] == 1
    assert set(files) == set(counts)
    assert len(files["truncated"]) == SHOWN
    assert [Path(each.path).name for each in files["truncated"]] == [f"cut{index}.png" for index in range(SHOWN)]
    assert all(each.source.startswith("data:image/webp") and each.detail for each in files["truncated"])
    [text] = files["not_an_image"]
    assert (Path(text.path).name, text.source) == ("text.jpg", "")
    [copy] = [each for name in counts if name not in ("truncated", "not_an_image") for each in files[name]]
    assert Path(copy.path).name == "copy.png"
    assert copy.source


def test_without_the_users_files_their_names_and_reasons_are_left(dataset: Dataset) -> None:
    lost = Path(left_out_files(dataset)["truncated"][0].path)
    lost.unlink()
    found = left_out_files(dataset)["truncated"][0]
    assert (found.path, found.source) == (str(lost), "")
    assert found.detail


def test_a_data_set_without_a_table_has_none(tmp_path: Path) -> None:
    nothing = Dataset(Workspace(tmp_path), "nothing", Machine())
    assert counted(nothing) == {}
    assert left_out_files(nothing) == {}


def test_left_out_files_of_a_set_of_12_bits_are_shown_as_bright_as_the_set(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(500, 4096, (20, 24, 24)).astype(np.uint16)
    for index, picture in enumerate(pictures):
        path = tmp_path / "labeled" / f"class{index % 2}" / f"{index:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "copy.png").write_bytes((tmp_path / "labeled" / "class0" / "00.png").read_bytes())
    dataset = Dataset(Workspace(tmp_path / "workspace"), "set", Machine())
    source = open_source(config.FolderSource(labeled=str(tmp_path / "labeled"), unlabeled=str(tmp_path / "pool")))
    settings = config.Ingest(max_quarantine=1.0, bits=12)
    ingest(source, source.scan(), dataset.store, settings=settings, splitting=config.Splitting(), workers=1)
    [[copy]] = left_out_files(dataset, bits=12).values()
    with Image.open(io.BytesIO(base64.b64decode(copy.source.split(",")[1]))) as image:
        assert 100 < np.asarray(image).mean() < 180
