"""How much work is lost when a training is killed, and does it end in the same weights?

The training is the step that trains the digits run's first teacher, on a smaller network. It is killed ten times: five
times by SIGKILL, as when its node loses power, and five times by SIGTERM, as when the node is drained. Each time a new
process with an empty disk goes on. It has the checkpoints, and the images, from a real S3 store on this machine.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

from pydantic import JsonValue

from benchmarks import pod_training
from benchmarks.machine import ROOT
from benchmarks.pod_training import Reached, reached
from benchmarks.record import Check, Result, Table
from selftrain.config import Experiment
from selftrain.errors import INTERRUPTED
from tests.adapters.s3 import S3Server

KILLS, SEED = 10, 17
TRAINING_STEPS, QUICK_STEPS = 1200, 200
CHECKPOINT_S, MARGIN_S = 2.0, 10.0
LOOK_S = 0.02
ENDS = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: INTERRUPTED}
BUCKET, KEY, SECRET = "selftrain-data", "training", "steps-and-saves"


@dataclass(frozen=True)
class Kill:
    """A training that ended by `signal` when `step` was done; the next went on after step `kept`.

    `seconds` is how long the steps between them had taken.
    """

    signal: str
    step: int
    kept: int
    seconds: float

    @property
    def steps(self) -> int:
        """Steps that were done, and had to be done again."""
        return max(0, self.step - self.kept)


@dataclass
class Pods:
    """Starts trainings of one task, each in an empty folder of its own."""

    folder: Path
    store: S3Server
    started: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.task.mkdir(parents=True)

    @property
    def task(self) -> Path:
        """What pods get from those before them."""
        return self.folder / "task"

    def start(self, what: str, checkpoints: str) -> tuple[subprocess.Popen[str], Path]:
        """A process that does `what`, and its folder; its checkpoints go to the folder `checkpoints` of the bucket."""
        self.started += 1
        disk = self.folder / f"pod{self.started}"
        disk.mkdir()
        variables = {
            "PYTHONPATH": str(ROOT),
            "ZENML_CONFIG_PATH": str(disk / "zenml"),
            **self.store.environment(),
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "SELFTRAIN_CHECKPOINTS": f"s3://{BUCKET}/{checkpoints}",
            "SELFTRAIN_DVC_REMOTE": f"s3://{BUCKET}/datasets",
        }
        command = [sys.executable, "-m", "benchmarks.pod_training", what, str(self.task)]
        with open(disk / "log", "w") as log:
            process = subprocess.Popen(
                command, cwd=disk, env={**os.environ, **variables}, stdout=subprocess.PIPE, stderr=log, text=True
            )
        return process, disk

    def finish(self, what: str, checkpoints: str) -> tuple[str, list[Reached]]:
        """The last word of a process that nobody kills, and the steps that it did."""
        process, disk = self.start(what, checkpoints)
        said, _ = process.communicate()
        _expect(process, 0, disk)
        return (said.split() or [""])[-1], reached(disk / pod_training.STEPS)

    def kill(self, checkpoints: str, *, at: int, by: signal.Signals) -> list[Reached]:
        """Kill a training once it has done the step `at`; the steps that it did."""
        process, disk = self.start("train", checkpoints)
        steps = disk / pod_training.STEPS
        while process.poll() is None and max((each.step for each in reached(steps)), default=0) < at:
            time.sleep(LOOK_S)
        process.send_signal(by)
        process.communicate()
        _expect(process, ENDS[by], disk)
        return reached(steps)


def measure(*, quick: bool) -> Result:
    """One training that nobody kills, then one that is killed again and again."""
    kills, steps = (2, QUICK_STEPS) if quick else (KILLS, TRAINING_STEPS)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "s3" / BUCKET).mkdir(parents=True)
        store = S3Server(Path(folder) / "s3")
        store.start(KEY, SECRET)
        try:
            pods = Pods(Path(folder), store)
            (pods.task / pod_training.EXPERIMENT).write_text(_experiment(steps).model_dump_json())
            pods.finish("prepare", "none")
            whole, unbroken = pods.finish("train", "unbroken")
            broken, killed = _killed(pods, moments(steps, kills, SEED))
        finally:
            store.stop()
    took = unbroken[-1].at - unbroken[0].at
    print(f"    unbroken: {steps} steps in {took:.1f} s", flush=True)
    return _result(killed, took=took, same=whole == broken)


def moments(steps: int, kills: int, seed: int) -> list[tuple[int, signal.Signals]]:
    """Where a training of so many steps is killed, and by what: in order, half of them by each signal.

    >>> [by.name for _, by in moments(100, 4, 0)].count("SIGKILL")
    2
    """
    draw = random.Random(seed)
    signals = [signal.SIGKILL, signal.SIGTERM] * (kills // 2)
    draw.shuffle(signals)
    return list(zip(sorted(draw.sample(range(1, steps), kills)), signals, strict=True))


def _killed(pods: Pods, planned: list[tuple[int, signal.Signals]]) -> tuple[str, list[Kill]]:
    """The digest of a training that was killed as `planned`, and what each kill cost."""
    attempts = [pods.kill("killed", at=at, by=by) for at, by in planned]
    digest, last = pods.finish("train", "killed")
    resumed = [*attempts[1:], last]
    kills = [
        lost(by, done, goes_on[0].step - 1) for (_, by), done, goes_on in zip(planned, attempts, resumed, strict=True)
    ]
    for each in kills:
        print(
            f"    {each.signal} at step {each.step}, resumed after {each.kept}: {each.seconds:.2f} s lost", flush=True
        )
    return digest, kills


def lost(by: signal.Signals, done: list[Reached], kept: int) -> Kill:
    """What a kill after the steps `done` cost, where the next training went on after step `kept`.

    >>> lost(signal.SIGKILL, [Reached(1.0, 1), Reached(1.5, 2), Reached(2.5, 3)], 1).seconds
    1.5
    """
    last, pace = done[-1], statistics.median([b.at - a.at for a, b in pairwise(done)] or [0.0])
    since = next((each.at for each in done if each.step == kept), done[0].at - pace)
    return Kill(by.name, last.step, kept, seconds=max(0.0, last.at - since) if last.step > kept else 0.0)


def _result(kills: list[Kill], *, took: float, same: bool) -> Result:
    most = max(each.seconds for each in kills)
    checks = (
        Check(
            what=f"most seconds of work lost at one of {len(kills)} kills, saved every {CHECKPOINT_S:g} s",
            measured=most,
            relation="<=",
            target=CHECKPOINT_S + MARGIN_S,
            unit="s",
        ),
        Check(
            what="final weights that differ from the unbroken training's",
            measured=int(not same),
            relation="<=",
            target=0,
        ),
    )
    columns = ("killed by", "at step", "resumed after step", "steps lost", "seconds lost")
    rows = tuple((k.signal, str(k.step), str(k.kept), str(k.steps), f"{k.seconds:.2f}") for k in kills)
    details: dict[str, JsonValue] = {"seed": SEED, "unbroken_s": round(took, 1), "kills": [asdict(k) for k in kills]}
    return Result(
        checks=checks, details=details, tables=(Table(title="What each kill cost", columns=columns, rows=rows),)
    )


def _experiment(steps: int) -> Experiment:
    teacher = {"backbone": "wide_resnet_16_1", "steps": steps, "validate_every": steps // 3, "augmentation": "digits"}
    return Experiment.model_validate({"name": "digits", "teacher": teacher, "machine": {"checkpoint_s": CHECKPOINT_S}})


def _expect(process: subprocess.Popen[str], code: int, disk: Path) -> None:
    if process.returncode != code:
        raise RuntimeError(
            f"a training ended with {process.returncode}, not {code}: {(disk / 'log').read_text()[-2000:]}"
        )
