"""How fast are images labelled, from the decoded cache and from files, compared with Keras's own `predict`?

From the cache: `predict_logits` against `model.predict` on an array in memory at its best batch size, both warm; and
the whole of `label_pool` (load, predict, calibrate, select) against loading the model and one `predict`. From files:
the function behind `selftrain pseudo-label` against a loop that opens an image and calls `predict` for it, both warm.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import JsonValue

from benchmarks import timing
from benchmarks.networks import saved_model
from benchmarks.photos import cifar10, unpack_flowers
from benchmarks.record import Check, Result
from selftrain import config
from selftrain.data.ingest.ingest import ingest
from selftrain.data.manifest import Manifest, Split
from selftrain.data.sources.source import open_source
from selftrain.data.store.dataset import open_dataset
from selftrain.data.store.pixels import Pixels
from selftrain.learn.models.contract import SavedModel

FROM_CACHE, FROM_FILES = 0.85, 20.0
REPETITIONS = 5
BATCH_SIZES = (32, 64, 128, 256, 512, 1024)
LABELED, POOL = 1_000, 20_000
ONE_BY_ONE = 200  # images of the loop; each call costs the same


@dataclass(frozen=True)
class Setting:
    """Which images, and the network that reads them; `files` are measured from files too."""

    name: str
    backbone: str
    image_size: int
    photos: bool


SETTINGS = (
    Setting("CIFAR-10, 32 px, the digits run's teacher", "efficientnet_b0_050", 32, photos=False),
    Setting("photos, 160 px, MobileNetV2 0.35", "mobilenet_v2_035", 160, photos=True),
)
Images = npt.NDArray[np.uint8]


def measure(*, quick: bool) -> Result:
    """Small pictures, where what surrounds the network counts most; and photos."""
    checks: list[Check] = []
    details: dict[str, JsonValue] = {}
    for setting in SETTINGS:
        print(f"  {setting.name}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            found, measured = _one_setting(setting, Path(folder), quick=quick)
        checks += found
        details[setting.name] = measured
    return Result(checks=tuple(checks), details=details)


def _one_setting(setting: Setting, folder: Path, *, quick: bool) -> tuple[list[Check], JsonValue]:
    photos = folder / "photos"
    if setting.photos:
        unpack_flowers(photos, limit=60 if quick else None)
    else:
        write_cifar10(photos, pool=1_000 if quick else POOL)
    model = saved_model(setting.backbone, setting.image_size, folder / "model")
    manifest, pixels = _ingested(photos, folder / "workspace", setting.image_size)
    cache, of_cache = _from_cache(model, manifest, pixels, repetitions=2 if quick else REPETITIONS)
    files = sorted(photos.rglob("*.*"))
    loose, of_files = _from_files(model, files, folder, repetitions=1 if quick else REPETITIONS)
    checks = [
        Check(
            what=f"{setting.name}: images/s, cache over predict",
            measured=cache,
            relation=">=",
            target=FROM_CACHE,
        ),
        Check(
            what=f"{setting.name}: images/s, files over one call per image",
            measured=loose,
            relation=">=",
            target=FROM_FILES,
        ),
    ]
    if len(manifest.rows(Split.UNLABELED)):
        ratio, of_pool = _whole_pool(model, manifest, pixels, repetitions=1 if quick else REPETITIONS)
        what = f"{setting.name}: images/s, all of label_pool over load and predict"
        checks.append(Check(what=what, measured=ratio, relation=">=", target=FROM_CACHE))
        of_cache |= of_pool
    return checks, {**of_cache, **of_files}


def write_cifar10(folder: Path, *, pool: int) -> None:
    """CIFAR-10 as PNG files: `LABELED` in class folders, `pool` without label."""
    images, labels = cifar10(LABELED + pool)
    for k, (image, label) in enumerate(zip(images, labels, strict=True)):
        into = folder / "labeled" / f"class_{label}" if k < LABELED else folder / "unlabeled"
        into.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(into / f"{k:05d}.png")


def _ingested(photos: Path, workspace: Path, size: int) -> tuple[Manifest, Pixels]:
    """As a run has them: a manifest, and its images decoded, on disk, memory-mapped."""
    place = config.Place(workspace=str(workspace), dataset="photos")
    pool = photos / "unlabeled"
    settings = (
        config.FolderSource(labeled=str(photos / "labeled"), unlabeled=str(pool))
        if pool.is_dir()
        else config.FolderSource(labeled=str(photos))
    )
    source, store = open_source(settings), open_dataset(place).store
    limits = config.Ingest(max_quarantine=1.0)
    made = ingest(source, source.scan(), store, settings=limits, splitting=config.Splitting())
    return made.manifest, open_dataset(place, config.Machine()).pixels(made.manifest, size)


def _from_cache(
    saved: SavedModel, manifest: Manifest, pixels: Pixels, *, repetitions: int
) -> tuple[float, dict[str, JsonValue]]:
    """Ratio of images/s, and the details."""
    from selftrain.learn.models.loading import load
    from selftrain.learn.models.predict import predict_logits

    model, _ = load(saved.folder)
    rows = manifest.rows(*Split)
    images = pixels.gather(rows)
    best = _best_batch_size(saved, images)
    model.predict(images[: 2 * best], batch_size=best, verbose=0)
    predict_logits(model, pixels, rows)
    calls = {
        "cache": lambda: predict_logits(model, pixels, rows),
        "predict": lambda: model.predict(images, batch_size=best, verbose=0),
    }
    taken = timing.in_turns(calls, repetitions=repetitions)
    ours, bare = timing.median(taken["cache"]), timing.median(taken["predict"])
    return bare.wall / ours.wall, {
        "images": len(rows),
        "best_batch_size": best,
        "cache_images_s": round(len(rows) / ours.wall),
        "predict_images_s": round(len(rows) / bare.wall),
        "cache_ratio_of_processor_time": round(bare.cpu / ours.cpu, 3),
        "cache_seconds": timing.as_json(taken),
    }


def _best_batch_size(saved: SavedModel, images: Images) -> int:
    """That of the fastest of two predictions, each warm."""
    from selftrain.learn.models.loading import load

    model, _ = load(saved.folder)
    some = images[: 4 * max(BATCH_SIZES)]
    taken = {}
    for size in BATCH_SIZES:
        model.predict(some[:size], batch_size=size, verbose=0)
        trials = [timing.timed(partial(model.predict, some, batch_size=size, verbose=0)) for _ in range(2)]
        taken[size] = min(each.wall for each in trials)
    print(f"    predict: {', '.join(f'{len(some) / t:.0f}/s at {size}' for size, t in taken.items())}", flush=True)
    return min(taken, key=lambda size: taken[size])


def _whole_pool(
    saved: SavedModel, manifest: Manifest, pixels: Pixels, *, repetitions: int
) -> tuple[float, dict[str, JsonValue]]:
    """The step's work, from a saved model to pseudo-labels."""
    import keras

    from selftrain.selflabel.teaching.labeling import join, label_shard

    images = pixels.gather(manifest.rows(Split.UNLABELED))
    settings = config.PseudoLabel()

    def bare() -> None:
        model = keras.models.load_model(saved.folder / "model.keras", compile=False)
        model.predict(images, batch_size=settings.batch_size, verbose=0)

    def label_pool() -> None:
        rows = manifest.rows(Split.VALIDATION, Split.UNLABELED)
        shard = label_shard(pixels, saved, rows, settings=settings)
        join(manifest, saved, [shard], settings=settings, round_index=1)

    calls = {
        "label_pool": label_pool,
        "load_and_predict": bare,
    }
    taken = timing.in_turns(calls, repetitions=repetitions)
    ours, theirs = timing.median(taken["label_pool"]), timing.median(taken["load_and_predict"])
    return theirs.wall / ours.wall, {"pool": len(images), "pool_seconds": timing.as_json(taken)}


