"""A model of a 12-bit set reads new 12-bit pictures alike by every door; another model refuses them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from selftrain import as_numpy, autolabel, distill
from selftrain.adapters.registry.live_champion import OF_NO_REGISTRY, GivenModel
from selftrain.adapters.registry.references import find_reference
from selftrain.adapters.serving.export import Export, export
from selftrain.adapters.serving.live.asking import Asking
from selftrain.adapters.serving.live.live_model import LiveModel
from selftrain.adapters.serving.live.measures import Measures
from selftrain.adapters.serving.live.requests import AskedImage, RequestLimits
from selftrain.adapters.serving.parity import EXACT, images_of_folder
from selftrain.autolabeling.folders.predictions import Predictor
from selftrain.autolabeling.folders.samples import known_of
from selftrain.autolabeling.folders.sources import list_sources
from selftrain.errors import ConfigError, SourceError
from selftrain.learn.models.contract import Contract, SavedModel, read_contract
from selftrain.learn.models.loading import load
from selftrain.learn.models.saving import save

pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]
Run = Callable[..., Any]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model that answers by brightness, of a set of 12 bits and of one of 8."""
    import keras

    image = keras.Input((16, 16, 3), name="image")
    mean = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(image))
    head = keras.layers.Dense(2, name="logits")
    model = keras.Model(image, head(mean))
    head.set_weights([np.array([[-2.0, 2.0]] * 3, np.float32), np.array([3.0, -3.0], np.float32)])
    promised = Contract(backbone="by_hand", image_size=16, class_names=("dark", "light"))
    root = tmp_path_factory.mktemp("deep")
    twelve = save(model, promised.model_copy(update={"bits": 12}), root / "twelve").folder
    return twelve, save(model, promised, root / "plain").folder


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Grey pictures of 12 bits in 16, from dark to light."""
    paths = [tmp_path / "new" / f"{row}.png" for row in range(5)]
    paths[0].parent.mkdir()
    for row, path in enumerate(paths):
        noise = np.random.default_rng(row).integers(0, 256, (16, 16), np.uint16)
        Image.fromarray(noise + np.uint16(row * 900)).save(path)
    return paths


def dark_and_light(folder: Path, *, count: int, seed: int = 0) -> Path:
    """Class folders of grey pictures of 12 bits in 16, one half dark and the other light."""
    for row in range(count):
        path = folder / ("dark", "light")[row % 2] / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(seed + row).integers(0, 256, (16, 16), np.uint16)
        Image.fromarray(noise + np.uint16(3600 * (row % 2))).save(path)
    return folder


@pytest.fixture
def labeled(tmp_path: Path) -> Path:
    return dark_and_light(tmp_path / "labeled", count=40)


def expected(folder: Path, pictures: list[Path]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The probability of light when the pictures are shown with their 12 bits as 8."""
    plain = [np.repeat((np.asarray(Image.open(path)) >> 4).astype(np.uint8)[..., None], 3, -1) for path in pictures]
    return light(answered(folder, plain))


def answered(folder: Path, images: list[Any]) -> pd.DataFrame:
    from selftrain.adapters.serving.served import answer

    return answer(*load(folder), images)


