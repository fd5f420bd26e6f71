"""Checks of a stack: the cluster, its rights and devices, the store and the servers, before a run finds out."""

from __future__ import annotations

import importlib.metadata
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from selftrain.adapters.cluster.kube import ANSWER_S, api_client, status_of
from selftrain.adapters.cluster.registration import parts_of
from selftrain.adapters.cluster.storage import store_answers
from selftrain.errors import SelftrainError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient, V1ContainerStatus, V1Pod

GPU = "nvidia.com/gpu"
LARGEST_SKEW_S = 60.0
"""S3 refuses requests that are 15 minutes off; tokens and leases notice much less."""
NO_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
JOBS, LEASES = "batch", "coordination.k8s.io"
RIGHTS: tuple[tuple[str, str, str], ...] = (
    *((verb, "jobs", JOBS) for verb in ("create", "get", "list", "delete")),
    *((verb, "cronjobs", JOBS) for verb in ("create", "patch", "delete")),
    ("list", "pods", ""),
    ("get", "pods/log", ""),
    *((verb, "secrets", "") for verb in ("create", "patch", "delete")),
    *((verb, "leases", LEASES) for verb in ("get", "create", "update", "delete")),
)
"""What whoever starts runs and schedules does in the namespace: verb, resource and group."""


class Level(StrEnum):
    """How a check ended; only `FAIL` stands in the way of a run."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Check(BaseModel):
    """One check: how it ended, what was found, and what to do."""

    model_config = ConfigDict(frozen=True)

    name: str
    level: Level
    found: str
    advice: str = ""


@dataclass(frozen=True)
class Parts:
    """What is known of a stack: the configuration of each of its components, by ZenML's name of its kind."""

    name: str
    flavors: Mapping[str, str]
    configurations: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    def setting(self, kind: str, key: str) -> str:
        """A setting as text; empty where there is none."""
        value = self.configurations.get(kind, {}).get(key)
        return "" if value is None else str(value)


def check_stack(name: str) -> list[Check]:
    """Check the stack `name`, in a fixed order; changes nothing but a file in the store, which is removed again.

    A check that fails to run is a Check that failed. Raises StackError where ZenML has no such stack.
    """
    flavors, configurations = parts_of(name)
    parts = Parts(name, flavors, configurations)
    checks: list[tuple[str, Callable[[], Check]]] = [
        ("store", lambda: store(parts)),
        ("zenml", lambda: zenml_version()),
        ("mlflow", lambda: mlflow_version(parts)),
    ]
    if flavors.get("orchestrator") == "kubernetes":
        checks = [*_cluster_checks(parts), *checks]
    with ThreadPoolExecutor(len(checks)) as pool:
        return list(pool.map(lambda check: _guarded(*check), checks))


def _cluster_checks(parts: Parts) -> list[tuple[str, Callable[[], Check]]]:
    context = parts.setting("orchestrator", "kubernetes_context") or None
    namespace = parts.setting("orchestrator", "kubernetes_namespace")
    return [
        ("api", lambda: api(api_client(context))),
        ("rights", lambda: rights(api_client(context), namespace)),
        ("gpu", lambda: gpus(api_client(context))),
        ("images", lambda: images(api_client(context), namespace)),
        ("secrets", lambda: pod_secrets(api_client(context), namespace)),
        ("clock", lambda: clock(api_client(context))),
    ]


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except SelftrainError as error:
        return Check(name=name, level=Level.FAIL, found=error.message)
    except Exception as error:  # a check that breaks must not hide what the others found
        status = status_of(error)
        reason = (
            f"the API answers {status}" if status else f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        )
        return Check(
            name=name, level=Level.FAIL, found=reason, advice="the line `api` says whether the cluster answers"
        )


def api(client: ApiClient) -> Check:
    """Whether the API answers, and in which version."""
    from kubernetes.client import VersionApi

    try:
        version = VersionApi(client).get_code(_request_timeout=ANSWER_S)
    except Exception as error:  # refused, no route, no certificate: each library has an error of its own
        found = f"{client.configuration.host} does not answer as it should ({status_of(error) or type(error).__name__})"
        advice = "check `kubectl get --raw /version` and the context: selftrain stack up --kubernetes --context NAME"
        return Check(name="api", level=Level.FAIL, found=found, advice=advice)
    return Check(name="api", level=Level.OK, found=f"{client.configuration.host}, Kubernetes {version.git_version}")


