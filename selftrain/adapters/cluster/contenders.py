"""Contenders: who takes turns with whom, and so which lease they share.

Pods meet in the namespace that they run in. A person's machine meets them there too, if it works on the same servers:
an address such as http://mlflow.selftrain.svc:5000, or SELFTRAIN_NAMESPACE, says which namespace that is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from urllib.parse import urlsplit

from selftrain.adapters.cluster.kube import api_client, in_cluster, shares_stores
from selftrain.adapters.cluster.lease import KubernetesLease, alone
from selftrain.errors import StackError
from selftrain.files.lease import FileLease, Lease, called, held

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
NAMESPACE_VARIABLE = "SELFTRAIN_NAMESPACE"
SERVERS = ("MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL")
NOBODY = "none"
"""The value of SELFTRAIN_NAMESPACE that says: no pod works on the same."""
STATE_VARIABLE = "SELFTRAIN_STATE"
BY_HAND_S = 60.0
"""How long a command waits for its turn: longer than the claim of a holder that died takes to end."""


def lease_for(path: Path, purpose: str, *servers: str) -> Lease:
    """The lease that all contenders for `path` share: one of Kubernetes where pods use the `servers` too, else a file.

    They share no disk: the file's name, without its folder, is the lease's. Raises StackError without a cluster.
    """
    namespace = shared_namespace(*servers)
    return FileLease(path, called(purpose)) if namespace is None else _lease(namespace, path.stem, purpose)


def data_set_lease(path: Path, purpose: str) -> Lease | None:
    """The lease on the data set whose lock of this machine is `path`; None where that lock is enough.

    It is not where machines share the state of the data set (SELFTRAIN_STATE), nor in a pod. Raises StackError where
    the state is in a bucket, and nothing says where its users meet.
    """
    state = os.environ.get(STATE_VARIABLE)
    namespace = shared_namespace(*(os.environ.get(name, "") for name in SERVERS))
    if namespace is not None and (state or shares_stores()):
        return _lease(namespace, path.stem, purpose)
    if not state:
        return None
    folder = state.removeprefix("file://")
    if "://" not in folder:
        return FileLease(Path(folder) / f"{path.stem}.lease", called(purpose))
    if os.environ.get(NAMESPACE_VARIABLE) == NOBODY:
        return None
    raise StackError(
        f"{STATE_VARIABLE} is {state!r}, and nothing says who else may be at it; set {NAMESPACE_VARIABLE} to the "
        f"namespace of the runs, or to `{NOBODY}` where no other machine uses this state"
    )


def alone_with(lease: Lease | None) -> AbstractContextManager[bool]:
    """Whether no other holds `lease`, which is held while the block runs; without a lease always true."""
    return alone(lease) if lease is not None else nullcontext(True)


@contextmanager
def turn_at(path: Path, purpose: str) -> Iterator[Lease | None]:
    """Hold the lease on the data set whose lock of this machine is `path`, if it needs one, while the block runs.

    Raises LeaseHeldError, which names the holder, after a minute.
    """
    lease = data_set_lease(path, purpose)
    if lease is None:
        yield None
        return
    with held(lease, wait_s=BY_HAND_S):
        yield lease


def shared_namespace(*servers: str) -> str | None:
    """The namespace whose pods work on the `servers` (addresses) of this process; None where no pod is known to."""
    given = os.environ.get(NAMESPACE_VARIABLE)
    if given:
        return None if given == NOBODY else given
    if in_cluster():
        return own_namespace() if shares_stores() else None
    return next((found for each in servers if (found := namespace_in(each))), None)


def namespace_in(address: str) -> str | None:
    """The namespace that the address of a service names; None for any other address.

    >>> namespace_in("http://mlflow.selftrain.svc:5000")
    'selftrain'
    >>> namespace_in("https://mlflow.example.com") is None
    True
    """
    found = re.fullmatch(r"[^.]+\.([^.]+)\.svc(\..+)?", urlsplit(address).hostname or "")
    return found[1] if found else None


def own_namespace() -> str:
    """The namespace of the pod that this process runs in."""
    try:
        return NAMESPACE_FILE.read_text(encoding="utf-8").strip()
    except OSError:
        return "selftrain"


def _lease(namespace: str, name: str, purpose: str) -> KubernetesLease:
    from kubernetes.client import CoordinationV1Api

    try:
        client = api_client(None)
    except StackError as error:
        raise StackError(
            f"runs in the namespace {namespace!r} may be at {name} too, and no cluster is known here to take turns "
            f"with them; set KUBECONFIG, or do it in a pod. {NAMESPACE_VARIABLE}={NOBODY} goes on without, where no "
            "run is alive"
        ) from error
    return KubernetesLease(CoordinationV1Api(client), namespace, name, called(purpose))
