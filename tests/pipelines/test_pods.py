"""Steps in pods of their own: each begins with an empty disk, and gets data and models through S3 and ZenML alone."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.s3 import S3Server
from tests.pipelines.site import BIN, TINY, Site, copy_of_repository

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]
MADE = ("teacher", "student", "pseudo_labels", "scores", "evaluation")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An S3 store and an MLflow server on this machine; yields the variables with which pods find them."""
    folder = tmp_path_factory.mktemp("servers")
    (folder / "s3" / "selftrain-data").mkdir(parents=True)
    store = S3Server(folder / "s3")
    mlflow, address = started_mlflow(folder)
    try:
        store.start("pod", "its-secret")
        yield {
            **store.environment(),
            "AWS_ACCESS_KEY_ID": "pod",
            "AWS_SECRET_ACCESS_KEY": "its-secret",
            "SELFTRAIN_DVC_REMOTE": "s3://selftrain-data/dvc",
            "MLFLOW_TRACKING_URI": address,
        }
    finally:
        mlflow.terminate()
        mlflow.wait()
        store.stop()


def started_mlflow(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [BIN / "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    stores = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", folder / "artifacts"]
    process = subprocess.Popen([*command, *stores], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process, f"http://127.0.0.1:{port}"
        time.sleep(0.2)
    process.kill()
    raise AssertionError("the MLflow server did not start within a minute")


@dataclass
class Cluster:
    """A site whose isolated steps are pods, each in a folder of `pods`."""

    site: Site
    pods: Path

    def run(self, **changes: Any) -> dict[str, Any]:
        """The record of a run."""
        config = self.site.config(**changes)
        done = self.site.run(sys.executable, "-m", "tests.pipelines.pods", str(config), str(self.pods), timeout_s=1200)
        assert done.returncode == 0, done.stdout + done.stderr + self.logs()
        record: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return record

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-3000:] for path in sorted(self.pods.glob("*/log")))

    def files(self, step: str) -> list[str]:
        """What the pod of `step` has of the data set on its disk."""
        (pod,) = self.pods.glob(f"{step}-????????")
        root = pod / ".selftrain" / "datasets" / "tiny"
        return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, servers: dict[str, str]) -> Cluster:
    folder = tmp_path_factory.mktemp("cluster")
    experiment = {**TINY, "workspace": ".selftrain"}  # relative: each pod has its own
    root = copy_of_repository(folder / "app")
    return Cluster(Site(folder, experiment, root=root, variables=servers), folder / "pods")


def digests(site: Site, run_id: str) -> dict[str, str]:
    """The content hash of each result, by step and name."""
    code = (
        "import json\nfrom zenml.client import Client\n"
        f"run = Client().get_pipeline_run({run_id!r})\n"
        "print(json.dumps({f'{step}.{name}': made.content_hash for step, each in run.steps.items() "
        "for name, [made] in each.outputs.items()}))"
    )
    found: dict[str, str] = site.ask(code)
    return found


@pytest.fixture(scope="module")
def in_pods(cluster: Cluster) -> dict[str, Any]:
    return cluster.run()


def test_each_step_in_an_empty_pod_results_in_what_one_process_results_in(
    cluster: Cluster, in_pods: dict[str, Any], site: Site
) -> None:
    done = site.run("selftrain", "run", "--config", str(site.config()), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    alone = json.loads(done.stdout)
    here, there = digests(site, alone["run_id"]), digests(cluster.site, in_pods["run_id"])
    compared = [name for name in here if name.split(".")[1] in MADE[:3]]
    assert len(compared) == 3
    assert {name: there[name] for name in compared} == {name: here[name] for name in compared}
    for field in ("test_accuracy", "test_interval", "manifest_digest", "dataset_version", "verdict"):
        assert in_pods[field] == alone[field], field


def test_a_pod_has_the_shards_of_its_manifest_and_nothing_else(cluster: Cluster, in_pods: dict[str, Any]) -> None:
    for step in ("train_teacher", "pseudo_label", "train_student", "score", "score_2", "read_test"):
        files = cluster.files(step)
        assert files, step
        assert all(name.startswith("shards/") and name.endswith(".arrayrecord") for name in files), step
