"""The ten commands of docs/cluster.md, pasted into one shell, against an API in memory and a real S3 store.

ZenML, kubectl and our command are the real ones. Docker, sudo, what forwards a port, and a log-in of ZenML are not to
be had here: what they would be asked is compared with what the manifests have.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.adapters.s3 import S3Server
from tests.k8s.access import allowed
from tests.k8s.api_server import ApiServer
from tests.k8s.cluster import Object
from tests.k8s.manifests import render, title
from tests.k8s.resources import JOBS, RESOURCES
from tests.pages import commands
from tests.pipelines.site import ROOT, Site, copy_of_repository

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]

TEN = commands((ROOT / "docs" / "cluster.md").read_text(encoding="utf-8"), "## Ten commands")
OURS = re.compile(r"(?:^|&& |; )\s*((?:selftrain|zenml) )")
IMAGE = "registry.example.com/selftrain:0.1.0"
PROGRAMS = {
    "docker": 'echo "docker $*" >> "$SAID"; case $1 in create) echo made ;; cp) touch "$3" ;; esac',
    "sudo": 'echo "sudo $* <- $(cat)" >> "$SAID"',
    # No server of ours tells kubectl what is valid; test_manifests.py asks the schemas.
    "kubectl": 'case " $* " in *" port-forward "*) echo "kubectl $*" >> "$SAID" ;; '
    '*" apply "*) exec "$KUBECTL" "$@" --validate=false ;; *) exec "$KUBECTL" "$@" ;; esac',
}
# Without a server of ZenML's, pods and this machine share its database, which ZenML allows where the cluster is local.
LOCAL = """
from zenml.client import Client
from zenml.enums import StackComponentType as Kind
here = {"local": True, "pass_zenml_token_as_secret": False}
Client().update_stack_component("selftrain-orchestrator", Kind.ORCHESTRATOR, configuration=here)
print("{}")
"""


@dataclass
class Shell:
    """A shell in a copy of the repository: its variables last from one command to the next."""

    site: Site
    server: ApiServer
    store: S3Server
    printed: str = ""
    seen: list[str] = field(default_factory=list)

    def paste(self, command: str) -> str:
        """Run a command, and say what it printed. Ours run in forks, after what the shell does before them."""
        plain = command.replace("\\\n", " ")
        ours = OURS.search(plain)
        before, rest = (plain[: ours.start(1)], plain[ours.start(1) :]) if ours else (plain, "")
        said = self._bash(re.sub(r"(?:&&|;)\s*$", "", before))
        for each in filter(None, (part.strip() for part in rest.split("&&"))):
            said += self._ours(each)
        return said

    def _bash(self, text: str) -> str:
        script = f"{text}\nwait\nenv -0 > '{self.site.folder}/variables'"
        done = subprocess.run(
            ["bash", "-ec", script],
            cwd=self.site.root,
            env=self.site.environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        pairs = (self.site.folder / "variables").read_text().split("\0")
        self.site.variables |= dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        return done.stdout + done.stderr

    def _ours(self, command: str) -> str:
        import shlex

        words = shlex.split(command)
        if words[:3] == ["selftrain", "stack", "up"]:  # no port is forwarded here
            words += ["--s3-endpoint", self.store.address]
        done = self.site.run(*words)
        assert done.returncode == 0 or words[:2] == ["selftrain", "doctor"], done.stdout + done.stderr
        if words[:3] == ["selftrain", "stack", "up"]:
            self.site.ask(LOCAL)
        return f"{done.stdout}{done.stderr}\n"

    def objects(self, kind: str) -> list[Object]:
        (resource,) = (each for each in RESOURCES.values() if each.kind == kind)
        return self.server.cluster.list(resource)

    def said(self) -> list[str]:
        """What the programs were asked that are not to be had here."""
        path = self.site.folder / "said"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    folder = tmp_path_factory.mktemp("ten")
    render("base")  # skips where there is no kubectl
    (folder / "programs").mkdir()
    for name, lines in PROGRAMS.items():
        (folder / "programs" / name).write_text(f"#!/bin/sh\n{lines}\n")
        (folder / "programs" / name).chmod(0o755)
    (folder / "s3" / "selftrain-data").mkdir(parents=True)
    store = S3Server(folder / "s3")
    site = Site(folder, root=copy_of_repository(folder / "project"))
    with ApiServer() as server:
        site.variables |= {
            **store.environment(),
            "PATH": f"{folder / 'programs'}:{site.environment()['PATH']}",
            "SAID": str(folder / "said"),
            "KUBECTL": shutil.which("kubectl") or "",
            "KUBECACHEDIR": str(folder / "cache"),
            "KUBECONFIG": str(server.kubeconfig(folder / "kubeconfig", "admin")),
        }
        threading.Thread(target=controllers, args=(server,), daemon=True).start()
        try:
            yield Shell(site, server, store)
        finally:
            store.stop()


def controllers(server: ApiServer) -> None:
    """What a cluster does: a Deployment becomes available, and a Job ends well."""
    deployments = RESOURCES["apps", "deployments"]
    for resource, type_ in ((deployments, "Available"), (JOBS, "Complete")):
        condition = {"type": type_, "status": "True"}
        threading.Thread(target=_settle, args=(server, resource, condition), daemon=True).start()


def _settle(server: ApiServer, resource: Any, condition: Object) -> None:
    for change in server.cluster.watch(resource, "selftrain", timeout_s=3600):
        if change.type == "ADDED":
            status = {"status": {"conditions": [condition]}}
            server.cluster.patch(resource, change.object["metadata"]["name"], status, "selftrain", part="status")


def test_there_are_ten_commands() -> None:
    assert len(TEN) == 10


def test_the_ten_commands_lead_from_an_empty_cluster_to_a_nightly_retraining(shell: Shell) -> None:
    names, build, place, apply, hosts, forward, login, up, run, schedule = TEN
    shell.paste(names)
    shell.paste(build)
    pushed = [line.removeprefix("docker push ") for line in shell.said() if line.startswith("docker push ")]
    assert pushed == [f"{IMAGE}-cpu", f"{IMAGE}-gpu"]
    assert [line.split(" -t ")[1].split()[0] for line in shell.said() if line.startswith("docker build ")] == pushed
    assert [shell.site.variables[name] for name in ("SELFTRAIN_IMAGE", "SELFTRAIN_GPU_IMAGE")] == pushed

    shell.paste(place)
    assert "deployment.apps/mlflow condition met" in shell.paste(apply)
    mlflow = next(each for each in shell.objects("Deployment") if each["metadata"]["name"] == "mlflow")
    assert mlflow["spec"]["template"]["spec"]["containers"][0]["image"] == pushed[0]
    assert {title(each) for each in render("overlays/gpu")} <= {
        title(each) for resource in RESOURCES.values() for each in shell.server.cluster.list(resource)
    }
    assert len(shell.objects("Secret")) == 4

    shell.paste(hosts)
    shell.paste(forward)
    check_names(shell)
    check_login(shell, login)

    secret = dict(line.split("=", 1) for line in (shell.site.root / "k8s/secrets/selftrain-s3.env").read_text().split())
    shell.store.start(secret["AWS_ACCESS_KEY_ID"], secret["AWS_SECRET_ACCESS_KEY"])
    checked = shell.paste(up)
    levels = {line.split()[1]: line.split()[0] for line in checked.splitlines() if re.match("ok |warn |fail ", line)}
    assert {name: levels[name] for name in ("api", "rights", "images", "secrets", "clock", "store")} == dict.fromkeys(
        ("api", "rights", "images", "secrets", "clock", "store"), "ok"
    )
    assert secret["AWS_SECRET_ACCESS_KEY"] not in checked

    asked = len(shell.server.asked)
    shell.paste(run)
    (job,) = shell.objects("Job")
    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == pushed[0]
    shell.paste(schedule)
    (night,) = shell.objects("CronJob")
    assert (night["spec"]["schedule"], night["spec"]["concurrencyPolicy"]) == ("0 3 * * *", "Forbid")
    assert night["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["image"] == pushed[0]
    may_be_done_by_submitters([attempt for attempt, _ in shell.server.asked[asked:]])


def check_names(shell: Shell) -> None:
    """The forwarded ports are those of services; their names lead here, and are those that a stack has."""
    from selftrain.adapters.cluster.addresses import Site as Where
    from selftrain.adapters.cluster.addresses import addresses_of

    services = {each["metadata"]["name"]: each["spec"]["ports"][0]["port"] for each in shell.objects("Service")}
    forwarded = {line for line in shell.said() if line.startswith("kubectl ")}
    assert forwarded == {f"kubectl -n selftrain port-forward service/{name} {port}" for name, port in services.items()}
    (written,) = (line for line in shell.said() if line.startswith("sudo "))
    assert written.startswith("sudo tee -a /etc/hosts <- 127.0.0.1 ")
    assert set(written.split()[6:]) == {f"{name}.selftrain.svc" for name in services}
    stack = addresses_of(Where.KUBERNETES)
    assert stack.mlflow == f"http://mlflow.selftrain.svc:{services['mlflow']}"
    assert stack.s3_endpoint == f"http://store.selftrain.svc:{services['store']}"


def check_login(shell: Shell, command: str) -> None:
    """ZenML's command takes one address, and a service is there; the user is in the file that the page names."""
    line, _, comment = command.partition("#")
    words = line.split()
    code = (
        "import json\nfrom zenml.cli import cli\nimport zenml.cli.login\n"
        f"print(json.dumps(cli.commands['login'].make_context('login', {words[2:]!r}).params['server']))"
    )
    (service,) = (each for each in shell.objects("Service") if each["metadata"]["name"] == "zenml")
    assert shell.site.ask(code) == f"http://zenml.selftrain.svc:{service['spec']['ports'][0]['port']}"
    (file,) = re.findall(r"k8s/\S+\.env", comment)
    assert "ZENML_DEFAULT_USER_NAME=admin" in (shell.site.root / file).read_text().splitlines()


def may_be_done_by_submitters(attempts: list[Any]) -> None:
    """Whoever starts runs and schedules needs no right that the group of submitters has not."""
    rights = [each for each in render("base") if each["kind"] in ("Role", "RoleBinding")]
    assert attempts
    for attempt in attempts:
        assert allowed(replace(attempt, user="ann", groups=("selftrain-submitters",)), rights), str(attempt)
