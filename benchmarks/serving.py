"""How fast does `selftrain serve` answer, compared with `mlflow models serve` of the same registered model?

Both get the same requests: one JPEG photo each, as MLflow's JSON. 32 clients ask at a time, then one; the servers take
turns. Then the champion changes again and again under the load of 32 clients, and no request may fail. Last, files are
labelled in bulk, compared with `model.predict` on the same images, decoded beforehand.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import JsonValue

from benchmarks import load, timing
from benchmarks.load import Load
from benchmarks.machine import ROOT
from benchmarks.networks import saved_model
from benchmarks.photos import unpack_flowers
from benchmarks.record import Check, Result, Table
from selftrain.learn.models.contract import SavedModel

if TYPE_CHECKING:
    from selftrain.adapters.tracking.store import Tracking

BACKBONE, SIDE, NAME = "mobilenet_v2_100", 160, "photos"
CLIENTS, SECONDS, ALONE_SECONDS, TURNS = 32, 10.0, 5.0, 3
PHOTOS, BODIES, CHANGES = 2048, 64, 3
OURS, THEIRS = "selftrain serve", "mlflow models serve"
COLUMNS = ("server", "clients", "requests/s", "p50, ms", "p95, ms")


def measure(*, quick: bool) -> Result:
    """Serving, then the changes of the champion, then the files."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        count = 64 if quick else PHOTOS
        photos = unpack_flowers(folder / "photos", limit=-(-count // 5))[:count]
        model = saved_model(BACKBONE, SIDE, folder / "model")
        tracking = registered(folder, model)
        asked = bodies(photos[:BODIES], folder)
        with both_servers(folder, tracking) as ports:
            loads = in_turns(ports, asked, turns=1 if quick else TURNS, seconds=1.0 if quick else SECONDS)
            changed = changes(ports[OURS], tracking, asked, times=1 if quick else CHANGES)
        taken = files(model, photos, folder, repetitions=1 if quick else TURNS)
    return result(loads, changed, taken, images=len(photos))


def result(
    loads: Mapping[tuple[str, int], Sequence[Load]],
    changed: Load,
    taken: Mapping[str, list[timing.Seconds]],
    *,
    images: int,
) -> Result:
    """The ratios, from medians over the turns."""

    def median(server: str, clients: int, what: str) -> float:
        return statistics.median(getattr(each, what) for each in loads[server, clients])

    def ratio(clients: int, what: str) -> float:
        return median(OURS, clients, what) / median(THEIRS, clients, what)

    predict, table = (timing.median(taken[name]).wall for name in ("predict", "files"))
    checks = (
        Check(
            what="requests/s of 32 clients over mlflow models serve",
            measured=ratio(32, "per_s"),
            relation=">=",
            target=2,
        ),
        Check(what="p95 of 32 clients over mlflow models serve", measured=ratio(32, "p95"), relation="<=", target=1),
        Check(what="p50 of one client over mlflow models serve", measured=ratio(1, "p50"), relation="<=", target=1),
        Check(what="failed requests while the champion changes", measured=changed.failed, relation="<=", target=0),
        Check(
            what="images/s of files over model.predict on arrays", measured=predict / table, relation=">=", target=0.9
        ),
    )
    rows = [
        (
            server,
            str(clients),
            f"{median(server, clients, 'per_s'):.0f}",
            *(f"{median(server, clients, what) * 1000:.0f}" for what in ("p50", "p95")),
        )
        for server, clients in loads
    ]
    details: dict[str, JsonValue] = {
        "loads": {
            f"{server}, {clients}": [each.__dict__ for each in turns] for (server, clients), turns in loads.items()
        },
        "while_the_champion_changes": changed.__dict__,
        "images": images,
        "seconds": timing.as_json(taken),
    }
    return Result(
        checks=checks, details=details, tables=(Table(title="Medians over turns", columns=COLUMNS, rows=tuple(rows)),)
    )


def registered(folder: Path, model: SavedModel) -> Tracking:
    """A registry with the model as versions 1 and 2; version 1 is champion."""
    from selftrain.adapters.registry import registration
    from selftrain.adapters.tracking.store import open_tracking
    from selftrain.config import Registry

    tracking = open_tracking(folder / ".selftrain", stack=lambda: None)
    for key in ("1", "2"):
        registration.register(
            tracking,
            model_folder=model.folder,
            contract=model.contract,
            report=None,
            run_key=key,
            tags={},
            card="",
            settings=Registry(model_name=NAME),
            run_id=key,
        )
    tracking.client.set_registered_model_alias(NAME, "champion", "1")
    return tracking


def bodies(photos: Sequence[Path], folder: Path) -> list[Path]:
    """A request of one photo each, as MLflow takes it."""
    made = []
    for number, photo in enumerate(photos):
        image = base64.b64encode(photo.read_bytes()).decode()
        made.append(folder / f"{number}.json")
        made[-1].write_text(json.dumps({"dataframe_records": [{"image": image}]}))
    return made


@contextmanager
def both_servers(folder: Path, tracking: Tracking) -> Iterator[dict[str, int]]:
    """The two servers of version 1, ready; their ports."""
    ports = {OURS: free_port(), THEIRS: free_port()}
    ours = ["-c", "from selftrain.cli.app import main; main()", "serve", "--port", str(ports[OURS])]
    theirs = ["-m", "mlflow", "models", "serve", "-m", f"models:/{NAME}/1", "--env-manager", "local"]
    commands = {OURS: [*ours, "--poll", "1"], THEIRS: [*theirs, "--port", str(ports[THEIRS])]}
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": tracking.uri,
        "PYTHONPATH": str(ROOT),
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"  # mlflow looks for uvicorn
    started = []
    try:
        for command in commands.values():
            output = (folder / "servers.txt").open("a")
            started.append(
                subprocess.Popen(
                    [sys.executable, *command],
                    cwd=folder,
                    env=environment,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            )
        for port in ports.values():
            wait_for(port)
        yield ports
    finally:
        for process in started:
            os.killpg(process.pid, signal.SIGKILL)  # mlflow's server is a child of its command
            process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    for _ in range(240):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise TimeoutError(f"no server answers on port {port} after two minutes")


def in_turns(
    ports: Mapping[str, int], asked: list[Path], *, turns: int, seconds: float
) -> dict[tuple[str, int], list[Load]]:
    """What 32 clients and one client measured of each server, in alternating turns."""
    taken: dict[tuple[str, int], list[Load]] = {}
    for clients, lasting in ((CLIENTS, seconds), (1, min(seconds, ALONE_SECONDS))):
        for turn in range(turns + 1):
            for server in list(ports) if turn % 2 else list(reversed(list(ports))):
                kind = "application/json"
                measured = load.finish(
                    load.start(ports[server], "/invocations", asked, kind=kind, clients=clients, seconds=lasting)
                )
                print(f"    {server}, {clients}: {measured}", flush=True)
                if turn:  # the first warms up
                    taken.setdefault((server, clients), []).append(measured)
    return taken


def changes(port: int, tracking: Tracking, asked: list[Path], *, times: int) -> Load:
    """What 32 clients measure while the champion changes `times` times; each change is waited for."""
    seconds = 15.0 * times
    clients = load.start(port, "/invocations", asked, kind="application/json", clients=CLIENTS, seconds=seconds)
    time.sleep(3)
    for change in range(times):
        number = 2 - change % 2
        tracking.client.set_registered_model_alias(NAME, "champion", str(number))
        while clients.poll() is None and served_version(port) != number:
            time.sleep(0.2)
    if clients.poll() is not None:
        raise RuntimeError(f"the champion did not change {times} times in {seconds:g} s of load")
    measured = load.finish(clients)
    print(f"    {times} changes: {measured}", flush=True)
    return measured


def served_version(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/version", timeout=60) as answer:
        return int(json.load(answer)["version"])


def files(
    model: SavedModel, photos: Sequence[Path], folder: Path, *, repetitions: int
) -> dict[str, list[timing.Seconds]]:
    """Seconds of the table of all files, and of `model.predict` on their pixels."""
    from selftrain.adapters.serving.litert import fast_predictor
    from selftrain.autolabeling.folders.predictions import Predictor, predict_table
    from selftrain.autolabeling.folders.sources import list_sources
    from selftrain.data.images.decode import decode
    from selftrain.learn.models.loading import load as load_model

    network, contract = load_model(model.folder)
    pixels = np.stack([decode(photo.read_bytes(), SIDE) for photo in photos])
    compiled = fast_predictor(network)
    compiled(pixels[:32])
    network.predict(pixels[:32], batch_size=32, verbose=0)
    names = [str(photo) for photo in photos]

    def table() -> None:
        out = folder / f"{time.monotonic_ns()}.parquet"
        predict_table(Predictor(lambda: compiled, contract, "model"), list_sources(names), out)

    calls = {"predict": partial(network.predict, pixels, batch_size=32, verbose=0), "files": table}
    return timing.in_turns(calls, repetitions=repetitions)