def light(rows: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([each[1] for each in rows["probabilities"]])


def test_the_contract_keeps_the_bits_and_others_keep_their_text(folders: tuple[Path, Path]) -> None:
    twelve, plain = (read_contract(folder) for folder in folders)
    assert (twelve.bits, plain.bits) == (12, None)
    assert '"bits": 12' in twelve.text
    assert '"bits"' not in plain.text
    assert SavedModel.read(folders[0]).digest != SavedModel.read(folders[1]).digest


def test_every_door_reads_twelve_bits_as_the_training_did(
    folders: tuple[Path, Path], pictures: list[Path], selftrain: Run, tmp_path: Path
) -> None:
    folder, plain = folders
    right = expected(plain, pictures)
    assert (right[0] < 0.1, right[-1] > 0.7) == (True, True)
    files = [path.read_bytes() for path in pictures]
    np.testing.assert_allclose(light(answered(folder, files)), right, atol=1e-5)

    live = LiveModel(GivenModel(find_reference(str(folder), workspace=tmp_path)), OF_NO_REGISTRY, poll_s=1.0,
                     measures=Measures())  # fmt: skip
    _, rows = Asking(live, Measures(), RequestLimits(), None).ask([AskedImage("", data) for data in files])
    np.testing.assert_allclose([row.probabilities[1] for row in rows if row.probabilities], right, atol=1e-5)

    assert selftrain("predict", "--model", folder, "--out", "p.parquet", *pictures).code == 0
    predicted = pd.read_parquet("p.parquet").sort_values("path")
    np.testing.assert_allclose([each["light"] for each in predicted["probabilities"]], right, atol=1e-3)

    labelled = selftrain("pseudo-label", "--model", folder, "--images", tmp_path / "new", "--out", "l.csv")
    assert (labelled.code, "0 could not be read" in labelled.out) == (0, True)
    rows_of_table = pd.read_csv("l.csv").sort_values("path")
    np.testing.assert_allclose(rows_of_table["light" if "light" in rows_of_table else "p_light"], right, atol=1e-3)


def test_a_model_of_eight_bits_refuses_them(folders: tuple[Path, Path], pictures: list[Path], selftrain: Run) -> None:
    ended = selftrain("predict", "--model", folders[1], pictures[0])
    assert ended.code == 2
    assert "shallow" in ended.out


def test_a_model_of_ones_own_reads_them_where_it_is_told(
    folders: tuple[Path, Path], pictures: list[Path], selftrain: Run, tmp_path: Path
) -> None:
    own = tmp_path / "own.keras"
    own.write_bytes((folders[1] / "model.keras").read_bytes())
    model = ["--model", own, "--classes", "dark,light", "--pixels", "0..255"]
    refused = selftrain("predict", *model, pictures[0])
    assert (refused.code, "say --bits 12, or bits=12" in refused.out) == (2, True)
    right = expected(folders[1], pictures)

    assert selftrain("predict", *model, "--bits", 12, "--out", "p.parquet", *pictures).code == 0
    predicted = pd.read_parquet("p.parquet").sort_values("path")
    np.testing.assert_allclose([each["light"] for each in predicted["probabilities"]], right, atol=1e-3)

    labelled = selftrain("pseudo-label", *model, "--bits", 12, "--images", tmp_path / "new", "--out", "l.csv")
    assert (labelled.code, "0 could not be read" in labelled.out) == (0, True)
    np.testing.assert_allclose(pd.read_csv("l.csv").sort_values("path")["p_light"], right, atol=1e-3)

    known = known_of((), pixels="0..255", bits=12)
    found = find_reference(str(own), workspace=tmp_path, class_names=("dark", "light"), known=known)
    live = LiveModel(GivenModel(found), OF_NO_REGISTRY, poll_s=1.0, measures=Measures())
    _, rows = Asking(live, Measures(), RequestLimits(), None).ask(
        [AskedImage("", each.read_bytes()) for each in pictures]
    )
    np.testing.assert_allclose([row.probabilities[1] for row in rows if row.probabilities], right, atol=1e-5)


def test_a_table_is_made_again_under_other_bits(
    folders: tuple[Path, Path], pictures: list[Path], tmp_path: Path
) -> None:
    listed = list_sources([str(pictures[0])]).images
    contracts = [read_contract(folders[1]).model_copy(update={"bits": bits}) for bits in (None, 12, 14)]
    keys = {Predictor(lambda: np.zeros_like, contract, "own").key(listed) for contract in contracts}
    assert len(keys) == 3


def test_labelled_pictures_of_twelve_bits_show_how_a_model_of_ones_own_reads_them(
    folders: tuple[Path, Path], labeled: Path, tmp_path: Path, selftrain: Run
) -> None:
    own = tmp_path / "own.keras"
    own.write_bytes((folders[1] / "model.keras").read_bytes())
    call = ["pseudo-label", "--model", own, "--classes", "dark,light", "--images", labeled, "--labeled", labeled]
    refused = selftrain(*call, "--out", "a.csv")
    assert (refused.code, "the first: shallow: values of 16 bits" in refused.err) == (2, True)
    told = selftrain(*call, "--bits", 12, "--out", "b.csv")
    assert (told.code, "right on 40 of 40 labelled images" in told.out) == (0, True)


def test_autolabel_reads_files_by_the_bits_that_are_said_or_of_the_saved_model(
    folders: tuple[Path, Path], labeled: Path, tmp_path: Path
) -> None:
    (tmp_path / "pool").mkdir()
    Image.fromarray(np.full((16, 16), 4000, np.uint16)).save(tmp_path / "pool" / "a.png")
    call: dict[str, Any] = {"labeled": labeled, "unlabeled": tmp_path / "pool", "threshold": None}
    with pytest.raises(SourceError, match="holds no image"):
        autolabel(model=folders[1], **call, out=tmp_path / "none")
    with pytest.raises(ConfigError, match="bits is 14, but the model was trained on grey pictures of 12 bits"):
        autolabel(model=folders[0], **call, out=tmp_path / "none", bits=14)
    for name, model, bits in (("said", folders[1], 12), ("known", folders[0], None)):
        found = autolabel(model=model, **call, out=tmp_path / name, bits=bits)
        assert (found.bits, found.calibration.accuracy, found.classes["light"].predicted) == (12, 1.0, 1)
        images, _ = as_numpy(tmp_path / name)
        assert images[-1].max() == 4000 >> 4


def test_distil_reads_files_by_the_bits_that_are_said(
    folders: tuple[Path, Path], labeled: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own.keras"
    own.write_bytes((folders[1] / "model.keras").read_bytes())
    call: dict[str, Any] = {
        "teacher": own,
        "class_names": ["dark", "light"],
        "images": dark_and_light(tmp_path / "more", count=8, seed=100),
        "validation": labeled,
        "recipe": {"backbone": "wide_resnet_16_1", "steps": 2, "batch_size": 4, "validate_every": 2},
        "workspace": tmp_path / "work",
        "out": tmp_path / "small",
    }
    with pytest.raises(SourceError, match="holds no image"):
        distill(**call)
    with pytest.raises(ConfigError, match="bits is 4; give how many of 16 bits"):
        distill(**call, bits=4)
    found = distill(**call, bits=12)
    assert (found.teacher_accuracy, found.saved.contract.bits, found.images) == (1.0, 12, 8)


def test_an_export_says_what_to_do_with_sixteen_bits(
    folders: tuple[Path, Path], pictures: list[Path], tmp_path: Path
) -> None:
    model, contract = load(folders[0])
    images = images_of_folder(tmp_path / "new", 16, count=5, bits=contract.bits)
    assert images.max() > 200
    wanted = Export(form="savedmodel", out=tmp_path / "out", quantize=None, allowed=EXACT)
    promised = export(model, contract, images, wanted, called="deep")
    assert promised.resizing.endswith("fill 12 of them, and each value was shifted right by 4 bits first")
