"""The unrolled pipeline as Kubeflow Pipelines gets it: compiled by ZenML's orchestrator, and read by Kubeflow's schema.

kfp and its protobuf are not in requirements.lock. They lie in a folder of their own before the packages of this
environment: build/kubeflow, made of docker/kubeflow.lock at the first test.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "docker" / "kubeflow.lock"
ADDRESSES = {
    "SELFTRAIN_IMAGE": "registry.example/selftrain:1-kubeflow",
    "MLFLOW_TRACKING_URI": "http://mlflow.example",
    "SELFTRAIN_DVC_REMOTE": "s3://bucket/dvc",
    "SELFTRAIN_CHECKPOINTS": "s3://bucket/checkpoints",
}
pytestmark = [pytest.mark.slow, pytest.mark.pipeline]


@pytest.fixture(scope="module")
def packages() -> Path:
    """The folder with the packages of the lock, installed once for each content of it."""
    folder = ROOT / "build" / "kubeflow" / hashlib.sha256(LOCK.read_bytes()).hexdigest()[:16]
    if folder.is_dir():
        return folder
    part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    command = [str(Path(sys.executable).with_name("uv")), "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--python", sys.executable, "--target", str(part), "--requirements", str(LOCK)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        shutil.rmtree(part, ignore_errors=True)
        pytest.skip(f"NOT COMPILED FOR KUBEFLOW: the packages of docker/kubeflow.lock do not come here: {done.stderr}")
    part.replace(folder)
    return folder


@pytest.fixture(scope="module")
def compiled(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `compiling` printed of configs/kubeflow.yaml."""
    folder = tmp_path_factory.mktemp("kubeflow")
    environment = {
        **os.environ,
        **ADDRESSES,
        "PYTHONPATH": os.pathsep.join((str(packages), str(ROOT))),
        "ZENML_CONFIG_PATH": str(folder / "zenml"),
        "ZENML_LOGGING_VERBOSITY": "ERROR",
        "HOME": str(folder),  # kfp reads a file there
    }
    command = [sys.executable, "-m", "tests.kubeflow.compiling", str(ROOT / "configs" / "kubeflow.yaml")]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    answers: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return answers


def tasks(compiled: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compiled["read"]["root"]["dag"]["tasks"]
    return found


def containers(compiled: dict[str, Any]) -> dict[str, dict[str, Any]]:
    executors = compiled["read"]["deploymentSpec"]["executors"]
    return {name.removeprefix("exec-"): each["container"] for name, each in executors.items()}


def test_the_schema_of_kubeflow_knows_every_field_and_keeps_it(compiled: dict[str, Any]) -> None:
    (written,) = compiled["documents"]
    for part in ("components", "deploymentSpec", "pipelineInfo", "root", "schemaVersion", "sdkVersion"):
        assert compiled["read"][part] == written[part]
    assert re.fullmatch(r"2\.\d+\.\d+", written["schemaVersion"])


def test_the_graph_is_a_row_of_as_many_rounds_as_the_gate_allows(compiled: dict[str, Any]) -> None:
    graph = {name: set(task.get("dependentTasks", ())) for name, task in tasks(compiled).items()}
    assert {name for name in graph if name.startswith("next-round")} == {"next-round", "next-round-2"}
    assert "next-round" in graph["next-round-2"]
    assert {name for name, after in graph.items() if not after} == {"prepare-data"}
    assert "unseal-test" in graph["read-test"], "a model is counted before it is evaluated"
    assert {"log-round-2", "next-round-2", "read-test"} <= graph["record"]
    assert {"next-round-2"} <= graph["unseal-test"], "the test images are read after the last round"


def test_each_pod_runs_its_step_of_the_snapshot_in_our_image_with_our_addresses(compiled: dict[str, Any]) -> None:
    for name, container in containers(compiled).items():
        given = {each["name"]: each.get("value") for each in container["env"]}
        assert container["image"] == ADDRESSES["SELFTRAIN_IMAGE"]
        assert given.items() >= {key: ADDRESSES[key] for key in ADDRESSES if key != "SELFTRAIN_IMAGE"}.items()
        arguments = dict(zip(container["args"][::2], container["args"][1::2], strict=True))
        assert arguments["--step_name"].replace("_", "-") == name
        assert arguments["--snapshot_id"] == compiled["snapshot"]


def test_kubeflow_gets_one_run_of_that_graph_without_a_cache_of_its_own(compiled: dict[str, Any]) -> None:
    (run,) = compiled["runs"]
    assert run["pipeline_spec"] == compiled["documents"][0]
    assert not any(task["cachingOptions"].get("enableCache") for task in tasks(compiled).values())


def test_only_the_steps_that_train_have_a_limit_of_processors(compiled: dict[str, Any]) -> None:
    limited = {name for name, each in containers(compiled).items() if "resources" in each}
    assert limited == {"train-teacher", "next-round", "next-round-2", "baseline-of-loop"}
