"""The server: a real process with a real registry, asked over HTTP while its champion changes."""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from selftrain.adapters.registry import registration
from selftrain.adapters.tracking.store import Tracking, open_tracking
from selftrain.config import Registry
from selftrain.files.workspace import Workspace
from selftrain.learn.models.contract import MODEL_FILE, SavedModel, read_contract
from selftrain.learn.models.loading import load
from selftrain.learn.models.saving import save

pytestmark = [
    pytest.mark.keras,
    pytest.mark.slow,
    # mlflow's SQL store leaves cursors to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning"),
    # Keras 3.15 converts TensorFlow variables with numpy's older protocol.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    # mlflow's own modules set it off while they are imported.
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]

Paint = Callable[..., Path]
FIRST, UNSURE, DAMAGED = 1, 2, 3
LIMIT_MB, MEGAPIXELS, IMAGES = 0.2, 0.02, 5
CONFIG = """\
parameters:
  experiment:
    name: colours
    inbox:
      url: {folder}
      sampling: {{rule: low_confidence, below: 0.9, control: 0.0}}
"""


@dataclass(frozen=True)
class Answer:
    """Status, headers and body of one answer."""

    status: int
    version: str | None
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Site:
    """A running server, the registry that it watches, and the folder where its samples go."""

    process: subprocess.Popen[str]
    port: int
    tracking: Tracking
    inbox: Path
    log: Path

    def ask(self, route: str, body: bytes | None = None, kind: str = "application/json", method: str = "") -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            headers = {"Content-Type": kind} if body is not None else {}
            connection.request(method or ("GET" if body is None else "POST"), route, body, headers)
            answer = connection.getresponse()
            return Answer(answer.status, answer.getheader("X-Model-Version"), answer.read())
        finally:
            connection.close()

    def promote(self, number: int) -> None:
        self.tracking.client.set_registered_model_alias("colours", "champion", str(number))

    def metric(self, line: str) -> float:
        for each in self.ask("/metrics").body.decode().splitlines():
            if each.startswith(f"{line} "):
                return float(each.rpartition(" ")[2])
        return 0.0

    def until(self, holds: Callable[[], bool]) -> None:
        ends = time.monotonic() + 120
        while not holds():
            assert time.monotonic() < ends, self.log.read_text()[-3000:]
            time.sleep(0.05)


