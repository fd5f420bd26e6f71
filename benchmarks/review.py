"""How long does the server of `selftrain review` take for a key press, and how long does a queue of a large pool take?

The page is asked over HTTP, one answer after the other, beside a label log that already holds 100,000 lines. The queues
are built over a pool of 100,000 images of 10 classes in two rounds, with features of 640 numbers each.
"""

from __future__ import annotations

import http.client
import json
import tempfile
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import JsonValue

from benchmarks.record import Check, Result
from selftrain.config import Fixed, PseudoLabel
from selftrain.data.label_log import LABEL_LOG_SCHEMA, append_lines, read_log
from selftrain.reviewing.questions import Neighbours, Question, questions
from selftrain.reviewing.queues import Material, QueueName, review_queue
from selftrain.reviewing.vectors import Vectors, unit
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels, select

POOL, LABELLED, WIDTH = 100_000, 2_000, 640
KEYS, LINES = 1_000, 100_000
CLASSES = tuple("abcdefghij")
KEY_MS, QUEUE_S = 50.0, 30.0
QUEUES = tuple(set(QueueName) - {QueueName.DUPLICATES, QueueName.QUARANTINE})


def measure(*, quick: bool) -> Result:
    """A thousand answers, then every queue."""
    scale = 20 if quick else 1
    taken = _keys(KEYS // scale, LINES // scale)
    material = _material(POOL // scale, LABELLED // scale)
    seconds = {name.value: _queue(material, name, limit=100) for name in sorted(QUEUES)}
    bare = replace(material, labels={})
    seconds["typical, no labels"] = _queue(bare, QueueName.TYPICAL, limit=5)
    seconds["uncertain, all"] = _queue(material, QueueName.UNCERTAIN, limit=POOL)
    p95 = float(np.quantile(taken, 0.95))
    checks = (
        Check(what="an answer, 95 of 100", measured=p95, relation="<", target=KEY_MS, unit="ms"),
        Check(
            what=f"the slowest queue of {POOL // scale:,} images",
            measured=max(seconds.values()),
            relation="<",
            target=QUEUE_S,
            unit="s",
        ),
    )
    keys: dict[str, JsonValue] = {"median": float(np.median(taken)), "slowest": float(taken.max()), "p95": p95}
    return Result(checks=checks, details={"key_ms": keys, "queue_s": {**seconds}})


def _ids(count: int, start: int = 0) -> list[str]:
    return [f"{number:064x}" for number in range(start, start + count)]


def _keys(keys: int, lines: int) -> npt.NDArray[np.float64]:
    """Milliseconds per answer, from the request to the reply; each is on the disk by then."""
    from selftrain.adapters.review.app import Review
    from selftrain.adapters.review.server import serve
    from selftrain.reviewing.desk import Desk

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "set"
        columns = {
            "image_id": _ids(lines, keys),
            "label": ["a"] * lines,
            "who": ["anna"] * lines,
            "when": [datetime.now(UTC)] * lines,
            "settles": [False] * lines,
            "shown": ["b"] * lines,
        }
        append_lines(folder, pa.table(columns, schema=LABEL_LOG_SCHEMA))
        asked = [Question(each, "", "random", answers=(("a", 0.5),)) for each in _ids(keys)]
        desk = Desk(folder, CLASSES, asked)
        address: list[str] = []
        ready = threading.Event()

        def started(where: str) -> None:
            address.append(where)
            ready.set()

        def read(_: str) -> bytes:
            raise KeyError

        review = Review("review", "", desk, Neighbours(Material(rounds=())), "anna", read)
        threading.Thread(target=serve, args=(review,), kwargs={"port": 0, "started": started}, daemon=True).start()
        ready.wait()
        taken = _answers(address[0], _ids(keys))
        if read_log(folder).num_rows != lines + keys:
            raise RuntimeError("the log does not hold every answer")
        return taken


def _answers(address: str, ids: list[str]) -> npt.NDArray[np.float64]:
    place = urlsplit(address)
    headers = {"Content-Type": "application/json", "X-Review-Token": place.path.strip("/")}
    connection = http.client.HTTPConnection(place.netloc)
    taken = []
    for number, image_id in enumerate(ids):
        body = json.dumps({"images": [image_id], "label": "a", "who": "anna", "since": number})
        start = time.perf_counter()
        connection.request("POST", f"{place.path}answer", body, headers)
        reply = connection.getresponse()
        reply.read()
        taken.append(1000 * (time.perf_counter() - start))
        if reply.status != 200:
            raise RuntimeError(f"an answer was refused with status {reply.status}")
    connection.close()
    return np.array(taken)


def _material(pool: int, labelled: int) -> Material:
    rng = np.random.default_rng(0)
    ids, known = _ids(pool), _ids(labelled, pool)
    codes = rng.integers(0, len(CLASSES), pool + labelled)
    values = rng.normal(size=(pool + labelled, WIDTH)).astype(np.float32)
    values[np.arange(len(values)), codes] += 8
    vectors = Vectors((*ids, *known), unit(values))
    labels = {each: CLASSES[code] for each, code in zip(known, codes[pool:].tolist(), strict=True)}
    return Material(
        rounds=tuple(_round(ids, number, rng) for number in (1, 2)),
        labels=labels,
        vectors=vectors,
        label_vectors=vectors,
    )


def _round(ids: list[str], number: int, rng: np.random.Generator) -> PseudoLabels:
    probs = rng.dirichlet(np.full(len(CLASSES), 0.2), len(ids))
    settings = PseudoLabel(threshold=Fixed(value=0.6))
    return select(ids, probs, settings, round_index=number, teacher="t", class_names=CLASSES)


def _queue(material: Material, name: QueueName, *, limit: int) -> float:
    """Seconds until the questions are there, with the first page's neighbours."""
    start = time.perf_counter()
    found = review_queue(material, name, limit=limit, spread_out=True)
    asked = questions(material, found, paths={}, labels={})
    Neighbours(material).of([each.image_id for each in asked[:200]])
    return time.perf_counter() - start