def rights(client: ApiClient, namespace: str) -> Check:
    """Whether we may do what starting runs and schedules takes; Kubernetes is asked, and nothing is tried."""
    from kubernetes import client as k8s

    review = k8s.AuthorizationV1Api(client).create_self_subject_access_review

    def may(right: tuple[str, str, str]) -> bool:
        verb, resource, group = right
        name, _, sub = resource.partition("/")
        asked = k8s.V1ResourceAttributes(
            namespace=namespace, verb=verb, resource=name, subresource=sub or None, group=group
        )
        body = k8s.V1SelfSubjectAccessReview(spec=k8s.V1SelfSubjectAccessReviewSpec(resource_attributes=asked))
        return bool(review(body, _request_timeout=ANSWER_S).status.allowed)

    missing = [f"{verb} {resource}" for verb, resource, group in RIGHTS if not may((verb, resource, group))]
    if missing:
        advice = (
            f"have the Role selftrain-submitter of {namespace} bound to you, as k8s/base/roles.yaml does for a group"
        )
        return Check(name="rights", level=Level.FAIL, found=f"missing: {', '.join(missing)}", advice=advice)
    return Check(name="rights", level=Level.OK, found=f"all {len(RIGHTS)} that runs and schedules need in {namespace}")


def gpus(client: ApiClient) -> Check:
    """How many GPUs the nodes offer to pods. Only who may list nodes, a right of the whole cluster, can know."""
    from kubernetes.client import ApiException, CoreV1Api

    try:
        nodes = CoreV1Api(client).list_node(_request_timeout=ANSWER_S).items
    except ApiException as error:
        if error.status != 403:
            raise
        advice = "ask an administrator for `kubectl describe nodes`, or for a ClusterRole with list on nodes"
        return Check(name="gpu", level=Level.WARN, found="unknown: we may not list nodes", advice=advice)
    offered = {each.metadata.name: int((each.status.allocatable or {}).get(GPU, 0)) for each in nodes}
    count, on = sum(offered.values()), sum(1 for each in offered.values() if each)
    if not count:
        advice = (
            f"no node offers {GPU}: add nodes with NVIDIA's device plugin. A pool that grows from 0 is right as it is"
        )
        return Check(name="gpu", level=Level.WARN, found=f"none on {len(nodes)} nodes", advice=advice)
    return Check(name="gpu", level=Level.OK, found=f"{count} on {on} of {len(nodes)} nodes")


def images(client: ApiClient, namespace: str) -> Check:
    """Whether a pod of the namespace waits for an image that its node cannot pull."""
    from kubernetes.client import CoreV1Api

    pods = CoreV1Api(client).list_namespaced_pod(namespace, _request_timeout=ANSWER_S).items
    waiting = {
        state.image: state.state.waiting.reason
        for pod in pods
        for state in _containers(pod)
        if state.state is not None and state.state.waiting is not None
    }
    refused = {image: why for image, why in waiting.items() if why in NO_IMAGE}
    if refused:
        found = "; ".join(f"{image}: {why}" for image, why in sorted(refused.items()))
        advice = "correct SELFTRAIN_IMAGE, push the image, or add `image_pull_secrets` to pod_settings"
        return Check(name="images", level=Level.FAIL, found=found, advice=advice)
    return Check(name="images", level=Level.OK, found=f"none of {len(pods)} pods waits for one that cannot be pulled")


def _containers(pod: V1Pod) -> list[V1ContainerStatus]:
    """How the containers of a pod stand, those that run before the others too."""
    if pod.status is None:
        return []
    return [*(pod.status.init_container_statuses or []), *(pod.status.container_statuses or [])]


def pod_secrets(client: ApiClient, namespace: str) -> Check:
    """Whether the secrets are there that every pod takes its keys from; their values are not read."""
    from kubernetes.client import ApiException, CoreV1Api

    from selftrain.adapters.cluster.pods import secret_keys

    core, missing = CoreV1Api(client), []
    for name, keys in secret_keys().items():
        try:
            held = core.read_namespaced_secret(name, namespace, _request_timeout=ANSWER_S).data or {}
        except ApiException as error:
            if error.status == 403:
                found, advice = f"unknown: we may not read {name}", f"ask who may: kubectl describe secret {name}"
                return Check(name="secrets", level=Level.WARN, found=found, advice=advice)
            if error.status != 404:
                raise
            missing.append(name)
            continue
        missing += [f"{name}.{key}" for key in keys if key not in held]
    if missing:
        advice = f"kubectl -n {namespace} create secret generic NAME --from-literal=KEY=..., as docs/cluster.md says"
        return Check(name="secrets", level=Level.FAIL, found=f"missing: {', '.join(missing)}", advice=advice)
    return Check(name="secrets", level=Level.OK, found=f"{', '.join(secret_keys())} have all their keys")


