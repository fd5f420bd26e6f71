"""By how much do retrainings in a row grow a workspace and ZenML's store, with `selftrain clean` after each?"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from PIL import Image
from pydantic import JsonValue

from benchmarks.machine import ROOT
from benchmarks.record import Check, Result, Table
from selftrain.files.disk_use import disk_use

NIGHTS, WARM_UP, A_NIGHT = 20, 3, 12  # the first nights fill what `clean --keep-runs 2` keeps
KEEP = "2"
SMALL = {"backbone": "wide_resnet_16_1", "steps": 20, "validate_every": 10, "learning_rate": 0.01}
COMMAND = Path(sys.executable).with_name("selftrain")
COLOURS = ("red", "green", "blue")
PER_NIGHT_KB = 1500.0


@dataclass(frozen=True)
class Stores:
    """Where a machine keeps all that selftrain leaves: a workspace and ZenML's folder, both in `folder`."""

    folder: Path

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace"

    def sizes(self) -> dict[str, int]:
        """Bytes by kind. A file of DVC that has links in both of its places is counted once."""
        work, zenml = self.workspace, self.folder / "zenml"
        databases = [*zenml.rglob("*.db"), *zenml.rglob("*.db-*")]
        whole = {
            "images and their versions": [work / "datasets", work / "dvc-remote"],
            "registered models": list(work.glob("mlflow/artifacts/models")),
            "MLflow's artifacts": [each for each in work.glob("mlflow/artifacts/*") if each.name != "models"],
            "MLflow's database": list(work.glob("mlflow/mlflow.db*")),
            "caches and checkpoints": [work / "cache", work / "checkpoints"],
            "ZenML's database": databases,
        }
        found = {kind: disk_use(paths).size for kind, paths in whole.items()}
        found["ZenML's artifacts and logs"] = disk_use([zenml]).size - found["ZenML's database"]
        found["all"] = disk_use([work, zenml]).size
        return found


def measure(*, quick: bool) -> Result:
    """A night brings 12 images of 48 px, retrains a network of the smallest kind, and cleans up."""
    nights, warm_up = (3, 1) if quick else (NIGHTS, WARM_UP)
    with tempfile.TemporaryDirectory() as folder:
        stores = Stores(Path(folder))
        arrived, sizes = _nights(stores, nights)
    grown = {kind: (sizes[-1][kind] - sizes[warm_up][kind]) / (nights - 1 - warm_up) / 1000 for kind in sizes[0]}
    images = arrived / nights / 1000
    rest = grown["all"] - grown["images and their versions"] - grown["registered models"]
    checks = (
        Check(
            what="images and their versions, growth over the bytes that arrived",
            measured=grown["images and their versions"] / images,
            relation="<=",
            target=3.0,
        ),
        Check(
            what="all but images and registered models, growth a retraining",
            measured=rest,
            relation="<",
            target=PER_NIGHT_KB,
            unit="kB",
        ),
    )
    columns = ("kind", "kB after the first", "kB after the last", "kB a retraining")
    rows = tuple(
        (kind, f"{sizes[0][kind] / 1000:.0f}", f"{sizes[-1][kind] / 1000:.0f}", f"{grown[kind]:.1f}") for kind in grown
    )
    details: dict[str, JsonValue] = {"nights": nights, "arrived": arrived, "bytes": [dict(each) for each in sizes]}
    return Result(checks=checks, details=details, tables=(Table(title="growth", columns=columns, rows=rows),))


def _nights(stores: Stores, nights: int) -> tuple[int, list[dict[str, int]]]:
    """The bytes of images that arrived, and what was used after each night's clean."""
    paint(stores.folder / "labeled", 45, seed=0, classes=True)
    paint(stores.folder / "unlabeled", 30, seed=1000)
    config = stores.folder / "growth.yaml"
    config.write_text(yaml.safe_dump({"parameters": {"experiment": _experiment(stores)}}))
    arrived, sizes = 0, []
    for night in range(nights):
        arrived += paint(stores.folder / "inbox" / f"{night:02}", A_NIGHT, seed=10_000 + 100 * night)
        _run(stores, "retrain", "--config", str(config))
        _run(stores, "clean", "--keep-runs", KEEP, "--workspace", str(stores.workspace))
        sizes.append(stores.sizes())
    return arrived, sizes


def _experiment(stores: Stores) -> dict[str, object]:
    labeled, unlabeled = str(stores.folder / "labeled"), str(stores.folder / "unlabeled")
    return {
        "name": "growth",
        "workspace": str(stores.workspace),
        "source": {"kind": "folder", "labeled": labeled, "unlabeled": unlabeled},
        "teacher": SMALL,
        "student": SMALL,
        "pseudo_label": {"threshold": {"kind": "fixed", "value": 0.2}},
        "gate": {"target": 0.05, "min_rounds": 1, "max_rounds": 1},
        "registry": {"model_name": "growth", "floors": {"accuracy": 0.01}, "first_champion": "any", "trial_images": 0},
        "inbox": {"url": str(stores.folder / "inbox"), "settle_s": 0},
        "retrain": {"any_of": {"min_new": A_NIGHT}},
    }


def paint(folder: Path, count: int, *, seed: int, classes: bool = False) -> int:
    """Noisy pictures of three colours, in turn; returns their bytes."""
    written = 0
    for index in range(count):
        colour = index % len(COLOURS)
        pixels = np.random.default_rng(seed + index).integers(0, 40, (48, 48, 3), np.uint8)
        pixels[..., colour] += np.uint8(200)
        path = folder / COLOURS[colour] / f"{index}.png" if classes else folder / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        written += path.stat().st_size
    return written


def _run(stores: Stores, *arguments: str) -> None:
    environment = {**os.environ, "ZENML_CONFIG_PATH": str(stores.folder / "zenml")}
    command = [str(COMMAND), *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}")
