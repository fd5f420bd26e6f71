"""A small data set with a queue, real on the disk, and its page served as `selftrain review` serves it.

    python -m tests.adapters.review.small_set FOLDER

prints the page's address and serves until it is killed. What it labelled before is not asked about again.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import typer
from PIL import Image

from selftrain import config
from selftrain.adapters.review.app import Review
from selftrain.adapters.review.server import serve
from selftrain.config import Fixed, PseudoLabel
from selftrain.data.ingest.ingest import ingest
from selftrain.data.label_log import read_log, standing
from selftrain.data.manifest import Manifest, Split
from selftrain.data.sources.source import open_source
from selftrain.data.store.image_store import ImageStore
from selftrain.retraining.label_entry import labelled_listing
from selftrain.reviewing.desk import Desk
from selftrain.reviewing.questions import Neighbours, questions
from selftrain.reviewing.queues import Material, QueueName, review_queue
from selftrain.selflabel.selection.pseudo_labels import select

MARKUP = "<img src=x onerror=alert(1)>"
CLASSES = (MARKUP, "cat", "dog")
POOL = 30


def make_source(folder: Path) -> None:
    """Images of three classes, one of them named like markup, and a pool with a file named so."""
    rng = np.random.default_rng(0)
    names = [f"labeled/{name}/{number}.png" for name in CLASSES for number in range(15)]
    names += [f"pool/{number:02d}.png" for number in range(POOL - 1)] + [f"pool/{MARKUP}.png"]
    for name in names:
        cells = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(cells).resize((96, 80), Image.Resampling.BICUBIC).save(folder / name)


def run_again(folder: Path) -> Manifest:
    """What the next run's ingest makes of the images and the label log."""
    source = open_source(config.FolderSource(labeled=str(folder / "labeled"), unlabeled=str(folder / "pool")))
    store = ImageStore(folder / "store")
    listing = labelled_listing(source.scan(), store)
    splitting = config.Splitting()
    return ingest(source, listing, store, settings=config.Ingest(), splitting=splitting, workers=1).manifest


def review_of(folder: Path) -> Review:
    """A review of the pool, by answers drawn at random; images with labels in the log are left out."""
    store = ImageStore(folder / "store")
    manifest = Manifest.read(store.manifest_path)
    ids = manifest.table["image_id"].take(manifest.rows(Split.UNLABELED)).to_pylist()
    probs = np.random.default_rng(1).dirichlet(np.full(3, 0.5), len(ids))
    settings = PseudoLabel(threshold=Fixed(value=0.5))
    answers = select(ids, probs, settings, round_index=1, teacher="t" * 64, class_names=manifest.label_map.names)
    material, now, index = Material(rounds=(answers,)), standing(read_log(store.root)), store.index()
    known = {*now.agreed, *now.disputed, *now.excluded}
    found = review_queue(material, QueueName.UNCERTAIN, limit=len(ids), known=known)
    columns = (index[name].to_pylist() for name in ("image_id", "path", "shard", "index"))
    places = {image_id: (path, shard, number) for image_id, path, shard, number in zip(*columns, strict=True)}
    paths = {image_id: place[0] for image_id, place in places.items()}

    def read(image_id: str) -> bytes:
        _, shard, number = places[image_id]
        return store.read([shard], np.array([number], np.int64))[0]

    desk = Desk(store.root, manifest.label_map.names, questions(material, found, paths=paths, labels={}))
    return Review(f"Review of {MARKUP}", "a queue", desk, Neighbours(material), "anna", read)


if __name__ == "__main__":
    if not (Path(sys.argv[1]) / "labeled").exists():
        make_source(Path(sys.argv[1]))
        run_again(Path(sys.argv[1]))
    serve(review_of(Path(sys.argv[1])), port=0, started=lambda address: typer.echo(address))
    typer.echo("ended")