def registered(workspace: Workspace, colour_model: Path) -> Tracking:
    """A registry where version 1 is right, version 2 far less sure, and version 3 was changed after it was saved."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        tracking = open_tracking(workspace.root, stack=lambda: None)
    model, contract = load(colour_model)
    unsure = save(model, contract.model_copy(update={"temperature": 8.0}), workspace.root / "unsure")
    damaged = save(model, contract.model_copy(update={"temperature": 4.0}), workspace.root / "damaged")
    with (damaged.folder / MODEL_FILE).open("ab") as file:
        file.write(b"more")
    for number, saved in enumerate([SavedModel(colour_model, read_contract(colour_model)), unsure, damaged], start=1):
        registration.register(
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
    return tracking


@pytest.fixture(scope="module")
def site(colour_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """`selftrain serve`, as a user starts it."""
    root = tmp_path_factory.mktemp("site")
    workspace = Workspace(root / ".selftrain").ensure()
    tracking = registered(workspace, colour_model)
    tracking.client.set_registered_model_alias("colours", "champion", str(FIRST))
    inbox, log, config = root / "inbox", root / "log.txt", root / "serve.yaml"
    config.write_text(CONFIG.format(folder=inbox))
    limits = ["--max-request-mb", LIMIT_MB, "--max-megapixels", MEGAPIXELS, "--max-images", IMAGES]
    options = ["serve", "--port", 0, "--poll", 0.2, "--config", config, *limits]
    script = "from selftrain.cli.app import main; main()"
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": tracking.uri,
        "PYTHONPATH": str(Path(__file__).parents[4]),
        "CUDA_VISIBLE_DEVICES": "",
    }
    with log.open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-c", script, *map(str, options)], cwd=root, env=environment, stderr=said, text=True
        )
    try:
        yield Site(process, _port(process, log), tracking, inbox, log)
    finally:
        process.kill()
        process.wait()


def _port(process: subprocess.Popen[str], log: Path) -> int:
    """The port that the log names once the server listens."""
    ends = time.monotonic() + 300
    while "serves on http://" not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < ends, log.read_text()
        time.sleep(0.1)
    return int(log.read_text().partition("serves on http://127.0.0.1:")[2].split()[0])


@pytest.fixture
def first(site: Site) -> Site:
    """The server while version 1 answers."""
    site.promote(FIRST)
    site.until(lambda: site.ask("/ready").json["model_version"] == f"models:/colours/{FIRST}")
    return site


def multipart(*files: tuple[str, bytes]) -> tuple[bytes, str]:
    """A body as curl -F sends it, and its content type."""
    parts = [
        f'--edge\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode() + data + b"\r\n"
        for name, data in files
    ]
    return b"".join(parts) + b"--edge--\r\n", "multipart/form-data; boundary=edge"


def records(*images: bytes) -> bytes:
    return json.dumps({"dataframe_records": [{"image": base64.b64encode(each).decode()} for each in images]}).encode()


def test_image_files_are_labelled_in_one_request_and_a_broken_one_has_its_error(
    first: Site, paint: Paint, tmp_path: Path
) -> None:
    red, blue = paint(tmp_path / "r.png", "red").read_bytes(), paint(tmp_path / "b.jpg", "blue").read_bytes()
    answer = first.ask("/predict", *multipart(("r.png", red), ("cut.jpg", blue[:200]), ("b.jpg", blue)))
    assert (answer.status, answer.version) == (200, "models:/colours/1")
    assert answer.json["model_version"] == "models:/colours/1"
    rows = answer.json["predictions"]
    assert [(row["file"], row["label"]) for row in rows] == [("r.png", "red"), ("cut.jpg", None), ("b.jpg", "blue")]
    assert rows[1]["error"].startswith("truncated: ")
    assert rows[0]["probabilities"]["red"] == rows[0]["confidence"] > 0.9
    assert sum(rows[0]["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_an_image_can_be_the_body_itself(first: Site, paint: Paint, tmp_path: Path) -> None:
    answer = first.ask("/predict", paint(tmp_path / "g.jpg", "green").read_bytes(), "image/jpeg")
    assert (answer.status, answer.json["predictions"][0]["label"]) == (200, "green")


def test_invocations_answers_what_mlflow_answers(first: Site, paint: Paint, tmp_path: Path) -> None:
    import mlflow.pyfunc
    from mlflow.pyfunc.scoring_server import invocations

    red, broken = paint(tmp_path / "r.png", "red").read_bytes(), b"no image"
    texts = [base64.b64encode(each).decode() for each in (red, broken)]
    split = json.dumps({"dataframe_split": {"columns": ["image"], "data": [[text] for text in texts]}}).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", first.tracking.uri)
        model = mlflow.pyfunc.load_model(first.tracking.client.get_model_version("colours", "1").source)
    for body in (records(red, broken), split):
        theirs = invocations(body, "application/json", model, model.metadata.get_input_schema())
        ours = first.ask("/invocations", body)
        assert (ours.status, ours.version) == (theirs.status, "models:/colours/1")
        expected, found = (json.loads(each)["predictions"] for each in (theirs.response, ours.body))
        assert [list(row) for row in found] == [list(row) for row in expected]
        assert found[1] == expected[1]
        assert (found[0]["label"], found[0]["error"]) == (expected[0]["label"], expected[0]["error"])
        assert found[0]["probabilities"] == pytest.approx(expected[0]["probabilities"], abs=1e-5)


@pytest.mark.parametrize(
    ("route", "kind", "body", "status", "says"),
    [
        ("/predict", "text/plain", b"hello", 415, "multipart/form-data"),
        ("/predict", "image/png", b"", 400, "empty"),
        ("/predict", "image/png", b"no image", 422, "not_an_image"),
        ("/predict", "multipart/form-data; boundary=edge", b"--edge--\r\n", 400, "no file"),
        ("/predict", "multipart/form-data", b"--edge--\r\n", 400, "cannot be read"),
        ("/predict", "image/png", b"x" * 300_000, 413, "200000 are allowed"),
        ("/invocations", "text/csv", b"image\n", 415, "application/json"),
        ("/invocations", "application/json", b"{", 400, "not JSON"),
        ("/invocations", "application/json", b"[1]", 400, "exactly one of"),
        ("/invocations", "application/json", b'{"dataframe_records": [{"x": 1}]}', 400, "column 'image'"),
        ("/invocations", "application/json", b'{"dataframe_split": {"columns": ["x"]}}', 400, "column 'image'"),
        ("/invocations", "application/json", b'{"dataframe_records": [], "inputs": []}', 400, "exactly one of"),
        ("/invocations", "application/json", b" " * 300_000, 413, "200000 are allowed"),
    ],
)
def test_a_request_that_is_wrong_is_refused_with_what_is_allowed(
    first: Site, route: str, kind: str, body: bytes, status: int, says: str
) -> None:
    answer = first.ask(route, body, kind)
    assert (answer.status, answer.version) == (status, "models:/colours/1")
    assert says in answer.body.decode()
    if route == "/invocations":
        assert set(answer.json) == {"error_code", "message"}


def test_an_image_of_too_many_pixels_and_a_request_of_too_many_images_are_refused(
    first: Site, paint: Paint, tmp_path: Path
) -> None:
    large = paint(tmp_path / "large.png", "red", side=200).read_bytes()
    answer = first.ask("/predict", large, "image/png")
    assert (answer.status, answer.json["predictions"][0]["error"][:9]) == (413, "too_large")
    small = paint(tmp_path / "small.png", "red").read_bytes()
    many = first.ask("/predict", *multipart(*[(f"{k}.png", small) for k in range(IMAGES + 1)]))
    assert (many.status, many.json["error"][:26]) == (413, "6 images; one request may ")


def test_a_body_without_a_length_is_cut_off_at_the_limit(first: Site) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", first.port, timeout=60)
    chunks = iter([b"x" * 100_000] * 3)
    connection.request("POST", "/predict", chunks, {"Content-Type": "image/png"}, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


def test_the_other_routes_say_who_serves_and_what_was_counted(first: Site, paint: Paint, tmp_path: Path) -> None:
    assert first.ask("/health").json == {"status": "ok"}
    assert first.ask("/ready").json == {"ready": True, "model_version": "models:/colours/1"}
    facts = first.ask("/version").json
    assert (facts["version"], facts["class_names"], facts["failed"]) == (1, ["blue", "green", "red"], None)
    counted = 'selftrain_requests_total{route="/predict",status="200"}'
    before = first.metric(counted)
    first.ask("/predict", paint(tmp_path / "g.png", "green").read_bytes(), "image/png")
    assert first.metric(counted) == before + 1
    assert first.metric("selftrain_model_version") == 1
    assert first.ask("/nothing").status == 404


def test_a_new_champion_takes_over_while_no_request_fails(first: Site, paint: Paint, tmp_path: Path) -> None:
    body = paint(tmp_path / "r.png", "red").read_bytes()
    answers: list[Answer] = []
    stop = threading.Event()

    def client() -> None:
        while not stop.is_set():
            answers.append(first.ask("/predict", body, "image/png"))

    clients = [threading.Thread(target=client) for _ in range(4)]
    for each in clients:
        each.start()
    for number in (UNSURE, FIRST):
        first.promote(number)
        first.until(lambda number=number: first.ask("/ready").json["model_version"] == f"models:/colours/{number}")
    stop.set()
    for each in clients:
        each.join()
    assert {each.status for each in answers} == {200}
    confidences = {(each.version, round(each.json["predictions"][0]["confidence"], 4)) for each in answers}
    assert len(confidences) == 2  # each version gave its own answer, never the other's
    assert {version for version, _ in confidences} == {"models:/colours/1", "models:/colours/2"}


def test_a_champion_that_does_not_load_leaves_the_present_one_serving(
    first: Site, paint: Paint, tmp_path: Path
) -> None:
    first.promote(DAMAGED)
    first.until(lambda: first.ask("/version").json["failed"] is not None)
    failed = first.ask("/version").json["failed"]
    assert failed["number"] == DAMAGED
    assert "was changed after it was saved" in failed["reason"]
    assert first.metric("selftrain_failed_model_version") == DAMAGED
    assert "version 3 cannot be served" in first.log.read_text()
    answer = first.ask("/predict", paint(tmp_path / "r.png", "red").read_bytes(), "image/png")
    assert (answer.status, answer.version) == (200, "models:/colours/1")
    first.promote(UNSURE)
    first.until(lambda: first.ask("/version").json["version"] == UNSURE)
    assert first.ask("/version").json["failed"] is None


def test_an_alias_that_is_gone_changes_nothing(first: Site) -> None:
    first.tracking.client.delete_registered_model_alias("colours", "champion")
    first.until(lambda: first.ask("/version").json["registry"] is not None)
    assert "there is no champion any more" in first.ask("/version").json["registry"]
    assert first.ask("/ready").json == {"ready": True, "model_version": "models:/colours/1"}


def test_unsure_answers_go_to_the_inbox_with_their_sidecar_and_sure_ones_do_not(
    first: Site, paint: Paint, tmp_path: Path
) -> None:
    sure, unsure = paint(tmp_path / "s.png", "blue", seed=7).read_bytes(), paint(tmp_path / "u.png", "red", strength=8)
    first.ask("/predict", sure, "image/png")
    answer = first.ask("/invocations", records(unsure.read_bytes(), b"no image")).json["predictions"][0]
    assert answer["confidence"] < 0.9

    def kept() -> list[Path]:
        found = [path for path in first.inbox.rglob("*.png") if path.read_bytes() == unsure.read_bytes()]
        return [path for path in found if path.with_name(f"{path.name}.json").is_file()]

    first.until(lambda: len(kept()) == 1)
    sidecar = json.loads(kept()[0].with_name(f"{kept()[0].name}.json").read_text())
    assert (sidecar["label"], sidecar["model_version"]) == (answer["label"], "models:/colours/1")
    assert sidecar["confidence"] == answer["confidence"]
    assert sidecar["when"].endswith("+00:00")
    assert sure not in [path.read_bytes() for path in first.inbox.rglob("*.png")]
    assert not list(first.inbox.rglob("*.part"))


def test_an_inbox_that_cannot_be_written_fails_no_request_and_is_counted(
    first: Site, paint: Paint, tmp_path: Path
) -> None:
    shutil.rmtree(first.inbox, ignore_errors=True)
    first.inbox.write_text("a file where the folder was")
    before = first.metric('selftrain_sampled_total{outcome="failed"}')
    body = paint(tmp_path / "u.png", "red", strength=9, seed=3).read_bytes()
    assert first.ask("/predict", body, "image/png").status == 200
    first.until(lambda: first.metric('selftrain_sampled_total{outcome="failed"}') == before + 1)
    first.inbox.unlink()
    assert first.ask("/predict", body, "image/png").status == 200
    first.until(lambda: any(path.read_bytes() == body for path in first.inbox.rglob("*.png")))


def test_a_second_server_on_the_port_is_refused_in_one_line(
    first: Site, selftrain: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", first.tracking.uri)
    ended = selftrain("serve", "--port", first.port)
    assert ended.code == 1
    assert f"nothing can listen on 127.0.0.1 port {first.port}" in ended.err
    assert len(ended.err.splitlines()) == 1


def test_what_cannot_be_served_is_refused_in_one_line(
    first: Site, selftrain: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", first.tracking.uri)
    (tmp_path / "plain.yaml").write_text("parameters: {experiment: {}}")
    assert "no model is called 'digits'" in selftrain("serve", "--config", "plain.yaml").err
    assert "no model is called 'cats'" in selftrain("serve", "--model-name", "cats").err
    first.tracking.client.delete_registered_model_alias("colours", "champion")
    ended = selftrain("serve", "--port", 0)
    assert (ended.code, len(ended.err.splitlines())) == (1, 1)
    assert "'colours' has no champion to serve" in ended.err


def test_a_signal_ends_the_server_when_its_last_samples_are_written(first: Site, paint: Paint, tmp_path: Path) -> None:
    bodies = [paint(tmp_path / f"{k}.png", "red", strength=8, seed=50 + k).read_bytes() for k in range(8)]
    for body in bodies:
        assert first.ask("/predict", body, "image/png").status == 200
    first.process.send_signal(signal.SIGTERM)
    assert first.process.wait(120) == 0
    kept = [path.read_bytes() for path in first.inbox.rglob("*.png") if Path(f"{path}.json").is_file()]
    assert set(bodies) <= set(kept)