def clock(client: ApiClient) -> Check:
    """How far this machine's clock and the API's are apart, to the second that HTTP's Date has."""
    from kubernetes.client import VersionApi

    before = time.time()
    _, _, headers = VersionApi(client).get_code_with_http_info(_request_timeout=ANSWER_S)
    middle = (before + time.time()) / 2
    if "Date" not in headers:
        return Check(name="clock", level=Level.WARN, found="unknown: the API sends no Date", advice="compare `date`")
    skew_s = parsedate_to_datetime(headers["Date"]).timestamp() + 0.5 - middle
    if abs(skew_s) > LARGEST_SKEW_S:
        found = f"the cluster is {abs(skew_s):.0f} s {'ahead' if skew_s > 0 else 'behind'}"
        return Check(name="clock", level=Level.FAIL, found=found, advice="start NTP on the machine that is wrong")
    return Check(name="clock", level=Level.OK, found=f"within {LARGEST_SKEW_S:.0f} s of the cluster's")


def store(parts: Parts) -> Check:
    """Whether the artifact store can be written, read and cleaned, with the keys of this process or of ZenML."""
    path = parts.setting("artifact_store", "path")
    if parts.flavors.get("artifact_store") != "s3":
        return Check(name="store", level=Level.OK, found=f"{path or 'local'} (not on S3; not checked)")
    took_s = store_answers(path, parts.configurations["artifact_store"])
    return Check(name="store", level=Level.OK, found=f"{path} takes, gives and removes a file in {took_s:.1f} s")


def zenml_version() -> Check:
    """ZenML's server against our library. With another version, a run may break off."""
    from zenml.client import Client
    from zenml.enums import StoreType

    ours, backend = importlib.metadata.version("zenml"), Client().zen_store
    if backend.type != StoreType.REST:
        advice = "pods need a server: zenml login URL"
        return Check(name="zenml", level=Level.WARN, found=f"{ours}, and a store on this machine alone", advice=advice)
    return _same("zenml", ours, str(backend.get_store_info().version), backend.url)


def mlflow_version(parts: Parts) -> Check:
    """MLflow's server against our library."""
    uri = parts.setting("experiment_tracker", "tracking_uri") or tracking_address(parts)
    if not uri.startswith("http"):
        return Check(name="mlflow", level=Level.WARN, found="no server is registered", advice="run stack up again")
    try:
        with urllib.request.urlopen(f"{uri}/version", timeout=ANSWER_S) as answer:
            theirs = answer.read(100).decode("utf-8", "replace").strip()
    except urllib.error.HTTPError as error:
        advice = "401 and 403 mean that the server wants a user for /version: look at its image's tag"
        return Check(name="mlflow", level=Level.WARN, found=f"{uri} answers {error.code}", advice=advice)
    except OSError as error:
        advice = "addresses that end in .svc answer inside the cluster only; run this check there, or forward the port"
        level = Level.WARN if ".svc" in uri else Level.FAIL
        return Check(name="mlflow", level=level, found=f"{uri} does not answer: {error}", advice=advice)
    return _same("mlflow", importlib.metadata.version("mlflow"), theirs, uri)


def tracking_address(parts: Parts) -> str:
    """MLflow's address as the pods have it."""
    settings = parts.configurations.get("orchestrator", {}).get("pod_settings")
    env = settings.get("env", []) if isinstance(settings, dict) else []
    return next((str(each["value"]) for each in env if each.get("name") == "MLFLOW_TRACKING_URI"), "")


def _same(name: str, ours: str, theirs: str, where: str) -> Check:
    if ours == theirs:
        return Check(name=name, level=Level.OK, found=f"{where}, {theirs} on both sides")
    near = ours.split(".")[:2] == theirs.split(".")[:2]
    found = f"{where} is {theirs}, this machine has {ours}"
    advice = "use the same version on both sides: requirements.lock has the one that was tested"
    return Check(name=name, level=Level.WARN if near else Level.FAIL, found=found, advice=advice)
