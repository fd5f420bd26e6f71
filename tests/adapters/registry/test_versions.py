"""The registry and what it serves: one version a run key, loaded elsewhere without a pickle and without selftrain."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from selftrain.adapters.registry import champions, registration
from selftrain.adapters.registry import versions as r
from selftrain.adapters.tracking import store as t
from selftrain.adapters.tracking.evaluations import TrackedEvaluations
from selftrain.adapters.tracking.runs import LoggedRun, log_run
from selftrain.config import Registry
from selftrain.data.images.decode import decode
from selftrain.errors import RegistryError, UntrustedFileError
from selftrain.evaluate.evaluation import evaluate
from selftrain.learn.adoption.adopt import adopt
from selftrain.learn.models.calibrate import softmax
from selftrain.learn.models.contract import Contract, SavedModel
from selftrain.learn.models.loading import load
from selftrain.learn.models.saving import save

if TYPE_CHECKING:
    import pandas as pd

pytestmark = [
    pytest.mark.keras,
    # mlflow's SQL store leaves cursors to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning"),
    # Keras 3.15 converts TensorFlow variables with numpy's older protocol.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    # mlflow's own modules set it off while they are imported or read a request.
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]

CLASSES = ("cat", "dog", "owl")
SIZE = 16
REPOSITORY = Path(t.__file__).parents[3]


@pytest.fixture(scope="module", autouse=True)
def _no_store_from_outside() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> SavedModel:
    return saved_model(tmp_path_factory.mktemp("model"), seed=0)


def saved_model(folder: Path, *, seed: int) -> SavedModel:
    """A real, tiny, untrained model, saved with its contract."""
    import keras

    keras.utils.set_random_seed(seed)
    layers = [
        keras.Input((SIZE, SIZE, 3)),
        keras.layers.Rescaling(1 / 255),
        keras.layers.Conv2D(4, 3, activation="relu"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(len(CLASSES)),
    ]
    keras.Sequential(layers).save(folder / "own.keras")
    model, contract = adopt(folder / "own.keras", class_names=CLASSES, image_size=SIZE)
    return save(model, contract.model_copy(update={"temperature": 1.5}), folder / "saved")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> t.Tracking:
    return t.open_tracking(tmp_path_factory.mktemp("workspace"), stack=lambda: None)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A registered model of each test's own."""
    return hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:8]


def register(store: t.Tracking, model: SavedModel, name: str, *, key: str = "key", run_id: str = "run") -> r.Version:
    labels = np.arange(6) % 3
    return registration.register(
        store,
        model_folder=model.folder,
        contract=model.contract,
        report=evaluate(labels, np.eye(3, dtype=np.float32)[labels], class_names=CLASSES),
        run_key=f"{name} {key}",
        tags={"selftrain.verdict": "passed", "selftrain.manifest_digest": "f00"},
        card="# pets\n",
        settings=Registry(model_name=name),
        run_id=run_id,
    )


def test_a_search_is_read_to_its_last_page_and_its_failure_names_the_registry(store: t.Tracking) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.store.entities import PagedList

    pages = {None: PagedList([1, 2], "a"), "a": PagedList([3], "b"), "b": PagedList([4], None)}
    assert r.all_pages(store, lambda page_token=None: pages[page_token]) == [1, 2, 3, 4]

    def down(page_token: str | None = None) -> PagedList[int]:
        raise MlflowException("503")

    with pytest.raises(RegistryError, match="does not answer: 503"):
        r.all_pages(store, down)


def photo(seed: int, size: tuple[int, int] = (40, 30), form: str = "JPEG") -> bytes:
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(values).save(file, form)
    return file.getvalue()


