"""How long does `selftrain pseudo-label` take for a folder of photos, compared with a plain Keras script?

Both are whole commands, each in a process of its own, in turns: 2,077 JPEGs whose longer side has 512 px, answered by
MobileNetV2 1.0 at 160 px. The script reads the folder with `image_dataset_from_directory` in batches of 64, predicts,
and writes a CSV. Ours also draws its charts. The photos are COCO's 482 and changed copies. Each turn gives
a ratio, and the median of the ratios is told, because other processes slow both sides of a turn.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image, ImageOps
from pydantic import JsonValue

from benchmarks.machine import ROOT
from benchmarks.networks import saved_model
from benchmarks.photos import archive
from benchmarks.record import Check, Result

BACKBONE, SIDE = "mobilenet_v2_100", 160
PHOTOS, QUICK_PHOTOS, TURNS = 2077, 24, 5
TARGETS = {"wall": 0.6, "processor": 0.7, "memory": 1.0}
PLAIN = """
import csv, sys
import keras, numpy as np
path, folder, out = sys.argv[1:]
model = keras.models.load_model(path, compile=False)
data = keras.utils.image_dataset_from_directory(
    folder, labels=None, image_size=(160, 160), batch_size=64, shuffle=False
)
logits = model.predict(data, verbose=0)
probs = np.exp(logits - logits.max(axis=1, keepdims=True))
probs /= probs.sum(axis=1, keepdims=True)
with open(out, "w", newline="") as file:
    rows = csv.writer(file)
    rows.writerow(("path", "class", "confidence"))
    rows.writerows((name, row.argmax(), f"{row.max():.6f}") for name, row in zip(data.file_paths, probs))
"""
OURS = "from selftrain.cli.app import main; main()"
CHANGES: tuple[Callable[[Image.Image], Image.Image], ...] = (
    lambda photo: photo,
    ImageOps.mirror,
    ImageOps.flip,
    lambda photo: photo.transpose(Image.Transpose.ROTATE_180),
    ImageOps.autocontrast,
)


@dataclass(frozen=True)
class Taken:
    """What one command took: seconds on the clock, seconds of the processor, and its peak memory in MB."""

    wall: float
    processor: float
    memory: float


def measure(*, quick: bool) -> Result:
    """The commands in turns, every other turn in reverse order."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_photos(folder / "photos" / "all", QUICK_PHOTOS if quick else PHOTOS)
        model = saved_model(BACKBONE, SIDE, folder / "model").folder
        taken = _in_turns(_commands(folder, model), folder, turns=1 if quick else TURNS)
    checks = []
    for what, target in TARGETS.items():
        pairs = zip(taken["ours"], taken["plain"], strict=True)
        ratio = statistics.median(getattr(ours, what) / getattr(plain, what) for ours, plain in pairs)
        checks.append(Check(what=f"{what}, over a plain Keras script", measured=ratio, relation="<=", target=target))
    details: dict[str, JsonValue] = {
        name: [{what: round(value, 2) for what, value in asdict(each).items()} for each in turns]
        for name, turns in taken.items()
    }
    return Result(checks=tuple(checks), details={"photos": QUICK_PHOTOS if quick else PHOTOS, **details})


def write_photos(into: Path, count: int) -> None:
    """The first `count` of COCO's photos and of their changed copies, as JPEGs of quality 90."""
    into.mkdir(parents=True)
    with zipfile.ZipFile(archive("coco_mini_512.zip")) as packed:
        names = sorted(name for name in packed.namelist() if name.endswith(".jpg"))
        for place in range(count):
            change, name = CHANGES[place // len(names)], names[place % len(names)]
            with packed.open(name) as file, Image.open(file) as photo:
                change(photo.convert("RGB")).save(into / f"{place:05d}.jpg", quality=90)


def _commands(folder: Path, model: Path) -> dict[str, list[str]]:
    photos = str(folder / "photos" / "all")
    plain = [PLAIN, str(model / "model.keras"), photos, str(folder / "plain.csv")]
    options = ["--model", str(model), "--images", photos, "--out", str(folder / "ours.csv")]
    return {
        "ours": [sys.executable, "-c", OURS, "pseudo-label", *options],
        "plain": [sys.executable, "-c", *plain],
    }


def _in_turns(commands: dict[str, list[str]], folder: Path, *, turns: int) -> dict[str, list[Taken]]:
    taken: dict[str, list[Taken]] = {name: [] for name in commands}
    for turn in range(turns):
        for name in list(commands) if turn % 2 == 0 else list(reversed(list(commands))):
            taken[name].append(_run(commands[name], folder))
            print(f"    {name}: {taken[name][-1]}", flush=True)
    return taken


def _run(command: list[str], folder: Path) -> Taken:
    """Run `command` to its end. Raises CalledProcessError, with what it wrote, if it fails."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "ZENML_CONFIG_PATH": str(folder / "zenml")}
    with (folder / "log").open("w+") as log:
        begin = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            raise subprocess.CalledProcessError(process.returncode, command[:2], log.read())
    unit = 1e6 if sys.platform == "darwin" else 1e3  # of ru_maxrss: bytes there, kB elsewhere
    return Taken(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit)
