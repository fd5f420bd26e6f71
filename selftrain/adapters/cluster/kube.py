"""Kubernetes' API: a client for a stack's cluster, from inside a pod or by a context of kubeconfig."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from selftrain.errors import StackError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

ANSWER_S = 10
"""How long a question to the API may take, in seconds."""


TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


def in_cluster() -> bool:
    """Whether this process runs in a pod that has an account for its cluster's API."""
    return "KUBERNETES_SERVICE_HOST" in os.environ and TOKEN.exists()


def shares_stores() -> bool:
    """Whether this process runs in such a pod and records its runs on a server, so that other pods may be at it too."""
    return in_cluster() and os.environ.get("MLFLOW_TRACKING_URI", "").startswith("http")


def current_context() -> str:
    """The current context of kubeconfig; empty where there is none."""
    from kubernetes import config

    try:
        _, active = config.list_kube_config_contexts(_kubeconfig())
    except (config.ConfigException, TypeError):
        return ""
    return str(active["name"])


def api_client(context: str | None) -> ApiClient:
    """A client for the cluster of this pod; outside of one for the `context` of kubeconfig (None: the current one).

    Raises StackError where kubeconfig has no such context.
    """
    from kubernetes import client, config

    settings = client.Configuration()
    try:
        if in_cluster():
            config.load_incluster_config(client_configuration=settings)
        else:
            config.load_kube_config(_kubeconfig(), context, settings)
    except config.ConfigException as error:
        raise StackError(
            f"no cluster is known here ({error}); set KUBECONFIG, or name a context of `kubectl config get-contexts` "
            "with `selftrain stack up --kubernetes --context NAME`"
        ) from error
    settings.retries = 1
    return client.ApiClient(settings)


def status_of(error: Exception) -> int:
    """The HTTP status of an error of the API; 0 where there was no answer."""
    return int(getattr(error, "status", None) or 0)


def _kubeconfig() -> str | None:
    """Where kubeconfig lies; the library asks for it when it is imported, and never again."""
    return os.environ.get("KUBECONFIG")
