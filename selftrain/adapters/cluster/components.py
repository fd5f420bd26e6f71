"""Components: what ZenML registers for a stack, as values: a pure function of the addresses."""

from __future__ import annotations

from dataclasses import dataclass, field

from selftrain.adapters.cluster.addresses import Addresses, Site
from selftrain.adapters.cluster.pods import GRACE_S, ORCHESTRATOR_ACCOUNT, STEP_ACCOUNT, pod_settings

LABEL = {"managed-by": "selftrain"}
DAY_S = 24 * 3600


@dataclass(frozen=True)
class Component:
    """A component of a stack: ZenML's `kind` and `flavor`, its `name`, and its configuration."""

    kind: str
    name: str
    flavor: str
    configuration: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Secret:
    """A secret that ZenML is to hold: its name, and for each key the reference that leads to the value."""

    name: str
    references: dict[str, str | None]

    def placeholder(self, key: str) -> str | None:
        """What stands for the value of `key` in a component; None where no reference was given."""
        reference = self.references[key]
        if reference is None:
            return None
        if reference.startswith("zenml:"):
            return "{{" + reference.removeprefix("zenml:") + "}}"
        return "{{" + f"{self.name}.{key}" + "}}"


def secrets_of(addresses: Addresses) -> tuple[Secret, Secret]:
    """The secrets of the store and of MLflow."""
    return (
        Secret(f"{addresses.name}-s3", {"key": addresses.s3_key, "secret": addresses.s3_secret}),
        Secret(f"{addresses.name}-mlflow", {"user": addresses.mlflow_user, "password": addresses.mlflow_password}),
    )


def components_of(addresses: Addresses) -> tuple[Component, ...]:
    """The components of the stack, each named after it. ZenML takes a tracker on a server only with a password."""
    tracker = (_tracker(addresses),) if addresses.mlflow_password is not None else ()
    always = (_artifact_store(addresses), *tracker)
    match addresses.site:
        case Site.KUBERNETES:
            return (_orchestrator(addresses), *always, _registry(addresses), _image_builder(addresses))
        case Site.COMPOSE:
            local = Component("orchestrator", f"{addresses.name}-orchestrator", "local")
            return (local, *always)


def _orchestrator(addresses: Addresses) -> Component:
    orchestrating = pod_settings(addresses, api=True)
    small: dict[str, object] = {"requests": {"cpu": "1", "memory": "4Gi"}, "limits": {"memory": "4Gi"}}
    configuration: dict[str, object] = {
        "incluster": True,  # in a pod; elsewhere ZenML falls back to the context
        "kubernetes_context": addresses.context or None,
        "kubernetes_namespace": addresses.namespace,
        "service_account_name": ORCHESTRATOR_ACCOUNT,
        "step_pod_service_account_name": STEP_ACCOUNT,
        "pass_zenml_token_as_secret": True,
        "pod_settings": pod_settings(addresses, api=False),
        "orchestrator_pod_settings": {**orchestrating, "resources": small},
        "pod_stop_grace_period": GRACE_S,
        "ttl_seconds_after_finished": 3 * DAY_S,
        "successful_jobs_history_limit": 3,
        "failed_jobs_history_limit": 3,
        "concurrency_policy": "Forbid",
        "starting_deadline_seconds": DAY_S // 4,
        "max_parallelism": 16,
    }
    given = {key: value for key, value in configuration.items() if value is not None}
    return Component("orchestrator", f"{addresses.name}-orchestrator", "kubernetes", given)


def _artifact_store(addresses: Addresses) -> Component:
    secret, _ = secrets_of(addresses)
    region = {"region_name": addresses.s3_region} if addresses.s3_region else {}
    configuration: dict[str, object] = {
        "path": addresses.artifacts,
        "client_kwargs": {"endpoint_url": addresses.s3_endpoint, **region},
    }
    keys = {key: secret.placeholder(key) for key in ("key", "secret")}
    configuration |= {key: value for key, value in keys.items() if value is not None}
    return Component("artifact_store", f"{addresses.name}-store", "s3", configuration)


def _tracker(addresses: Addresses) -> Component:
    _, secret = secrets_of(addresses)
    configuration: dict[str, object] = {
        "tracking_uri": addresses.mlflow,
        "tracking_username": secret.placeholder("user"),
        "tracking_password": secret.placeholder("password"),
    }
    return Component("experiment_tracker", f"{addresses.name}-tracker", "mlflow", configuration)


def _registry(addresses: Addresses) -> Component:
    return Component("container_registry", f"{addresses.name}-registry", "default", {"uri": addresses.registry})


def _image_builder(addresses: Addresses) -> Component:
    return Component("image_builder", f"{addresses.name}-builder", "local")
