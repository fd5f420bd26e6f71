"""How often is planted drift found, and none called drift, in 100 windows each; and how long does a look take?

A MobileNetV2 0.35 is trained on photos of four kinds of flower. Its windows are drawn from later photos. The fifth kind
is the class that it never saw.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from benchmarks import photos, pretrained, timing
from benchmarks.record import Check, Result, Table
from selftrain.config.production import Drift
from selftrain.data.images.decode import decode
from selftrain.data.store.pixels import ArrayPixels
from selftrain.retraining.drift.decision import Window, look
from selftrain.retraining.drift.distances import distances
from selftrain.retraining.drift.summaries import Reference, Summary, describe, refer, space_of

if TYPE_CHECKING:
    import keras

Floats = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]

PIXELS, KNOWN, TRAINED_ON = 96, 4, 350  # photos of each known kind
EPOCHS, BATCH = 4, 32
WINDOWS, WINDOW = 100, 200
FALSE_ALARMS, POWER, SECONDS = 0.05, 0.9, 10.0
NEW, OLD, WIDTH, CLASSES = 1_000, 10_000, 1_280, 10  # of the timing
CHECKED = ("blurred by 1.5 px", "half as bright", "a new class, 20 %", "one class five times as frequent")
COLUMNS = (
    "windows",
    "called drift, of 100",
    "p < .05 in one of six tests, Bonferroni, of 100",
    "embeddings",
    "confidence",
    "class mix",
)


@dataclass(frozen=True, eq=False)
class Seen:
    """What the model makes of photos: features (n, 1280), probabilities (n, 4); `kinds` (n,) are their true ones."""

    features: Floats
    probs: Floats
    kinds: Rows

    def described(self, rows: Rows, reference: Reference) -> Summary:
        """The summary of the photos `rows`."""
        return describe([(self.features[rows], self.probs[rows])], reference)


Draws = Callable[[np.random.Generator], tuple[Seen, Rows]]


def measure(*, quick: bool) -> Result:
    """Windows first, then the timing."""
    windows = 10 if quick else WINDOWS
    checks, table, details = _windows(windows, epochs=1 if quick else EPOCHS, limit=120 if quick else None)
    seconds, taken, gap = _timing(repetitions=1 if quick else 5)
    return Result(
        checks=(*checks, *seconds),
        details={**details, "seconds": timing.as_json(taken), "exact_over_ours": gap},
        tables=(table,),
    )


def _windows(
    windows: int, *, epochs: int, limit: int | None
) -> tuple[list[Check], Table, dict[str, float | int | str]]:
    from selftrain.learn.models.features import with_features

    images, kinds = _photos(limit)
    rows = np.random.default_rng(0).permutation(len(images))
    ranks = np.array([np.flatnonzero(rows[kinds[rows] == kinds[row]] == row)[0] for row in rows])
    count = TRAINED_ON if limit is None else limit // 3
    learnt = rows[(ranks < count) & (kinds[rows] < KNOWN)]
    later = np.setdiff1d(np.arange(len(images)), learnt)
    model = with_features(_trained(images[learnt], kinds[learnt], epochs))
    reference, clean = _seen(model, images[learnt], kinds[learnt]), _seen(model, images[later], kinds[later])
    planted = _planted(model, images[later], clean)
    right = float((clean.probs.argmax(axis=1) == clean.kinds)[clean.kinds < KNOWN].mean())
    space = space_of([reference.features], model="flowers", classes=KNOWN)
    known = refer([(reference.features, reference.probs)], space)
    settings = Drift()
    calm: tuple[Window, ...] = ()
    for seed in range(windows + settings.warmup):
        calm += (_look(_any(clean), seed, known, calm),)
    looked = {"no change": list(calm[settings.warmup :])}
    for name, draw in planted.items():
        looked[name] = [_look(draw, 10_000 + seed, known, calm[: settings.warmup + seed]) for seed in range(windows)]
        print(f"    {name}: {sum(each.drifted for each in looked[name])} of {windows}", flush=True)
    shares = {name: sum(each.drifted for each in every) / windows for name, every in looked.items()}
    checks = [_check("windows without a change that are called drift", shares["no change"], "<=", FALSE_ALARMS)]
    checks += [_check(f"windows found: {name}", shares[name], ">=", POWER) for name in CHECKED]
    lines = tuple(_line(name, every) for name, every in looked.items())
    title = f"Windows of {WINDOW} photos against {len(learnt)} training photos; median distances from these"
    return checks, Table(title=title, columns=COLUMNS, rows=lines), {"accuracy_on_later_photos": right, **shares}


def _check(what: str, share: float, relation: str, target: float) -> Check:
    return Check.model_validate({"what": what, "measured": share, "relation": relation, "target": target})


def _look(draw: Draws, seed: int, reference: Reference, past: tuple[Window, ...]) -> Window:
    seen, rows = draw(np.random.default_rng(seed))
    return look(seen.described(rows, reference), name=str(seed), reference=reference, past=past, settings=Drift())


def _line(name: str, every: list[Window]) -> tuple[str, ...]:
    tested = [min(each.decision.p_values.values()) < 0.05 / 6 for each in every]
    medians = (
        np.median([each.value for window in every for each in window.distances if _is(each.measure, each.against, key)])
        for key in ("embeddings", "confidence", "class_mix")
    )
    scale = 100 / len(every)
    counts = (sum(each.drifted for each in every) * scale, sum(tested) * scale)
    return (name, *(f"{each:.0f}" for each in counts), *(f"{each:.2f}" for each in medians))


def _is(measure: str, against: str, key: str) -> bool:
    return against == "training" and measure == key


def _any(seen: Seen) -> Draws:
    """Known kinds, as frequent as they are."""
    rows = np.flatnonzero(seen.kinds < KNOWN)
    return lambda rng: (seen, rng.choice(rows, WINDOW, replace=len(rows) < WINDOW))


def _planted(model: keras.Model, images: Images, clean: Seen) -> dict[str, Draws]:
    changes: dict[str, Callable[[Image.Image], Image.Image]] = {
        "blurred by 0.7 px": lambda photo: photo.filter(ImageFilter.GaussianBlur(0.7)),
        "blurred by 1.5 px": lambda photo: photo.filter(ImageFilter.GaussianBlur(1.5)),
        "a fifth darker": lambda photo: photo.point(lambda value: value * 0.8),
        "half as bright": lambda photo: photo.point(lambda value: value * 0.5),
    }
    found = {name: _any(_seen(model, _changed(images, change), clean.kinds)) for name, change in changes.items()}
    found |= {f"a new class, {share} %": _with_new(clean, share) for share in (10, 20, 30, 50)}
    return found | {
        "one class twice as frequent": _mixed(clean, 2.0),
        "one class five times as frequent": _mixed(clean, 5.0),
    }


def _changed(images: Images, change: Callable[[Image.Image], Image.Image]) -> Images:
    return np.stack([np.asarray(change(Image.fromarray(image))) for image in images])


def _with_new(seen: Seen, percent: int) -> Draws:
    """So many of a window are of the kind that the model never saw."""
    known, new = np.flatnonzero(seen.kinds < KNOWN), np.flatnonzero(seen.kinds >= KNOWN)
    count = WINDOW * percent // 100

    def draw(rng: np.random.Generator) -> tuple[Seen, Rows]:
        return seen, np.concatenate([rng.choice(new, count), rng.choice(known, WINDOW - count)])

    return draw


def _mixed(seen: Seen, times: float) -> Draws:
    """The first kind is drawn `times` as often."""
    known = np.flatnonzero(seen.kinds < KNOWN)
    weights = np.where(seen.kinds[known] == 0, times, 1.0)
    return lambda rng: (seen, rng.choice(known, WINDOW, p=weights / weights.sum()))


def _photos(limit: int | None) -> tuple[Images, Rows]:
    """All photos at PIXELS, or the first `limit` of each kind, and their kinds (n,)."""
    with zipfile.ZipFile(photos.archive(photos.FLOWERS)) as packed:
        names = sorted(each for each in packed.namelist() if each.endswith(".jpg"))
        kinds = sorted({name.split("/")[1] for name in names})
        chosen = [
            name for kind in kinds for name in islice((each for each in names if each.split("/")[1] == kind), limit)
        ]
        images = np.stack([decode(packed.read(name), PIXELS) for name in chosen])
    return images, np.array([kinds.index(name.split("/")[1]) for name in chosen])


def _trained(images: Images, kinds: Rows, epochs: int) -> keras.Model:
    """A MobileNetV2 0.35 from ImageNet's weights, trained on the photos of the known kinds."""
    import keras

    from selftrain.learn.networks.backbones import build

    weights = str(photos.archive(pretrained.TEACHER_WEIGHTS))
    model = build(pretrained.TEACHER, image_size=PIXELS, classes=KNOWN, weights=weights)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(3e-4), loss=loss, metrics=["accuracy"])
    model.fit(images, kinds, epochs=epochs, batch_size=BATCH, verbose=2)
    return model


