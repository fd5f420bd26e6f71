"""Doctor: what a run needs from this machine, checked without changing anything."""

from __future__ import annotations

import configparser
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sqlite3
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from pydantic import BaseModel, ConfigDict

from selftrain.adapters.doctor import probes
from selftrain.adapters.process.settings import zenml_folder
from selftrain.adapters.runs import run_lock
from selftrain.files.workspace import Workspace

PACKAGE = "selftrain"
INSTALL = "run `make` in the repository, or install requirements.lock into a fresh environment"
LEAST_FREE_GB = 5.0
ANSWER_S = 5


class Finding(BaseModel):
    """One check: whether all is well, what was found, and what to do if it is not."""

    model_config = ConfigDict(frozen=True)

    name: str
    ok: bool
    found: str
    advice: str = ""


def diagnose(workspace_root: Path, *, ask_keras: Callable[[], probes.ProbeResult] = probes.keras) -> list[Finding]:
    """Check everything a run needs, in a fixed order. Changes nothing; takes as long as importing TensorFlow.

    A check that fails to run is a Finding that is not ok, never an exception.
    """
    workspace = Workspace(workspace_root)
    checks: list[tuple[str, Callable[[], Finding]]] = [
        ("python", python_version),
        ("packages", package_versions),
        ("workspace", lambda: writable(workspace.root)),
        ("disk", lambda: free_disk(workspace.root)),
        ("zenml", zenml_store),
        ("mlflow", lambda: mlflow_store(workspace)),
        ("dvc", lambda: dvc_repository(workspace)),
        ("keras", lambda: keras_backend(answer.result())),
        ("gpu", lambda: gpu(answer.result(), probes.driver_gpus(), old=probes.gpus_without_bfloat16())),
        ("dead runs", lambda: dead_runs(workspace)),
    ]
    with ThreadPoolExecutor(len(checks) + 1) as pool:
        answer = pool.submit(ask_keras)
        return list(pool.map(lambda check: _guarded(*check), checks))


def _guarded(name: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:  # a check that breaks must not hide what the others found
        found = f"could not be checked: {type(error).__name__}: {' '.join(str(error).split())}"
        return Finding(name=name, ok=False, found=found, advice=f"fix this first, or {INSTALL}")


def python_version() -> Finding:
    """The interpreter against `requires-python`."""
    wanted = importlib.metadata.metadata(PACKAGE)["Requires-Python"]
    version = platform.python_version()
    fits = SpecifierSet(wanted).contains(version, prereleases=True)
    return Finding(name="python", ok=fits, found=f"{version} (wanted {wanted})", advice="" if fits else INSTALL)


def package_versions() -> Finding:
    """Installed packages against the project's own requirements, extras left out."""
    requirements = [Requirement(text) for text in importlib.metadata.requires(PACKAGE) or []]
    needed = [each for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""})]
    wrong = [fault for each in needed if (fault := _wrong(each))]
    found = "; ".join(wrong) if wrong else f"all {len(needed)} as required"
    return Finding(name="packages", ok=not wrong, found=found, advice=INSTALL if wrong else "")


def _wrong(requirement: Requirement) -> str:
    """What is wrong with an installed package, or ''."""
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return f"{requirement.name} is missing (wanted {requirement.specifier or 'any'})"
    if requirement.specifier.contains(version, prereleases=True):
        return ""
    return f"{requirement.name} {version} (wanted {requirement.specifier})"


def writable(root: Path) -> Finding:
    """Whether the workspace can be written, or made if it does not exist yet."""
    nearest = _nearest(root)
    ok = nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    state = "writable" if ok else "not writable"
    found = f"{root} is {state}" if nearest == root else f"{root} does not exist yet; {nearest} is {state}"
    advice = "" if ok else f"give yourself write rights on {nearest}, or set `workspace` in the configuration"
    return Finding(name="workspace", ok=ok, found=found, advice=advice)


def free_disk(root: Path) -> Finding:
    """Free space where the workspace lies."""
    free = shutil.disk_usage(_nearest(root)).free / 1e9
    ok = free >= LEAST_FREE_GB
    advice = (
        "" if ok else f"free {LEAST_FREE_GB:g} GB, or set `workspace` to another disk; cache/decoded may be deleted"
    )
    return Finding(name="disk", ok=ok, found=f"{free:,.1f} GB free", advice=advice)


def _nearest(path: Path) -> Path:
    """The path, or the nearest of its parents that exists."""
    return next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())


def zenml_store() -> Finding:
    """ZenML's store and active stack, asked in a separate process, because a dead server keeps its client waiting."""
    folder = zenml_folder()
    if not (folder / "config.yaml").exists() and "ZENML_STORE_URL" not in os.environ:
        return Finding(name="zenml", ok=True, found=f"not set up in {folder} yet; the first run does it")
    answer = probes.run_probe(probes.ZENML)
    if answer.error:
        advice = "check `zenml status`; `zenml logout` goes back to the local store, `zenml login URL` to a server"
        return Finding(name="zenml", ok=False, found=answer.error, advice=advice)
    return Finding(name="zenml", ok=True, found=f"{answer['url']}, stack {answer['stack']!r}")


