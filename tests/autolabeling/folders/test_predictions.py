"""Predictions of many files: a row each, continued after a kill, from folders and from a bucket."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from selftrain.adapters.serving.litert import fast_predictor
from selftrain.autolabeling.folders import predictions, sources
from selftrain.autolabeling.folders.predictions import Predictor, predict_table
from selftrain.autolabeling.folders.sources import list_sources
from selftrain.errors import ConfigError, SourceError
from selftrain.learn.models.answers import answer_files
from selftrain.learn.models.contract import read_contract
from selftrain.learn.models.loading import load

pytestmark = [
    pytest.mark.keras,
    # Keras 3.15 converts TensorFlow variables with numpy's older protocol.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

Paint = Callable[..., Path]
Command = Callable[..., Any]


@pytest.fixture(scope="module")
def model(colour_model: Path) -> Any:
    return load(colour_model)[0]


@pytest.fixture(scope="module")
def predictor(model: Any, colour_model: Path) -> Predictor:
    return Predictor(partial(fast_predictor, model), read_contract(colour_model), "colours", batch_size=4)


@pytest.fixture
def photos(tmp_path: Path, paint: Paint) -> Path:
    """Ten images of three colours in two folders, and a broken one."""
    for k in range(10):
        paint(tmp_path / "photos" / "ab"[k % 2] / f"{k}.png", ("red", "green", "blue")[k % 3], seed=k)
    (tmp_path / "photos" / "a" / "broken.jpg").write_bytes(b"no image")
    return tmp_path / "photos"


def rows(out: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(out).to_pylist()
    return found


def test_every_file_has_a_row_with_the_answer_of_predict_or_its_error(
    predictor: Predictor, model: Any, photos: Path, tmp_path: Path
) -> None:
    sources = list_sources([str(photos), str(photos / "a"), str(tmp_path / "missing.png")])
    summary = predict_table(predictor, sources, tmp_path / "out.parquet")
    assert (summary.images, summary.errors, summary.found) == (12, 2, 0)
    found = rows(tmp_path / "out.parquet")
    assert [row["path"] for row in found] == [image.path for image in sources.images]
    expected = {row.path: row for row in answer_files(model, predictor.contract, [r["path"] for r in found])}
    for row in found:
        same = expected[row["path"]]
        assert row["label"] == same.label
        assert row["model_version"] == "colours"
        if same.label is None:
            assert (row["confidence"], row["probabilities"]) == (None, None)
        else:
            assert row["probabilities"] == pytest.approx(same.probabilities, abs=1e-6)
            assert row["confidence"] == pytest.approx(same.confidence, abs=1e-6)
    errors = {Path(row["path"]).name: row["error"] for row in found if row["error"]}
    assert errors["broken.jpg"].startswith("not_an_image: ")
    assert errors["missing.png"] == "no such file or folder"
    assert not list(tmp_path.glob(".*"))


def test_a_killed_command_continues_with_its_parts_and_reads_again_only_what_changed(
    predictor: Predictor, photos: Path, tmp_path: Path, paint: Paint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "PART", 4)
    out = tmp_path / "out.parquet"

    def killed(done: int, total: int, note: str = "") -> None:
        assert total == 11
        if done > 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_table(predictor, list_sources([str(photos)]), out, progress=killed)
    assert not out.exists()
    paint(photos / "b" / "9.png", "green", seed=99)
    assert predict_table(predictor, list_sources([str(photos)]), out).found == 8
    assert [row["label"] for row in rows(out) if row["path"].endswith("9.png")] == ["green"]
    again = predict_table(predictor, list_sources([str(photos)]), out)
    assert (again.found, again.images) == (11, 11)


def test_another_model_predicts_again(predictor: Predictor, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    sources = list_sources([str(photos)])
    predict_table(predictor, sources, out)
    unsure = predictor.contract.model_copy(update={"temperature": 8.0})
    assert predict_table(replace(predictor, contract=unsure), sources, out).found == 0
    assert max(row["confidence"] or 0 for row in rows(out)) < 0.6


def test_two_commands_cannot_write_one_table(predictor: Predictor, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"

    def second(done: int, total: int, note: str = "") -> None:
        with pytest.raises(ConfigError, match=r"another process writes .*out\.parquet"):
            predict_table(predictor, list_sources([str(photos / "b")]), out)

    predict_table(predictor, list_sources([str(photos / "a")]), out, progress=second)
    assert len(rows(out)) == 6


@pytest.fixture
def bucket(photos: Path) -> Iterator[str]:
    """The photos in fsspec's own file system in memory, which is asked as a bucket is."""
    import fsspec

    memory = fsspec.filesystem("memory")
    for path in photos.rglob("*.*"):
        memory.pipe_file(f"/predicted/{path.parent.name}/{path.name}", path.read_bytes())
    yield "memory://predicted"
    memory.rm("/predicted", recursive=True)


