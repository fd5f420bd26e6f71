"""Five nights on a real S3 server and a real MLflow server: drift, late labels, a bad night, a rollback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from benchmarks.bucket import BucketServer, served
from selftrain.retraining.journal import Journal, state_of
from tests.pipelines.mlflow_server import MlflowServer
from tests.pipelines.site import NETWORK, TINY, Site

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]

Paint = Callable[..., Path]
COLOURS = ("red", "green", "blue")


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BucketServer]:
    folder = tmp_path_factory.mktemp("s3")
    (folder / "cameras" / "new").mkdir(parents=True)
    server = served(folder)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an MLflow server."""
    server = MlflowServer(tmp_path_factory.mktemp("mlflow")).start()
    yield server.address
    server.stop()


@pytest.fixture(scope="module")
def here(
    colours: Path, bucket: BucketServer, mlflow_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    recipe = {"backbone": NETWORK, "steps": 30, "validate_every": 10, "learning_rate": 0.01}
    experiment = {
        **TINY,
        "name": "colours",
        "source": {"kind": "folder", "labeled": str(colours / "labeled"), "unlabeled": str(colours / "unlabeled")},
        "teacher": recipe,
        "student": recipe,
        "guards": {"class_mix": 0.2, "actions": {"class_mix": "keep_teacher"}},
        "registry": {"model_name": "colours", "floors": {"accuracy": 0.01}, "first_champion": "any", "trial_images": 4},
        "inbox": {
            "url": "s3://cameras/new",
            "settle_s": 0,
            "storage": {"endpoint_url": bucket.endpoint},
            "secrets": {"key": "env:CAMERA_KEY", "secret": "env:CAMERA_SECRET"},
        },
        "retrain": {"any_of": {"min_new": 9, "manual": True}},
        "drift": {"min_images": 10, "warmup": 3},
    }
    variables = {
        "MLFLOW_TRACKING_URI": mlflow_server,
        "CAMERA_KEY": bucket.options["key"],
        "CAMERA_SECRET": bucket.options["secret"],
    }
    return Site(tmp_path_factory.mktemp("site"), experiment, variables=variables)


def arrive(bucket: BucketServer, paint: Paint, night: int, colours: tuple[str, ...], **look: int) -> None:
    for index, colour in enumerate(colours):
        name = f"{colour}{index}.png"
        paint(bucket.folder / "cameras" / "new" / f"night{night}" / name, colour, seed=1000 * night + index, **look)


def retrain(site: Site, *more: str) -> dict[str, Any]:
    """The record of a retraining that was due."""
    done = site.run("selftrain", "retrain", "--json", "--config", str(site.config()), *more)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    record: dict[str, Any] = json.loads(done.stdout)
    return record


def lines(site: Site, kind: str) -> list[dict[str, Any]]:
    journal = Journal(site.workspace / "datasets" / "colours.retraining.jsonl")
    return [line.facts for line in journal.lines() if line.kind == kind]


def champion(site: Site) -> int:
    history = site.run("selftrain", "history", "--json", "--workspace", str(site.workspace), "--model-name", "colours")
    assert history.returncode == 0, history.stderr
    return int(json.loads(history.stdout)[-1]["to"])


def test_five_nights(here: Site, bucket: BucketServer, paint: Paint) -> None:
    # The first night trains a teacher, and its model is the first champion.
    arrive(bucket, paint, 1, COLOURS * 4)
    first = retrain(here)
    assert (first["champion_version"], first["promoted"]) == (1, True)
    assert first["rounds"][1]["pool"] == 30 + 12

    # The second night is darker: the distance to the training images is measured, and the champion teaches.
    arrive(bucket, paint, 2, COLOURS * 4, strength=60)
    second = retrain(here)
    assert second["rounds"][1]["pool"] == 30 + 24
    assert "calm windows so far" in lines(here, "started")[-1]["drift"]
    if second["champion_version"] == 1:
        promote = ("promote", str(second["registered_version"]), "--force", "--why", "it knows dark images")
        done = here.run("selftrain", *promote, "--workspace", str(here.workspace), "--model-name", "colours")
        assert done.returncode == 0, done.stderr

    # Labels of the first nights arrive; nothing else is new, so somebody asks for a run.
    intake = pq.read_table(here.workspace / "datasets" / "colours" / "intake.parquet")
    paths = intake["path"].to_pylist()[:12]
    table = here.folder / "labels.csv"
    table.write_text(
        "path,label,who\n" + "".join(f"{path},{Path(path).stem.rstrip('0123456789')},ada\n" for path in paths)
    )
    done = here.run("selftrain", "label", "--from", str(table), "--config", str(here.config()), "--json")
    assert done.returncode == 0, done.stderr
    third = retrain(here, "--now")
    assert third["labels_used"] == second["labels_used"] + 12
    assert lines(here, "look")[-1]["reason"] == "asked for by hand"

    # A bad night: one class only. The guard keeps the teacher, and the champion stays.
    present = champion(here)
    arrive(bucket, paint, 4, ("red",) * 60)
    fourth = retrain(here)
    assert any(alarm["guard"] == "class_mix" for alarm in fourth["alarms"])
    assert not fourth["rounds"][-1]["kept"]
    assert not fourth["promoted"]
    assert champion(here) == present

    # The fifth night brings copies alone: nothing is due. Then the second night's promotion is taken back.
    shutil.copytree(bucket.folder / "cameras" / "new" / "night1", bucket.folder / "cameras" / "new" / "night5")
    quiet = here.run("selftrain", "retrain", "--config", str(here.config()))
    assert quiet.returncode == 0, quiet.stderr
    assert "not due: 0 new images of 9" in quiet.stdout
    where = ("--workspace", str(here.workspace), "--model-name", "colours")
    back = here.run("selftrain", "rollback", "--why", "worse at noon", *where)
    assert back.returncode == 0, back.stderr
    assert champion(here) < present

    # Each image was taken in once, and the bucket is as production left it.
    intake = pq.read_table(here.workspace / "datasets" / "colours" / "intake.parquet")
    assert intake.num_rows == 12 + 12 + 60 + 12
    assert len(set(intake["path"].to_pylist())) == intake.num_rows
    decided = lines(here, "decided")
    assert [each["run"] for each in decided] == [each["run_id"] for each in (first, second, third, fourth)]
    assert "running" not in here.run_states()
    journal = Journal(here.workspace / "datasets" / "colours.retraining.jsonl")
    assert state_of(journal.lines()).failures == 0
