"""Secrets: made by a script, named by the manifests, and written nowhere else."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.k8s.manifests import (
    COMPONENTS,
    FOLDER,
    OVERLAYS,
    ROOT,
    Object,
    containers,
    everything,
    pod_spec,
    render,
    title,
    workloads,
)

PLAIN = {  # what a secret looks like, wherever it stands
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "an access key of AWS": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a token of GitHub": re.compile(r"\bgh[pousr]_[A-Za-z0-9]{36,}\b"),
    "a token of Slack": re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}"),
    "a JSON web token": re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\."),
    "a key of ZenML": re.compile(r"\bZENKEY_[A-Za-z0-9+/=_-]{16,}"),
    "a password in an address": re.compile(r"\b[a-z][a-z0-9+]*://[^\s/:@<>{}$]+:[^\s/@<>{}$]+@"),
    "32 random bytes": re.compile(r"(?<![0-9a-f:@])[0-9a-f]{64}(?![0-9a-f])"),
}
NAMED = re.compile(
    r"(?i)(?:password|passwd|secret_?(?:access_?)?key|api_?key|token|encryption_?key)\w*[\"']?\s*[:=]\s*(\S+)"
)
# What stands for a value, and is none: a reference, an empty place, a file that git ignores, or the name of another
# thing (s3_secret_key).
SPOKEN = re.compile(
    r"^[\"'`(]?(?:\$|\{|<|\.\.\.|env:|file:|zenml:|k8s/secrets/[a-z.]+$|false|true|[\"'`)]*$|(?=.{1,24}$)[a-z0-9]+(?:_[a-z0-9]+)+$)"
)
BY_HAND = {"selftrain-zenml": {"ZENML_STORE_API_KEY"}}  # only a server that runs can make it
FILES = ("selftrain-s3", "selftrain-mlflow", "mlflow-server", "zenml-server")


def written() -> list[Path]:
    """All that a user reads or applies: manifests, templates, pages, configurations, and what builds the images."""
    found = [
        path for name in ("k8s", "docs", "configs", "docker", "mlflow") for path in sorted((ROOT / name).rglob("*"))
    ]
    found += [*ROOT.glob("*.md"), *ROOT.glob("*.yaml"), ROOT / "Makefile", ROOT / ".ci" / "run"]
    kept = [path for path in found if path.is_file() and path.suffix not in (".svg", ".webp", ".env", ".key")]
    return [path for path in kept if "__pycache__" not in path.parts]


def secrets_in(text: str) -> Iterator[str]:
    """What in a text is, or looks like, the value of a secret."""
    for kind, pattern in PLAIN.items():
        yield from (f"{kind}: {found.group()[:12]}..." for found in pattern.finditer(text))
    for line in text.splitlines():
        found = NAMED.search(line.split("#")[0])
        if found and not SPOKEN.match(found.group(1)) and re.search(r"\d", found.group(1)):
            yield f"a value for {found.group()[:40]}"


@pytest.mark.parametrize("path", written(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_file_that_we_publish_holds_a_secret(path: Path) -> None:
    assert not list(secrets_in(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("folder", [*OVERLAYS, *COMPONENTS])
def test_no_rendered_manifest_holds_a_secret(folder: str) -> None:
    assert not list(secrets_in(yaml.safe_dump_all(render(folder))))
    assert not [title(each) for each in render(folder) if each["kind"] == "Secret"]


@pytest.mark.parametrize(
    "text",
    [
        "password: hunter2",
        "AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI0K7MDENG",
        "url: mysql://admin:pa55@db/zenml",
        "key: AKIAABCDEFGHIJKLMNOP",
        "-----BEGIN RSA PRIVATE KEY-----",
        "hook: xoxb-123456789012-abc",
        f"jwt: {'0a' * 32}",
    ],
)
def test_a_secret_is_found_where_there_is_one(text: str) -> None:
    assert list(secrets_in(text))


@pytest.mark.parametrize(
    "text",
    [
        "password: $(PASSWORD)",
        "token: env:HOOK",
        "AWS_SECRET_ACCESS_KEY=s3_secret_key",
        "MLFLOW_TRACKING_PASSWORD=",
        "sha256:" + "0a" * 32,
    ],
)
def test_a_name_or_an_empty_place_is_not_a_secret(text: str) -> None:
    assert not list(secrets_in(text))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that new.sh makes, ready for kubectl."""
    folder = tmp_path_factory.mktemp("secrets")
    run(folder)
    shutil.copy(FOLDER / "secrets" / "kustomization.yaml", folder)
    return folder


def run(folder: Path) -> str:
    shown = subprocess.run(["sh", FOLDER / "secrets" / "new.sh", folder], capture_output=True, text=True, check=True)
    return shown.stdout + shown.stderr


def values(folder: Path) -> dict[str, dict[str, str]]:
    return {
        path.stem: dict(line.split("=", 1) for line in path.read_text().splitlines())
        for path in sorted(folder.glob("*.env"))
    }


