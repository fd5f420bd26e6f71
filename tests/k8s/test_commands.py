"""What the containers run: commands and options that there are, and a store that refuses a wrong key."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from selftrain.adapters.serving.live.measures import Measures
from selftrain.adapters.serving.live.samples import Sampler, open_inbox
from selftrain.config import Inbox
from selftrain.config.text.file import read_experiment
from tests.adapters.s3 import S3Server
from tests.k8s.manifests import Object, pod_spec, render, workloads


def container(folder: str, name: str, kind: str = "containers") -> Object:
    (found,) = [
        each for work in workloads(render(folder)) for each in pod_spec(work).get(kind, []) if each["name"] == name
    ]
    return found


def mlflow_command(*names: str) -> click.Command:
    from mlflow.cli import cli

    command: click.Command = cli
    for name in names:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    return command


def selftrain_command(*names: str) -> click.Command:
    import typer.main

    from selftrain.cli.app import app

    command: click.Command = typer.main.get_command(app)
    for name in names:
        command = command.commands[name]  # type: ignore[attr-defined]  # all but the last are groups
    return command


@pytest.mark.filterwarnings("ignore:.*Any type hint:UserWarning")  # MLflow's own, as it is imported
@pytest.mark.parametrize(
    ("folder", "name", "kind"),
    [
        ("base", "mlflow", "mlflow"),
        ("components/serve", "serve", "selftrain"),
        ("components/serve-inbox", "serve", "selftrain"),
        ("components/kserve", "kserve-container", "selftrain"),
        ("components/reap", "reap", "selftrain"),
        ("components/kserve-canary", "kserve-container", "mlflow"),
    ],
)
def test_a_container_gives_its_command_options_that_it_has(folder: str, name: str, kind: str) -> None:
    run = container(folder, name)
    program, *words = run["command"]
    assert program == kind
    command = mlflow_command(*words) if kind == "mlflow" else selftrain_command(*words)
    options = {option for parameter in command.params for option in parameter.opts}
    assert not [each for each in run["args"] if each.split("=")[0] not in options]


def test_the_model_that_is_served_is_named_by_a_variable_that_the_pod_has() -> None:
    (settings,) = [
        each for each in render("components/serve") if each["metadata"]["name"] == "selftrain-serve" and "data" in each
    ]
    run = container("components/serve", "serve")
    assert "--model-name=$(SELFTRAIN_MODEL)" in run["args"]
    assert {"configMapRef": {"name": "selftrain-serve"}} in run["envFrom"]
    assert settings["data"]["SELFTRAIN_MODEL"]


def test_what_a_pod_is_asked_goes_to_the_bucket_that_its_mounted_configuration_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paint: Callable[..., Path]
) -> None:
    objects = render("components/serve-inbox")
    run = container("components/serve-inbox", "serve")
    (mounted,) = [each for each in run["volumeMounts"] if each["name"] == "experiment"]
    (spec,) = [pod_spec(each) for each in workloads(objects)]
    (volume,) = [each["configMap"]["name"] for each in spec["volumes"] if each["name"] == "experiment"]
    (held,) = [each["data"] for each in objects if each["metadata"]["name"] == volume]
    (path,) = [word.removeprefix("--config=") for word in run["args"] if word.startswith("--config=")]
    assert path == f"{mounted['mountPath']}/experiment.yaml"
    (tmp_path / "experiment.yaml").write_text(held["experiment.yaml"])
    inbox = read_experiment(tmp_path / "experiment.yaml").inbox
    assert inbox
    data = paint(tmp_path / "r.png", "red").read_bytes()
    assert written(inbox, data, bucket="selftrain-data", folder=tmp_path / "s3", patch=monkeypatch) == [data]


def written(inbox: Inbox, data: bytes, *, bucket: str, folder: Path, patch: pytest.MonkeyPatch) -> list[bytes]:
    """The images of the inbox, after one was asked about in a pod that has the address of the store and its key."""
    (folder / bucket).mkdir(parents=True)
    store = S3Server(folder)
    store.start("a-key", "a-secret")
    key = {"AWS_ACCESS_KEY_ID": "a-key", "AWS_SECRET_ACCESS_KEY": "a-secret"}
    for name, value in {**store.environment(), **key}.items():
        patch.setenv(name, value)
    try:
        sampler = Sampler(inbox.sampling, open_inbox(inbox), Measures())
        sampler.offer(data, label="3", confidence=0.5, model_version="models:/digits/1")
        sampler.close(30)
    finally:
        store.stop()
    return [path.read_bytes() for path in (folder / bucket / "inbox").rglob("*.png")]


def test_the_store_makes_its_bucket_and_refuses_whoever_has_another_key(tmp_path: Path) -> None:
    rclone = str(Path(sys.executable).parent / "rclone")
    data, key, port = tmp_path / "data", ("a-key", "a-secret"), free_port()
    data.mkdir()
    here = {"/data": str(data), ":9000": f"127.0.0.1:{port}"}
    secret = {"AWS_ACCESS_KEY_ID": key[0], "AWS_SECRET_ACCESS_KEY": key[1]}
    variables = {**os.environ, "HOME": str(tmp_path), "RCLONE_AUTH_KEY": expanded("RCLONE_AUTH_KEY", secret)}
    bucket = container("overlays/cpu", "bucket", "initContainers")
    subprocess.run([rclone, *placed(bucket["args"], here)], env=variables, check=True)
    serve = [rclone, *placed(container("overlays/cpu", "store")["args"], here)]
    with subprocess.Popen(serve, env=variables, stderr=subprocess.DEVNULL) as served:
        try:
            client = [
                rclone,
                "lsf",
                "--retries=1",
                "--low-level-retries=1",
                f":s3,provider=Rclone,endpoint='http://127.0.0.1:{port}':",
            ]
            wait_until_answers(port)
            assert asked(client, *key) == "selftrain-data/"
            with pytest.raises(subprocess.CalledProcessError):
                asked(client, key[0], "another")
            with pytest.raises(urllib.error.HTTPError, match="400"):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/")
        finally:
            served.kill()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def placed(args: list[str], here: dict[str, str]) -> list[str]:
    """A container's arguments, with its paths and addresses those of this machine."""
    for name, value in here.items():
        args = [each.replace(name, value) for each in args]
    return args


def expanded(name: str, secret: dict[str, str]) -> str:
    """A variable of the store, with $(NAME) replaced as the kubelet does."""
    (value,) = [each["value"] for each in container("overlays/cpu", "store")["env"] if each["name"] == name]
    for key, known in secret.items():
        value = value.replace(f"$({key})", known)
    return str(value)


def asked(client: list[str], key: str, secret: str) -> str:
    variables = {**os.environ, "RCLONE_S3_ACCESS_KEY_ID": key, "RCLONE_S3_SECRET_ACCESS_KEY": secret}
    return subprocess.run(client, env=variables, capture_output=True, text=True, check=True).stdout.strip()


def wait_until_answers(port: int) -> None:
    for _ in range(200):
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("the store did not start")
