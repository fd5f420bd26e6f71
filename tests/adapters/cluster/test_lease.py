"""Leases of Kubernetes, against a server that refuses a write to a version that is not the newest."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kubernetes.client import CoordinationV1Api

from selftrain.adapters.cluster.contenders import lease_for
from selftrain.adapters.cluster.kube import api_client
from selftrain.adapters.cluster.lease import KubernetesLease, alone, lease_name
from selftrain.errors import LeaseHeldError, LeaseLostError
from selftrain.files.lease import FileLease, held
from tests.adapters.cluster.api_server import Api

PATH = "/apis/coordination.k8s.io/v1/namespaces/selftrain/leases/champion-pets"


class Clock:
    """A machine's clock, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def contender(api: Api) -> Iterator[Callable[..., KubernetesLease]]:
    """contender("night 1"): a lease on the champion's place, with a client of its own."""
    clients = []

    def made(holder: str, **more: object) -> KubernetesLease:
        clients.append(api_client(None))
        return KubernetesLease(CoordinationV1Api(clients[-1]), "selftrain", "champion-pets", holder, **more)  # type: ignore[arg-type]

    yield made
    for client in clients:
        client.close()
        client.rest_client.pool_manager.clear()


def test_a_second_holder_is_told_who_is_first_and_gets_it_afterwards(
    api: Api, contender: Callable[..., KubernetesLease]
) -> None:
    first, second = contender("night 1"), contender("night 2")
    with held(first):
        with pytest.raises(LeaseHeldError, match=r"night 1 is at it since 20.*; try again"), held(second):
            pass
        first.renew()
    assert second.take() is None
    assert api.objects[PATH]["metadata"]["annotations"]["selftrain/holder"] == "night 2"
    second.release()
    assert PATH not in api.objects


def test_of_two_that_ask_at_the_same_time_one_gets_it_every_time(
    api: Api, contender: Callable[..., KubernetesLease]
) -> None:
    for _ in range(20):
        pair = [contender("a"), contender("b")]
        gate, got = threading.Barrier(2), []

        def ask(lease: KubernetesLease, gate: threading.Barrier = gate, got: list[object] = got) -> None:
            gate.wait()
            got.append(lease.take())

        threads = [threading.Thread(target=ask, args=(lease,)) for lease in pair]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert got.count(None) == 1
        for lease in pair:
            lease.release()
        assert PATH not in api.objects


def test_a_holder_that_hung_is_replaced_and_finds_out_before_it_changes_anything(
    api: Api, contender: Callable[..., KubernetesLease]
) -> None:
    clock = Clock()
    first, second = contender("first", clock=clock), contender("second", clock=clock)
    assert first.take() is None
    assert second.take() is not None
    clock.now += 29
    assert second.take() is not None
    clock.now += 1.1
    assert second.take() is None
    with pytest.raises(LeaseLostError, match="first no longer holds champion-pets: second has it"):
        first.renew()
    first.release()
    assert api.objects[PATH]["spec"]["leaseTransitions"] == 1


def test_a_renewal_that_a_reader_saw_starts_its_time_again(contender: Callable[..., KubernetesLease]) -> None:
    clock = Clock()
    first, second = contender("first", clock=clock), contender("second", clock=clock)
    assert first.take() is None
    assert second.take() is not None
    clock.now += 29
    first.renew()
    assert second.take() is not None
    clock.now += 29
    assert second.take() is not None


def test_the_times_in_the_object_decide_nothing(api: Api, contender: Callable[..., KubernetesLease]) -> None:
    first, second = contender("first"), contender("second")
    assert first.take() is None
    api.objects[PATH]["spec"] |= {
        "renewTime": "2001-01-01T00:00:00.000000Z",
        "acquireTime": "2001-01-01T00:00:00.000000Z",
    }
    told = second.take()
    assert told is not None
    assert told.holder == "first"


def test_two_that_find_it_ended_do_not_both_take_it(api: Api, contender: Callable[..., KubernetesLease]) -> None:
    clock = Clock()
    dead, one, two = (contender(name, clock=clock) for name in ("dead", "one", "two"))
    assert dead.take() is None
    assert one.take() is not None
    assert two.take() is not None
    clock.now += 31
    assert one.take() is None
    told = two.take()
    assert told is not None
    assert told.holder == "one"


def test_without_rights_or_a_server_the_line_names_what_is_needed(
    api: Api, contender: Callable[..., KubernetesLease]
) -> None:
    lease = contender("first")
    assert lease.take() is None
    api.refused.add(PATH)
    with pytest.raises(LeaseLostError, match=r"\(Forbidden\); the account needs get, create, update and delete"):
        lease.renew()
    api.refused.clear()
    api.down = True
    with pytest.raises(LeaseLostError, match="repeat it"):
        lease.renew()
    lease.release()  # says nothing: the claim ends by itself
    api.down = False
    assert PATH in api.objects


def test_the_second_of_two_retrainings_is_told_so_and_an_error_in_the_first_frees_it(
    api: Api, contender: Callable[..., KubernetesLease]
) -> None:
    def retrain() -> None:
        with alone(contender("night 1", ttl_s=1.0)) as first, alone(contender("night 2", ttl_s=1.0)) as second:
            raise LeaseHeldError(f"an error of the block: {first}, {second}")

    with pytest.raises(LeaseHeldError, match="an error of the block: True, False"):
        retrain()
    assert PATH not in api.objects


def test_outside_a_pod_the_lease_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert isinstance(lease_for(tmp_path / "champion-pets.lease", "promote"), FileLease)


@pytest.mark.parametrize("name", ["champion-pets", "champion-Pets", "champion-pets%2Fsmall", "%%", "x" * 80])
def test_any_model_has_a_name_that_kubernetes_allows_and_no_other_model_has(name: str) -> None:
    made = lease_name(name)
    assert made.strip("-") == made
    assert len(made) <= 63
    assert set(made) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert lease_name(f"{name}X") != made


def test_a_retraining_waits_until_the_claim_of_one_that_died_has_ended(
    api: Api, contender: Callable[..., KubernetesLease]
) -> None:
    assert contender("a pod that is gone", ttl_s=1.0).take() is None
    with alone(contender("the next night", ttl_s=1.0)) as first:
        assert first
    assert PATH not in api.objects
