"""Nights: a site that learns colours, its inbox, and what must hold whatever went wrong there."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from selftrain.data.intake_table import intake_path, read_intake
from selftrain.files.lease import FileLease
from selftrain.files.locks import is_abandoned
from selftrain.retraining.journal import Journal, Line, seen_rows, state_of
from tests.pipelines.site import NETWORK, TINY, Site

Paint = Callable[..., Path]
COLOURS = ("red", "green", "blue")
ENOUGH = 4  # new images that make a retraining due


def colours_experiment(colours: Path, inbox: Path, **more: Any) -> dict[str, Any]:
    """The smallest experiment that retrains: four new images are enough."""
    recipe = {"backbone": NETWORK, "steps": 20, "validate_every": 10, "learning_rate": 0.01}
    return {
        **TINY,
        "name": "colours",
        "source": {"kind": "folder", "labeled": str(colours / "labeled"), "unlabeled": str(colours / "unlabeled")},
        "teacher": recipe,
        "student": recipe,
        "registry": {"model_name": "colours", "floors": {"accuracy": 0.01}, "first_champion": "any", "trial_images": 0},
        "inbox": {"url": str(inbox), "settle_s": 0},
        "retrain": {"any_of": {"min_new": ENOUGH, "manual": True}},
        **more,
    }


@dataclass
class Nights:
    """A site, its inbox, and how many images have arrived there."""

    site: Site
    inbox: Path
    paint: Paint
    arrived: int = 0

    def arrive(self, colours: tuple[str, ...] = ("red", "green", "blue", "red"), **look: int) -> None:
        """One new image of each of `colours`."""
        for colour in colours:
            self.arrived += 1
            self.paint(self.inbox / f"{self.arrived}.png", colour, **{"seed": 10_000 + self.arrived, **look})

    def command(self, *more: str) -> tuple[str, ...]:
        return ("selftrain", "retrain", "--config", str(self.site.config()), *more)

    def retrain(self, *more: str) -> str:
        """What a retraining that ends well says on both streams."""
        done = self.site.run(*self.command(*more))
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def killed_after(self, seconds: float) -> bool:
        """Retrain, and kill -9 the command with its children after `seconds`; whether it had ended well before."""
        try:
            done = self.site.run(*self.command(), timeout_s=seconds)
        except subprocess.TimeoutExpired:
            return False
        assert done.returncode == 0, done.stdout + done.stderr
        return True

    def lines(self, kind: str | None = None) -> list[Line]:
        lines = Journal(self.site.workspace / "datasets" / "colours.retraining.jsonl").lines()
        return [line for line in lines if kind in (None, line.kind)]

    def intake(self) -> pa.Table:
        return read_intake(intake_path(self.site.workspace / "datasets" / "colours"))

    def champion(self) -> int:
        where = ("--workspace", str(self.site.workspace), "--model-name", "colours")
        history = self.site.run("selftrain", "history", "--json", *where)
        assert history.returncode == 0, history.stderr
        moves = [line for line in json.loads(history.stdout) if line["action"] != "refuse"]
        return int(moves[-1]["to"])

    def check(self, server: str = "") -> None:
        """Every image was consumed once and registered with once, and nothing is left that runs or is locked."""
        intake, workspace = self.intake(), self.site.workspace
        assert intake.num_rows == self.arrived
        assert len(set(intake["path"].to_pylist())) == len(set(intake["image_id"].to_pylist())) == self.arrived
        assert seen_rows(self.lines(), intake) == self.arrived
        decided = [line.facts["intake_rows"] for line in self.lines("decided")]
        assert decided == sorted(set(decided)), "no image was decided on twice"
        facts = self.site.mlflow(server)
        digests = [tags["selftrain.manifest_digest"] for tags in facts["versions"].values()]
        assert len(digests) == len(set(digests)), "one registration per state of the data"
        assert {run["status"] for run in facts["runs"].values()} <= {"FINISHED", "FAILED", "KILLED"}
        assert set(self.site.run_states()) <= {"completed", "failed"}
        assert state_of(self.lines()).failures == 0
        leases = workspace / "locks" if server else workspace / "mlflow" / "leases"
        lease = FileLease(leases / "champion-colours.lease", "the test")
        assert lease.take() is None, "the champion's place is free"
        lease.release()
        assert all(is_abandoned(path) for path in workspace.joinpath("locks").iterdir() if path.is_file())


def timed(action: Callable[[], object]) -> float:
    """Seconds that `action` takes."""
    began = time.monotonic()
    action()
    return time.monotonic() - began
