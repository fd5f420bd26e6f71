"""The NetworkPolicies: nothing may talk but what must, and every opening is used by something."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.k8s.manifests import (
    KSERVE_LABELS,
    ORCHESTRATOR_LABELS,
    OVERLAYS,
    STEP_LABELS,
    Object,
    everything,
    pod_labels,
    pod_spec,
    title,
)
from tests.k8s.selectors import chooses

OUTSIDE = "outside"  # an address, not a pod
ENV = {"MLFLOW_TRACKING_URI": ("mlflow", 5000), "AWS_ENDPOINT_URL": ("store", 9000)}


class Network:
    """Who may open a connection to whom, among the pods of an overlay and those that ZenML makes."""

    def __init__(self, objects: list[Object]) -> None:
        self.policies = [each for each in objects if each["kind"] == "NetworkPolicy"]
        deployed = [each for each in objects if each["kind"] in ("Deployment", "CronJob")]
        self.pods = {each["metadata"]["name"]: pod_labels(each) for each in deployed}
        self.ports = {
            each["metadata"]["name"]: {
                p["containerPort"] for c in pod_spec(each)["containers"] for p in c.get("ports", [])
            }
            for each in deployed
        }
        self.pods |= {"orchestrator": ORCHESTRATOR_LABELS, "step": STEP_LABELS, "kserve": KSERVE_LABELS}
        self.ports["kserve"] = {8080, 8012, 8013, 8022, 9090, 9091}  # ours, and those of Knative's proxy

    def allows(self, source: str, target: str, port: int) -> bool:
        """Whether both ends let a pod of `source` connect to a pod of `target` at a port."""
        return self._passes("Egress", source, target, port) and self._passes("Ingress", target, source, port)

    def reaches(self, source: str, address: str, port: int) -> bool:
        """Whether a pod may connect to an address outside."""
        return any(
            _in_block(peer.get("ipBlock"), address) and _at_port(rule, port)
            for rule in self._rules("Egress", source)
            for peer in rule["to"]
        )

    def admits(self, target: str, port: int, *, namespace: dict[str, str]) -> bool:
        """Whether a pod of ours lets in the pods of another namespace, which is known by its labels."""
        return any(
            _at_port(rule, port)
            and any(
                "namespaceSelector" in peer and chooses(peer["namespaceSelector"], namespace) for peer in rule["from"]
            )
            for rule in self._rules("Ingress", target)
        )

    def _rules(self, way: str, pod: str) -> Iterator[dict[str, Any]]:
        for policy in self.policies:
            spec = policy["spec"]
            if way in spec["policyTypes"] and chooses(spec["podSelector"], self.pods[pod]):
                yield from spec.get(way.lower(), [])

    def _passes(self, way: str, pod: str, peer: str, port: int) -> bool:
        side = "to" if way == "Egress" else "from"
        return any(
            _at_port(rule, port)
            and any(
                "namespaceSelector" not in p and "podSelector" in p and chooses(p["podSelector"], self.pods[peer])
                for p in rule[side]
            )
            for rule in self._rules(way, pod)
        )


def _at_port(rule: dict[str, Any], port: int) -> bool:
    return port in [each["port"] for each in rule["ports"]]


def _in_block(block: dict[str, Any] | None, address: str) -> bool:
    from ipaddress import ip_address, ip_network

    there = ip_address(address)
    return (
        block is not None
        and there in ip_network(block["cidr"])
        and not any(there in ip_network(each) for each in block.get("except", []))
    )


@pytest.fixture(params=OVERLAYS)
def network(request: pytest.FixtureRequest) -> Network:
    return Network(everything(request.param))


def test_every_pod_is_closed_to_begin_with(network: Network) -> None:
    (deny,) = [each for each in network.policies if each["metadata"]["name"] == "default-deny"]
    assert deny["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_who_must_talk_may(network: Network) -> None:
    for run in ("orchestrator", "step"):
        assert network.allows(run, "zenml", 8080)
        assert network.allows(run, "mlflow", 5000)
        assert network.allows(run, "store", 9000)
        assert network.reaches(run, "52.216.0.1", 443), "a bucket of the cloud's"
    for server in ("mlflow", "zenml", "selftrain-serve"):
        assert network.allows(server, "store", 9000)
        assert network.reaches(server, "52.216.0.1", 443)
    assert network.allows("selftrain-serve", "mlflow", 5000)
    assert network.allows("kserve", "mlflow", 5000)
    assert network.allows("selftrain-reap", "zenml", 8080)
    assert network.allows("selftrain-reap", "mlflow", 5000)
    assert network.reaches("selftrain-reap", "10.96.0.1", 443), "the Kubernetes API"
    assert network.reaches("orchestrator", "10.96.0.1", 443), "the Kubernetes API"
    assert network.reaches("orchestrator", "192.168.49.2", 6443)


def test_who_need_not_talk_may_not(network: Network) -> None:
    for source in network.pods:
        for target in ("orchestrator", "step"):
            assert not any(network.allows(source, target, port) for port in (80, 443, 5000, 8080))
        assert not network.reaches(source, "169.254.169.254", 80), "the machine's own credentials"
        assert not network.reaches(source, "169.254.169.254", 443)
        assert not network.reaches(source, "8.8.8.8", 80)
    assert not network.reaches("step", "192.168.49.2", 6443), "a step asks nothing of the Kubernetes API"
    assert not network.allows("selftrain-serve", "zenml", 8080)
    assert not network.allows("mlflow", "zenml", 8080)
    assert not network.allows("step", "selftrain-serve", 8080)
    assert not network.reaches("store", "52.216.0.1", 443)
    assert not network.allows("selftrain-reap", "store", 9000)
    assert not network.reaches("selftrain-reap", "52.216.0.1", 443)


def test_people_outside_reach_what_the_label_of_their_namespace_is_for(network: Network) -> None:
    doors = {"zenml": 8080, "mlflow": 5000, "store": 9000, "selftrain-serve": 8080}
    for label, opened in (("may-log-in", {"zenml", "mlflow", "store"}), ("may-ask", {"selftrain-serve"}), ("x", set())):
        there = {f"selftrain/{label}": "true"}
        assert {name for name, port in doors.items() if network.admits(name, port, namespace=there)} == opened, label
    assert not network.admits("store", 9000, namespace={"selftrain/may-log-in": "false"})
    assert not any(
        network.admits(run, 8080, namespace={"selftrain/may-log-in": "true"}) for run in ("orchestrator", "step")
    )


def test_every_opening_is_for_pods_there_are_and_at_a_port_that_they_open(network: Network) -> None:
    for policy in network.policies:
        spec = policy["spec"]
        here = [name for name, labels in network.pods.items() if chooses(spec["podSelector"], labels)]
        assert here, f"{title(policy)} is about no pod"
        for rule in spec.get("ingress", []):
            for port in [each["port"] for each in rule["ports"]]:
                assert all(port in network.ports[name] for name in here), f"{title(policy)}: nobody listens at {port}"
        for way, side in (("ingress", "from"), ("egress", "to")):
            for rule in spec.get(way, []):
                assert all(_used(network, peer, rule, way) for peer in rule[side]), title(policy)


def _used(network: Network, peer: dict[str, Any], rule: dict[str, Any], way: str) -> bool:
    """Whether a peer that is a pod of ours is there; a port of egress must be one that it opens."""
    if "ipBlock" in peer or "namespaceSelector" in peer:
        return True  # outside: DNS, the bucket, the API, whoever asks the model
    there = [name for name, labels in network.pods.items() if chooses(peer["podSelector"], labels)]
    ports = {each["port"] for each in rule["ports"]}
    return bool(there) and (way == "ingress" or all(ports <= network.ports[name] for name in there))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_addresses_in_the_environment_are_those_of_services(overlay: str) -> None:
    objects = everything(overlay)
    (environment,) = [each for each in objects if title(each) == "ConfigMap/selftrain"]
    services = {
        each["metadata"]["name"]: [p["port"] for p in each["spec"]["ports"]]
        for each in objects
        if each["kind"] == "Service"
    }
    for name, (service, port) in ENV.items():
        assert environment["data"][name] == f"http://{service}.selftrain.svc:{port}"
        assert port in services[service]
    (reap,) = [each for each in objects if title(each) == "ConfigMap/selftrain-reap"]
    assert reap["data"]["ZENML_STORE_URL"] == f"http://zenml.selftrain.svc:{services['zenml'][0]}"
