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
GRACE_S = 60
"""Seconds between SIGTERM and SIGKILL: enough to save a checkpoint to the store."""


def pod_settings(addresses: Addresses, *, api: bool) -> dict[str, object]:
    """ZenML's `pod_settings` of a step's pod; with `api`, of the orchestrator's.

    The orchestrator's pod is given a token for the cluster's API, and the volume that outlives it, if there is one.
    """
    claim = addresses.workspace_claim if api else ""
    workspace: dict[str, object] = {"persistentVolumeClaim": {"claimName": claim}} if claim else {"emptyDir": {}}
    return {
        "container_security_context": container_security(),
        "additional_pod_spec_args": {"security_context": pod_security(), "automount_service_account_token": api},
        "volumes": [
            {"name": "workspace", **workspace},
            {"name": "tmp", "emptyDir": {}},
        ],
        "volume_mounts": [
            {"name": "workspace", "mountPath": WORKSPACE},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
        "env": environment(addresses),
    }


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
    plain = {
        "HOME": WORKSPACE,
        "TMPDIR": "/tmp",
        "SELFTRAIN_DVC_REMOTE": addresses.datasets,
        "SELFTRAIN_CHECKPOINTS": addresses.checkpoints,
        "SELFTRAIN_STATE": addresses.state,
        "MLFLOW_TRACKING_URI": addresses.mlflow,
        "AWS_ENDPOINT_URL": addresses.s3_endpoint,
        "AWS_DEFAULT_REGION": "us-east-1",  # an S3 of one's own has none, and a client wants one
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