def _seen(model: keras.Model, images: Images, kinds: Rows) -> Seen:
    from selftrain.learn.models.calibrate import softmax
    from selftrain.learn.models.predict import predict_logits

    both = predict_logits(model, ArrayPixels(images), np.arange(len(images)), batch_size=128)
    return Seen(both[:, :-KNOWN], softmax(both[:, -KNOWN:]), kinds)


def _timing(*, repetitions: int) -> tuple[list[Check], dict[str, list[timing.Seconds]], float]:
    """Both passes over OLD embeddings, one over NEW, and the distances; and the exact kernel's, from all pairs."""
    rng = np.random.default_rng(0)
    old = rng.normal(size=(OLD, WIDTH)).astype(np.float32)
    new = (rng.normal(size=(NEW, WIDTH)) + 0.1).astype(np.float32)
    old_probs, new_probs = (rng.dirichlet(np.ones(CLASSES), count) for count in (OLD, NEW))
    found: dict[str, float] = {}

    def ours() -> None:
        space = space_of(np.array_split(old, OLD // 1_000), model="timing", classes=CLASSES)
        reference = refer([(old, old_probs)], space)
        summary = describe([(new, new_probs)], reference)
        found["ours"] = distances(summary, reference.summary, against="training")[0].value

    def exact() -> None:
        found["exact"] = _exact(new, old)

    taken = timing.in_turns({"ours": ours, "exact": exact}, repetitions=repetitions)
    quick, slow = (timing.median(taken[name]) for name in ("ours", "exact"))
    sizes = f"{NEW:,} x {WIDTH:,} embeddings against {OLD:,}"
    seconds = Check(what=sizes, measured=quick.wall, relation="<", target=SECONDS, unit="s")
    ratio = Check(
        what=f"{sizes}: exact kernel's seconds over ours", measured=slow.wall / quick.wall, relation=">", target=1
    )
    return [seconds, ratio], taken, found["exact"] / found["ours"]


def _exact(new: Floats, old: Floats) -> float:
    """The standardised distance by all pairs, with the kernel's variance from all pairs of `old`."""
    scale = 2 * float(((old - old.mean(axis=0)) ** 2).sum(axis=1).mean())

    def total(one: Floats, other: Floats) -> float:
        return sum(float(np.exp(-gaps / (2 * scale)).sum(dtype=np.float64)) for gaps in _squared_gaps(one, other))

    within = [(total(each, each) - len(each)) / len(each) / (len(each) - 1) for each in (new, old)]
    squared = sum(within) - 2 * total(new, old) / len(new) / len(old)
    return float((max(squared, 0.0) / (1 - within[1])) ** 0.5)


def _squared_gaps(one: Floats, other: Floats) -> Iterator[Floats]:
    """Squared distances of 1,000 rows of `one` at a time from all of `other`."""
    lengths = (other**2).sum(axis=1)
    for start in range(0, len(one), 1_000):
        rows = one[start : start + 1_000]
        yield np.maximum((rows**2).sum(axis=1)[:, None] + lengths - 2 * rows @ other.T, 0)
