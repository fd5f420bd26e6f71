"""A whole run as on Kubernetes: ZenML's own orchestrator, our roles and settings, a real S3 store and MLflow server.

The API is in memory, and the pods are processes, each in an empty folder. The submitter and the pods have the rights
that k8s/base gives them.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from selftrain.errors import INTERRUPTED
from tests.adapters.s3 import S3Server
from tests.k8s.access import allowed
from tests.k8s.api_server import ApiServer
from tests.k8s.cluster import Object
from tests.k8s.kubelet import Kubelet
from tests.k8s.manifests import render
from tests.k8s.resources import JOBS, RESOURCES
from tests.pipelines.mlflow_server import MlflowServer
from tests.pipelines.site import TINY, Site, copy_of_repository

pytestmark = [
    pytest.mark.pipeline,
    pytest.mark.slow,
    pytest.mark.skipif(
        os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], check=False).returncode != 0,
        reason="only root with the right to mount gives each pod a /workspace of its own",
    ),
]
IMAGES = re.compile(r"\$\{SELFTRAIN_(GPU_)?IMAGE\}")
ROOT = Path(__file__).resolve().parents[2]
MACHINE = {"shard_mb": 1}  # the digits take two shards
SLOWER = {**TINY["student"], "steps": 400, "validate_every": 200}  # long enough to be interrupted


@dataclass
class Loopback:
    """A site whose stack is a cluster on this machine."""

    site: Site
    kubelet: Kubelet

    def config(self, **changes: Any) -> Path:
        """configs/gpu-k8s.yaml with the tiny experiment in it, for nodes without GPUs."""
        text = (ROOT / "configs" / "gpu-k8s.yaml").read_text(encoding="utf-8")
        config = yaml.safe_load(IMAGES.sub("registry.example/selftrain:0.1.0", text))
        experiment = {**self.site.experiment, "workspace": "/workspace/.selftrain", **changes}
        config["parameters"]["experiment"] = experiment
        for step in config["steps"].values():
            step.pop("environment", None)  # no GPU is promised here; the steps are one mapping
        path = self.site.folder / "cluster.yaml"
        path.write_text(yaml.safe_dump(config))
        return path

    def start(self, **changes: Any) -> Any:
        command = ["zenml", "pipeline", "run", "ssl_pipeline", "--config", str(self.config(**changes))]
        return self.site.start(*command, "--stack", "selftrain")

    def run(self, **changes: Any) -> dict[str, Any]:
        """The record of a run to its end."""
        ended = self.start(**changes)
        said, _ = ended.communicate(timeout=1500)
        assert ended.returncode == 0, said + self.logs()
        return self.site.status()

    def logs(self) -> str:
        logs = sorted(self.kubelet.folder.glob("*.log"), key=lambda path: path.stat().st_mtime)
        return "".join(f"\n--- {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in logs)

    def running(self, step: str, *, word: str, timeout_s: float = 600) -> Object:
        """The pod of a step once its log has `word`."""
        ends = time.monotonic() + timeout_s
        while time.monotonic() < ends:
            for pod in self.kubelet.pods(step):
                if pod["status"].get("phase") == "Running" and word in self.kubelet.log(pod):
                    return pod
            time.sleep(0.2)
        raise AssertionError(f"no pod of {step} says {word!r}" + self.logs())


@pytest.fixture(scope="module")
def loopback(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    folder = tmp_path_factory.mktemp("loopback")
    (folder / "s3" / "selftrain-data").mkdir(parents=True)
    store = S3Server(folder / "s3")
    (folder / "mlflow").mkdir()
    mlflow = MlflowServer(folder / "mlflow").start()
    root = copy_of_repository(folder / "app")
    site = Site(folder, {**TINY}, root=root, variables={**store.environment(), "AWS_ACCESS_KEY_ID": "pod"})
    may = lambda attempt: allowed(attempt, held)  # noqa: E731 - the rights are read once
    held = [
        each for each in render("base") if each["kind"] in ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
    ]
    with ApiServer(may=may) as server, Kubelet(server, folder / "pods", base(site), "ann") as kubelet:
        try:
            store.start("pod", "its-secret")
            kubeconfig = server.kubeconfig(folder / "kubeconfig", "ann|selftrain-submitters")
            site.variables |= {
                "KUBECONFIG": str(kubeconfig),
                "AWS_SECRET_ACCESS_KEY": "its-secret",
                "MLFLOW_TRACKING_URI": mlflow.address,
            }
            hold_secrets(server, AWS_ACCESS_KEY_ID="pod", AWS_SECRET_ACCESS_KEY="its-secret")
            register(site, store.address, mlflow.address)
            yield Loopback(site, kubelet)
        finally:
            mlflow.stop()
            store.stop()


def base(site: Site) -> dict[str, str]:
    """What the image has."""
    kept = ("PATH", "PYTHONPATH", "ZENML_CONFIG_PATH", "PYTHONUNBUFFERED", "COLUMNS", "AWS_DEFAULT_REGION")
    return {name: value for name, value in site.environment().items() if name in kept}


def hold_secrets(server: ApiServer, **s3: str) -> None:
    mlflow = {"MLFLOW_TRACKING_USERNAME": "ann", "MLFLOW_TRACKING_PASSWORD": "not-asked"}
    for name, values in (("selftrain-s3", s3), ("selftrain-mlflow", mlflow)):
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        body = {"metadata": {"name": name}, "data": data}
        server.cluster.create(RESOURCES["", "secrets"], body, "selftrain")


def register(site: Site, s3: str, mlflow: str) -> None:
    """The stack, as docs/cluster.md has it. Without a ZenML server, it must think that the cluster is local."""
    made = site.run("selftrain", "stack", "up", "--kubernetes", "--s3-endpoint", s3, "--mlflow", mlflow)
    assert made.returncode == 0, made.stdout + made.stderr
    options = ("--local=True", "--pass_zenml_token_as_secret=False")
    told = site.run("zenml", "orchestrator", "update", "selftrain-orchestrator", *options)
    assert told.returncode == 0, told.stdout + told.stderr


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
    """A run of which one labelling pod lost its node, by its steps' states, and the run after it."""

    killed: dict[str, str]
    record: dict[str, Any]
    steps: dict[str, str]