def fresh(script: str, *arguments: object, cwd: Path) -> str:
    """What a fresh Python that has no selftrain prints, pickle forbidden."""
    env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "MLFLOW_TRACKING_URI")}
    env |= {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.strip().splitlines()[-1]


def test_a_version_carries_its_contract_tags_numbers_card_and_alias(
    store: t.Tracking, model: SavedModel, name: str
) -> None:
    run = log_run(store, LoggedRun("run 1", "pets"))
    version = register(store, model, name, run_id="run 1")
    assert (version.number, version.uri, version.aliases) == (1, f"models:/{name}/1", ("challenger",))
    assert version.model_digest == model.contract.weights_sha256
    assert version.tags["selftrain.verdict"] == "passed"
    assert version.tags["selftrain.test_accuracy"] == "1"
    stored = store.client.get_model_version(name, "1")
    assert stored.description == "# pets\n"
    assert stored.run_id == run
    (logged,) = store.client.search_logged_models([store.experiment_id], f"name = '{name}'")
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": name, "version": "1"}]
    files = {file.path for file in store.client.list_logged_model_artifacts(logged.model_id)}
    assert {"MLmodel", "model_card.md", "input_example.json", "requirements.txt"} <= files
    assert not [name for name in files if name.endswith(".pkl")]


def test_registering_the_same_run_key_again_makes_nothing_and_moves_no_alias(
    store: t.Tracking, model: SavedModel, name: str
) -> None:
    first = register(store, model, name, key="one")
    second = register(store, model, name, key="two")
    again = register(store, model, name, key="one")
    assert (first.number, second.number, again.number) == (1, 2, 1)
    assert again.aliases == ()
    newest = r.challenger(store, name)
    assert newest is not None
    assert newest.number == 2
    assert len(store.client.search_logged_models([store.experiment_id], f"name = '{name}'")) == 2


def test_a_run_key_that_comes_back_with_another_model_is_refused(
    store: t.Tracking, model: SavedModel, name: str, tmp_path: Path
) -> None:
    register(store, model, name)
    with pytest.raises(RegistryError, match="a run key names one model"):
        register(store, saved_model(tmp_path, seed=1), name)


@pytest.mark.parametrize("kept", [False, True], ids=["moved", "copied"])
def test_the_models_of_a_moved_or_copied_workspace_are_where_it_lies_now(
    model: SavedModel, name: str, tmp_path: Path, kept: bool
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    before = t.open_tracking(old, stack=lambda: None)
    version = register(before, model, name)
    (shutil.copytree if kept else shutil.move)(old, new)
    there = sorted(old.rglob("*.keras"))
    after = t.open_tracking(new, stack=lambda: None)
    moved = r.get_version(after, name=name, number=version.number)
    assert moved.source == version.source.replace(old.as_uri(), new.as_uri())
    assert load(r.load_model_folder(after, moved, cache=tmp_path / "cache"))[1] == model.contract
    assert register(after, model, name).number == 1  # found, with its files, not made again
    assert register(after, model, name, key="later").source.startswith(new.as_uri())
    assert sorted(old.rglob("*.keras")) == there
    assert t.open_tracking(new, stack=lambda: None).experiment_id == after.experiment_id


class KilledError(BaseException):
    """Stands for kill -9: no handler of ours may swallow it."""


@pytest.mark.parametrize(
    "call",
    [
        "create_logged_model",
        "log_model_artifacts",
        "finalize_logged_model",
        "create_model_version",
        "set_registered_model_alias",
        "set_model_version_tag",
    ],
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_registration_killed_at_any_call_is_completed_not_doubled(
    store: t.Tracking,
    model: SavedModel,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    call: str,
    when: str,
) -> None:
    real = getattr(store.client, call)

    def dies(*args: object, **kwargs: object) -> None:
        if when == "after":
            real(*args, **kwargs)
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(store.client, call, dies)
        with pytest.raises(KilledError):
            register(store, model, name)
    version = register(store, model, name)
    assert (version.number, version.aliases) == (1, ("challenger",))
    assert len(r.versions(store, name)) == 1
    assert len(store.client.search_logged_models([store.experiment_id], f"name = '{name}'")) == 1
    assert load(r.load_model_folder(store, version, cache=tmp_path))[1] == model.contract


def test_wiped_artifacts_are_restored_under_the_same_version(model: SavedModel, name: str, tmp_path: Path) -> None:
    store = t.open_tracking(tmp_path / "workspace", stack=lambda: None)
    version = register(store, model, name)
    shutil.rmtree(tmp_path / "workspace" / "mlflow" / "artifacts")
    with pytest.raises(RegistryError, match=r"its files .* are gone; run the same configuration again"):
        r.load_model_folder(store, version, cache=tmp_path / "cache")
    assert register(store, model, name).number == 1
    assert load(r.load_model_folder(store, version, cache=tmp_path / "cache"))[1] == model.contract


def test_the_champion_comes_back_as_a_saved_model_whose_digest_is_checked(
    store: t.Tracking, model: SavedModel, name: str, tmp_path: Path
) -> None:
    assert r.champion(store, name) is None
    register(store, model, name)
    store.client.set_registered_model_alias(name, r.CHAMPION, "1")
    version = r.champion(store, name)
    assert version is not None
    fetched = SavedModel.read(r.load_model_folder(store, version, cache=tmp_path / "cache"))
    assert fetched.contract == model.contract
    pixels = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    np.testing.assert_allclose(load(fetched.folder)[0](pixels), load(model.folder)[0](pixels), atol=1e-6)
    weights = next(fetched.folder.glob("*.keras"))
    weights.write_bytes(weights.read_bytes() + b"x")
    with pytest.raises(UntrustedFileError):
        load(weights.parent)


ASK = """
import base64, json, sys
from pathlib import Path
import mlflow.pyfunc, numpy as np, pandas as pd
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2])
photo = Path(sys.argv[3]).read_bytes()
array = np.load(sys.argv[4])
rows = [photo, photo[: len(photo) // 2], b"", array, array[:, :, 0], None, 7, array.astype("float32"), "?", photo]
answers = model.predict(pd.DataFrame({"image": pd.Series(rows, dtype=object)}))
assert "selftrain" not in sys.modules
empty = model.predict(pd.DataFrame({"image": pd.Series([], dtype=object)}))
assert list(empty.columns) == list(answers.columns) and len(empty) == 0
print(answers.to_json(orient="records"))
"""


def expected(model: SavedModel, images: list[bytes]) -> np.ndarray:
    keras_model, contract = load(model.folder)
    pixels = np.stack([decode(image, SIZE) for image in images])
    return softmax(np.asarray(keras_model(pixels)), contract.temperature)


def test_it_loads_in_a_fresh_process_and_answers_bytes_and_arrays_with_an_error_a_bad_row(
    store: t.Tracking, model: SavedModel, name: str, tmp_path: Path
) -> None:
    version = register(store, model, name)
    (tmp_path / "photo.jpg").write_bytes(photo(1))
    array = np.random.default_rng(2).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    np.save(tmp_path / "array.npy", array)
    arguments = (store.uri, version.uri, tmp_path / "photo.jpg", tmp_path / "array.npy")
    rows = json.loads(fresh(ASK, *arguments, cwd=tmp_path))
    answered = {0, 3, 4, 9}
    for index, row in enumerate(rows):
        assert (row["error"] is None) == (index in answered), (index, row)
        assert (row["label"] is None) == (row["probabilities"] is None) == (index not in answered)
    encoded = io.BytesIO()
    Image.fromarray(array).save(encoded, "PNG")
    probs = expected(model, [photo(1), encoded.getvalue()])
    for row, ours in ((rows[0], probs[0]), (rows[3], probs[1]), (rows[9], probs[0])):
        np.testing.assert_allclose(row["probabilities"], ours, atol=1e-5)
        assert row["label"] == CLASSES[int(ours.argmax())]
        assert row["confidence"] == pytest.approx(float(ours.max()), abs=1e-5)
    assert [rows[index]["error"].split(":")[0] for index in (1, 2, 7, 8)] == [
        "truncated",
        "zero_byte",
        "unsupported_mode",
        "not_an_image",
    ]


def test_two_versions_and_the_installed_package_live_in_one_process(
    store: t.Tracking, model: SavedModel, name: str, tmp_path: Path
) -> None:
    import mlflow.pyfunc
    import pandas as pd

    other = saved_model(tmp_path, seed=5)
    versions = [register(store, model, name, key="a"), register(store, other, name, key="b")]
    request = pd.DataFrame({"image": pd.Series([photo(3)], dtype=object)})
    for version, saved in zip(versions, (model, other), strict=True):
        uri = store.client.get_model_version_download_uri(version.name, str(version.number))
        folder = mlflow.artifacts.download_artifacts(uri, tracking_uri=store.uri)
        row = mlflow.pyfunc.load_model(folder).predict(request).iloc[0]
        np.testing.assert_allclose(row["probabilities"], expected(saved, [photo(3)])[0], atol=1e-5)
    import selftrain

    assert Path(selftrain.__file__).parents[1] == REPOSITORY


def test_a_batch_larger_than_the_models_keeps_its_order(model: SavedModel) -> None:
    from selftrain.adapters.serving.served import answer

    keras_model, contract = load(model.folder)
    images: list[object] = [photo(seed, form="PNG") for seed in range(150)]
    images[70] = b"not an image"
    answers: pd.DataFrame = answer(keras_model, contract, images)
    assert answers["error"].notna().to_list() == [index == 70 for index in range(150)]
    good = [index for index in range(150) if index != 70]
    ours = expected(model, [image for image in images if image != b"not an image"])  # type: ignore[misc]
    np.testing.assert_allclose(np.stack(answers["probabilities"][good].to_list()), ours, atol=1e-5)


def test_an_image_bomb_is_refused_by_its_header(model: SavedModel) -> None:
    from selftrain.adapters.serving.served import answer

    file = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(file, "PNG")
    keras_model, contract = load(model.folder)
    assert answer(keras_model, contract, [file.getvalue()])["error"][0].startswith("too_large")


@pytest.mark.slow
def test_a_ladder_model_answers_the_same_in_a_fresh_process(store: t.Tracking, name: str, tmp_path: Path) -> None:
    from selftrain.learn.networks.backbones import build

    built = build("efficientnet_b0_050", image_size=32, classes=len(CLASSES))
    contract = Contract(backbone="efficientnet_b0_050", image_size=32, class_names=CLASSES, temperature=0.7)
    ladder = save(built, contract, tmp_path / "ladder")
    version = register(store, ladder, name)
    (tmp_path / "photo.jpg").write_bytes(photo(1, (48, 64)))
    np.save(tmp_path / "array.npy", np.full((40, 40, 3), 90, np.uint8))
    arguments = (store.uri, version.uri, tmp_path / "photo.jpg", tmp_path / "array.npy")
    first, *_ = json.loads(fresh(ASK, *arguments, cwd=tmp_path))
    logits = np.asarray(load(ladder.folder)[0](decode(photo(1, (48, 64)), 32)[None]))
    np.testing.assert_allclose(first["probabilities"], softmax(logits, 0.7)[0], atol=1e-5)


@contextmanager
def serving(arguments: list[str], *, path: str, cwd: Path, **environment: str) -> Iterator[str]:
    """`mlflow ARGUMENTS` on a free loopback port, until the block ends; yields its address once `path` answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    programs = Path(sys.executable).parent
    command = [str(programs / "mlflow"), *arguments, "--host", "127.0.0.1", "--port", port]
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | environment
    env["PATH"] = f"{programs}{os.pathsep}{env['PATH']}"  # where mlflow looks for uvicorn
    with (cwd / "server.log").open("w") as log:
        server = subprocess.Popen(
            command, cwd=cwd, env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            wait_until_up(f"http://127.0.0.1:{port}{path}", server)
            yield f"http://127.0.0.1:{port}"
        finally:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGTERM)
            server.wait(timeout=60)


@pytest.mark.slow
def test_mlflow_serves_it_and_takes_base64(store: t.Tracking, model: SavedModel, name: str, tmp_path: Path) -> None:
    version = register(store, model, name)
    rows = [{"image": base64.b64encode(data).decode()} for data in (photo(1), photo(1)[:200])]
    requests = (
        {"dataframe_records": rows},
        {"dataframe_split": {"columns": ["image"], "data": [[row["image"]] for row in rows]}},
    )
    with serving(
        ["models", "serve", "-m", version.uri, "--env-manager", "local"],
        path="/ping",
        cwd=tmp_path,
        MLFLOW_TRACKING_URI=store.uri,
        MLFLOW_ALLOW_PICKLE_DESERIALIZATION="false",
    ) as address:
        for request in requests:
            good, bad = post(f"{address}/invocations", request)
            np.testing.assert_allclose(good["probabilities"], expected(model, [photo(1)])[0], atol=1e-5)
            assert good["error"] is None
            assert bad["label"] is None
            assert bad["error"].startswith("truncated")


@pytest.mark.slow
def test_a_tracking_server_takes_the_same_calls(
    model: SavedModel, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["server", "--backend-store-uri", f"sqlite:///{tmp_path}/server.db"]
    arguments += ["--artifacts-destination", str(tmp_path / "artifacts"), "--workers", "1"]
    with serving(arguments, path="/health", cwd=tmp_path) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        store = t.open_tracking(tmp_path / "workspace", stack=lambda: None)
        log_run(store, LoggedRun("run", "pets", status="RUNNING", metrics={"loss": 1.0}))
        TrackedEvaluations(store, "run").add("set", {"m"})
        assert TrackedEvaluations(store, "run").models("set") == {"m"}
        version = register(store, model, name)
        assert register(store, model, name) == version
        assert champions.promote(store, name, 1, who="ada", why="by hand", force=True).aliases == ("champion",)
        assert [change.to for change in champions.history(store, name)] == [1]
        assert load(r.load_model_folder(store, version, cache=tmp_path / "cache"))[1] == model.contract
        left = {path.name for path in (tmp_path / "workspace").iterdir()}
        assert left == {"locks"}, "the workspace holds the turns of this machine, and nothing that the server has"


def wait_until_up(url: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(240):
        assert server.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise TimeoutError(url)


def post(url: str, request: object) -> list[dict[str, Any]]:
    body = json.dumps(request).encode()
    asked = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=30) as answer:
        rows: list[dict[str, Any]] = json.loads(answer.read())["predictions"]
        return rows
