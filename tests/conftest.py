"""What all tests share: an environment without a screen, without analytics, and without the user's own stores."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("ZENML_ANALYTICS_OPT_IN", "false")
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
os.environ.setdefault("AUTO_OPEN_DASHBOARD", "false")
os.environ.setdefault("MPLBACKEND", "Agg")

settings.register_profile("selftrain", deadline=None)  # a busy machine is no failure
settings.load_profile("selftrain")


COLOURS = ("blue", "green", "red")
LONGEST = ("tests/pipelines/test_interruption.py", "tests/pipelines/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: of two workers, none waits for what the other began last."""
    items.sort(key=lambda item: [not item.nodeid.startswith(place) for place in LONGEST])


@pytest.fixture(scope="session")
def colour_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a saved model, real and right without training: its logits are 10 times the mean of B, G, R."""
    import keras
    import numpy as np

    from selftrain.learn.models.contract import Contract
    from selftrain.learn.models.saving import save

    image = keras.Input((16, 16, 3), name="image")
    means = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(image))
    head = keras.layers.Dense(3, name="logits")
    model = keras.Model(image, head(means))
    head.set_weights([10 * np.eye(3, dtype=np.float32)[::-1], np.zeros(3, np.float32)])
    contract = Contract(backbone="by_hand", image_size=16, class_names=COLOURS)
    return save(model, contract, tmp_path_factory.mktemp("model") / "colours").folder


@pytest.fixture(scope="session")
def paint() -> Callable[..., Path]:
    """paint(path, colour, side=24, strength=200, seed=0): a noisy image of one colour, parent folders made."""
    import numpy as np
    from PIL import Image

    def draw(path: Path, colour: str, *, side: int = 24, strength: int = 200, seed: int = 0) -> Path:
        pixels = np.random.default_rng(seed).integers(0, 40, (side, side, 3), np.uint8)
        pixels[..., ("red", "green", "blue").index(colour)] += np.uint8(strength)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        return path

    return draw


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


@pytest.fixture
def selftrain(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Ended]:
    """selftrain("predict", "x.jpg"): the command, run in an empty folder as its entry point runs it."""
    from selftrain.cli import app

    monkeypatch.chdir(tmp_path)
    for name in ("ZENML_LOGGING_VERBOSITY", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
        monkeypatch.setenv(name, "")  # noted, so that what the entry point sets is taken back
        monkeypatch.delenv(name)

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["selftrain", *map(str, arguments)])
        code: object = 0
        try:
            app.main()
        except SystemExit as end:
            code = end.code
        said = capsys.readouterr()
        return Ended(code if isinstance(code, int) else 1, said.out, said.err)

    return run
