"""Pods: what every pod of a run has, whichever step it is: rights, volumes, environment. ZenML's names for it all.

The settings satisfy Kubernetes' Pod Security level "restricted", with a read-only root file system besides.
"""

from __future__ import annotations

from selftrain.adapters.cluster.addresses import Addresses

USER = 10001
"""The uid and gid of the images."""
ORCHESTRATOR_ACCOUNT = "selftrain-orchestrator"
STEP_ACCOUNT = "selftrain-step"
S3_SECRET, MLFLOW_SECRET = "selftrain-s3", "selftrain-mlflow"  # names, not values
WORKSPACE = "/workspace"
CACHE = "/cache"
"""Where the volume lies that all pods share for DVC's cache."""
ANY_REGION = "us-east-1"
"""A store of one's own has no region, and a client wants one."""
GRACE_S = 60
"""Seconds between SIGTERM and SIGKILL: enough to save a checkpoint to the store."""


def pod_settings(addresses: Addresses, *, api: bool) -> dict[str, object]:
    """ZenML's `pod_settings` of a step's pod; with `api`, of the orchestrator's.

    The orchestrator's pod is given a token for the cluster's API, and the volume that outlives it, if there is one.
    """
    places = _places(addresses, api=api)
    return {
        "container_security_context": container_security(),
        "additional_pod_spec_args": {"security_context": pod_security(), "automount_service_account_token": api},
        "volumes": [{"name": name, **volume} for name, (_, volume) in places.items()],
        "volume_mounts": [{"name": name, "mountPath": path} for name, (path, _) in places.items()],
        "env": environment(addresses),
    }


def _places(addresses: Addresses, *, api: bool) -> dict[str, tuple[str, dict[str, object]]]:
    """Where a pod may write: the path and the volume of each, by the volume's name.

    Workers hand on batches in /dev/shm, which has 64 MB by default. It is memory, and counts into the pod's.
    """
    places: dict[str, tuple[str, dict[str, object]]] = {
        "workspace": (WORKSPACE, _claim(addresses.workspace_claim) if api else {"emptyDir": {}}),
        "tmp": ("/tmp", {"emptyDir": {}}),
    }
    if not api:
        places["shm"] = ("/dev/shm", {"emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}})
    if addresses.cache_claim:
        places["cache"] = (CACHE, _claim(addresses.cache_claim))
    return places


def _claim(name: str) -> dict[str, object]:
    """The volume of the claim `name`; without a name, one that goes with its pod."""
    return {"persistentVolumeClaim": {"claimName": name}} if name else {"emptyDir": {}}


def container_security() -> dict[str, object]:
    """The security context of a container, as Pod Security "restricted" asks for it."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def pod_security() -> dict[str, object]:
    """The security context of a pod; `fsGroup` makes its volumes writable for the images' user."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def environment(addresses: Addresses) -> list[object]:
    """The variables of a pod. Keys and passwords come from Kubernetes secrets, so they stand in no manifest."""
    region = addresses.s3_region or ANY_REGION
    plain = {
        "HOME": WORKSPACE,
        "TMPDIR": "/tmp",
        "SELFTRAIN_DVC_REMOTE": addresses.datasets,
        "SELFTRAIN_CHECKPOINTS": addresses.checkpoints,
        "SELFTRAIN_STATE": addresses.state,
        "MLFLOW_TRACKING_URI": addresses.mlflow,
        "AWS_ENDPOINT_URL": addresses.s3_endpoint,
        "AWS_DEFAULT_REGION": region,  # Python's clients read this one, and all others the next
        "AWS_REGION": region,
        **({"SELFTRAIN_DVC_CACHE": CACHE} if addresses.cache_claim else {}),
    }
    secret = [(key, name) for name, keys in secret_keys().items() for key in keys]
    return [
        *({"name": name, "value": value} for name, value in plain.items()),
        *({"name": name, "valueFrom": {"secretKeyRef": {"name": of, "key": name}}} for name, of in secret),
    ]


def secret_keys() -> dict[str, tuple[str, ...]]:
    """The Kubernetes secrets that every pod needs, and their keys, which are the variables' names."""
    return {
        S3_SECRET: ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        MLFLOW_SECRET: ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"),
    }
