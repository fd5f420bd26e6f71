"""The commands that use models, with a real registry: two versions of a model that knows colours."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pyarrow.parquet as pq
import pytest

from selftrain.adapters.registry import champions, recall_log, registration
from selftrain.adapters.tracking.store import Tracking, open_tracking
from selftrain.config import Registry
from selftrain.evaluate.promotion import PromotionDecision
from selftrain.files.workspace import Workspace
from selftrain.learn.models.contract import SavedModel, read_contract
from selftrain.learn.models.loading import load
from selftrain.learn.models.saving import save
from selftrain.selflabel.lineage.descent import Recall
from tests.adapters.notices.webhook import Hook

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


def opened(workspace: Path) -> Tracking:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return open_tracking(workspace, stack=lambda: None)


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of a store without models; making one takes MLflow seconds, so each test gets a copy."""
    workspace = tmp_path_factory.mktemp("empty")
    opened(workspace)
    return Workspace(workspace).mlflow_database


@pytest.fixture(scope="module")
def registered(empty_store: Path, colour_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of a store where version 1 may become champion and version 2, far less sure, was refused."""
    workspace = Workspace(tmp_path_factory.mktemp("registered")).ensure()
    shutil.copy(empty_store, workspace.mlflow_database)
    tracking = opened(workspace.root)
    model, contract = load(colour_model)
    unsure = save(model, contract.model_copy(update={"temperature": 8.0}), workspace.root / "unsure")
    for number, saved in enumerate([SavedModel(colour_model, read_contract(colour_model)), unsure], start=1):
        version = registration.register(
            tracking,
            model_folder=saved.folder,
            contract=saved.contract,
            report=None,
            run_key=f"run {number}",
            tags={},
            card="# colours\n",
            settings=Registry(model_name="colours"),
            run_id=f"{number}",
        )
        decision = PromotionDecision(promote=number == 1, reasons=("measured",), against=None if number == 1 else 1)
        champions.record_decision(tracking, version, decision, who="test")
    return workspace.mlflow_database


def use(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the commands of one test find a copy of `database`."""
    workspace = Workspace(tmp_path / ".selftrain").ensure()
    shutil.copy(database, workspace.mlflow_database)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workspace.mlflow_database}")