def test_a_url_is_listed_and_read_like_a_folder(
    predictor: Predictor, photos: Path, bucket: str, tmp_path: Path
) -> None:
    predict_table(predictor, list_sources([bucket]), tmp_path / "url.parquet")
    predict_table(predictor, list_sources([str(photos)]), tmp_path / "folder.parquet")
    names = [Path(row["path"]).name for row in rows(tmp_path / "url.parquet")]
    assert sorted(names) == sorted(path.name for path in photos.rglob("*.*"))
    for one, other in zip(rows(tmp_path / "url.parquet"), rows(tmp_path / "folder.parquet"), strict=True):
        assert one["path"].endswith(str(Path(other["path"]).relative_to(photos)))
        assert (one["label"], one["error"]) == (other["label"], other["error"])


def test_an_object_that_is_too_large_is_refused_by_the_listing_and_not_fetched(
    predictor: Predictor, photos: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = max(photos.rglob("*.*"), key=lambda path: path.stat().st_size)
    monkeypatch.setattr(sources, "MOST_BYTES", largest.stat().st_size - 1)
    predict_table(predictor, list_sources([bucket]), tmp_path / "url.parquet")
    refused = [row for row in rows(tmp_path / "url.parquet") if "MB are allowed" in (row["error"] or "")]
    assert [Path(row["path"]).name for row in refused] == [largest.name]
    assert refused[0]["error"].startswith("too_large: ")


def test_a_file_that_is_named_in_two_ways_is_listed_once(tmp_path: Path) -> None:
    for name in ("a/x.png", "b/y.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"x")
    listed = list_sources([str(tmp_path / "a" / ".." / "b" / "y.png"), str(tmp_path / "b"), str(tmp_path / "a")])
    assert [Path(each.path).name for each in listed.images] == ["y.png", "x.png"]


def test_a_source_without_images_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="holds no image files"):
        list_sources([str(tmp_path / "empty")])
    with pytest.raises(SourceError, match=r"memory://nothing holds no image files|not there"):
        list_sources(["memory://nothing"])
    with pytest.raises(ConfigError, match="nosuch"):
        list_sources(["nosuch://bucket"])


def test_the_command_writes_the_table_and_leaves_other_files_alone(
    colour_model: Path, photos: Path, selftrain: Command, tmp_path: Path
) -> None:
    own = tmp_path / "own.parquet"
    own.write_text("mine")
    refused = selftrain("predict", photos, "--out", own, "--model", colour_model)
    assert (refused.code, own.read_text()) == (2, "mine")
    assert "is not a table of predictions" in refused.err
    ended = selftrain("predict", photos, "--out", "out.parquet", "--model", colour_model, "--json")
    assert (ended.code, json.loads(ended.out)["errors"]) == (0, 1)
    assert selftrain("predict", photos, "--out", "out.parquet", "--model", colour_model).out.startswith(
        "out.parquet: 11 images, 11 of them predicted before, by "
    )
    nothing = selftrain("predict", photos / "a" / "broken.jpg", "--out", "none.parquet", "--model", colour_model)
    assert nothing.code == 2
