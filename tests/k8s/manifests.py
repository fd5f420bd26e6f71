"""The manifests of k8s/, as kubectl renders them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "k8s"
OVERLAYS = ("overlays/cpu", "overlays/gpu", "overlays/gpu-spot")
BESIDE = ("components/serve", "components/kserve", "components/reap")  # what may be applied beside an overlay
COMPONENTS = (*BESIDE, "components/serve-inbox", "components/kserve-canary", "components/queue")
RENDERED = ("base", *OVERLAYS, *COMPONENTS)
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "Pod", "InferenceService")
# The labels that ZenML puts on the pods of a dynamic run: tests/k8s/test_roles.py reads them off its Jobs.
ORCHESTRATOR_LABELS = {"project_id": "p", "pipeline": "ssl_pipeline", "run_id": "r", "run_name": "n"}
STEP_LABELS = {**ORCHESTRATOR_LABELS, "step_run_id": "s", "step_name": "train_student"}
KSERVE_LABELS = {"serving.kserve.io/inferenceservice": "selftrain"}

Object = dict[str, Any]


@cache
def render(folder: str) -> tuple[Object, ...]:
    """The objects that `kubectl apply -k k8s/FOLDER` would create. A test that asks is skipped without kubectl."""
    kubectl = shutil.which("kubectl")
    if kubectl is None or not _new_enough(kubectl):
        pytest.skip("kubectl 1.27 or later is not installed, so the manifests are not rendered")
    shown = subprocess.run([kubectl, "kustomize", str(FOLDER / folder)], capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    return tuple(each for each in yaml.safe_load_all(shown.stdout) if each)


def _new_enough(kubectl: str) -> bool:
    said = subprocess.run([kubectl, "version", "--client", "-o", "json"], capture_output=True, text=True, check=False)
    return said.returncode == 0 and json.loads(said.stdout).get("kustomizeVersion", "v0") >= "v5"


def everything(overlay: str) -> list[Object]:
    """An overlay with all that may be applied beside it."""
    return [*render(overlay), *(each for part in BESIDE for each in render(part))]


def title(each: Object) -> str:
    return f"{each['kind']}/{each['metadata']['name']}"


def pod_spec(each: Object) -> Object:
    """The pod's part of a workload."""
    spec: Object = each["spec"]
    match each["kind"]:
        case "Pod":
            return spec
        case "InferenceService":
            predictor: Object = spec["predictor"]
            return predictor
        case "CronJob":
            inner: Object = spec["jobTemplate"]["spec"]["template"]["spec"]
            return inner
        case _:
            return spec["template"]["spec"]


def pod_labels(each: Object) -> dict[str, str]:
    if each["kind"] == "InferenceService":
        return {"serving.kserve.io/inferenceservice": each["metadata"]["name"]}
    spec = each["spec"]["jobTemplate"]["spec"] if each["kind"] == "CronJob" else each["spec"]
    labels: dict[str, str] = spec["template"]["metadata"]["labels"]
    return labels


def rights_in(*folders: str) -> list[Object]:
    """Who may do what, by the manifests of `folders`."""
    kinds = ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
    return [each for folder in folders for each in render(folder) if each["kind"] in kinds]


def workloads(objects: tuple[Object, ...] | list[Object]) -> list[Object]:
    return [each for each in objects if each["kind"] in WORKLOADS]


def containers(spec: Object) -> Iterator[Object]:
    yield from spec.get("initContainers", [])
    yield from spec["containers"]
