"""A cluster on this machine: ZenML's own orchestrator, our roles and settings, a real S3 store and MLflow server.

The API is in memory, and the pods are processes, each in an empty folder. The submitter and the pods have the rights
that k8s/base gives them.
"""

from __future__ import annotations

import base64
import os
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.adapters.s3 import S3Server
from tests.k8s.access import allowed
from tests.k8s.api_server import ApiServer
from tests.k8s.cluster import Object
from tests.k8s.kubelet import CRON_JOBS, Kubelet, has_ended
from tests.k8s.manifests import render
from tests.k8s.resources import JOBS, RESOURCES
from tests.pipelines.mlflow_server import MlflowServer
from tests.pipelines.site import Site, copy_of_repository

LEASES = RESOURCES["coordination.k8s.io", "leases"]
BUCKET, KEY, SECRET = "selftrain-data", "pod", "its-secret"
IMAGES = re.compile(r"\$\{SELFTRAIN_(GPU_)?IMAGE\}")
ROOT = Path(__file__).resolve().parents[2]


def why_not() -> str | None:
    """Why this machine cannot have pods; None where it can."""
    if os.geteuid() == 0 and subprocess.run(["unshare", "--mount", "--uts", "true"], check=False).returncode == 0:
        return None
    return "only root with the right to mount gives each pod a /workspace of its own"


