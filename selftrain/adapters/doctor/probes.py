"""Probes: questions to libraries that are slow to import or may hang, each in its own process."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TIMEOUT_S = 90

ZENML = """
from zenml.client import Client
client = Client()
url = client.zen_store.url
answer = {"url": url, "stack": client.active_stack_model.name}
"""

KERAS = """
import keras
try:
    gpus = keras.distribution.list_devices("gpu")
except Exception:
    gpus = []
answer = {"keras": keras.__version__, "backend": keras.backend.backend(), "gpus": ", ".join(gpus)}
"""

# A probe must not write, migrate, phone home, or take a GPU's whole memory from a training that uses it.
QUIET = {
    "DISABLE_DATABASE_MIGRATION": "true",
    "ZENML_ANALYTICS_OPT_IN": "false",
    "ZENML_LOGGING_VERBOSITY": "ERROR",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    "PYTHONWARNINGS": "ignore",
}


@dataclass(frozen=True)
class ProbeResult:
    """A probe's answer: texts by name ('' for an unknown one), or an error in one line."""

    values: dict[str, str] = field(default_factory=dict)
    error: str = ""

    def __getitem__(self, name: str) -> str:
        return self.values.get(name, "")


def run_probe(
    program: str, *, timeout_s: float = TIMEOUT_S, environment: Mapping[str, str] | None = None
) -> ProbeResult:
    """Run `program`, which sets `answer` to a dict of texts, with this Python.

    >>> run_probe("answer = {'sum': str(1 + 1)}")["sum"]
    '2'
    """
    code = f"import json\n{program}\nprint('\\n' + json.dumps(answer))"
    surroundings = {**os.environ, **QUIET, **(environment or {})}
    command = [sys.executable, "-c", code]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, env=surroundings, check=False)
    except subprocess.TimeoutExpired:
        return ProbeResult(error=f"no answer in {timeout_s:g} s")
    if done.returncode:
        return ProbeResult(error=_error_line(done.stderr) or f"exit code {done.returncode}")
    return ProbeResult(values=json.loads(done.stdout.splitlines()[-1]))


def _error_line(stderr: str) -> str:
    """The line of a traceback that names the error, else its last line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Missing|Refused)\b", line)]
    return (named or lines or [""])[-1]


def keras() -> ProbeResult:
    """Keras' version, backend and GPUs. Keras creates a missing keras.json; here that goes to a temporary folder."""
    home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    if (home / "keras.json").exists():
        return run_probe(KERAS)
    with tempfile.TemporaryDirectory() as empty:
        return run_probe(KERAS, environment={"KERAS_HOME": empty})


def driver_gpus() -> str:
    """Names of the GPUs that NVIDIA's driver sees; '' for none."""
    return ", ".join(_asked_of_the_driver("name"))


def gpus_without_bfloat16() -> str:
    """Names of the GPUs that NVIDIA's driver sees and that do not compute in bfloat16; '' for none."""
    return without_bfloat16(_asked_of_the_driver("name,compute_cap"))


def without_bfloat16(gpus: Sequence[str]) -> str:
    """Which of `gpus`, each a name and a compute capability, came before NVIDIA's Ampere (8.0).

    >>> without_bfloat16(["Tesla T4, 7.5", "NVIDIA H200, 9.0", "unknown, [N/A]"])
    'Tesla T4'
    """
    split = [gpu.rpartition(", ") for gpu in gpus]
    return ", ".join(name for name, _, number in split if re.fullmatch(r"[1-7]\.\d+", number))


def _asked_of_the_driver(fields: str) -> list[str]:
    """A line per GPU; none where NVIDIA's driver is missing or does not know a field."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    query = [command, f"--query-gpu={fields}", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    return done.stdout.strip().splitlines() if done.returncode == 0 else []


def mlflow_schema() -> str:
    """The newest database revision that the installed MLflow knows, read from its migrations without importing it."""
    spec = importlib.util.find_spec("mlflow")
    if spec is None or not spec.submodule_search_locations:
        return ""
    folder = Path(spec.submodule_search_locations[0]) / "store" / "db_migrations" / "versions"
    sources = [path.read_text(encoding="utf-8") for path in folder.glob("*.py")]
    made = {found for source in sources for found in re.findall(r'^revision = "(\w+)"', source, re.MULTILINE)}
    left = {found for source in sources for found in re.findall(r'^down_revision = "(\w+)"', source, re.MULTILINE)}
    return ", ".join(sorted(made - left))
