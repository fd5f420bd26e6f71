"""How long does `make run` take from a fresh clone with its installation, and when everything is cached?

The clone is of the last commit, into an empty folder, with an empty ZenML store and an empty package cache: packages
come over the network, whose speed is in the first number (and apart in the details).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from pydantic import JsonValue

from benchmarks.machine import ROOT
from benchmarks.record import Check, Result
from selftrain.selflabel.rounds.record import RunRecord

FRESH_S, CACHED_S = 360.0, 30.0
CACHED_RUNS = 3
QUICK_STEPS = 8
DROPPED = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "MLFLOW_TRACKING_URI", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")
SHOWN = ("status", "verdict", "test_accuracy", "teacher_test_accuracy", "registered_version")


def measure(*, quick: bool) -> Result:
    """Once fresh, then cached a few times; `quick` uses the packages that are installed, and trains a few steps."""
    with tempfile.TemporaryDirectory() as folder:
        clone, environment = Path(folder) / "clone", _environment(Path(folder))
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        command = _quick_command(clone, environment) if quick else ["make", "run", f"PYTHON={_base_python()}"]
        started = time.time()
        fresh = _seconds(command, clone, environment)
        ready = clone / ".venv" / ".ready"
        install = ready.stat().st_mtime - started if ready.exists() else 0.0
        first = _status(clone, environment)
        cached = [_seconds(command, clone, environment) for _ in range(1 if quick else CACHED_RUNS)]
        second = _status(clone, environment)
    if {name: first[name] for name in SHOWN} != {name: second[name] for name in SHOWN}:
        raise RuntimeError(f"the cached run came to another end: {first} then {second}")
    training = sum(each.seconds for each in RunRecord.model_validate(first).rounds)
    details: dict[str, JsonValue] = {
        "fresh_s": round(fresh, 1),
        "of_it_install_s": round(install, 1),
        "of_it_training_s": round(training, 1),
        "of_it_everything_else_s": round(fresh - install - training, 1),
        "cached_s": [round(each, 1) for each in cached],
        "came_to": {name: first[name] for name in SHOWN},
    }
    return Result(
        checks=(
            Check(what="fresh clone, install included", measured=fresh, relation="<", target=FRESH_S, unit="s"),
            Check(
                what="again, all cached (the slowest)", measured=max(cached), relation="<", target=CACHED_S, unit="s"
            ),
        ),
        details=details,
    )


def _environment(folder: Path) -> dict[str, str]:
    """This one, without what would tie the clone to this project's own environment and stores."""
    kept = {name: value for name, value in os.environ.items() if name not in DROPPED}
    own_bin = str(ROOT / ".venv" / "bin")
    kept["PATH"] = os.pathsep.join(part for part in kept["PATH"].split(os.pathsep) if part != own_bin)
    kept |= {"ZENML_CONFIG_PATH": str(folder / "zenml"), "UV_CACHE_DIR": str(folder / "uv")}
    return kept


def _base_python() -> str:
    """The interpreter that this virtual environment was made from."""
    return getattr(sys, "_base_executable", sys.executable)


def _quick_command(clone: Path, environment: dict[str, str]) -> list[str]:
    (clone / ".venv").symlink_to(ROOT / ".venv")
    environment["PYTHONPATH"] = str(clone)  # before the editable install of this tree
    path = clone / "configs" / "digits.yaml"
    config = yaml.safe_load(path.read_text())
    few = {"steps": QUICK_STEPS, "validate_every": QUICK_STEPS, "augmentation": "digits"}
    config["parameters"]["experiment"] |= {"teacher": few, "student": few, "gate": {"target": 0.0, "max_rounds": 1}}
    path.write_text(yaml.safe_dump(config))
    return [str(clone / ".venv" / "bin" / "selftrain"), "run", "--config", str(path)]


def _seconds(command: list[str], clone: Path, environment: dict[str, str]) -> float:
    started = time.perf_counter()
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False)
    taken = time.perf_counter() - started
    print(f"    {taken:.1f} s, exit code {done.returncode}", flush=True)
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}:\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}")
    return taken


def _status(clone: Path, environment: dict[str, str]) -> dict[str, JsonValue]:
    selftrain = str(clone / ".venv" / "bin" / "selftrain")
    done = subprocess.run([selftrain, "status", "--json"], cwd=clone, env=environment, capture_output=True, check=True)
    status: dict[str, JsonValue] = json.loads(done.stdout)
    return status
