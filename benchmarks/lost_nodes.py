"""What is left of scheduled retrainings whose nodes are lost at random moments?

The cluster is the one of the tests: ZenML's own Kubernetes orchestrator, our rights, a real S3 store and a real MLflow
server. The API is in memory, and pods are processes with empty disks. Each night four images arrive in the bucket, and
the CronJob's next Job is started. At a random moment one of its pods, or all of them, get SIGKILL. What Kubernetes then
starts again goes on, the night ends, and the next one begins as usual. The last night is not disturbed.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from benchmarks.growth import SMALL, paint
from benchmarks.photos import SkippedError
from benchmarks.record import Check, Result, Table

if TYPE_CHECKING:
    from tests.k8s.loopback import Loopback

NIGHTS, QUICK_NIGHTS = int(os.environ.get("RANDOM_KILLS", "20")), 2
LONGEST_S = float(os.environ.get("RANDOM_KILLS_S", "inf"))  # no further night is disturbed after so long
A_NIGHT, SEED = 4, 17
ISOLATED = ("train_student",)  # the other steps run in the orchestrator's pod
FACTS = """
import json, os
from pathlib import Path
os.environ.update(SELFTRAIN_STATE="s3://selftrain-data/state", SELFTRAIN_DVC_REMOTE="s3://selftrain-data/dvc")
from mlflow import MlflowClient
from zenml.client import Client
from selftrain.adapters.snapshots.carrying import carrier_of
from selftrain.config import Place
from selftrain.data.intake_table import intake_path, read_intake
from selftrain.data.store.dataset import open_dataset
from selftrain.retraining.journal import journal_of, seen_rows
place = Place(workspace={workspace!r}, dataset="colours")
carrier_of(place).bring()
dataset = open_dataset(place)
intake = read_intake(intake_path(dataset.store.root))
lines = journal_of(dataset.workspace, "colours").lines()
print(json.dumps({{
    "paths": intake["path"].to_pylist(),
    "images": intake["image_id"].to_pylist(),
    "seen": seen_rows(lines, intake),
    "decided": [(line.facts["intake_rows"], line.facts["manifest_digest"]) for line in lines if line.kind == "decided"],
    "lines": [line.kind for line in lines],
    "registered": [v.tags["selftrain.manifest_digest"] for v in MlflowClient().search_model_versions()],
    "runs": [run.status.value for run in Client().list_pipeline_runs(size=1000).items],
}}))
"""


@dataclass(frozen=True)
class Night:
    """A night: what was killed `after_s` seconds ("" if nothing ran then), and how long it took."""

    killed: str
    after_s: float
    took_s: float


@dataclass(frozen=True)
class Facts:
    """What the stores hold in the end.

    - `paths`, `images`: each file that was taken in; `seen`: how many of them decided runs saw
    - `decided`: of each decided run, the rows that it saw and the digest of its manifest
    - `registered`: that digest of each version
    - `lines`: the kinds of the journal's lines; `runs`: ZenML's status of each run
    """

    paths: list[str]
    images: list[str]
    seen: int
    decided: list[tuple[int, str]]
    lines: list[str]
    registered: list[str]
    runs: list[str]

    @property
    def twice(self) -> int:
        """Images that were taken in twice, and decided runs that saw nothing new.

        >>> Facts(["a", "a"], ["1", "1"], 2, [(1, "x"), (1, "y")], [], [], []).twice
        3
        """
        rows = [rows for rows, _ in self.decided]
        again = sum(after <= before for before, after in pairwise(rows))
        return len(self.paths) - len(set(self.paths)) + len(self.images) - len(set(self.images)) + again

    @property
    def registrations(self) -> list[int]:
        """How many versions each decided state of the data has."""
        counts = Counter(self.registered)
        return [counts[digest] for digest in {digest for _, digest in self.decided}]


def measure(*, quick: bool) -> Result:
    """A night that nobody disturbs, which says how long one takes; nights with a kill each; and a last calm one."""
    from tests.k8s.loopback import loopback_cluster, why_not

    if reason := why_not():
        raise SkippedError(reason)
    with tempfile.TemporaryDirectory() as folder, loopback_cluster(Path(folder, "cluster"), {}) as cluster:
        cluster.site.experiment |= _experiment(Path(folder), cluster)
        cron_job = cluster.schedule(isolated=ISOLATED)
        nights = _nights(cluster, cron_job, QUICK_NIGHTS if quick else NIGHTS)
        reaped = cluster.site.run("selftrain", "runs", "reap", "--stack", "selftrain")
        code = FACTS.format(workspace=str(Path(folder, "looked")))
        facts = Facts(**cluster.site.ask(code))
        leases = cluster.leases()
    print(
        f"    runs reap: {reaped.returncode}, {reaped.stdout.strip() or reaped.stderr[-1000:]}\n    {facts}", flush=True
    )
    return _result(nights, facts, leases=len(leases))


def _nights(cluster: Loopback, cron_job: str, count: int) -> list[Night]:
    draw = random.Random(SEED)
    began, nights = time.monotonic(), [_night(cluster, cron_job, 0)]
    while len(nights) <= count and time.monotonic() - began < LONGEST_S:
        after_s = draw.uniform(0.0, nights[0].took_s)
        nights.append(_night(cluster, cron_job, len(nights), draw=draw, after_s=after_s))
    return [*nights, _night(cluster, cron_job, len(nights))]


def _night(
    cluster: Loopback, cron_job: str, number: int, *, draw: random.Random | None = None, after_s: float = 0.0
) -> Night:
    """Images arrive and a Job starts; with `draw`, pods are killed after `after_s` seconds."""
    with tempfile.TemporaryDirectory() as folder:
        paint(Path(folder), A_NIGHT, seed=10_000 + 100 * number)
        for path in sorted(Path(folder).glob("*.png")):
            cluster.put(f"inbox/{number:02}/{path.name}", path.read_bytes())
    began = time.monotonic()
    cluster.kubelet.start(cron_job)
    killed = _kill(cluster, draw, after_s) if draw else ""
    cluster.night_ends()
    night = Night(killed, round(after_s, 1), round(time.monotonic() - began, 1))
    print(f"    night {number}: {night}", flush=True)
    return night


def _kill(cluster: Loopback, draw: random.Random, after_s: float) -> str:
    """Kill one of the pods that run after so many seconds, or all of them; the steps that ran in them."""
    time.sleep(after_s)
    running = [pod for pod in cluster.kubelet.pods() if pod["status"].get("phase") == "Running"]
    chosen = running if draw.random() < 0.5 else draw.sample(running, min(1, len(running)))
    for pod in chosen:
        cluster.kubelet.kill(pod)
    return ", ".join(sorted(pod["metadata"]["labels"].get("step_name", "the pipeline") for pod in chosen))


def _result(nights: list[Night], facts: Facts, *, leases: int) -> Result:
    killed, arrived = sum(bool(each.killed) for each in nights), A_NIGHT * len(nights)
    of = f" ({killed} of {len(nights)} nights killed)"
    unfinished = [status for status in facts.runs if status not in ("completed", "failed", "cached", "stopped")]
    numbers = {
        f"images consumed twice{of}": facts.twice,
        "images that no decided run has seen": arrived - facts.seen,
        "most versions registered for one decided state of the data": max(facts.registrations, default=0),
        "decided states of the data without a version": facts.registrations.count(0),
        "leases left": leases,
        "runs that are running after `selftrain runs reap`": len(unfinished),
    }
    targets = {"most versions registered for one decided state of the data": 1}
    checks = tuple(
        Check(what=what, measured=number, relation="<=", target=targets.get(what, 0))
        for what, number in numbers.items()
    )
    rows = tuple(
        (str(n), each.killed or "-", f"{each.after_s:.0f}", f"{each.took_s:.0f}") for n, each in enumerate(nights)
    )
    table = Table(title="The nights", columns=("night", "killed", "after, s", "took, s"), rows=rows)
    details: dict[str, JsonValue] = {
        "seed": SEED,
        "nights": [asdict(each) for each in nights],
        "runs": dict(Counter(facts.runs)),
        "journal": dict(Counter(facts.lines)),
        "decided": json.loads(json.dumps(facts.decided)),
    }
    return Result(checks=checks, details=details, tables=(table,))


def _experiment(folder: Path, cluster: Loopback) -> dict[str, object]:
    """The smallest experiment that retrains when four images are new. Each version's gate is one that it passes."""
    paint(folder / "labeled", 45, seed=0, classes=True)
    paint(folder / "unlabeled", 30, seed=1000)
    secrets = {"key": "env:AWS_ACCESS_KEY_ID", "secret": "env:AWS_SECRET_ACCESS_KEY"}
    return {
        "name": "colours",
        "source": {"kind": "folder", "labeled": str(folder / "labeled"), "unlabeled": str(folder / "unlabeled")},
        "teacher": SMALL,
        "student": SMALL,
        "pseudo_label": {"threshold": {"kind": "fixed", "value": 0.2}},
        "gate": {"target": 0.05, "min_rounds": 1, "max_rounds": 1},
        "registry": {"model_name": "colours", "floors": {"accuracy": 0.01}, "first_champion": "any", "trial_images": 0},
        "inbox": {
            "url": "s3://selftrain-data/inbox",
            "settle_s": 0,
            "storage": {"endpoint_url": cluster.store.address},
            "secrets": secrets,
        },
        "retrain": {"any_of": {"min_new": A_NIGHT, "manual": True}},
    }
