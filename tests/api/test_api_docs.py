"""docs/api.md: its examples run, in their order, as a reader would run them."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

import selftrain

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
FIT = "selftrain.fit("

pytestmark = [
    pytest.mark.keras,
    # Keras 3.15 converts TensorFlow variables with numpy's older protocol.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the examples before `fit` and apart from torch's have named, after they were run in an empty folder."""
    known: dict[str, Any] = {"folder": tmp_path_factory.mktemp("docs")}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(known["folder"])
        for block in BLOCKS:
            if FIT not in block and "import torch" not in block:
                exec(compile(block, str(PAGE), "exec"), known)  # noqa: S102 - our own page
    return known


def test_the_examples_label_and_load(names: dict[str, Any]) -> None:
    assert 0 < names["analysis"].counts.accepted <= names["analysis"].counts.unlabeled
    assert 0 < names["precise"].counts.accepted <= names["precise"].counts.unlabeled
    assert names["second"].round == 2
    assert len(names["x"]) == len(names["y"]) > 240
    assert names["batch"][0].shape == (32, 8, 8, 1)


def test_the_torch_example_runs(names: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed: its example is not tried")
    monkeypatch.chdir(names["folder"])
    (block,) = [block for block in BLOCKS if "import torch" in block]
    exec(compile(block, str(PAGE), "exec"), names)  # noqa: S102 - our own page
    assert names["w"].max() <= 1


@pytest.mark.slow
def test_the_example_of_the_whole_loop_runs(names: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(names["folder"])
    (block,) = [block for block in BLOCKS if FIT in block]
    exec(compile(block, str(PAGE), "exec"), names)  # noqa: S102 - our own page
    assert names["fitted"].record.status == "completed"
    assert (names["folder"] / "fitted" / "model" / "model.keras").is_file()


def test_every_function_of_the_api_is_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name in selftrain.__all__:
        assert name == "__version__" or re.search(rf"\b{name}\b", text), name
