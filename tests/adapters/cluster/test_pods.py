"""The stack in a real ZenML store, and every pod that ZenML would ask Kubernetes for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.pipeline]

ROOT = Path(__file__).resolve().parents[3]
GPU_STEPS = [
    *("train_teacher", "train_student", "train_control", "train_baseline"),
    *("pseudo_label", "label_shard", "score", "read_test"),
    *("train_detector", "teach_detector", "train_detector_control", "score_detector", "read_test_detections"),
]
UNITS = {"Gi": 2**30, "Mi": 2**20}


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `rendering` printed."""
    folder = tmp_path_factory.mktemp("rendering")
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "ZENML_CONFIG_PATH": str(folder / "zenml"),
        "ZENML_LOGGING_VERBOSITY": "ERROR",
        "KUBECONFIG": str(folder / "kubeconfig"),
    }
    command = [sys.executable, "-m", "tests.adapters.cluster.rendering"]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    answers: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return answers


def pods(asked: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each pod's specification, by the name of its step."""
    yield "orchestrator", asked["job"]["spec"]["template"]["spec"]
    yield "schedule", asked["cron"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    for name, step in asked["steps"].items():
        yield name, step["job"]["spec"]["template"]["spec"]


def amount(quantity: str) -> float:
    """A quantity of Kubernetes as a number of bytes."""
    return float(quantity[:-2]) * UNITS[quantity[-2:]]


def test_every_pod_passes_the_restricted_rules_of_pod_security(asked: dict[str, Any]) -> None:
    for name, pod in pods(asked):
        (container,) = pod["containers"]
        security = {key: value for key, value in container["securityContext"].items() if value is not None}
        assert security == {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }, name
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & {key for key, value in pod.items() if value}
        kinds = {key for volume in pod["volumes"] for key in volume.keys() - {"name"}}
        assert kinds <= {"emptyDir", "persistentVolumeClaim", "configMap", "secret", "projected"}


def test_every_mount_has_its_volume_and_what_is_written_to_can_be(asked: dict[str, Any]) -> None:
    for name, pod in pods(asked):
        mounts = {each["mountPath"]: each["name"] for each in pod["containers"][0]["volumeMounts"]}
        assert set(mounts.values()) == {volume["name"] for volume in pod["volumes"]}, name
        assert {"/workspace", "/tmp"} <= mounts.keys()


def test_the_steps_that_use_a_device_have_jobs_of_their_own_and_no_right_to_make_others(asked: dict[str, Any]) -> None:
    assert list(asked["steps"]) == GPU_STEPS
    for name, pod in pods(asked):
        alone = name in GPU_STEPS
        assert pod["serviceAccountName"] == ("selftrain-step" if alone else "selftrain-orchestrator")
        assert pod["automountServiceAccountToken"] is not alone
        assert pod["containers"][0]["image"] == f"registry.example/selftrain:1-{'gpu' if alone else 'cpu'}"


def test_a_gpu_is_asked_for_and_shared_memory_counts_into_the_pods_own(asked: dict[str, Any]) -> None:
    for name, pod in pods(asked):
        resources = pod["containers"][0]["resources"]
        assert amount(resources["requests"]["memory"]) == amount(resources["limits"]["memory"]), name
        if name not in GPU_STEPS:
            assert "nvidia.com/gpu" not in resources["limits"]
            continue
        assert resources["limits"]["nvidia.com/gpu"] == "1"
        assert {"name": "SELFTRAIN_DEVICE", "value": "gpu"} in pod["containers"][0]["env"]
        assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod["tolerations"]
        (shared,) = (volume["emptyDir"] for volume in pod["volumes"] if volume["name"] == "shm")
        assert shared["medium"] == "Memory"
        assert amount(shared["sizeLimit"]) <= amount(resources["limits"]["memory"]) / 4


def decided(policy: dict[str, Any], *, code: int, disrupted: bool = False) -> str:
    """What Kubernetes does with a pod that ended so: the action of the first rule that fits, else it is counted."""
    for rule in policy["rules"]:
        codes = rule.get("onExitCodes")
        if codes is not None and code != 0 and (code in codes["values"]) is (codes["operator"] == "In"):
            return str(rule["action"])
        if disrupted and any(each["type"] == "DisruptionTarget" for each in rule.get("onPodConditions", [])):
            return str(rule["action"])
    return "Count"


def test_preemption_is_not_a_failure_and_out_of_memory_is(asked: dict[str, Any]) -> None:
    for step in asked["steps"].values():
        spec = step["job"]["spec"]
        policy = spec["podFailurePolicy"]
        assert spec["backoffLimit"] >= 3
        assert spec["template"]["spec"]["restartPolicy"] == "Never"  # Kubernetes asks for it beside a policy
        assert spec["template"]["spec"]["terminationGracePeriodSeconds"] >= 30
        for code in (75, 137, 143, 1):
            assert decided(policy, code=code, disrupted=True) == "Ignore"
        assert [decided(policy, code=code) for code in (75, 69, 139)] == ["Count", "Count", "Count"]
        assert [decided(policy, code=code) for code in (71, 137, 1)] == ["FailJob", "FailJob", "FailJob"]


def test_a_schedule_never_starts_two_at_once_and_forgets_what_is_hours_late(asked: dict[str, Any]) -> None:
    spec = asked["cron"]["spec"]
    assert (spec["schedule"], spec["concurrencyPolicy"]) == ("0 3 * * *", "Forbid")
    assert spec["startingDeadlineSeconds"] == 21600
    assert spec["jobTemplate"]["spec"]["podFailurePolicy"]["rules"][0]["action"] == "Ignore"


def test_no_key_stands_in_a_job(asked: dict[str, Any]) -> None:
    text = json.dumps([asked["job"], asked["cron"], asked["steps"]])
    assert "the-key" not in text
    assert "the-word" not in text
    assert "a-token" not in json.dumps([asked["job"], asked["cron"]])
    assert asked["secrets"] == 2
    env = {each["name"]: each for each in asked["job"]["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert env["SELFTRAIN_DVC_REMOTE"]["value"] == "s3://selftrain-data/dvc"
    assert env["SELFTRAIN_CHECKPOINTS"]["value"] == "s3://selftrain-data/checkpoints"
    reference = {"name": "selftrain-s3", "key": "AWS_SECRET_ACCESS_KEY"}
    assert env["AWS_SECRET_ACCESS_KEY"]["valueFrom"]["secretKeyRef"] == reference


def test_a_second_registration_changes_nothing_and_a_third_only_what_is_new(asked: dict[str, Any]) -> None:
    stack = asked["stack"]
    assert {done for _, done in stack["first"]} == {"made"}
    assert {done for _, done in stack["second"]} == {"unchanged"}
    assert [what for what, done in stack["moved"] if done == "changed"] == ["orchestrator", "artifact_store"]
    assert ["experiment_tracker", "left out"] in stack["keyless"]
    assert ["artifact_store", "changed"] in stack["keyless"]


def test_the_registered_components_hold_addresses_and_no_keys(asked: dict[str, Any]) -> None:
    stack = asked["stack"]
    parts = stack["configuration"]
    assert parts["artifact_store"] == {
        "path": "s3://selftrain-data/artifacts",
        "client_kwargs": {"endpoint_url": "http://store.selftrain.svc:9000"},
        "key": "{{selftrain-s3.key}}",
        "secret": "{{selftrain-s3.secret}}",
    }
    assert parts["experiment_tracker"]["tracking_password"] == "{{selftrain-mlflow.password}}"
    assert parts["orchestrator"]["kubernetes_context"] == "loopback"
    assert (parts["orchestrator"]["incluster"], parts["orchestrator"]["kubernetes_namespace"]) == (True, "selftrain")
    assert "the-word" not in json.dumps(parts)
    assert stack["secrets"]["selftrain-s3"] == {"key": "the-key", "secret": "the-word"}
    flavours = {each["what"]: each["done"] for each in stack["shown"]}
    assert (flavours["orchestrator"], flavours["artifact_store"]) == ("kubernetes", "s3")


def test_what_selftrain_did_not_register_is_neither_changed_nor_removed(asked: dict[str, Any]) -> None:
    stack = asked["stack"]
    active, nowhere, foreign = stack["refused"]
    assert "activate another first" in active
    assert "ZenML has no stack 'nowhere'; there are default" in nowhere
    assert "artifact_store 'selftrain-store' of flavour local, not made by selftrain" in foreign
    assert {done for _, done in stack["gone"]} == {"removed"}
    assert stack["left"][:2] == [1, 0]  # the default stack, and no secret


def test_a_run_whose_job_failed_is_marked_failed_once_and_a_live_one_is_not(asked: dict[str, Any]) -> None:
    told = asked["reaped"]
    assert told["alive"] == []
    assert (told["dry"], told["before"]) == ([True], "initializing")
    (dead,) = told["reaped"]
    assert dead["reason"].endswith("failed: BackoffLimitExceeded")
    assert len(dead["left"]) == len(GPU_STEPS)  # their Jobs still run, and are named
    assert told["after"] == "failed"
    assert told["again"] == []


def test_where_the_cluster_does_not_answer_no_run_is_marked(asked: dict[str, Any]) -> None:
    assert "cannot be listed (Service Unavailable), so no run was marked" in asked["reaped"]["down"]
    assert "runs on no cluster" in asked["reaped"]["local"]


def test_a_registered_stack_is_checked_in_a_fixed_order_and_one_failure_hides_no_other(asked: dict[str, Any]) -> None:
    found = {each["name"]: each for each in asked["checks"]}
    assert list(found) == ["api", "rights", "gpu", "images", "secrets", "clock", "store", "zenml", "mlflow"]
    assert {name: each["level"] for name, each in found.items()} == {
        **dict.fromkeys(("api", "rights", "images", "clock"), "ok"),
        **dict.fromkeys(("gpu", "zenml", "mlflow"), "warn"),  # no node, no server, an address inside the cluster
        **dict.fromkeys(("secrets", "store"), "fail"),
    }
    assert "s3://selftrain-data/artifacts: we cannot write" in found["store"]["found"]
    assert "the-word" not in json.dumps(asked["checks"])
