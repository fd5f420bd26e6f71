"""The scripts beside an export read grey pictures of 16 bits as the training did."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from selftrain.adapters.serving.detectors import example as of_detectors
from selftrain.adapters.serving.example import script
from selftrain.data.images.decode import decode


def reader(text: str, folder: Path, contract: dict[str, Any]) -> Any:
    """The function `read` of a script in `folder`, without what comes after it."""
    (folder / "contract.json").write_text(json.dumps(contract))
    names: dict[str, Any] = {"__file__": str(folder / "example.py"), "__name__": "example"}
    until = re.search(r"^def run", text, re.MULTILINE)
    assert until is not None
    exec(compile(text[: until.start()], "example.py", "exec"), names)  # noqa: S102  # a script of ours
    return names["read"]


@pytest.mark.parametrize("bits", [None, 12, 10])
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_16_bits_of_grey_are_read_by_the_bits_of_the_model(tmp_path: Path, bits: int | None, name: str) -> None:
    top = (1 << (bits or 16)) - 1
    values = np.linspace(top // 3, top, 32 * 32).reshape(32, 32).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / name)
    read = reader(script("onnx"), tmp_path, {"image_size": 32, "bits": bits, "file": "x"})
    expected = decode((tmp_path / name).read_bytes(), 32, bits=bits)
    np.testing.assert_array_equal(read(tmp_path / name), expected)
    assert 60 < expected.min() < 100 < 250 < expected.max()


def test_a_detector_reads_the_upper_8_bits(tmp_path: Path) -> None:
    values = np.linspace(20_000, 65_535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    contract = {"longest": 64, "step": 64, "ground": 114, "file": "x"}
    ground, scale, size = reader(of_detectors.script("onnx"), tmp_path, contract)(tmp_path / "a.png")
    assert (scale, size) == (1.0, (64, 64))
    np.testing.assert_array_equal(ground, decode((tmp_path / "a.png").read_bytes(), None))
