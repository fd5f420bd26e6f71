"""The API on loopback behaves as a cluster's does, for the real client and for kubectl."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.k8s.access import Attempt, account, allowed
from tests.k8s.api_server import ApiServer
from tests.k8s.cluster import Cluster
from tests.k8s.manifests import FOLDER, render, title
from tests.k8s.resources import JOBS, PODS, RESOURCES
from tests.k8s.selectors import fields_match, labels_match

POD = {"metadata": {"name": "a", "labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
JOB = {"metadata": {"name": "j"}, "spec": {"template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}}}
EVERYBODY = ("system:authenticated",)
LEASES, SECRETS = RESOURCES["coordination.k8s.io", "leases"], RESOURCES["", "secrets"]


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as running:
        yield running


def api(server: ApiServer, kind: str, user: str = "ann") -> Any:
    from kubernetes import client

    configuration = client.Configuration(host=server.url)
    configuration.api_key = {"authorization": f"Bearer {user}"}
    return getattr(client, kind)(client.ApiClient(configuration))


def refused(call: Any) -> int:
    from kubernetes.client import ApiException

    with pytest.raises(ApiException) as error:
        call()
    return int(error.value.status)


def test_an_object_is_created_read_changed_and_deleted(server: ApiServer) -> None:
    core = api(server, "CoreV1Api")
    made = core.create_namespaced_pod("n", POD)
    assert (made.metadata.namespace, made.status.phase) == ("n", "Pending")
    assert refused(lambda: core.create_namespaced_pod("n", POD)) == 409
    core.patch_namespaced_pod("a", "n", {"metadata": {"labels": {"app": None, "b": "1"}}})
    assert core.read_namespaced_pod("a", "n").metadata.labels == {"b": "1"}
    core.delete_namespaced_pod("a", "n")
    assert refused(lambda: core.read_namespaced_pod("a", "n")) == 404


def test_a_pod_is_known_by_its_token_over_tls(server: ApiServer, tmp_path: Path) -> None:
    from kubernetes import client
    from kubernetes.config.incluster_config import InClusterConfigLoader

    token, authority = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text(account("selftrain-step"))
    authority.write_bytes(server.certificate.public)
    where = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(server.secure_port)}
    configuration = client.Configuration()
    InClusterConfigLoader(str(token), str(authority), environ=where).load_and_set(configuration)
    with client.ApiClient(configuration) as connected:
        assert client.CoreV1Api(connected).list_namespaced_pod("n").items == []
    assert server.asked == [(Attempt(account("selftrain-step"), "list", "", "pods", "n", "", EVERYBODY), True)]


def test_a_name_can_be_drawn_and_must_be_there(server: ApiServer) -> None:
    core = api(server, "CoreV1Api")
    made = core.create_namespaced_pod("n", {"metadata": {"generateName": "a-"}, "spec": POD["spec"]})
    assert made.metadata.name.startswith("a-")
    assert refused(lambda: core.create_namespaced_pod("n", {"metadata": {}, "spec": POD["spec"]})) == 422


def test_who_writes_over_another_change_is_told_so(server: ApiServer) -> None:
    """What a lease is built on: of two that take it at once, one fails."""
    leases = api(server, "CoordinationV1Api")
    held = leases.create_namespaced_lease("n", {"metadata": {"name": "l"}, "spec": {"holderIdentity": ""}})
    for holder in ("first", "second"):
        held.spec.holder_identity = holder
        if holder == "first":
            leases.replace_namespaced_lease("l", "n", held)
        else:
            assert refused(lambda: leases.replace_namespaced_lease("l", "n", held)) == 409
    assert leases.read_namespaced_lease("l", "n").spec.holder_identity == "first"


def test_a_lease_is_taken_by_one_of_many_that_try_at_once(server: ApiServer) -> None:
    from kubernetes.client import ApiException

    body, ended = {"metadata": {"name": "l"}, "spec": {}}, []

    def take() -> None:
        try:
            api(server, "CoordinationV1Api").create_namespaced_lease("n", body)
            ended.append(201)
        except ApiException as error:
            ended.append(error.status)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ended) == [201] + 7 * [409]


def test_a_status_is_a_part_of_its_own(server: ApiServer) -> None:
    batch = api(server, "BatchV1Api")
    batch.create_namespaced_job("n", JOB)
    batch.patch_namespaced_job_status("j", "n", {"status": {"active": 1}, "spec": {"suspend": True}})
    batch.patch_namespaced_job("j", "n", {"metadata": {"annotations": {"a": "b"}}, "status": {"active": 7}})
    held = batch.read_namespaced_job("j", "n")
    assert (held.status.active, held.spec.suspend, held.metadata.annotations) == (1, None, {"a": "b"})


def test_a_list_is_of_those_that_the_selectors_choose(server: ApiServer) -> None:
    core = api(server, "CoreV1Api")
    for name, phase in (("a", "Pending"), ("b", "Running")):
        server.cluster.create(
            PODS, {"metadata": {"name": name, "labels": {"l": name}}, "status": {"phase": phase}}, "n"
        )
    assert [each.metadata.name for each in core.list_namespaced_pod("n").items] == ["a", "b"]
    assert [each.metadata.name for each in core.list_namespaced_pod("n", label_selector="l in (b, c)").items] == ["b"]
    assert [
        each.metadata.name for each in core.list_namespaced_pod("n", field_selector="status.phase=Pending").items
    ] == ["a"]
    assert not core.list_namespaced_pod("other").items
    assert len(core.list_pod_for_all_namespaces().items) == 2


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [("", True), ("a=1", True), ("a==1,b", True), ("a!=1", False), ("c", False), ("!c", True), ("a in (2, 1)", True),
     ("a notin (1)", False), ("c notin (1)", True), ("x.y/z=1", False), ("a=1,b=3", False)],
)  # fmt: skip
def test_labels_are_chosen_as_kubernetes_does(selector: str, chosen: bool) -> None:
    assert labels_match(selector, {"a": "1", "b": "2"}) is chosen


def test_fields_are_chosen_by_their_path() -> None:
    pod = {"metadata": {"name": "a"}, "status": {"phase": "Running"}}
    assert fields_match("metadata.name=a,status.phase!=Failed", pod)
    assert not fields_match("status.phase=Failed", pod)


def test_a_watch_tells_what_is_there_and_then_each_change(server: ApiServer) -> None:
    from kubernetes import watch

    core = api(server, "CoreV1Api")
    core.create_namespaced_pod("n", POD)

    def change() -> None:
        core.patch_namespaced_pod("a", "n", {"metadata": {"labels": {"b": "1"}}})
        core.create_namespaced_pod("elsewhere", POD)
        core.delete_namespaced_pod("a", "n")

    threading.Timer(0.2, change).start()
    seen = [
        (each["type"], each["object"].metadata.name)
        for each in watch.Watch().stream(core.list_namespaced_pod, "n", timeout_seconds=2)
    ]
    assert seen == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]


def test_a_watch_from_a_version_tells_nothing_older(server: ApiServer) -> None:
    server.cluster.create(PODS, POD, "n")
    since = server.cluster.version
    server.cluster.create(PODS, {**POD, "metadata": {"name": "b"}}, "n")
    assert [
        each.object["metadata"]["name"] for each in server.cluster.watch(PODS, "n", since=since, timeout_s=0.2)
    ] == ["b"]


def job_with_a_pod(cluster: Cluster, phase: str) -> None:
    job = cluster.create(JOBS, JOB, "n")
    owner = [{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": job["metadata"]["uid"]}]
    labels = job["spec"]["template"]["metadata"]["labels"]
    cluster.create(
        PODS, {"metadata": {"name": "p", "labels": labels, "ownerReferences": owner}, "status": {"phase": phase}}, "n"
    )


def test_a_job_knows_its_pods_by_a_label_and_takes_them_with_it(server: ApiServer) -> None:
    job_with_a_pod(server.cluster, "Succeeded")
    core, batch = api(server, "CoreV1Api"), api(server, "BatchV1Api")
    assert [each.metadata.name for each in core.list_namespaced_pod("n", label_selector="job-name=j").items] == ["p"]
    batch.delete_namespaced_job("j", "n", propagation_policy="Background")
    assert not core.list_namespaced_pod("n").items


def test_a_running_pod_is_marked_and_goes_when_its_kubelet_says_so(server: ApiServer) -> None:
    job_with_a_pod(server.cluster, "Running")
    core, batch = api(server, "CoreV1Api"), api(server, "BatchV1Api")
    batch.delete_namespaced_job("j", "n", propagation_policy="Foreground")
    assert core.read_namespaced_pod("p", "n").metadata.deletion_grace_period_seconds == 30
    assert batch.read_namespaced_job("j", "n").metadata.deletion_timestamp
    core.delete_namespaced_pod("p", "n", grace_period_seconds=0)
    assert refused(lambda: batch.read_namespaced_job("j", "n")) == 404


def test_an_orphan_stays(server: ApiServer) -> None:
    job_with_a_pod(server.cluster, "Succeeded")
    api(server, "BatchV1Api").delete_namespaced_job("j", "n", propagation_policy="Orphan")
    assert server.cluster.get(PODS, "p", "n")


def test_an_evicted_pod_says_why_it_goes(server: ApiServer) -> None:
    from kubernetes.client import V1Eviction, V1ObjectMeta

    job_with_a_pod(server.cluster, "Running")
    api(server, "CoreV1Api").create_namespaced_pod_eviction("p", "n", V1Eviction(metadata=V1ObjectMeta(name="p")))
    pod = server.cluster.get(PODS, "p", "n")
    assert pod["metadata"]["deletionTimestamp"]
    assert [(each["type"], each["status"]) for each in pod["status"]["conditions"]] == [("DisruptionTarget", "True")]


def test_a_log_is_what_the_test_says(server: ApiServer) -> None:
    server.cluster.create(PODS, POD, "n")
    server.cluster.log_of = lambda namespace, name: f"{namespace}/{name}\n".encode()
    core = api(server, "CoreV1Api")
    assert core.read_namespaced_pod_log("a", "n") == "n/a\n"
    assert refused(lambda: core.read_namespaced_pod_log("b", "n")) == 404


def test_whoever_is_not_allowed_is_refused_and_can_ask_before(server: ApiServer) -> None:
    rights = render("base")
    server.may = lambda attempt: allowed(attempt, rights)
    who = account("selftrain-orchestrator")
    core, reviews = api(server, "CoreV1Api", who), api(server, "AuthorizationV1Api", who)
    core.list_namespaced_pod("selftrain")
    assert refused(lambda: core.list_namespaced_pod("other")) == 403
    assert refused(lambda: core.read_namespaced_secret("selftrain-s3", "selftrain")) == 403
    assert server.refused[-1] == Attempt(
        who, "get", "", "secrets", "selftrain", "selftrain-s3", ("system:authenticated",)
    )
    for verb, answer in (("list", True), ("delete", False)):
        asked = {"spec": {"resourceAttributes": {"namespace": "selftrain", "verb": verb, "resource": "pods"}}}
        assert reviews.create_self_subject_access_review(asked).status.allowed is answer
    assert refused(lambda: api(server, "CoreV1Api", "").list_namespaced_pod("n")) == 401


@pytest.mark.parametrize(
    ("rule", "attempt", "answer"),
    [
        ({"resources": ["pods"]}, {"resource": "pods/log"}, False),
        ({"resources": ["pods/log"]}, {"resource": "pods/log"}, True),
        ({"resources": ["*/log"]}, {"resource": "pods/log"}, True),
        ({"apiGroups": ["batch"]}, {"resource": "pods"}, False),
        ({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}, {"resource": "pods/log"}, True),
        ({"resourceNames": ["a"]}, {"resource": "pods", "name": "a"}, True),
        ({"resourceNames": ["a"]}, {"resource": "pods", "name": "b"}, False),
        ({"resourceNames": ["a"]}, {"resource": "pods"}, False),
    ],
)
def test_a_rule_covers_what_rbac_says(rule: dict[str, Any], attempt: dict[str, Any], answer: bool) -> None:
    whole = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], **rule}
    role = {"kind": "Role", "metadata": {"name": "r", "namespace": "n"}, "rules": [whole]}
    binding = {
        "kind": "RoleBinding",
        "metadata": {"name": "b", "namespace": "n"},
        "roleRef": {"kind": "Role", "name": "r"},
        "subjects": [{"kind": "ServiceAccount", "name": "s"}],
    }
    who = Attempt(user=account("s", "n"), verb="get", group="", namespace="n", **attempt)
    assert allowed(who, [role, binding]) is answer
    assert not allowed(Attempt(user=account("s", "m"), verb="get", group="", namespace="n", **attempt), [role, binding])


def test_kubectl_applies_an_overlay_and_finds_it_there(server: ApiServer, tmp_path: Path) -> None:
    kubectl = shutil.which("kubectl") or pytest.skip("kubectl is not installed")
    config = server.kubeconfig(tmp_path / "kubeconfig", "ann")
    run = [kubectl, f"--kubeconfig={config}", f"--cache-dir={tmp_path / 'cache'}"]
    for _ in range(2):  # the second time, all is there
        subprocess.run(
            [*run, "apply", "--validate=false", "-k", FOLDER / "overlays" / "gpu-spot"], check=True, capture_output=True
        )
    assert {title(each) for each in render("overlays/gpu-spot")} == {
        title(each) for resource in RESOURCES.values() for each in server.cluster.list(resource)
    }
    named = [*run, "get", "deployments", "-o", "name"]
    shown = subprocess.run(named, check=True, capture_output=True, text=True).stdout
    assert shown.split() == ["deployment.apps/mlflow", "deployment.apps/store", "deployment.apps/zenml"]
