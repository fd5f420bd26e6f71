"""Pods as processes: what a Job controller and a kubelet do for the objects of a Cluster.

A Job gets pods one after another, by its `backoffLimit` and `podFailurePolicy`. A CronJob starts a Job when it is told
to. A pod is a process on this machine, with the container's variables and command. Its host has its name. It sees an
empty folder of its own as /workspace and /app, and the token of its account unless it is given none. Only root can
arrange all this. A pod that is deleted gets SIGTERM, and SIGKILL after its grace period.
"""

from __future__ import annotations

import base64
import os
import shlex
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.k8s.api_server import ApiServer
from tests.k8s.cluster import ApiError, Object, now
from tests.k8s.resources import JOBS, PODS, RESOURCES

SECRETS, CRON_JOBS = RESOURCES["", "secrets"], RESOURCES["batch", "cronjobs"]
ENDED = ("Succeeded", "Failed")
WORKSPACES = (Path("/workspace"), Path("/app"))
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
IN_ORDER = (*WORKSPACES, ACCOUNT.parents[1], ACCOUNT.parent, ACCOUNT)  # to make them, each after its parent
MOUNTED = f"""
echo "$HOSTNAME" | cut -c1-63 > /proc/sys/kernel/hostname &&
mount --bind "$0" {WORKSPACES[0]} && mount --bind "$0" {WORKSPACES[1]} &&
if [ -n "$1" ]; then mount --bind "$1" {ACCOUNT}; fi && shift && cd {WORKSPACES[0]} && exec "$@"
"""