def test_the_script_fills_every_place_of_the_templates(made: Path) -> None:
    for name in FILES:
        template = (FOLDER / "secrets" / f"{name}.env.example").read_text()
        places = [line.rstrip("=") for line in template.splitlines() if line and not line.startswith("#")]
        assert list(values(made)[name]) == places
        assert all(values(made)[name].values())
        assert all(line.endswith("=") for line in template.splitlines() if line and not line.startswith("# "))


def test_the_script_prints_no_value_and_lets_nobody_else_read_the_files(made: Path, tmp_path: Path) -> None:
    said = run(tmp_path)
    assert not [
        value for each in values(tmp_path).values() for value in each.values() if len(value) > 16 and value in said
    ]
    assert {path.stat().st_mode & 0o777 for path in made.glob("*.env")} == {0o600}


def test_the_script_makes_other_passwords_each_time_and_keeps_what_is_there(made: Path, tmp_path: Path) -> None:
    run(tmp_path)
    first = values(tmp_path)
    assert first["zenml-server"] != values(made)["zenml-server"]
    (tmp_path / "selftrain-mlflow.env").unlink()
    assert "made selftrain-mlflow.env" in run(tmp_path)
    assert values(tmp_path) == first, "the pods' password is still that of the server"


@pytest.mark.parametrize("lost", ["mlflow-server", "selftrain-mlflow"])
def test_a_file_that_was_lost_is_made_again_with_the_password_that_the_other_one_has(lost: str, tmp_path: Path) -> None:
    run(tmp_path)
    before = values(tmp_path)
    (tmp_path / f"{lost}.env").unlink()
    run(tmp_path)
    for at, user, password in (
        ("mlflow-server", "MLFLOW_AUTH_ADMIN_USERNAME", "MLFLOW_AUTH_ADMIN_PASSWORD"),
        ("selftrain-mlflow", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"),
    ):
        assert values(tmp_path)[at][user] == "admin"
        assert values(tmp_path)[at][password] == before["mlflow-server"]["MLFLOW_AUTH_ADMIN_PASSWORD"]


def test_the_administrator_does_not_get_the_password_of_another_user(tmp_path: Path) -> None:
    (tmp_path / "selftrain-mlflow.env").write_text("MLFLOW_TRACKING_USERNAME=ann\nMLFLOW_TRACKING_PASSWORD=hers\n")
    run(tmp_path)
    assert values(tmp_path)["mlflow-server"]["MLFLOW_AUTH_ADMIN_PASSWORD"] != "hers"


def test_git_sees_none_of_the_files() -> None:
    asked = [f"k8s/secrets/{name}.env" for name in FILES]
    shown = subprocess.run(["git", "check-ignore", *asked], cwd=ROOT, capture_output=True, text=True, check=False)
    assert shown.stdout.split() == asked


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_secret_that_a_pod_names_is_made_with_its_keys(overlay: str, made: Path) -> None:
    kubectl = shutil.which("kubectl") or pytest.skip("kubectl is not installed")
    shown = subprocess.run([kubectl, "kustomize", str(made)], capture_output=True, text=True, check=True).stdout
    secrets = {each["metadata"]["name"]: set(each["data"]) for each in yaml.safe_load_all(shown)}
    assert set(secrets) == set(FILES)
    secrets |= BY_HAND
    for each in workloads(everything(overlay)):
        for name, key in _asked(pod_spec(each)):
            assert name in secrets, f"{title(each)} names {name}"
            assert key is None or key in secrets[name]


@pytest.mark.parametrize(("name", "keys"), BY_HAND.items())
def test_a_secret_that_is_made_by_hand_has_its_command_in_the_page_and_git_sees_no_file_of_it(
    name: str, keys: set[str]
) -> None:
    page = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    (command,) = (line for line in page.splitlines() if f"create secret generic {name} " in line)
    files = dict(re.findall(r"--from-file=(\w+)=(\S+)", command))
    assert set(files) == keys
    for path in files.values():
        assert f"--output-file {path}" in page, "the command before writes it"
        asked = subprocess.run(["git", "check-ignore", path], cwd=ROOT, capture_output=True, check=False)
        assert asked.returncode == 0, path


def _asked(spec: Object) -> Iterator[tuple[str, str | None]]:
    for container in containers(spec):
        yield from ((each["secretRef"]["name"], None) for each in container.get("envFrom", []) if "secretRef" in each)
        for variable in container.get("env", []):
            if "secretKeyRef" in variable.get("valueFrom", {}):
                reference = variable["valueFrom"]["secretKeyRef"]
                yield reference["name"], reference["key"]


@pytest.mark.parametrize("folder", [*OVERLAYS, *COMPONENTS])
def test_no_variable_of_a_pod_has_a_secret_as_its_value(folder: str) -> None:
    for each in workloads(render(folder)):
        for container in containers(pod_spec(each)):
            plain = [
                v
                for v in container.get("env", [])
                if "value" in v and re.search("(?i)password|secret_|token|key", v["name"])
            ]
            assert not [v["name"] for v in plain if not re.fullmatch(r'"?(?:\$\(\w+\),?)+"?', v["value"])]
