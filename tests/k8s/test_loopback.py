"""Whole runs as on Kubernetes, on a cluster on this machine, with the rights that k8s/base gives."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from selftrain.errors import INTERRUPTED
from tests.k8s.loopback import Loopback, loopback_cluster, why_not
from tests.k8s.resources import JOBS
from tests.pipelines.site import TINY, Site

pytestmark = [
    pytest.mark.pipeline,
    pytest.mark.slow,
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]
MACHINE = {"shard_mb": 1}  # the digits take two shards
SLOWER = {**TINY["student"], "steps": 400, "validate_every": 200}  # long enough to be interrupted


@pytest.fixture(scope="module")
def loopback(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    with loopback_cluster(tmp_path_factory.mktemp("loopback"), {**TINY}) as running:
        yield running


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