@pytest.fixture(scope="module")
def runs(loopback: Loopback) -> Runs:
    machine = {**MACHINE, "label_shards": 1}
    died = loopback.start(machine=machine)
    loopback.kubelet.kill(loopback.running("label_shard_2", word="heartbeat"))
    said, _ = died.communicate(timeout=900)
    code = "print(json.dumps([str(run.id) for run in Client().list_pipeline_runs().items]))"
    (run,) = loopback.site.ask(f"import json\nfrom zenml.client import Client\n{code}")
    killed = loopback.site.steps(run)
    assert killed["label_shard_2"] == "failed", said + loopback.logs()
    record = loopback.run(machine=machine)
    return Runs(killed, record, loopback.site.steps(record["run_id"]))


def test_after_a_labelling_pod_was_lost_a_new_run_asks_for_its_shards_alone(runs: Runs) -> None:
    assert runs.killed["label_shard"] == "completed"
    assert "join_labels" not in runs.killed
    assert (runs.steps["train_teacher"], runs.steps["label_shard"]) == ("cached", "cached")
    assert (runs.steps["label_shard_2"], runs.steps["join_labels"]) == ("completed", "completed")


def test_a_run_on_the_cluster_results_in_what_one_process_results_in(
    loopback: Loopback, runs: Runs, tmp_path: Path
) -> None:
    site = Site(tmp_path)
    done = site.run("selftrain", "run", "--config", str(site.config(machine=MACHINE)), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    alone = json.loads(done.stdout)
    here, there = results(site, alone["run_id"]), results(loopback.site, runs.record["run_id"])
    assert set(here) == {"teacher", "student", "pseudo_labels", "score", "score_2", "read_test"}
    assert there == here
    for name in ("test_accuracy", "test_interval", "manifest_digest", "dataset_version", "verdict"):
        assert runs.record[name] == alone[name], name


def test_pods_have_the_rights_that_the_manifests_give_and_no_others(loopback: Loopback, runs: Runs) -> None:
    assert runs.record["verdict"] == "passed"
    assert not loopback.kubelet.server.refused
    accounts = {pod["spec"]["serviceAccountName"] for pod in loopback.kubelet.pods("train_student")}
    assert accounts == {"selftrain-step"}


def test_a_drained_node_costs_a_training_its_last_step_at_most(loopback: Loopback, runs: Runs) -> None:
    started = loopback.start(machine=MACHINE, student=SLOWER)
    drained = loopback.running("train_student", word="heartbeat")
    time.sleep(8)  # it trains
    loopback.kubelet.drain(drained)
    said, _ = started.communicate(timeout=900)
    assert started.returncode == 0, said + loopback.logs()
    name = drained["metadata"]["name"]
    assert loopback.kubelet.exit_codes[name] == INTERRUPTED, loopback.kubelet.log(drained)
    assert "and saved; run it again" in loopback.kubelet.log(drained)
    assert len(list(loopback.kubelet.folder.glob("*train-student*.log"))) >= 3
    jobs = loopback.kubelet.server.cluster.list(JOBS, labels="step_name=train_student")
    assert {each["type"] for job in jobs for each in job["status"]["conditions"]} == {"Complete"}
