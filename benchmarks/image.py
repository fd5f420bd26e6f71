"""How large is the image, how long does it take to build it again, and how much later does a step start in it?"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from functools import partial
from pathlib import Path

from pydantic import JsonValue

from benchmarks.machine import ROOT
from benchmarks.photos import SkippedError
from benchmarks.record import Check, Result
from benchmarks.timing import as_json, in_turns, median

SIZE_GB, CODE_MB, REBUILD_S, START, REPETITIONS = 3.2, 5.0, 10.0, 1.3, 3
IMAGE = "selftrain-benchmark:cpu"
FIRST_LINE = re.compile(r"^\d\d:\d\d +scan ")
MAIN = "from selftrain.cli.app import main; main()"


def measure(*, quick: bool) -> Result:
    """Build it here, where docker answers; CA and FLAGS reach docker/build.sh as they are."""
    docker = os.environ.get("BUILDER", "docker")
    if shutil.which(docker) is None or subprocess.run([docker, "info"], capture_output=True, check=False).returncode:
        raise SkippedError(f"{docker} does not answer; BUILDER names another one")
    try:
        with tempfile.TemporaryDirectory() as folder:
            tree = Path(folder) / "tree"
            _copy_sources(tree)
            _build(tree, docker)
            with (tree / "selftrain" / "version.py").open("a") as code:
                code.write(f"# a change that no build has seen: {uuid.uuid4()}\n")
            rebuild = _build(tree, docker)
        size, code_size = _sizes(docker)
        calls = {"outside": _start_outside, "container": partial(_start_container, docker)}
        taken = in_turns(calls, repetitions=1 if quick else REPETITIONS)
    finally:
        subprocess.run([docker, "rmi", "--force", IMAGE], capture_output=True, check=False)
    ratio = median(taken["container"]).wall / median(taken["outside"]).wall
    checks = (
        Check(what="image cpu, unpacked", measured=size / 1e9, relation="<", target=SIZE_GB, unit="GB"),
        Check(what="its layer of code", measured=code_size / 1e6, relation="<", target=CODE_MB, unit="MB"),
        Check(what="rebuild after a change to the code", measured=rebuild, relation="<", target=REBUILD_S, unit="s"),
        Check(what="start to the first line of a step, over outside", measured=ratio, relation="<", target=START),
    )
    details: dict[str, JsonValue] = {"seconds": as_json(taken), "bytes": size, "code_bytes": code_size}
    return Result(checks=checks, details=details)


def _copy_sources(tree: Path) -> None:
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)


def _build(tree: Path, docker: str) -> float:
    """Seconds of docker/build.sh in `tree`."""
    name, _, tag = IMAGE.partition(":")
    environment = {**os.environ, "BUILDER": docker, "IMAGE": name, "TAG": tag, "TARGET": "cpu"}
    started = time.monotonic()
    done = subprocess.run(["docker/build.sh"], cwd=tree, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"docker/build.sh ended with {done.returncode}: {done.stderr[-2000:]}")
    return time.monotonic() - started


def _sizes(docker: str) -> tuple[int, int]:
    """Bytes of the image, and of its layer of code."""
    total = subprocess.run(
        [docker, "image", "inspect", "--format", "{{.Size}}", IMAGE], capture_output=True, text=True, check=True
    ).stdout
    history = [docker, "history", "--human=false", "--no-trunc", "--format", "{{.Size}} {{.CreatedBy}}", IMAGE]
    layers = subprocess.run(history, capture_output=True, text=True, check=True).stdout.splitlines()
    [code] = [layer.split()[0] for layer in layers if "COPY /opt/selftrain" in layer]
    return int(total), int(code)


def _start_outside() -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "ZENML_CONFIG_PATH": f"{folder}/zenml"}
        environment |= {"PYTHONUNBUFFERED": "1", "ZENML_ANALYTICS_OPT_IN": "false"}
        config = str(ROOT / "configs" / "digits.yaml")
        script = Path(folder) / "script.py"  # a file, as ZenML wants one
        script.write_text(MAIN)
        process = _started([sys.executable, str(script), "run", "--config", config], folder, environment)
        try:
            _read_to_first_line(process)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _start_container(docker: str) -> None:
    name = f"selftrain-benchmark-{uuid.uuid4().hex[:8]}"
    command = [docker, "run", "--rm", "--name", name, "--network=host", "--read-only", "--tmpfs", "/tmp", IMAGE]
    process = _started(
        [*command, "selftrain", "run", "--config", "/opt/selftrain/configs/digits.yaml"], "/", os.environ
    )
    try:
        _read_to_first_line(process)
    finally:
        subprocess.run([docker, "rm", "--force", "--volumes", name], capture_output=True, check=False)
        process.wait()


def _started(command: list[str], folder: str, environment: os._Environ[str] | dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _read_to_first_line(process: subprocess.Popen[str]) -> None:
    said = []
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line)
        if FIRST_LINE.search(line):
            return
    raise RuntimeError(f"the run ended before a step started: {''.join(said)[-2000:]}")
