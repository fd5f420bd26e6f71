"""The machine a number was measured on: what it is, how busy it was, and the code's commit."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict

from selftrain.data.workers import cores

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("keras", "tensorflow", "jax", "numpy", "pyarrow", "pillow", "grain", "zenml", "mlflow")
BUSY = 0.25  # processes waiting a core, before the benchmark starts, above which its times say little


class Machine(BaseModel):
    """No names and no paths: only what a number depends on."""

    model_config = ConfigDict(frozen=True)

    processor: str
    cores: int
    memory_gb: float
    system: str
    python: str
    versions: dict[str, str]
    load: float  # processes that ran or waited, averaged over the minute before the benchmark
    accelerator: str = ""  # the first GPU's name
    backend: str = "tensorflow"  # of Keras

    @property
    def short(self) -> str:
        """What computes, and by what if not by TensorFlow."""
        host = f"{self.processor}, {self.cores} cores"
        computes = f"{self.accelerator}, {host}" if self.accelerator else host
        return computes if self.backend == "tensorflow" else f"{computes}, {self.backend}"

    @property
    def busy(self) -> bool:
        """Whether others used the machine."""
        return self.load > BUSY * self.cores


def this_machine() -> Machine:
    """The machine as it is now."""
    import keras

    return Machine(
        processor=_processor(),
        cores=cores(),
        memory_gb=round(psutil.virtual_memory().total / 1e9, 1),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        versions=_versions(),
        load=round(os.getloadavg()[0], 2),
        accelerator=accelerator(),
        backend=keras.config.backend(),
    )


def accelerator() -> str:
    """The name of the machine's first NVIDIA GPU, empty if there is none."""
    try:
        asked = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return asked.stdout.partition("\n")[0].strip()


def commit() -> str:
    """The commit that is checked out, with a + if the code differs from it; 'unknown' outside git."""
    try:
        head = _git("rev-parse", "--short=10", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}+" if changed else head


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def _versions() -> dict[str, str]:
    """Of the packages that are there: training alone takes neither engines nor both backends."""
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()
