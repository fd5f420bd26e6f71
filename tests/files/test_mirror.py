"""Mirrored folders: two whole generations, in a folder and on a real S3 server."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from selftrain.errors import ConfigError, MirrorError
from selftrain.files.mirror import INDEX, Mirror
from tests.adapters.s3 import S3Server, bucket

pytestmark = [
    # aiobotocore's sessions are closed by the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*Exception ignored.*:pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with bucket(tmp_path_factory.mktemp("buckets")) as server:
        yield server


def with_key(server: S3Server, secret: str) -> dict[str, str]:
    return {**server.environment(), "AWS_ACCESS_KEY_ID": "camera", "AWS_SECRET_ACCESS_KEY": secret}


@pytest.fixture(params=["folder", "bucket"])
def url(request: pytest.FixtureRequest, tmp_path: Path, server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in with_key(server, "film").items():
        monkeypatch.setenv(name, value)
    return str(tmp_path / "kept") if request.param == "folder" else f"s3://data/{tmp_path.name}"


def training(root: Path, **files: str) -> Path:
    folder = root / "checkpoints" / "code" / "training"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def mirror(url: str, root: Path) -> Mirror:
    return Mirror(url, root / "checkpoints")


def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_another_machine_goes_on_with_the_newest_generation(url: str, tmp_path: Path) -> None:
    for step in range(4):
        folder = training(tmp_path / "here", state=f"step {step}", best=f"best {step // 2}")
        mirror(url, tmp_path / "here").send(folder, ["state", "best"], wait=True)
    there = training(tmp_path / "there")
    assert mirror(url, tmp_path / "there").fetch(there)
    assert texts(there) == {"state": "step 3", "best": "best 1"}


def test_an_empty_store_has_nothing_to_go_on_with(url: str, tmp_path: Path) -> None:
    folder = training(tmp_path)
    assert not mirror(url, tmp_path).fetch(folder)
    assert texts(folder) == {}


def test_two_generations_stay_and_nothing_else(tmp_path: Path) -> None:
    for step in range(5):
        mirror(str(tmp_path / "kept"), tmp_path).send(training(tmp_path, state=f"step {step}"), ["state"], wait=True)
    kept = tmp_path / "kept" / "code" / "training"
    named = {digest for one in json.loads((kept / INDEX).read_text())["generations"] for digest in one.values()}
    assert {path.name for path in kept.iterdir()} == named | {INDEX}
    assert sorted((kept / digest).read_text() for digest in named) == ["step 3", "step 4"]


@pytest.mark.parametrize("damage", ["cut", "removed"])
def test_a_damaged_generation_is_passed_over(tmp_path: Path, damage: str) -> None:
    store = mirror(str(tmp_path / "kept"), tmp_path)
    for step in (1, 2):
        store.send(training(tmp_path, state=f"step {step}", best="same"), ["state", "best"], wait=True)
    (newest,) = [path for path in (tmp_path / "kept").rglob("*") if path.is_file() and path.read_text() == "step 2"]
    if damage == "cut":
        newest.write_text("ste")
    else:
        newest.unlink()
    there = training(tmp_path / "there")
    assert mirror(str(tmp_path / "kept"), tmp_path / "there").fetch(there)
    assert texts(there) == {"state": "step 1", "best": "same"}


def test_an_object_that_every_generation_lacks_is_an_error_where_all_is_demanded_and_the_next_save_mends_it(
    tmp_path: Path,
) -> None:
    store = mirror(str(tmp_path / "kept"), tmp_path)
    for step in (1, 2):
        store.send(training(tmp_path, state=f"step {step}", best="same"), ["state", "best"], wait=True)
    (shared,) = [path for path in (tmp_path / "kept").rglob("*") if path.is_file() and path.read_text() == "same"]
    shared.unlink()
    there = training(tmp_path / "there")
    with pytest.raises(MirrorError, match=r"no save of training at .* is whole"):
        mirror(str(tmp_path / "kept"), tmp_path / "there").fetch(there, whole=True)
    assert not mirror(str(tmp_path / "kept"), tmp_path / "there").fetch(there)
    store.send(training(tmp_path, state="step 3"), ["state", "best"], wait=True)
    assert mirror(str(tmp_path / "kept"), tmp_path / "there").fetch(there, whole=True)
    assert texts(there) == {"state": "step 3", "best": "same"}


def test_a_bucket_that_is_not_there_is_an_error_when_something_is_kept_in_it(
    server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in with_key(server, "film").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(MirrorError, match="s3://dta/kept cannot be read or written"):
        mirror("s3://dta/kept", tmp_path).send(training(tmp_path, state="step 1"), ["state"], wait=True)


def test_a_transfer_in_the_background_arrives(url: str, tmp_path: Path) -> None:
    store = mirror(url, tmp_path)
    store.send(training(tmp_path, state="step 1"), ["state"])
    store.join()
    there = training(tmp_path / "there")
    assert mirror(url, tmp_path / "there").fetch(there)
    assert texts(there) == {"state": "step 1"}


def test_a_refused_key_is_one_line_and_ends_no_training_in_the_background(
    server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in with_key(server, "wrong").items():
        monkeypatch.setenv(name, value)
    store, folder = mirror("s3://data/refused", tmp_path), training(tmp_path, state="step 1")
    with pytest.raises(MirrorError, match=r"^the store at s3://data/refused cannot be read or written: [^\n]+$"):
        store.send(folder, ["state"], wait=True)
    with pytest.raises(MirrorError):
        store.fetch(folder)
    with caplog.at_level(logging.WARNING, "selftrain"):
        store.send(folder, ["state"])
        store.join()
    assert "the training goes on" in caplog.text


def test_a_key_that_expires_in_a_training_is_renewed(
    server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in with_key(server, "film").items():
        monkeypatch.setenv(name, value)
    store, folder = mirror("s3://data/renewed", tmp_path), training(tmp_path, state="step 1")
    store.send(folder, ["state"], wait=True)
    server.start("camera", "a-second-film")
    with pytest.raises(MirrorError):
        store.send(folder, ["state"], wait=True)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-second-film")
    training(tmp_path, state="step 2")
    store.send(folder, ["state"], wait=True)
    assert store.fetch(folder)
    assert texts(folder) == {"state": "step 2"}
    server.start("camera", "film")


def test_an_unknown_scheme_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"SELFTRAIN_CHECKPOINTS 'ftpx://there' cannot be opened"):
        mirror("ftpx://there", tmp_path).fetch(training(tmp_path))
