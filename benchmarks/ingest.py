"""How does ingest of photos compare with a loop over all cores that only reads, hashes and fully decodes them?

Ingest also scans the folder, starts its processes, writes the shards, thumbnails and index, hashes the pictures, finds
near-duplicates, splits, and writes the Manifest. The loop has its processes warm and its list of files ready.
"""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import shutil
import tempfile
from multiprocessing.pool import Pool
from pathlib import Path

from PIL import Image

from benchmarks import timing
from benchmarks.photos import unpack_flowers
from benchmarks.record import Check, Result
from selftrain import config
from selftrain.data.ingest.ingest import ingest
from selftrain.data.sources.source import open_source
from selftrain.data.store.image_store import ImageStore
from selftrain.data.workers import cores

TARGET = 0.6
REPETITIONS = 9
PER_TASK = 32  # files; fewer and more were slower


def measure(*, quick: bool) -> Result:
    """The photos of TensorFlow Flowers, in turns, each time into a new store."""
    with tempfile.TemporaryDirectory() as folder:
        photos, root = Path(folder) / "photos", Path(folder) / "store"
        paths = [str(path) for path in unpack_flowers(photos, limit=40 if quick else None)]
        with multiprocessing.get_context("spawn").Pool(cores()) as pool:
            decode_only(pool, paths)  # warms the processes, and the files for both
            calls = {
                "ingest": lambda: ingest_anew(photos, root),
                "decode_only": lambda: decode_only(pool, paths),
            }
            ingest_anew(photos, root)
            taken = timing.in_turns(calls, repetitions=2 if quick else REPETITIONS)
    ours, loop = timing.median(taken["ingest"]).wall, timing.median(taken["decode_only"]).wall
    return Result(
        checks=(Check(what="images/s, ingest over loop", measured=loop / ours, relation=">=", target=TARGET),),
        details={
            "photos": len(paths),
            "ingest_images_s": round(len(paths) / ours),
            "loop_images_s": round(len(paths) / loop),
            # The loop's processes are still running: their processor time is not in its own.
            "seconds": {name: [round(each.wall, 4) for each in times] for name, times in taken.items()},
            "ingest_processor_seconds": [round(each.cpu, 4) for each in taken["ingest"]],
        },
    )


def ingest_anew(photos: Path, root: Path) -> None:
    """Scan and ingest the class folders `photos` into an empty store."""
    shutil.rmtree(root, ignore_errors=True)
    source = open_source(config.FolderSource(labeled=str(photos)))
    # Photos carry noise of their own (the same one in two classes); how much is not what is measured.
    settings = config.Ingest(max_quarantine=1.0)
    ingest(source, source.scan(), ImageStore(root), settings=settings, splitting=config.Splitting())


def decode_only(pool: Pool, paths: list[str]) -> int:
    """Total pixels, so that nothing can be left out."""
    return sum(pool.imap_unordered(read_hash_decode, paths, chunksize=PER_TASK))


def read_hash_decode(path: str) -> int:
    """One file, in full."""
    data = Path(path).read_bytes()
    hashlib.sha256(data).hexdigest()
    image = Image.open(io.BytesIO(data))
    image.load()
    return image.width * image.height