def _from_files(
    saved: SavedModel, files: list[Path], folder: Path, *, repetitions: int
) -> tuple[float, dict[str, JsonValue]]:
    """Ratio of images/s, and the details."""
    import keras

    from selftrain.autolabeling.folders.label_files import label_folder, plan_outputs
    from selftrain.learn.models.loading import load

    model, contract = load(saved.folder)
    photos, one_by_one = folder / "photos", files[:: max(1, len(files) // ONE_BY_ONE)][:ONE_BY_ONE]
    outputs = plan_outputs(photos, folder / "out" / "labels.csv")
    settings, size = config.PseudoLabel(), (contract.image_size, contract.image_size)

    def labeled() -> None:
        label_folder(model, contract, photos, outputs, settings=settings)

    def a_call_an_image() -> None:
        for path in one_by_one:
            image = keras.utils.img_to_array(keras.utils.load_img(path, target_size=size))
            model.predict(image[None], verbose=0)

    labeled()
    a_call_an_image()
    taken = timing.in_turns({"files": labeled, "a_call_an_image": a_call_an_image}, repetitions=repetitions)
    ours, loop = timing.median(taken["files"]), timing.median(taken["a_call_an_image"])
    speed, loop_speed = len(files) / ours.wall, len(one_by_one) / loop.wall
    return speed / loop_speed, {
        "files": len(files),
        "files_images_s": round(speed),
        "a_call_an_image_images_s": round(loop_speed, 1),
        "files_seconds": timing.as_json(taken),
    }
