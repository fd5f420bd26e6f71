"""How much faster do several pods label a pool than one, and what does a group cost where there is only one?

A pod is a process on one core of its own, with its own copy of the store on its disk. It loads what it needs, waits for
all others, and then does what the step `label_shard` does. One pod that labels all shards is the base.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path

from benchmarks import timing
from benchmarks.networks import saved_model
from benchmarks.pseudo_label import write_cifar10
from benchmarks.record import Check, Result
from selftrain import config
from selftrain.data.ingest.ingest import ingest
from selftrain.data.manifest import Manifest
from selftrain.data.sources.source import open_source
from selftrain.data.store.dataset import open_dataset
from selftrain.learn.models.contract import SavedModel
from selftrain.selflabel.teaching.shard_groups import ShardGroup, images_of, join_groups, label_group, shard_groups
from selftrain.selflabel.teaching.task import TaskData, label_pool, task_of

SHARE_OF_CORES, ONE_GROUP = 0.85, 1.1
POOL, SHARD_MB, BACKBONE, SIZE = 20_000, 1, "efficientnet_b0", 32
REPETITIONS = 3
SETTINGS = config.PseudoLabel()
MACHINE = config.Machine(shard_mb=SHARD_MB)
TASK = task_of("classification")
GROUP_OF_ALL = 1_000_000  # shards


def measure(*, quick: bool) -> Result:
    """The pool of CIFAR-10, by one pod and by one for each core, in turns; then one group beside no group."""
    cores, repetitions = sorted(os.sched_getaffinity(0)), 1 if quick else REPETITIONS
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        write_cifar10(at / "photos", pool=1_000 if quick else POOL)
        model = saved_model(BACKBONE, SIZE, at / "model")
        manifest = _ingested(at)
        shards = len(manifest.table["shard"].unique())
        each = shard_groups(manifest, -(-shards // len(cores)), SETTINGS)
        one = shard_groups(manifest, GROUP_OF_ALL, SETTINGS)
        taken: dict[str, list[float]] = {"one": [], "each": []}
        for _ in range(repetitions):
            taken["one"].append(_pods(at, manifest, model, one, cores[:1]))
            taken["each"].append(_pods(at, manifest, model, each, cores))
        of_one_group, seconds = _one_group(at, manifest, model, one, repetitions)
    ratio = statistics.median(taken["one"]) / statistics.median(taken["each"])
    what = f"{len(each)} pods on a core each, times as fast as one, over their number"
    return Result(
        checks=(
            Check(what=what, measured=ratio / len(cores), relation=">=", target=SHARE_OF_CORES),
            Check(what="one group and join, over no group", measured=of_one_group, relation="<=", target=ONE_GROUP),
        ),
        details={"images": len(manifest.table), "shards": shards, "pods": len(each), "seconds": taken, **seconds},
    )


def _ingested(at: Path) -> Manifest:
    """The pool and a few labelled images in a store of small shards."""
    photos = at / "photos"
    source = open_source(config.FolderSource(labeled=str(photos / "labeled"), unlabeled=str(photos / "unlabeled")))
    store = open_dataset(_place(at / "workspace"), MACHINE).store
    settings = config.Ingest(max_quarantine=1.0)
    return ingest(source, source.scan(), store, settings=settings, splitting=config.Splitting()).manifest


def _place(workspace: Path) -> config.Place:
    return config.Place(workspace=str(workspace), dataset="photos")


def _pods(at: Path, manifest: Manifest, model: SavedModel, groups: Sequence[ShardGroup], cores: Sequence[int]) -> float:
    """Wall seconds from when all pods are ready until the last has its answers."""
    processes = multiprocessing.get_context("spawn")
    ready, done = processes.Barrier(len(groups) + 1), processes.Barrier(len(groups) + 1)
    pods = []
    for number, (group, core) in enumerate(zip(groups, cores, strict=True)):
        disk = at / f"disk{number}"
        shutil.copytree(at / "workspace", disk)
        pods.append(processes.Process(target=_pod, args=(core, disk, manifest, model, group, ready, done)))
        pods[-1].start()
    ready.wait()
    started = time.perf_counter()
    done.wait()
    seconds = time.perf_counter() - started
    for number, pod in enumerate(pods):
        pod.join()
        shutil.rmtree(at / f"disk{number}")
    print(f"    {len(groups)} pods: {seconds:.1f} s", flush=True)
    return seconds


def _pod(
    core: int, disk: Path, manifest: Manifest, model: SavedModel, group: ShardGroup, ready: Barrier, done: Barrier
) -> None:
    """Label `group` on one `core`; an error breaks the barriers, so that nobody waits for ever."""
    os.sched_setaffinity(0, {core})
    try:
        import keras  # noqa: F401 - part of the pod's start

        ready.wait()
        images = images_of(manifest, group, SETTINGS)
        machine = MACHINE.model_copy(update={"workers": 1})
        label_group(TASK, TaskData(images, open_dataset(_place(disk), machine)), model, settings=SETTINGS)
        done.wait()
    except BaseException:
        ready.abort()
        done.abort()
        raise


def _one_group(
    at: Path, manifest: Manifest, model: SavedModel, one: Sequence[ShardGroup], repetitions: int
) -> tuple[float, dict[str, list[float]]]:
    """Wall time of one group and its join over that of `label_pool`, both with images that are decoded already."""
    data = TaskData(manifest, open_dataset(_place(at / "workspace"), MACHINE))

    def no_group() -> None:
        label_pool(TASK, data, model, settings=SETTINGS, round_index=1)

    def one_group() -> None:
        part = TaskData(images_of(manifest, one[0], SETTINGS), data.dataset)
        answers = [label_group(TASK, part, model, settings=SETTINGS)]
        join_groups(TASK, data, model, answers, settings=SETTINGS, round_index=1)

    no_group()
    one_group()
    taken = timing.in_turns({"no_group": no_group, "one_group": one_group}, repetitions=max(2, repetitions))
    walls = {name: [round(each.wall, 3) for each in times] for name, times in taken.items()}
    return statistics.median(walls["one_group"]) / statistics.median(walls["no_group"]), walls
