"""Steps in processes of their own, away from the workspace: data and models reach them through S3 and ZenML alone."""

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
MACHINE = {"shard_mb": 1}  # the digits take two shards


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

    def run(self, *, killed: str = "") -> subprocess.CompletedProcess[str]:
        """A run whose pool is labelled by a pod for each shard; the pod of the step `killed` does not survive."""
        config = self.site.config(machine={**MACHINE, "label_shards": 1})
        command = ("env", f"KILLED={killed}", sys.executable, "-m", "tests.pipelines.pods")
        return self.site.run(*command, str(config), str(self.pods), timeout_s=1800)

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-3000:] for path in sorted(self.pods.glob("*/log")))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, servers: dict[str, str]) -> Cluster:
    folder = tmp_path_factory.mktemp("cluster")
    experiment = {**TINY, "workspace": ".selftrain"}  # relative: each pod has its own
    root = copy_of_repository(folder / "app")
    return Cluster(Site(folder, experiment, root=root, variables=servers), folder / "pods")


def results(site: Site, run_id: str) -> dict[str, str]:
    """What identifies each model and the pseudo-labels of a run: digests of weights and rows."""
    code = f"""
import json
from zenml.client import Client
found = {{}}
for step in Client().get_pipeline_run({run_id!r}).steps.values():
    for name, [made] in step.outputs.items():
        if name in ("teacher", "student"):
            found[name] = made.load().contract.values_sha256
        elif name == "pseudo_labels":
            found[name] = made.load().digest
        elif name in ("scores", "evaluation"):
            found[step.name] = made.load().model_dump_json()
print(json.dumps(found))
"""
    found: dict[str, str] = site.ask(code)
    return found


@dataclass(frozen=True)
class Runs:
    """A run of which one labelling pod was killed, by its steps' states, and the run after it."""

    killed: dict[str, str]
    record: dict[str, Any]
    steps: dict[str, str]


@pytest.fixture(scope="module")
def runs(cluster: Cluster) -> Runs:
    died = cluster.run(killed="label_shard_2")
    assert died.returncode != 0, died.stdout
    site = cluster.site
    (run,) = site.ask("import json\nfrom zenml.client import Client\n"
                      "print(json.dumps([str(run.id) for run in Client().list_pipeline_runs().items]))")  # fmt: skip
    killed = site.steps(run)
    done = cluster.run()
    assert done.returncode == 0, done.stdout + done.stderr + cluster.logs()
    record = json.loads(done.stdout.strip().splitlines()[-1])
    return Runs(killed, record, site.steps(record["run_id"]))


def test_after_a_labelling_pod_was_killed_a_new_run_asks_for_its_shards_alone(runs: Runs) -> None:
    assert (runs.killed["label_shard"], runs.killed["label_shard_2"]) == ("completed", "failed")
    assert "join_labels" not in runs.killed
    assert (runs.steps["train_teacher"], runs.steps["label_shard"]) == ("cached", "cached")
    assert (runs.steps["label_shard_2"], runs.steps["join_labels"]) == ("completed", "completed")


def test_each_step_away_from_the_workspace_results_in_what_one_process_results_in(
    cluster: Cluster, runs: Runs, site: Site
) -> None:
    done = site.run("selftrain", "run", "--config", str(site.config(machine=MACHINE)), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    alone = json.loads(done.stdout)
    here, there = results(site, alone["run_id"]), results(cluster.site, runs.record["run_id"])
    assert set(here) == {"teacher", "student", "pseudo_labels", "score", "score_2", "read_test"}
    assert there == here
    for field in ("test_accuracy", "test_interval", "manifest_digest", "dataset_version", "verdict"):
        assert runs.record[field] == alone[field], field
