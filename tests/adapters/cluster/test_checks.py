"""Checks of a cluster, against an API on loopback that is healthy, forbids, lacks, is late, or is down."""

from __future__ import annotations

import http.server
import importlib.metadata
import threading
from collections.abc import Iterator

import pytest
from kubernetes.client import ApiClient

from selftrain.adapters.cluster import checks
from selftrain.adapters.cluster.checks import RIGHTS, Level, Parts
from selftrain.adapters.cluster.kube import api_client
from selftrain.errors import StackError
from tests.adapters.cluster.api_server import Api

CORE = "/api/v1/namespaces/selftrain"


@pytest.fixture
def client(api: Api) -> Iterator[ApiClient]:
    """A client of the API on loopback."""
    made = api_client("loopback")
    yield made
    made.close()
    made.rest_client.pool_manager.clear()


def test_an_api_that_answers_is_named_with_its_version(client: ApiClient) -> None:
    found = checks.api(client)
    assert found.level is Level.OK
    assert found.found.endswith("Kubernetes v1.32.0")


def test_an_api_that_is_down_fails_with_what_to_try(api: Api, client: ApiClient) -> None:
    api.down = True
    found = checks.api(client)
    assert found.level is Level.FAIL
    assert "kubectl get --raw /version" in found.advice


def test_a_context_that_kubeconfig_lacks_is_one_line(api: Api) -> None:
    with pytest.raises(StackError, match="kubectl config get-contexts"):
        api_client("elsewhere")


def test_each_right_that_is_missing_is_named(api: Api, client: ApiClient) -> None:
    assert checks.rights(client, "selftrain").level is Level.OK
    api.refused = {f"{verb} {resource}" for verb, resource, _ in RIGHTS}
    found = checks.rights(client, "selftrain")
    assert found.level is Level.FAIL
    assert found.found == "missing: " + ", ".join(f"{verb} {resource}" for verb, resource, _ in RIGHTS)
    api.refused = {"get pods/log"}
    assert checks.rights(client, "selftrain").found == "missing: get pods/log"


def test_gpus_are_counted_over_the_nodes(api: Api, client: ApiClient) -> None:
    assert checks.gpus(client).level is Level.WARN
    for number, offered in enumerate(({"cpu": "8"}, {"nvidia.com/gpu": "4"}, {"nvidia.com/gpu": "2"})):
        api.put(f"/api/v1/nodes/n{number}", {"status": {"allocatable": offered}})
    assert checks.gpus(client).found == "6 on 2 of 3 nodes"


def test_who_may_not_list_nodes_is_told_so_and_can_still_run(api: Api, client: ApiClient) -> None:
    api.refused = {"/api/v1/nodes"}
    found = checks.gpus(client)
    assert (found.level, found.found) == (Level.WARN, "unknown: we may not list nodes")


def test_an_image_that_cannot_be_pulled_is_named(api: Api, client: ApiClient) -> None:
    assert checks.images(client, "selftrain").level is Level.OK
    waiting = {"name": "main", "image": "r/selftrain:1-gpu", "imageID": "", "ready": False, "restartCount": 0}
    waiting["state"] = {"waiting": {"reason": "ImagePullBackOff"}}
    api.put(f"{CORE}/pods/p", {"status": {"containerStatuses": [waiting]}})
    found = checks.images(client, "selftrain")
    assert (found.level, found.found) == (Level.FAIL, "r/selftrain:1-gpu: ImagePullBackOff")


def test_an_image_that_a_pod_needs_before_its_others_is_named_too(api: Api, client: ApiClient) -> None:
    waiting = {"name": "bucket", "image": "rclone:1", "imageID": "", "ready": False, "restartCount": 0}
    waiting["state"] = {"waiting": {"reason": "ErrImageNeverPull"}}
    api.put(f"{CORE}/pods/store", {"status": {"initContainerStatuses": [waiting]}})
    assert checks.images(client, "selftrain").found == "rclone:1: ErrImageNeverPull"


def test_secrets_that_pods_would_wait_for_are_named_and_no_value_is(api: Api, client: ApiClient) -> None:
    api.put(f"{CORE}/secrets/selftrain-s3", {"data": {"AWS_ACCESS_KEY_ID": "dGhlLWtleQ=="}})
    found = checks.pod_secrets(client, "selftrain")
    assert found.level is Level.FAIL
    assert found.found == "missing: selftrain-s3.AWS_SECRET_ACCESS_KEY, selftrain-mlflow"
    api.refused = {f"{CORE}/secrets/selftrain-s3"}
    assert checks.pod_secrets(client, "selftrain").level is Level.WARN


@pytest.mark.parametrize(("skew_s", "level"), [(0, Level.OK), (50, Level.OK), (-75, Level.FAIL), (900, Level.FAIL)])
def test_a_clock_that_is_a_minute_off_is_found(api: Api, client: ApiClient, skew_s: float, level: Level) -> None:
    api.skew_s = skew_s
    assert checks.clock(client).level is level


@pytest.fixture
def mlflow() -> Iterator[tuple[Parts, list[tuple[int, str]]]]:
    """A stack whose MLflow answers with the status and text that the list holds."""
    answers = [(200, importlib.metadata.version("mlflow"))]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, text = answers[0]
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield Parts("s", {}, {"experiment_tracker": {"tracking_uri": address}}), answers
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_mlflow_of_another_minor_version_fails_and_another_patch_warns(
    mlflow: tuple[Parts, list[tuple[int, str]]],
) -> None:
    parts, answers = mlflow
    assert checks.mlflow_version(parts).level is Level.OK
    major, minor, patch = answers[0][1].split(".")[:3]
    answers[0] = (200, f"{major}.{minor}.{int(patch) + 1}")
    assert checks.mlflow_version(parts).level is Level.WARN
    answers[0] = (200, f"{major}.{int(minor) + 1}.0")
    assert checks.mlflow_version(parts).level is Level.FAIL
    answers[0] = (401, "who are you")
    assert checks.mlflow_version(parts).level is Level.WARN


def test_without_a_tracker_mlflows_address_is_the_one_that_pods_have() -> None:
    env = [{"name": "A", "valueFrom": {}}, {"name": "MLFLOW_TRACKING_URI", "value": "http://127.0.0.1:1"}]
    parts = Parts("s", {}, {"orchestrator": {"pod_settings": {"env": env}}})
    found = checks.mlflow_version(parts)
    assert (found.level, "http://127.0.0.1:1 does not answer" in found.found) == (Level.FAIL, True)