@dataclass
class Kubelet:
    """Runs the Jobs and pods of one server while the block lasts; `base` are variables that every image would have."""

    server: ApiServer
    folder: Path
    base: Mapping[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    exit_codes: dict[str, int] = field(default_factory=dict)

    def __enter__(self) -> Kubelet:
        self._made = [path for path in IN_ORDER if not path.exists()]
        for path in self._made:
            path.mkdir()
        self._stopping = threading.Event()
        self._deadlines: dict[str, float] = {}
        self.server.cluster.log_of = lambda namespace, name: self._log(name).read_bytes()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        for process in self.processes.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for path in reversed(self._made):
            path.rmdir()

    def pods(self, step: str = "") -> list[Object]:
        """All pods so far; with `step`, those of a step by its name."""
        wanted = f"step_name={step}" if step else ""
        return self.server.cluster.list(PODS, labels=wanted)

    def log(self, pod: Object) -> str:
        return self._log(pod["metadata"]["name"]).read_text(errors="replace")

    def kill(self, pod: Object) -> None:
        """Let the node of a running pod lose power."""
        with suppress(ProcessLookupError, KeyError):
            os.killpg(self.processes[pod["metadata"]["name"]].pid, signal.SIGKILL)

    def drain(self, pod: Object) -> None:
        """Evict a running pod, as the drain of its node does."""
        self.server.cluster.evict(pod["metadata"]["name"], pod["metadata"]["namespace"])

    def start(self, cron_job: str) -> Object:
        """Start a CronJob's next Job, as when its time has come. Errors: 409 where one goes on and it forbids two."""
        cluster = self.server.cluster
        (each,) = cluster.list(CRON_JOBS, fields=f"metadata.name={cron_job}")
        mine = [job for job in cluster.list(JOBS) if each["metadata"]["uid"] in owners(job)]
        if each["spec"].get("concurrencyPolicy") == "Forbid" and not all(map(has_ended, mine)):
            raise ApiError(409, "JobAlreadyActive", f"a Job of {cron_job} goes on")
        template, where = each["spec"]["jobTemplate"], each["metadata"]
        metadata = {
            **(template.get("metadata") or {}),
            "name": f"{where['name']}-{len(mine):04d}",
            "ownerReferences": [owner_reference("batch/v1", "CronJob", where)],
        }
        return cluster.create(JOBS, {"metadata": metadata, "spec": template["spec"]}, where["namespace"])

    def _serve(self) -> None:
        while not self._stopping.wait(0.1):
            cluster = self.server.cluster
            for job in cluster.list(JOBS):
                self._control(job)
            for pod in cluster.list(PODS):
                with suppress(ApiError):  # deleted meanwhile
                    self._run(pod)

    def _control(self, job: Object) -> None:
        """Start a Job's next pod, or end the Job."""
        if has_ended(job):
            return
        uid = job["metadata"]["uid"]
        pods = self.server.cluster.list(
            PODS, job["metadata"]["namespace"], labels=f"batch.kubernetes.io/controller-uid={uid}"
        )
        phases = [pod["status"].get("phase") for pod in pods]
        actions = [action_of(job, pod) for pod in pods if pod["status"].get("phase") == "Failed"]
        failed = actions.count("Count")
        status = {"failed": failed, "succeeded": phases.count("Succeeded"), "startTime": now()}
        active = sum(phase not in ENDED for phase in phases)
        if "Succeeded" in phases:
            self._end(job, status, "Complete", "")
        elif "FailJob" in actions:
            self._end(job, status, "Failed", "PodFailurePolicy")
        elif failed > job["spec"].get("backoffLimit", 6):
            self._end(job, status, "Failed", "BackoffLimitExceeded")
        elif not active:
            self._start(job)
            self._write(job, {**status, "active": 1})

    def _write(self, job: Object, status: Object) -> None:
        with suppress(ApiError):
            where = job["metadata"]
            self.server.cluster.replace(JOBS, where["name"], {"status": status}, where["namespace"], part="status")

    def _end(self, job: Object, status: Object, how: str, reason: str) -> None:
        condition = {"type": how, "status": "True", "reason": reason, "message": reason, "lastTransitionTime": now()}
        self._write(job, {**status, "active": 0, "conditions": [condition], "completionTime": now()})

    def _start(self, job: Object) -> None:
        template, where = job["spec"]["template"], job["metadata"]
        metadata = {
            **template["metadata"],
            "name": f"{where['name']}-{uuid.uuid4().hex[:5]}",
            "ownerReferences": [owner_reference("batch/v1", "Job", where)],
        }
        with suppress(ApiError):
            self.server.cluster.create(PODS, {"metadata": metadata, "spec": template["spec"]}, where["namespace"])

    def _run(self, pod: Object) -> None:
        """Take a pod one step further: start its process, tell it to stop, or note how it ended."""
        name, phase = pod["metadata"]["name"], pod["status"].get("phase")
        process = self.processes.get(name)
        if phase == "Pending" and process is None:
            self.processes[name] = self._process(pod)
            self._say(pod, "Running", {"running": {"startedAt": now()}})
        elif process is not None and phase not in ENDED:
            if (code := process.poll()) is not None:
                self.exit_codes[name] = code if code >= 0 else 128 - code
                self._ended(pod)
            elif "deletionTimestamp" in pod["metadata"]:
                self._stop(pod, process)

    def _ended(self, pod: Object) -> None:
        code = self.exit_codes[pod["metadata"]["name"]]
        self._say(pod, "Failed" if code else "Succeeded", {"terminated": {"exitCode": code, "finishedAt": now()}})

    def _stop(self, pod: Object, process: subprocess.Popen[bytes]) -> None:
        name = pod["metadata"]["name"]
        grace = pod["metadata"].get("deletionGracePeriodSeconds", 30)
        if name not in self._deadlines:
            self._deadlines[name] = time.monotonic() + grace
            os.killpg(process.pid, signal.SIGTERM)
        elif time.monotonic() > self._deadlines[name]:
            os.killpg(process.pid, signal.SIGKILL)

    def _say(self, pod: Object, phase: str, state: Object) -> None:
        where = pod["metadata"]
        containers = [{"name": "main", "ready": phase == "Running", "restartCount": 0, "image": "", "imageID": ""}]
        containers[0]["state"] = state
        status = {**pod["status"], "phase": phase, "containerStatuses": containers}
        self.server.cluster.replace(PODS, where["name"], {"status": status}, where["namespace"], part="status")

    def _process(self, pod: Object) -> subprocess.Popen[bytes]:
        name, container = pod["metadata"]["name"], pod["spec"]["containers"][0]
        workspace, temporary = self.folder / name / "workspace", self.folder / name / "tmp"
        workspace.mkdir(parents=True)
        temporary.mkdir()
        account = pod["spec"].get("serviceAccountName", "default")
        user = f"system:serviceaccount:{pod['metadata']['namespace']}:{account}"
        given = {each["name"]: self._value(each, pod) for each in container.get("env", [])}
        own = {
            "TMPDIR": str(temporary),
            "HOSTNAME": name,
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(self.server.secure_port),
        }
        command = [*container.get("command", []), *container.get("args", [])]
        with self._log(name).open("wb") as log:
            log.write(f"$ {shlex.join(command)}\n".encode())
            log.flush()
            return subprocess.Popen(
                [
                    "unshare",
                    "--mount",
                    "--uts",
                    "sh",
                    "-c",
                    MOUNTED,
                    str(workspace),
                    self._account(pod, user),
                    *command,
                ],
                cwd=workspace,
                env={**self.base, **given, **own},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _account(self, pod: Object, user: str) -> str:
        """The folder with what a pod knows its account by; "" for a pod that is given no token."""
        if pod["spec"].get("automountServiceAccountToken") is False:
            return ""
        folder = self.folder / pod["metadata"]["name"] / "account"
        folder.mkdir()
        (folder / "token").write_text(user)
        (folder / "namespace").write_text(pod["metadata"]["namespace"])
        (folder / "ca.crt").write_bytes(self.server.certificate.public)
        return str(folder)

    def _value(self, variable: Mapping[str, Any], pod: Object) -> str:
        source = variable.get("valueFrom") or {}
        if "secretKeyRef" in source:
            reference = source["secretKeyRef"]
            secret = self.server.cluster.get(SECRETS, reference["name"], pod["metadata"]["namespace"])
            return base64.b64decode(secret["data"][reference["key"]]).decode()
        if "fieldRef" in source:
            return str(pod["metadata"]["name"])
        return str(variable.get("value") or "")

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"


def owner_reference(version: str, kind: str, owner: Object) -> Object:
    """What says that an object belongs to another, by the metadata of that `owner`."""
    return {"apiVersion": version, "kind": kind, "name": owner["name"], "uid": owner["uid"], "controller": True}


def owners(held: Object) -> list[str]:
    """The uids of an object's owners."""
    return [each["uid"] for each in held["metadata"].get("ownerReferences", [])]


def has_ended(job: Object) -> bool:
    """Whether a Job is complete or has failed."""
    return any(each["status"] == "True" for each in job["status"].get("conditions", []))


def action_of(job: Object, pod: Object) -> str:
    """What a Job does about a failed pod: Ignore, Count or FailJob, by the first rule of its policy that fits."""
    rules = (job["spec"].get("podFailurePolicy") or {}).get("rules", [])
    return next((str(rule["action"]) for rule in rules if _fits(rule, pod)), "Count")


def _fits(rule: Object, pod: Object) -> bool:
    if wanted := rule.get("onPodConditions"):
        present = {(each["type"], each["status"]) for each in pod["status"].get("conditions", [])}
        return any((each["type"], each.get("status", "True")) in present for each in wanted)
    codes: Object = rule["onExitCodes"]
    code = exit_code(pod)
    listed = code in codes["values"]
    return code != 0 and (listed if codes["operator"] == "In" else not listed)


def exit_code(pod: Object) -> int:
    statuses: Iterable[Object] = pod["status"].get("containerStatuses", [])
    return next((int(each["state"]["terminated"]["exitCode"]) for each in statuses if "terminated" in each["state"]), 0)
