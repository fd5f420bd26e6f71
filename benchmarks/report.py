"""How long does the page about a run of ten rounds over 100,000 images take to make, and to open?

The facts of such a run are drawn; its thumbnails are of flowers. Making the page includes them, the points of the plane
(PCA; UMAP where it is installed) and all that is written, as `selftrain report` does after it has read the run. A
Chromium without a screen opens the page from its file three times; the median of the first paint counts.
"""

from __future__ import annotations

import resource
import statistics
import tempfile
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from benchmarks.photos import archive
from benchmarks.record import Check, Result
from selftrain.config import Fixed, PseudoLabel
from selftrain.data.images.thumbnails import sprite, thumbnail
from selftrain.evaluate.coverage import HeldOut
from selftrain.evaluate.evaluation import evaluate
from selftrain.evaluate.wrong_answers import wrong_answers
from selftrain.report.page.run import needed_pictures, run_page
from selftrain.report.page.run_facts import Picture, ReportedRun, Space
from selftrain.report.plane import planes
from selftrain.selflabel.rounds.history import Round
from selftrain.selflabel.rounds.record import RunRecord
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels, select

FLOWERS = "tf_flowers_s160.zip"
POOL, QUICK_POOL, ROUNDS, CLASSES, TEST = 100_000, 2_000, 10, 10, 2_000
SHOWN, NUMBERS, TILE = 3_000, 1280, 40
OPENED = 3
PAINTED = "performance.getEntriesByType('paint').find((each) => each.name === 'first-contentful-paint')?.startTime"


def measure(*, quick: bool) -> Result:
    """Seconds, memory and bytes of the page, and milliseconds to its first paint."""
    photos = _photos(200 if quick else SHOWN)
    names = tuple(f"class {k}" for k in range(CLASSES))
    labels = tuple(_round(names, number, QUICK_POOL if quick else POOL) for number in range(1, ROUNDS + 1))
    before = _gigabytes()
    started = time.perf_counter()
    page = _page(names, labels, photos)
    seconds, peak = time.perf_counter() - started, _gigabytes()
    paints = _painted(page)
    megabytes = len(page.encode()) / 1e6
    print(
        f"    {seconds:.1f} s, {peak:.2f} GB ({before:.2f} before), {megabytes:.1f} MB, paints {paints} ms", flush=True
    )
    checks = (
        Check(what="making the page", measured=seconds, relation="<", target=60, unit="s"),
        Check(what="memory", measured=peak, relation="<", target=1.5, unit="GB"),
        Check(what="the page", measured=megabytes, relation="<=", target=10, unit="MB"),
        Check(what="first paint", measured=statistics.median(paints) / 1000, relation="<", target=2, unit="s"),
    )
    details: dict[str, JsonValue] = {"pool": POOL, "rounds": ROUNDS, "paints_ms": [round(each) for each in paints]}
    return Result(checks=checks, details=details)


def _photos(count: int) -> list[bytes]:
    with zipfile.ZipFile(archive(FLOWERS)) as packed:
        names = [each for each in packed.namelist() if each.endswith(".jpg")]
        return [packed.read(each) for each in names[:count]]


def _round(names: tuple[str, ...], number: int, images: int) -> PseudoLabels:
    """A round's pseudo-labels of the pool, with held-out images for what the page says of their precision."""
    draw, sure = np.random.default_rng(number), np.full(len(names), 0.2)
    held_out = HeldOut(draw.dirichlet(sure, 1000).astype(np.float32), draw.integers(0, len(names), 1000))
    settings = PseudoLabel(threshold=Fixed(value=0.6))
    return select(
        [f"{index:064x}" for index in range(images)],
        draw.dirichlet(sure, images),
        settings,
        round_index=number,
        teacher="t" * 64,
        class_names=names,
        held_out=held_out,
    )


def _page(names: tuple[str, ...], labels: tuple[PseudoLabels, ...], photos: list[bytes]) -> str:
    draw = np.random.default_rng(0)
    truth, probs = draw.integers(0, len(names), TEST), draw.dirichlet(np.full(len(names), 0.3), TEST)
    ids = [f"{index:064x}" for index in range(POOL, POOL + TEST)]
    evaluation = evaluate(truth, probs, class_names=names)
    evaluation = evaluation.model_copy(update={"wrong": wrong_answers(ids, truth, probs)})
    run = ReportedRun(
        record=_record(labels),
        evaluation=evaluation,
        labels=labels,
        human_labels=(100,) * len(names),
        space=_space(photos, classes=len(names)),
    )
    shown = {
        each: Picture(thumbnail(photos[k % len(photos)]), "a flower") for k, each in enumerate(needed_pictures(run))
    }
    return run_page(replace(run, pictures=shown))


def _record(labels: tuple[PseudoLabels, ...]) -> RunRecord:
    rounds = [
        Round(
            index=index,
            backbone="efficientnet_b0",
            labeled=1000,
            accepted=0 if not index else len(labels[index - 1].accepted),
            pool=0 if not index else len(labels[index - 1]),
            validation_accuracy=0.8 + index / 100,
            validation_metric=0.8 + index / 100,
            validation_images=500,
            seconds=60,
            image_steps=1000,
            model_digest=f"d{index}",
            kept=True,
        )
        for index in range(len(labels) + 1)
    ]
    return RunRecord(
        run_id="r",
        name="flowers",
        status="completed",
        rounds=tuple(rounds),
        test_accuracy=0.9,
        test_interval=(0.88, 0.92),
        test_images=TEST,
    )


def _space(photos: list[bytes], *, classes: int) -> Space:
    picture, across = sprite(photos, count=len(photos), side=TILE)
    vectors = np.random.default_rng(1).normal(size=(len(photos), NUMBERS)).astype(np.float32)
    at = {name: tuple(map(tuple, each.round(4).tolist())) for name, each in planes(vectors).items()}
    count = len(photos)
    return Space(
        ids=tuple(f"{index:064x}" for index in range(count)),
        names=("a flower",) * count,
        labels=tuple(index % classes if index > 2 * count // 3 else -1 for index in range(count)),
        counted=tuple(index % classes for index in range(count)),
        planes=at,
        basis="drawn vectors",
        rule="the first ones",
        sprite=picture,
        across=across,
        tile=TILE,
    )


def _painted(page: str) -> list[float]:
    """Milliseconds to the first paint, each time in a browser of its own."""
    from tests.adapters.review.browser import Browser

    found = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        file = Path(folder, "page.html")
        file.write_text(page, encoding="utf-8")
        for turn in range(OPENED):
            browser = Browser(Path(folder, str(turn)), file.as_uri(), ready=f"{PAINTED} !== undefined")
            found.append(float(browser.value(PAINTED)))
            browser.close()
    return found


def _gigabytes() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