@pytest.fixture
def no_versions(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(empty_store, tmp_path, monkeypatch)


@pytest.fixture
def two_versions(registered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(registered, tmp_path, monkeypatch)


def test_a_champion_is_made_refused_forced_and_taken_back(two_versions: None, selftrain: Command) -> None:
    ended = selftrain("promote", 1)
    assert (ended.code, ended.out) == (0, "colours: champion 1, challenger 2\n")

    refused = selftrain("promote")
    assert (refused.code, refused.out) == (1, "")
    assert "models:/colours/2 is not promoted: measured" in refused.err
    assert len(refused.err.splitlines()) == 1

    forced = selftrain("promote", 2, "--force", "--why", "a demonstration", "--json")
    assert json.loads(forced.out)["champion_version"] == 2
    assert selftrain("rollback", "--why", "it was worse").out == "colours: champion 1\n"

    log = json.loads(selftrain("history", "--json").out)
    assert [(each["action"], each["previous"], each["to"]) for each in log] == [
        ("refuse", 1, 2), ("promote", None, 1), ("promote", 1, 2), ("rollback", 2, 1),
    ]  # fmt: skip
    lines = selftrain("history").out.splitlines()
    assert len(lines) == 4
    assert "1 -> 2" in lines[2]
    assert "a demonstration" in lines[2]

    too_far = selftrain("rollback")
    assert too_far.code == 1
    assert "no earlier champion" in too_far.err


def test_people_hear_of_a_champion_that_was_changed_by_hand(
    two_versions: None, selftrain: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = Hook()
    Thread(target=hook.serve_forever, daemon=True).start()
    monkeypatch.setenv("HOOK", hook.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    experiment = {"name": "colours", "notify": {"webhook": "env:HOOK", "alerter": False}}
    (tmp_path / "colours.yaml").write_text(json.dumps({"parameters": {"experiment": experiment}}))
    assert selftrain("promote", 1, "--config", "colours.yaml").code == 0
    assert selftrain("promote", 1, "--config", "colours.yaml").code == 0  # it is champion: nothing is told again
    assert selftrain("promote", 2, "--config", "colours.yaml").code == 1
    assert selftrain("promote", 2, "--force", "--why", "a try", "--config", "colours.yaml").code == 0
    assert selftrain("rollback", "--why", "it was worse", "--config", "colours.yaml").code == 0
    hook.shutdown()
    hook.server_close()
    told = [(said["event"], said["facts"]) for _, said in hook.asked]
    assert [(event, facts["previous"], facts["version"], facts["reason"]) for event, facts in told] == [
        ("promoted", None, 1, None), ("promoted", 1, 2, "a try"), ("rolled_back", 2, 1, "it was worse"),
    ]  # fmt: skip
    recorded = [json.loads(line) for line in (tmp_path / ".selftrain" / "notices.jsonl").read_text().splitlines()]
    assert [each["delivered"] for each in recorded] == [True, True, True]


def test_a_champion_changes_although_the_notice_does_not_arrive(
    two_versions: None, selftrain: Command, tmp_path: Path
) -> None:
    experiment = {"name": "colours", "notify": {"command": "/nowhere/page-me", "alerter": False}}
    (tmp_path / "colours.yaml").write_text(json.dumps({"parameters": {"experiment": experiment}}))
    assert selftrain("promote", 1, "--config", "colours.yaml").out == "colours: champion 1, challenger 2\n"
    (line,) = (tmp_path / ".selftrain" / "notices.jsonl").read_text().splitlines()
    assert json.loads(line)["delivered"] is False


@pytest.fixture
def champion_withdrawn(two_versions: None, selftrain: Command, tmp_path: Path, colour_model: Path) -> None:
    """Version 1 became champion, and was withdrawn; version 2 has its weights."""
    assert selftrain("promote", 1).code == 0
    identity = read_contract(colour_model).identity
    line = Recall(
        number=0, when="", who="ada", action="withdraw", identity=identity, called="models:/colours/1", why="wrong"
    )
    recall_log.append(open_tracking(tmp_path, stack=lambda: None), line)


def test_a_withdrawn_champion_answers_with_a_warning_and_labels_nothing(
    champion_withdrawn: None, selftrain: Command, tmp_path: Path, paint: Paint
) -> None:
    paint(tmp_path / "photos" / "a.png", "green")
    answered = selftrain("predict", "photos", "--json")
    assert json.loads(answered.out)[0]["label"] == "green"
    assert "WARNING: models:/colours/1 is withdrawn" in answered.err
    refused = selftrain("pseudo-label", "--model", "champion", "--images", "photos", "--out", "labels.csv")
    assert (refused.code, refused.out) == (1, "")
    assert "models:/colours/1 is withdrawn" in refused.err
    assert "nothing is labelled with it" in refused.err
    assert not Path("labels.csv").exists()


def taught(colour_model: Path, folder: Path) -> Path:
    """A saved model of other weights that the model in `colour_model` taught, by its contract alone."""
    model, contract = load(colour_model)
    model.set_weights([2 * value for value in model.get_weights()])
    return save(model, contract.model_copy(update={"lineage": contract.taught}), folder).folder


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("folder", "folder is withdrawn"),
        ("folder/model.keras", "folder is withdrawn"),
        ("taught", "taught is tainted: it was taught by models:/colours/1"),
        ("own.keras", "own.keras is withdrawn"),
    ],
)
def test_a_withdrawn_model_given_as_a_folder_or_file_labels_nothing(
    champion_withdrawn: None,
    selftrain: Command,
    tmp_path: Path,
    paint: Paint,
    colour_model: Path,
    given: str,
    said: str,
) -> None:
    shutil.copytree(colour_model, tmp_path / "folder")
    shutil.copy(colour_model / "model.keras", tmp_path / "own.keras")
    taught(colour_model, tmp_path / "taught")
    paint(tmp_path / "photos" / "a.png", "green")
    call = ("--model", given, "--classes", "blue,green,red")
    refused = selftrain("pseudo-label", *call, "--images", "photos", "--out", "labels.csv")
    assert (refused.code, refused.out) == (1, "")
    assert said in refused.err
    assert "nothing is labelled with it" in refused.err
    assert not Path("labels.csv").exists()
    answered = selftrain("predict", *call, "photos", "--json")
    assert json.loads(answered.out)[0]["label"] == "green"
    assert f"WARNING: {said}" in answered.err


def test_a_folder_labels_again_once_the_recall_is_taken_back(
    champion_withdrawn: None, selftrain: Command, tmp_path: Path, paint: Paint, colour_model: Path
) -> None:
    tracking = open_tracking(tmp_path, stack=lambda: None)
    recall_log.append(tracking, recall_log.read_log(tracking)[-1].model_copy(update={"action": "restore"}))
    paint(tmp_path / "photos" / "a.png", "green")
    ended = selftrain("pseudo-label", "--model", colour_model, "--images", "photos", "--out", "labels.csv")
    assert (ended.code, Path("labels.csv").exists()) == (0, True), ended.err


def test_the_log_of_the_workspace_is_asked_about_a_folder_where_no_variable_names_another(
    champion_withdrawn: None,
    selftrain: Command,
    tmp_path: Path,
    paint: Paint,
    colour_model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    paint(tmp_path / "photos" / "a.png", "green")
    call = ("pseudo-label", "--model", colour_model, "--images", "photos", "--out", "labels.csv")
    assert f"{colour_model} is withdrawn" in selftrain(*call).err
    assert selftrain(*call, "--workspace", "nowhere").code == 0
    assert not Path("nowhere").exists()


def test_a_folder_labels_nothing_while_the_log_does_not_answer(
    selftrain: Command, tmp_path: Path, paint: Paint, colour_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    paint(tmp_path / "photos" / "a.png", "green")
    refused = selftrain("pseudo-label", "--model", colour_model, "--images", "photos", "--out", "labels.csv")
    assert (refused.code, refused.out) == (1, "")
    unknown = f"it is not known whether {colour_model} was withdrawn"
    assert f"{unknown}: the MLflow store at http://127.0.0.1:9" in refused.err
    answered = selftrain("predict", "--model", colour_model, "photos", "--json")
    assert json.loads(answered.out)[0]["label"] == "green"


def test_history_tells_of_a_recall_in_its_place_and_warns(champion_withdrawn: None, selftrain: Command) -> None:
    shown = selftrain("history")
    assert [line.split()[2] for line in shown.out.splitlines()] == ["refuse", "promote", "withdraw"]
    assert "WARNING: the champion models:/colours/1 is withdrawn" in shown.err
    assert [each["action"] for each in json.loads(selftrain("history", "--json").out)] == ["refuse", "promote"]


def test_the_same_weights_under_another_number_are_withdrawn_too(champion_withdrawn: None, selftrain: Command) -> None:
    refused = selftrain("promote", 2, "--force", "--why", "x")
    assert (refused.code, refused.out) == (1, "")
    assert "models:/colours/2 is withdrawn" in refused.err


def test_a_version_that_is_not_there_is_named_with_those_that_are(two_versions: None, selftrain: Command) -> None:
    ended = selftrain("promote", 7)
    assert ended.code == 2
    assert "no version 7; there are: 1, 2" in ended.err


COMMANDS = [("history",), ("promote",), ("rollback",), ("predict", "a.png")]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_model_or_version_that_is_not_there_is_wrong_input(
    two_versions: None, selftrain: Command, tmp_path: Path, paint: Paint, command: tuple[str, ...]
) -> None:
    paint(tmp_path / "a.png", "green")
    unknown = selftrain(*command, "--model-name", "nosuch")
    assert (unknown.code, unknown.out) == (2, "")
    assert "no model is called 'nosuch'; there are: colours" in unknown.err
    for name in ("it's", "a/b", "x" * 201):
        impossible = selftrain(*command, "--model-name", name)
        assert (impossible.code, impossible.out) == (2, "")
        assert "the model's name is" in impossible.err
        assert len(impossible.err.splitlines()) == 1


def test_predict_with_a_version_or_address_that_is_not_there_is_wrong_input(
    two_versions: None, selftrain: Command, tmp_path: Path, paint: Paint
) -> None:
    paint(tmp_path / "a.png", "green")
    ended = selftrain("predict", "a.png", "--version", 9)
    assert (ended.code, ended.out) == (2, "")
    assert "'colours' has no version 9; there are: 1, 2" in ended.err
    for address, said in (
        ("models:/it's/1", "the model's name is"),
        ("models:/shapes/1", "no model is called 'shapes'"),
    ):
        ended = selftrain("predict", "a.png", "--model", address)
        assert ended.code == 2
        assert said in ended.err


def test_predict_uses_the_champion_or_the_version_asked_for(
    two_versions: None, selftrain: Command, tmp_path: Path, paint: Paint
) -> None:
    paint(tmp_path / "photos" / "a.png", "green")
    (tmp_path / "photos" / "b.png").write_bytes(b"broken")
    nobody = selftrain("predict", "photos")
    assert (nobody.code, nobody.out) == (1, "")
    assert "'colours' has no champion (versions: 1, 2)" in nobody.err

    selftrain("promote", 1)
    ended = selftrain("predict", "photos", "gone.png", "--json")
    assert ended.code == 0
    good, broken, gone = json.loads(ended.out)
    assert (good["path"], good["label"], good["error"]) == ("photos/a.png", "green", None)
    assert good["confidence"] == good["probabilities"]["green"] > 0.9
    assert broken["error"].startswith("not_an_image")
    assert (gone["path"], gone["error"]) == ("gone.png", "no such file or folder")
    assert "models:/colours/1" in ended.err

    by_second = selftrain("predict", "photos/a.png", "--version", 2, "--json")
    (answer,) = json.loads(by_second.out)
    assert answer["label"] == "green"
    assert answer["confidence"] < 0.9
    assert "photos/a.png  green" in selftrain("predict", "photos/a.png").out
    assert selftrain("predict", "photos/b.png").code == 2


def test_predict_takes_a_saved_model_without_any_registry(
    colour_model: Path, selftrain: Command, tmp_path: Path, paint: Paint
) -> None:
    paint(tmp_path / "a.png", "green")
    ended = selftrain("predict", "--model", colour_model, "a.png", "--json")
    assert ended.code == 0
    assert json.loads(ended.out)[0]["label"] == "green"
    file = tmp_path / "mine.keras"
    shutil.copy(colour_model / "model.keras", file)
    assert "--classes" in selftrain("predict", "--model", file, "a.png").err
    named = selftrain("predict", "--model", file, "--classes", "blue, green, red", "a.png", "--json")
    assert json.loads(named.out)[0]["label"] == "green"
    assert "in the order of its outputs is not known" in named.err
    assert "not known" not in ended.err
    many = selftrain("predict", "--model", file, "--classes", "blue, green, red", "a.png", "--out", "many.parquet")
    assert "in the order of its outputs is not known" in many.err
    both = selftrain("predict", "--model", colour_model, "--version", 1, "a.png")
    assert both.code == 2
    assert "are two models; give one of them" in both.err


@pytest.mark.parametrize("reference", ["champion", "models:/colours@champion", "models:/colours/1", "folder", "file"])
def test_pseudo_label_takes_every_kind_of_model(
    two_versions: None, selftrain: Command, tmp_path: Path, paint: Paint, colour_model: Path, reference: str
) -> None:
    selftrain("promote", 1)
    paint(tmp_path / "photos" / "a.png", "green")
    paint(tmp_path / "photos" / "b.png", "red", strength=20)
    named = {"folder": str(colour_model), "file": str(colour_model / "model.keras")}.get(reference, reference)
    ended = selftrain("pseudo-label", "--model", named, "--images", "photos", "--out", "labels.csv", "--json")
    assert ended.code == 0, ended.err
    facts = json.loads(ended.out)
    assert (facts["labeled"], facts["accepted"], facts["quarantined"]) == (2, 1, 0)
    with Path("labels.csv").open(newline="") as file:
        assert [(row["class"], row["accepted"]) for row in csv.DictReader(file)] == [
            ("green", "true"), ("red", "false"),
        ]  # fmt: skip


def test_a_keras_file_of_ones_own_needs_its_classes(
    selftrain: Command, tmp_path: Path, paint: Paint, colour_model: Path
) -> None:
    (tmp_path / "own.keras").write_bytes((colour_model / "model.keras").read_bytes())
    paint(tmp_path / "photos" / "a.png", "green")
    call = ["pseudo-label", "--model", "own.keras", "--images", "photos", "--out", "labels.csv"]
    nameless = selftrain(*call)
    assert nameless.code == 2
    assert "give --classes" in nameless.err
    too_few = selftrain(*call, "--classes", "b,g")
    assert too_few.code == 2
    assert "one column per class name" in too_few.err
    ended = selftrain(*call, "--classes", "b, g, r", "--materialize", "by_class", "--per-class", "g=.5")
    assert ended.code == 0, ended.err
    assert "1 of 1 images accepted by own.keras, threshold per class: g 0.5, others 0.9" in ended.out
    assert (tmp_path / "by_class" / "g" / "a.png").is_symlink()


OLD = Path(__file__).parents[1] / "learn" / "adoption" / "keras2"


@pytest.mark.parametrize("model", ["tiny.h5", "exported"])
def test_an_old_model_labels_as_one_of_keras_3(selftrain: Command, tmp_path: Path, paint: Paint, model: str) -> None:
    paint(tmp_path / "photos" / "a.png", "green")
    paint(tmp_path / "photos" / "b.png", "red")
    asked = ["--model", OLD / model, "--classes", "a,b,c", "--pixels", "0..255"]
    ended = selftrain("predict", *asked, "photos/a.png", "photos/b.png", "--json")
    assert ended.code == 0, ended.err
    assert "reads 16x16 pixels as 0..255 (said), answers softmax" in ended.err
    labels = selftrain("pseudo-label", *asked, "--images", "photos", "--out", "labels.csv", "--json")
    assert labels.code == 0, labels.err
    with Path("labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == [row["label"] for row in json.loads(ended.out)]


def test_a_table_is_made_again_for_other_pixels_and_for_another_model_of_the_same_name(
    selftrain: Command, tmp_path: Path, paint: Paint
) -> None:
    import keras

    paint(tmp_path / "photos" / "a.png", "green")
    call = ["predict", "photos", "--model", "own.keras", "--classes", "a,b", "--out", "all.parquet", "--json"]

    def predicted(seed: int, pixels: str) -> dict[str, float]:
        keras.utils.set_random_seed(seed)
        layers = [keras.Input((8, 8, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2, "softmax")]
        keras.Sequential(layers).save(tmp_path / "own.keras")
        ended = selftrain(*call, "--pixels", pixels)
        assert ended.code == 0, ended.err
        probabilities: dict[str, float] = pq.read_table(tmp_path / "all.parquet")["probabilities"].to_pylist()[0]
        return probabilities

    first = predicted(1, "0..1")
    assert predicted(1, "0..255") != first
    assert predicted(2, "0..1") != first


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--classes", "x,y,z"), "names its classes itself: "),
        (("--pixels", "0..1"), "knows how it reads images"),
        (("--image-size", "32"), "knows how it reads images"),
        (("--bits", "12"), "knows how it reads images"),
    ],
)
def test_a_saved_model_is_not_told_what_its_contract_says(
    selftrain: Command, tmp_path: Path, paint: Paint, colour_model: Path, option: tuple[str, str], said: str
) -> None:
    paint(tmp_path / "photos" / "a.png", "green")
    asked = ["--model", colour_model, *option]
    for call in (["pseudo-label", "--images", "photos", "--out", "labels.csv", *asked], ["predict", "photos", *asked]):
        ended = selftrain(*call)
        assert ended.code == 2
        assert said in ended.err
    assert not (tmp_path / "labels.csv").exists()


def test_the_registered_model_is_not_told_either(selftrain: Command, tmp_path: Path, paint: Paint) -> None:
    paint(tmp_path / "photos" / "a.png", "green")
    for option in (("--classes", "x,y,z"), ("--pixels", "0..1"), ("--image-size", "32")):
        ended = selftrain("predict", "photos", *option)
        assert ended.code == 2
        assert f"{option[0]} is for a model of your own" in ended.err


def test_a_model_of_another_format_shows_the_lines_that_convert_it(
    selftrain: Command, tmp_path: Path, paint: Paint
) -> None:
    paint(tmp_path / "photos" / "a.png", "green")
    (tmp_path / "empty").mkdir()
    for name, line in (
        ("net.pt", "torch.onnx.export("),
        ("net.pkl", "never is"),
        ("empty", "model.save('model.keras')"),
    ):
        if "." in name:
            (tmp_path / name).write_bytes(b"anything")
        ended = selftrain("pseudo-label", "--model", name, "--classes", "a,b", "--images", "photos", "--out", "out.csv")
        assert ended.code == 2
        assert f"{name} is not a .keras, .h5 or .onnx file" in ended.err
        assert line in ended.err
    code = selftrain("predict", "--model", OLD / "code.h5", "--classes", "a,b,c", "photos/a.png")
    assert code.code == 2
    assert "it has a Lambda layer" in code.err
    assert "Traceback" not in code.err


def test_the_image_size_of_a_model_that_reads_any_is_said_by_hand(
    selftrain: Command, tmp_path: Path, paint: Paint
) -> None:
    import keras

    image = keras.Input((None, None, 3))
    keras.Model(image, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(image))).save(tmp_path / "any.keras")
    paint(tmp_path / "photos" / "a.png", "green")
    call = ["predict", "--model", "any.keras", "--classes", "a,b", "--pixels", "0..1", "photos/a.png"]
    assert "reads 224x224 pixels" in selftrain(*call).err
    assert "reads 12x20 pixels" in selftrain(*call, "--image-size", "12x20").err
    wrong = selftrain(*call, "--image-size", "large")
    assert wrong.code == 2
    assert "'large' is not height x width in pixels, such as 96x128" in wrong.err
    fixed = selftrain("predict", "--model", OLD / "tiny.h5", "--classes", "a,b,c", "--image-size", "32", "photos/a.png")
    assert fixed.code == 2
    assert "reads 16x16 pixels; the image size 32x32 that was given does not fit" in fixed.err


def test_a_changed_model_file_is_not_loaded(
    selftrain: Command, tmp_path: Path, paint: Paint, colour_model: Path
) -> None:
    (tmp_path / "model").mkdir()
    for path in colour_model.iterdir():
        (tmp_path / "model" / path.name).write_bytes(path.read_bytes() + (b"x" if path.suffix == ".keras" else b""))
    paint(tmp_path / "photos" / "a.png", "green")
    ended = selftrain("pseudo-label", "--model", "model", "--images", "photos", "--out", "labels.csv")
    assert ended.code == 2
    assert "was not loaded" in ended.err
    assert not (tmp_path / "labels.csv").exists()


@pytest.mark.slow
def test_of_several_models_that_no_run_tells_apart_one_must_be_named(two_versions: None, tmp_path: Path) -> None:
    opened(tmp_path / ".selftrain").client.create_registered_model("shapes")
    command = [Path(sys.executable).with_name("selftrain"), "history"]
    runs = {**os.environ, "ZENML_CONFIG_PATH": str(tmp_path / "zenml")}  # there are none
    ended = subprocess.run(command, cwd=tmp_path, env=runs, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "there are several models; add --model-name, one of: colours, shapes" in ended.stderr


class Refuses(BaseHTTPRequestHandler):
    """A server that is up and whose registry is down."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_error(503)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the error is what this is about."""


def test_a_command_asks_a_registry_that_is_down_three_times_not_eight(
    selftrain: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
        monkeypatch.setattr(Refuses, "asked", [])
        try:
            ended = selftrain("history")
        finally:
            server.shutdown()
    assert ended.code == 1
    assert "does not answer" in ended.err
    assert len(Refuses.asked) == 3


def test_an_empty_registry_is_said_to_be_empty(no_versions: None, selftrain: Command) -> None:
    ended = selftrain("history")
    assert (ended.code, ended.out) == (1, "")
    assert "no model is registered yet" in ended.err


@pytest.mark.parametrize("command", COMMANDS)
def test_without_a_registered_model_commands_say_so(
    no_versions: None, selftrain: Command, tmp_path: Path, paint: Paint, command: tuple[str, ...]
) -> None:
    paint(tmp_path / "a.png", "green")
    ended = selftrain(*command, "--model-name", "nobody")
    assert (ended.code, ended.out) == (2, "")
    assert "no model is called 'nobody'; there are: none" in ended.err