def mlflow_store(workspace: Workspace) -> Finding:
    """MLflow's tracking store: the one MLFLOW_TRACKING_URI names, else the workspace's own."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if uri.startswith(("http://", "https://")):
        try:
            with urllib.request.urlopen(uri.rstrip("/") + "/health", timeout=ANSWER_S) as answer:
                return Finding(name="mlflow", ok=True, found=f"{uri} answers {answer.status}")
        except OSError as error:
            advice = "start the server, or correct or unset MLFLOW_TRACKING_URI"
            return Finding(name="mlflow", ok=False, found=f"{uri} does not answer: {error}", advice=advice)
    if uri and not uri.startswith("sqlite:///"):
        return Finding(name="mlflow", ok=True, found=f"{uri} (MLFLOW_TRACKING_URI; not checked)")
    path = Path(uri.removeprefix("sqlite:///")) if uri else workspace.mlflow_database
    if not path.exists():
        return Finding(name="mlflow", ok=True, found=f"{path} does not exist yet; the first run makes it")
    return _mlflow_database(path)


def _mlflow_database(path: Path) -> Finding:
    try:
        with sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True) as database:
            [version] = database.execute("select version_num from alembic_version").fetchone()
            [runs] = database.execute("select count(*) from runs").fetchone()
    except (sqlite3.Error, TypeError) as error:
        advice = f"move {path} away to start again, or restore it from a copy"
        return Finding(name="mlflow", ok=False, found=f"{path} cannot be read: {error}", advice=advice)
    found = f"{path}, {runs:,} runs"
    if version == probes.mlflow_schema():
        return Finding(name="mlflow", ok=True, found=found)
    advice = f"copy the file, then `mlflow db upgrade sqlite:///{path}`; if that fails, a newer MLflow wrote it"
    return Finding(name="mlflow", ok=False, found=f"{found}, schema {version} of another MLflow", advice=advice)


def dvc_repository(workspace: Workspace) -> Finding:
    """The datasets' DVC repository, and whether this machine has the plugin or write rights that its remote needs."""
    path = workspace.datasets / ".dvc" / "config"
    if not path.exists():
        return Finding(name="dvc", ok=True, found=f"no repository in {workspace.datasets} yet; the first run makes it")
    config = configparser.ConfigParser(interpolation=None)
    config.read_string("\n".join(line.strip() for line in path.read_text().splitlines()))
    remote = config.get("core", "remote", fallback="")
    url = config.get(f"'remote \"{remote}\"'", "url", fallback="")
    if not url:
        return Finding(name="dvc", ok=True, found=f"{workspace.datasets}, no remote yet; the next run sets one")
    found = f"{workspace.datasets}, remote {url}"
    scheme = url.partition("://")[0] if "://" in url else ""
    if scheme:
        plugin = f"dvc_{scheme}"
        ok = importlib.util.find_spec(plugin) is not None
        advice = "" if ok else f"install {plugin.replace('_', '-')}; for S3: the extra selftrain[s3]"
        return Finding(name="dvc", ok=ok, found=found, advice=advice)
    folder = _nearest(Path(os.path.normpath(path.parent / url)))
    ok = os.access(folder, os.W_OK | os.X_OK)
    return Finding(name="dvc", ok=ok, found=found, advice="" if ok else f"give yourself write rights on {folder}")


def keras_backend(answer: probes.ProbeResult) -> Finding:
    """Keras' backend, from what `probes.keras` answered."""
    if answer.error:
        advice = f"unset KERAS_BACKEND to use TensorFlow, or {INSTALL}"
        return Finding(name="keras", ok=False, found=answer.error, advice=advice)
    return Finding(name="keras", ok=True, found=f"Keras {answer['keras']} on {answer['backend']}")


def gpu(answer: probes.ProbeResult, driver: str, *, old: str = "") -> Finding:
    """The accelerators that Keras' backend sees, beside those that the driver sees ('' for none).

    `old` names those that do not compute in bfloat16.
    """
    gpus = answer["gpus"]
    if gpus:
        note = f"; leave precision at float32: {old} does not compute in bfloat16" if old else ""
        return Finding(name="gpu", ok=True, found=f"{len(gpus.split(', '))}: {gpus}{note}")
    if not driver:
        return Finding(name="gpu", ok=True, found="none; training runs on the CPU")
    advice = "install the GPU build of the backend: pip install 'tensorflow[and-cuda]', or jax[cuda12]"
    return Finding(name="gpu", ok=False, found=f"the driver has {driver}, Keras' backend sees none", advice=advice)


def dead_runs(workspace: Workspace) -> Finding:
    """Runs whose process is gone, but which are not marked as ended yet."""
    dead = run_lock.dead_runs(workspace.locks)
    found = f"{len(dead)}: {', '.join(dead)}" if dead else "none"
    advice = (
        "start any run with this workspace and the same ZENML_CONFIG_PATH: it ends them and continues; "
        f"for a run that was deleted, remove its file in {workspace.locks}"
    )
    return Finding(name="dead runs", ok=not dead, found=found, advice=advice if dead else "")
