"""The image's files: each layer is locked, runs under a number, and holds no secret and no setting of a machine."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from selftrain.adapters.process.code_digest import closure, source_of

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
LOCKS = ("builder.lock", "gpu.lock", "servers.lock")
PINNED = re.compile(r"^([a-z0-9][\w.-]*)==(\S+)", re.MULTILINE)


def pinned(path: Path) -> dict[str, set[str]]:
    versions: dict[str, set[str]] = {}
    for name, version in PINNED.findall(path.read_text()):
        versions.setdefault(name, set()).add(version)
    return versions


def instructions() -> list[str]:
    joined = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE))
    return [" ".join(line.split()) for line in joined.splitlines() if line.strip()]


def stage(name: str) -> list[str]:
    lines = instructions()
    start = next(at for at, line in enumerate(lines) if line.endswith(f" AS {name}"))
    end = next((at for at, line in enumerate(lines[start + 1 :], start + 1) if line.startswith("FROM ")), len(lines))
    return lines[start:end]


@pytest.mark.parametrize("lock", LOCKS)
def test_each_package_of_a_lock_has_a_version_and_a_hash(lock: str) -> None:
    text = (ROOT / "docker" / lock).read_text()
    packages = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert packages
    for package in packages:
        assert re.match(r"[a-z0-9][\w.-]*==\S+ \\\n( +--hash=sha256:[0-9a-f]{64}( \\)?\n)+$", package), package


@pytest.mark.parametrize("lock", ["gpu.lock", "servers.lock"])
def test_what_an_image_adds_is_not_in_the_lock_a_second_time(lock: str) -> None:
    assert not set(pinned(ROOT / "docker" / lock)) & set(pinned(ROOT / "requirements.lock"))


def test_every_installation_checks_hashes() -> None:
    runs = [line for line in instructions() if line.startswith("RUN") and " pip install " in line]
    assert len(runs) == 4
    for run in runs:
        assert "--require-hashes" in run or ("--offline --no-deps" in run and "dist/*.whl" in run), run


def test_the_image_installs_extras_that_there_are_and_not_those_of_developers() -> None:
    [extras] = re.findall(r'^ARG EXTRAS="(.*)"$', DOCKERFILE, re.MULTILINE)
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {"cluster", "serve"} <= set(extras.split()) <= set(known) - {"dev"}


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_a_target_adds_dependencies_and_then_the_code_to_the_base(target: str) -> None:
    lines = stage(target)
    assert lines[0] == f"FROM user AS {target}"
    copies = [line for line in lines if line.startswith("COPY")]
    assert copies == [
        f"COPY --from={target}-dependencies /opt/venv /opt/venv",
        "COPY --from=code /opt/selftrain /opt/selftrain",
    ]
    assert not [line for line in lines if line.startswith("RUN")]


def test_both_targets_run_as_a_numeric_user_that_is_not_root() -> None:
    assert [line for line in instructions() if line.startswith("USER")] == ["USER 10001:10001"]
    assert stage("user")[0] == "FROM base AS user"


def test_only_the_stage_of_the_code_sees_code() -> None:
    for name in ("builder", "cpu-dependencies", "gpu-dependencies", "user"):
        copied = {word for line in stage(name) if line.startswith("COPY") for word in line.split()[1:-1]}
        assert copied <= {"pyproject.toml", "requirements.lock", *(f"docker/{lock}" for lock in LOCKS)}, name


def test_the_base_image_and_its_registry_are_arguments() -> None:
    froms = [line.split()[1] for line in instructions() if line.startswith("FROM")]
    stages = {line.split()[-1] for line in instructions() if line.startswith("FROM")}
    assert froms[0] == "${REGISTRY}/${BASE}"
    assert set(froms[1:]) <= stages


def test_no_setting_of_a_proxy_or_an_index_is_written_into_the_image() -> None:
    for line in instructions():
        if line.startswith(("ENV", "ARG", "COPY")):
            assert not re.search(r"proxy|index|cert|\bpip(_|\b)|\bca\b|password|token", line, re.IGNORECASE), line


def test_everything_that_the_image_copies_is_let_through_to_the_builder_and_nothing_secret_is() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    passed = {rule[1:] for rule in rules if rule.startswith("!")}
    words = [line.split()[1:-1] for line in instructions() if line.startswith("COPY") and "--from" not in line]
    assert passed == {name for group in words for name in group}
    for name in passed:
        assert (ROOT / name).exists(), name


def build(**variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", **variables}
    return subprocess.run([ROOT / "docker" / "build.sh"], env=environment, capture_output=True, text=True, check=False)


def test_a_target_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    done = build(TARGET="tpu")
    assert (done.returncode, done.stderr) == (2, "TARGET=tpu is not a target; use cpu or gpu\n")


def test_a_builder_that_is_not_installed_is_named() -> None:
    done = build(BUILDER="no-such-builder")
    assert (done.returncode, done.stderr) == (
        2,
        "BUILDER=no-such-builder is not installed; use docker, podman or buildah\n",
    )


def test_what_only_the_build_may_see_reaches_each_place_of_the_dockerfile_that_asks_for_it(tmp_path: Path) -> None:
    builder = tmp_path / "docker"
    builder.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path / "asked"}\n[ "$1" != cp ] || touch "$3"\n')
    builder.chmod(0o755)
    files = {name: str(tmp_path / name) for name in ("CA", "PIP_CONFIG", "UV_CONFIG")}
    done = build(BUILDER=str(builder), OUT=str(tmp_path / "out"), **files)
    assert done.returncode == 0, done.stderr
    (asked,) = (line for line in (tmp_path / "asked").read_text().splitlines() if line.startswith("build "))
    given = dict(re.findall(r"--secret id=(\w+),src=(\S+)", asked))
    assert given == {"ca": files["CA"], "pip": files["PIP_CONFIG"], "uv": files["UV_CONFIG"]}
    assert set(given) == set(re.findall(r"--mount=type=secret,id=(\w+)", DOCKERFILE))


def test_the_check_says_aloud_that_it_did_not_run(tmp_path: Path) -> None:
    refusing = tmp_path / "docker"
    refusing.write_text("#!/bin/sh\nexit 1\n")
    refusing.chmod(0o755)
    # A PATH of its own: whatever builder this machine has, it is not found.
    for tool in ("bash", "dirname", "timeout", "printf", "git"):
        found = next(Path(folder) / tool for folder in ("/usr/bin", "/bin") if (Path(folder) / tool).exists())
        (tmp_path / tool).symlink_to(found)
    environment = {"PATH": str(tmp_path), "BUILDERS": str(refusing)}
    done = subprocess.run(
        [ROOT / "docker" / "check.sh"], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"docker/check.sh: NOT RUN, because .*\n", done.stdout)


# What only some steps and models load: detectors, validation, the page and the charts, a user's own model, images in
# archives, retrainings.
LATE = re.compile(
    r"/(adoption|annotations|autolabeling|cards|detection|detectors|drift|expectations|foundation|inputs|notices|objects|page|places)/"
    r"|/(report|retraining|selection|shapes|splits)/|/data/lists/(columns|reading)|/learn/models/predict_files|/evaluate/(average_precision|detection)\.py"
)


def test_what_a_step_loads_before_it_begins_and_what_serving_loads_has_bytecode() -> None:
    (left_out,) = re.findall(r"compileall -q -x '([^']+)'", DOCKERFILE)
    rooms = [f"{room}.{path.stem}" for room in ("steps", "pipelines") for path in (ROOT / room).glob("*.py")]
    modules = loaded_at_once(rooms) | closure(["selftrain.cli.production.serving"])
    needed = {f"/{name.replace('.', '/')}.py" for name in modules}
    assert len(needed) > 100
    assert not [path for path in sorted(needed) if re.search(left_out, path) and not LATE.search(path)]


def loaded_at_once(modules: list[str]) -> set[str]:
    """Our modules that `modules` load when they are loaded themselves, and these in turn."""
    seen, waiting = set[str](), list(modules)
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for node in ast.parse(source_of(name).read_text()).body:
            if isinstance(node, ast.ImportFrom) and node.module:
                names = (node.module, *(f"{node.module}.{each.name}" for each in node.names))
                ours = [each for each in names if each.split(".")[0] in ("selftrain", "steps", "pipelines")]
                waiting += [each for each in ours if source_of(each).is_file()]
    return seen
