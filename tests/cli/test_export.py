"""export and compare, with a real registry: two versions of a model that knows colours, and the images of both."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selftrain.adapters.registry import recall_log, registration
from selftrain.adapters.tracking.store import open_tracking
from selftrain.config import FolderSource, Ingest, Place, Registry, Splitting
from selftrain.data.ingest.ingest import ingest
from selftrain.data.sources.source import open_source
from selftrain.data.store.dataset import open_dataset
from selftrain.learn.models.contract import SavedModel, read_contract
from selftrain.learn.models.loading import load
from selftrain.learn.models.saving import save
from selftrain.selflabel.lineage.descent import Recall

pytestmark = [
    pytest.mark.keras,
    # mlflow's SQL store leaves cursors to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning"),
    # Keras 3.15 converts TensorFlow variables with numpy's older protocol.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    # mlflow's own modules set it off while they are imported.
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]

Command = Callable[..., Any]  # tests/conftest.py, selftrain
Paint = Callable[..., Path]


@pytest.fixture(scope="module")
def made(colour_model: Path, paint: Paint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a workspace: the data set `colours`, version 1 of a model of it, and 2, which confuses two."""
    root = tmp_path_factory.mktemp("made")
    for index, colour in enumerate(("blue", "green", "red")):
        for number in range(16):
            paint(root / "labeled" / colour / f"{number}.png", colour, seed=100 * index + number)
    source = open_source(FolderSource(labeled=str(root / "labeled")))
    workspace = root / ".selftrain"
    store = open_dataset(Place(workspace=str(workspace), dataset="colours")).store
    ingest(source, source.scan(), store, settings=Ingest(), splitting=Splitting(test=0.5), workers=1)
    model, contract = load(colour_model)
    head = model.get_layer("logits")
    kernel, bias = head.get_weights()
    head.set_weights([kernel[:, ::-1], bias])
    confused = save(model, contract, root / "confused")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        tracking = open_tracking(workspace, stack=lambda: None)
        for number, saved in enumerate([SavedModel(colour_model, read_contract(colour_model)), confused], start=1):
            registration.register(
                tracking,
                model_folder=saved.folder,
                contract=saved.contract,
                report=None,
                run_key=f"run {number}",
                tags={"selftrain.dataset": "colours"},
                card="# colours\n",
                settings=Registry(model_name="colours"),
                run_id=f"{number}",
            )
    return root


@pytest.fixture
def workspace(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the workspace that the commands of one test find."""
    shutil.copytree(made / ".selftrain", tmp_path / ".selftrain")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/.selftrain/mlflow/mlflow.db")
    return tmp_path


def test_two_versions_are_compared_on_the_same_images_and_each_is_counted_once(
    workspace: Path, selftrain: Command
) -> None:
    ended = selftrain("compare", 1, 2)
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert "models:/colours/1 100.0%, models:/colours/2 33.3% on 24 test images: +66.7 points" in lines[0]
    assert lines[0].endswith("better")
    assert lines[1].split() == ["class", "images", "first", "second", "difference", "won", "lost", "p", "(Holm)"]
    assert lines[3].split()[:6] == ["green", "8", "100.0%", "100.0%", "+0.0", "0"]
    assert lines[-1] == "evaluations of this test set so far: 2"
    again = json.loads(selftrain("compare", 2, 1, "--json").out)
    assert again["test_looks"] == 2
    assert again["comparison"]["overall"]["n01"] == 16
    assert [each["lost"] for each in again["comparison"]["per_class"]] == [8, 0, 8]
    assert selftrain("history").out == "colours: no version has been promoted or refused yet\n"


def test_a_folder_is_compared_with_a_version_and_other_classes_are_refused(
    workspace: Path, made: Path, selftrain: Command
) -> None:
    found = json.loads(selftrain("compare", made / "confused", 1, "--json").out)
    assert (found["model"], found["reference"]) == (str(made / "confused"), "models:/colours/1")
    assert found["accuracy"] == pytest.approx(1 / 3)
    other = workspace / "other"
    shutil.copytree(made / "confused", other)
    text = (other / "contract.json").read_text()
    os.chmod(other / "contract.json", 0o644)
    (other / "contract.json").write_text(text.replace("blue", "azure"))
    refused = selftrain("compare", other, 1)
    assert (refused.code, refused.out) == (2, "")
    assert "compare models of the same classes" in refused.err
    missing = selftrain("compare", 1, 2, "--dataset", "elsewhere")
    assert missing.code == 2
    assert "holds no data set of these models" in missing.err


def test_a_version_is_exported_after_a_check_on_its_own_images(workspace: Path, selftrain: Command) -> None:
    ended = selftrain("export", "--format", "onnx", "--version", 1, "--out", "onnx")
    assert ended.code == 0, ended.err
    first, second = ended.out.splitlines()
    assert first.startswith("models:/colours/1 as onnx: 100.0% of 48 images have the same class")
    assert second == "written: onnx/model.onnx, onnx/contract.json, onnx/example.py"
    contract = json.loads((workspace / "onnx" / "contract.json").read_text())
    assert contract["class_names"] == ["blue", "green", "red"]
    assert contract["model"] == "models:/colours/1"
    again = selftrain("export", "--format", "onnx", "--version", 1, "--out", "onnx")
    assert again.code == 2
    assert "is not empty and was left as it is" in again.err


def test_a_withdrawn_version_is_exported_with_a_word_of_it(
    workspace: Path, colour_model: Path, selftrain: Command
) -> None:
    tracking = open_tracking(workspace / ".selftrain")
    identity = read_contract(colour_model).identity
    line = Recall(number=0, when="", who="ada", action="withdraw", identity=identity, called="it", why="wrong labels")
    recall_log.append(tracking, line)
    ended = selftrain("export", "--format", "onnx", "--version", 1, "--out", "onnx")
    assert ended.code == 0
    assert "WARNING: models:/colours/1 is withdrawn" in ended.err
    assert "wrong labels" in ended.err


def test_an_export_beyond_its_limits_is_refused_in_one_line_and_leaves_nothing(
    workspace: Path, made: Path, selftrain: Command
) -> None:
    options = ("--format", "litert", "--quantize", "int8", "--out", "phone", "--images", made / "labeled")
    refused = selftrain("export", *options, "--model", made / "confused", "--max-difference", 0)
    assert (refused.code, refused.out) == (1, "")
    assert len(refused.err.splitlines()) == 1
    assert "at most 0 is allowed; nothing was written" in refused.err
    assert sorted(path.name for path in workspace.iterdir()) == [".selftrain"]
    taken = json.loads(selftrain("export", *options, "--model", made / "confused", "--json").out)
    assert taken["quantize"] == "int8"


def test_a_folder_of_no_known_data_set_needs_images(workspace: Path, made: Path, selftrain: Command) -> None:
    refused = selftrain("export", "--format", "litert", "--model", made / "confused", "--out", "phone")
    assert refused.code == 2
    assert "--images FOLDER" in refused.err
    both = selftrain("export", "--format", "litert", "--model", "x", "--version", 1, "--out", "phone")
    assert "are two models; give one of them" in both.err