@dataclass
class Loopback:
    """A site whose stack is a cluster on this machine."""

    site: Site
    kubelet: Kubelet
    store: S3Server

    def config(self, *, isolated: Sequence[str] | None = None, **changes: Any) -> Path:
        """configs/gpu-k8s.yaml with the tiny experiment in it, for nodes without GPUs.

        `isolated`: the steps that run in pods of their own; None: all that the file has.
        """
        text = (ROOT / "configs" / "gpu-k8s.yaml").read_text(encoding="utf-8")
        config = yaml.safe_load(IMAGES.sub("registry.example/selftrain:0.1.0", text))
        experiment = {**self.site.experiment, "workspace": "/workspace/.selftrain", **changes}
        config["parameters"]["experiment"] = experiment
        if isolated is not None:
            config["steps"] = {name: config["steps"][name] for name in isolated}
        for step in config["steps"].values():
            step.pop("environment", None)  # no GPU is promised here; the steps are one mapping
        path = self.site.folder / "cluster.yaml"
        path.write_text(yaml.safe_dump(config))
        return path

    def start(self, **changes: Any) -> Any:
        command = ["zenml", "pipeline", "run", "ssl_pipeline", "--config", str(self.config(**changes))]
        return self.site.start(*command, "--stack", "selftrain")

    def run(self, **changes: Any) -> dict[str, Any]:
        """The record of a run to its end."""
        ended = self.start(**changes)
        said, _ = ended.communicate(timeout=1500)
        assert ended.returncode == 0, said + self.logs()
        return self.site.status()

    def schedule(self, *, isolated: Sequence[str] | None = None) -> str:
        """Have the site's experiment retrained every night, as docs/cluster.md has it; the name of the CronJob."""
        config = str(self.config(isolated=isolated))
        for command in (
            ("zenml", "stack", "set", "selftrain"),
            ("selftrain", "schedule", "--cron", "0 3 * * *", "--time-zone", "UTC", "--config", config),
        ):
            done = self.site.run(*command)
            assert done.returncode == 0, done.stdout + done.stderr
        (cron_job,) = self.kubelet.server.cluster.list(CRON_JOBS)
        return str(cron_job["metadata"]["name"])

    def night_ends(self, *, timeout_s: float = 900) -> None:
        """Wait until no Job goes on."""
        ends = time.monotonic() + timeout_s
        while not all(map(has_ended, self.kubelet.server.cluster.list(JOBS))):
            assert time.monotonic() < ends, "a Job goes on" + self.logs()
            time.sleep(0.2)

    def leases(self) -> list[Object]:
        """The leases that somebody holds, or held when it died."""
        return self.kubelet.server.cluster.list(LEASES)

    def put(self, name: str, content: bytes) -> None:
        """Write an object of the bucket, over the S3 protocol."""
        import fsspec

        options = {"key": KEY, "secret": SECRET, "endpoint_url": self.store.address}
        fsspec.filesystem("s3", skip_instance_cache=True, **options).pipe_file(f"{BUCKET}/{name}", content)

    def logs(self) -> str:
        logs = sorted(self.kubelet.folder.glob("*.log"), key=lambda path: path.stat().st_mtime)
        return "".join(f"\n--- {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in logs)

    def running(self, step: str, *, word: str, timeout_s: float = 600) -> Object:
        """The pod of a step once its log has `word`."""
        ends = time.monotonic() + timeout_s
        while time.monotonic() < ends:
            for pod in self.kubelet.pods(step):
                if pod["status"].get("phase") == "Running" and word in self.kubelet.log(pod):
                    return pod
            time.sleep(0.2)
        raise AssertionError(f"no pod of {step} says {word!r}" + self.logs())


@contextmanager
def loopback_cluster(folder: Path, experiment: dict[str, Any]) -> Iterator[Loopback]:
    """A cluster whose runs are those of `experiment`; the folder is empty."""
    (folder / "s3" / BUCKET).mkdir(parents=True)
    store = S3Server(folder / "s3")
    (folder / "mlflow").mkdir()
    mlflow = MlflowServer(folder / "mlflow").start()
    root = copy_of_repository(folder / "app")
    site = Site(folder, experiment, root=root, variables={**store.environment(), "AWS_ACCESS_KEY_ID": KEY})
    may = lambda attempt: allowed(attempt, held)  # noqa: E731 - the rights are read once
    held = [
        each for each in render("base") if each["kind"] in ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
    ]
    with ApiServer(may=may) as server, Kubelet(server, folder / "pods", base(site)) as kubelet:
        try:
            store.start(KEY, SECRET)
            kubeconfig = server.kubeconfig(folder / "kubeconfig", "ann|selftrain-submitters")
            site.variables |= {
                "KUBECONFIG": str(kubeconfig),
                "AWS_SECRET_ACCESS_KEY": SECRET,
                "MLFLOW_TRACKING_URI": mlflow.address,
            }
            hold_secrets(server, AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET)
            register(site, store.address, mlflow.address)
            yield Loopback(site, kubelet, store)
        finally:
            mlflow.stop()
            store.stop()


def base(site: Site) -> dict[str, str]:
    """What the image has."""
    kept = ("PATH", "PYTHONPATH", "ZENML_CONFIG_PATH", "PYTHONUNBUFFERED", "COLUMNS", "AWS_DEFAULT_REGION")
    return {name: value for name, value in site.environment().items() if name in kept}


def hold_secrets(server: ApiServer, **s3: str) -> None:
    mlflow = {"MLFLOW_TRACKING_USERNAME": "ann", "MLFLOW_TRACKING_PASSWORD": "not-asked"}
    for name, values in (("selftrain-s3", s3), ("selftrain-mlflow", mlflow)):
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        body = {"metadata": {"name": name}, "data": data}
        server.cluster.create(RESOURCES["", "secrets"], body, "selftrain")


def register(site: Site, s3: str, mlflow: str) -> None:
    """The stack, as docs/cluster.md has it. Without a ZenML server, it must think that the cluster is local."""
    made = site.run("selftrain", "stack", "up", "--kubernetes", "--s3-endpoint", s3, "--mlflow", mlflow)
    assert made.returncode == 0, made.stdout + made.stderr
    options = ("--local=True", "--pass_zenml_token_as_secret=False")
    told = site.run("zenml", "orchestrator", "update", "selftrain-orchestrator", *options)
    assert told.returncode == 0, told.stdout + told.stderr
