"""The rights: all that ZenML's own code and ours ask of the Kubernetes API is allowed, and no rule can go.

ZenML runs in a process of its own, with the real Kubernetes client. The API is that of api_server.py, which decides by
the Roles of k8s/base as a cluster would.
"""

from __future__ import annotations

import copy
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from tests.k8s.access import Attempt, account, allowed
from tests.k8s.api_server import ApiServer
from tests.k8s.cluster import ApiError
from tests.k8s.manifests import ORCHESTRATOR_LABELS, ROOT, STEP_LABELS, Object, render, rights_in, title
from tests.k8s.resources import JOBS, PODS

ORCHESTRATOR = account("selftrain-orchestrator")
pytestmark = pytest.mark.pipeline
USERS = {
    "orchestrator": ORCHESTRATOR,
    "submitter": "ann|selftrain-submitters",
    "reap": account("selftrain-reap"),
}


def rights() -> list[Object]:
    return rights_in("base", "components/reap")


def verbs() -> list[tuple[str, str, str, str]]:
    """Each verb of each rule: the role, the group, the resource and the verb."""
    roles = [each for each in rights() if each["kind"] == "Role"]
    return [
        (role["metadata"]["name"].removeprefix("selftrain-"), group, resource, verb)
        for role in roles
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]


def without(role: str, group: str, resource: str, verb: str) -> list[Object]:
    """The rights, less one verb on one resource."""
    left = copy.deepcopy(rights())
    (changed,) = [each for each in left if title(each) == f"Role/selftrain-{role}"]
    for rule in changed["rules"]:
        if group in rule["apiGroups"] and resource in rule["resources"]:
            rule["verbs"].remove(verb)
    return left


@dataclass
class Zenml:
    """ZenML's process, the API that it calls, and what runs Jobs there.

    A Job of a step fails at once, so that ZenML looks for the reason. That of a whole run ends when its log is read.
    """

    server: ApiServer
    process: subprocess.Popen[str]
    rights: list[Object] = field(default_factory=rights)
    pods: list[Object] = field(default_factory=list)

    def calls(self, role: str) -> dict[str, str]:
        """Make the calls of one role, and say how each ended."""
        assert self.process.stdin
        assert self.process.stdout
        self.server.asked.clear()
        self.process.stdin.write(f"{role}\n")
        self.process.stdin.flush()
        ended: dict[str, str] = json.loads(self.process.stdout.readline())
        return ended

    def may(self, attempt: Attempt) -> bool:
        answer = allowed(attempt, self.rights)
        if attempt.resource == "pods/log" and not answer:
            self.end(attempt.name.removesuffix("-1"), "Complete")  # or ZenML would wait for ever
        return answer

    def asked(self, role: str) -> list[tuple[Attempt, bool]]:
        user = USERS[role].split("|")[0]
        return [(attempt, answer) for attempt, answer in self.server.asked if attempt.user == user]

    def run_jobs(self) -> None:
        for change in self.server.cluster.watch(JOBS, "selftrain", timeout_s=3600):
            if change.type == "ADDED":
                self._start(change.object["metadata"], change.object["spec"]["template"])

    def _start(self, job: Object, template: Object) -> None:
        pod = {"metadata": {**template["metadata"], "name": f"{job['name']}-1"}, "spec": template["spec"]}
        made = self.server.cluster.create(PODS, {**pod, "status": {"phase": "Running"}}, "selftrain")
        self.pods.append(made)
        if "step_name" in made["metadata"]["labels"]:
            self.end(job["name"], "Failed")

    def log(self, namespace: str, pod: str) -> bytes:
        self.end(pod.removesuffix("-1"), "Complete")
        return b"a line\n"

    def end(self, job: str, how: str) -> None:
        status = {"conditions": [{"type": how, "status": "True", "message": "as the test wants it"}]}
        with suppress(ApiError):  # it was deleted
            self.server.cluster.patch(JOBS, job, {"status": status}, "selftrain", part="status")


@pytest.fixture(scope="module")
def zenml(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zenml]:
    folder = tmp_path_factory.mktemp("zenml")
    with ApiServer() as server:
        config = server.kubeconfig(folder / "kubeconfig", *USERS.values())
        environment = {
            **os.environ,
            "ZENML_CONFIG_PATH": str(folder / "zenml"),
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
        }
        with subprocess.Popen(
            [sys.executable, "-m", "tests.k8s.zenml_calls", str(config)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            driven = Zenml(server, process)
            server.may = driven.may
            own = {"metadata": {"name": socket.gethostname(), "labels": {"job-name": "the-run"}}, "spec": {}}
            server.cluster.create(PODS, own, "selftrain")
            server.cluster.log_of = driven.log
            threading.Thread(target=driven.run_jobs, daemon=True).start()
            yield driven
            process.kill()


@pytest.mark.parametrize("role", list(USERS))
def test_all_that_zenml_asks_is_allowed(zenml: Zenml, role: str) -> None:
    zenml.rights = rights()
    ended = zenml.calls(role)
    assert not zenml.server.refused
    assert not {name: said for name, said in ended.items() if "Error" in said or "Exception" in said}
    asked = {(each.group, each.resource, each.verb) for each, _ in zenml.asked(role)}
    assert asked == {(group, resource, verb) for name, group, resource, verb in verbs() if name == role}


@pytest.mark.parametrize(("role", "group", "resource", "verb"), verbs())
def test_without_one_verb_a_call_is_refused(zenml: Zenml, role: str, group: str, resource: str, verb: str) -> None:
    zenml.rights = without(role, group, resource, verb)
    zenml.calls(role)
    refused = {(each.group, each.resource, each.verb) for each in zenml.server.refused}
    assert refused == {(group, resource, verb)}


def test_the_policies_know_pods_by_the_labels_that_zenml_puts_on_them(zenml: Zenml) -> None:
    zenml.rights = rights()
    zenml.calls("submitter")
    seen = {frozenset(set(pod["metadata"]["labels"]) & {*STEP_LABELS}) for pod in zenml.pods}
    assert {frozenset(ORCHESTRATOR_LABELS), frozenset(STEP_LABELS)} == seen


def test_the_pods_of_steps_have_an_account_without_rights_and_without_a_token(zenml: Zenml) -> None:
    zenml.rights = rights()
    zenml.calls("orchestrator")
    accounts = {each["metadata"]["name"]: each for each in render("base") if each["kind"] == "ServiceAccount"}
    step = account(zenml.pods[-1]["spec"]["serviceAccountName"])
    assert step == account("selftrain-step")
    assert accounts["selftrain-step"]["automountServiceAccountToken"] is False
    assert not [
        subject for each in rights() for subject in each.get("subjects", []) if subject["name"] == "selftrain-step"
    ]
