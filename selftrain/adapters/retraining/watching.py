"""Watching: the champion looks at new images, and says whether they have drifted; each window is kept."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from selftrain.adapters.process.quiet_start import start_keras
from selftrain.adapters.registry import versions
from selftrain.adapters.tracking.store import open_tracking
from selftrain.config import Experiment
from selftrain.data.intake_table import intake_path, read_intake
from selftrain.data.label_map import LabelMap
from selftrain.data.manifest import Manifest, Split
from selftrain.data.store.dataset import Dataset, open_dataset
from selftrain.data.store.image_store import ImageStore
from selftrain.files.writing import replace_text
from selftrain.retraining.drift.decision import Window, look, replay
from selftrain.retraining.drift.summaries import Reference, Summary
from selftrain.retraining.journal import journal_of, seen_rows
from selftrain.retraining.newness import new_images

if TYPE_CHECKING:
    import keras

    from selftrain.learn.models.contract import Contract


@dataclass(frozen=True)
class Watch:
    """The files of one data set's drift: `windows.jsonl`, and the reference of each champion."""

    folder: Path

    def windows(self) -> list[Window]:
        """All windows, oldest first; those that this version cannot read are left out."""
        try:
            text = (self.folder / "windows.jsonl").read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        windows = []
        for line in text.splitlines():
            with contextlib.suppress(ValidationError):
                windows.append(Window.model_validate_json(line))
        return windows

    def keep(self, windows: Sequence[Window]) -> None:
        replace_text(self.folder / "windows.jsonl", "".join(f"{each.model_dump_json()}\n" for each in windows))

    def reference(self, identity: str) -> Path:
        """The file of the reference that the champion `identity` made of its training images."""
        return self.folder / f"{identity[:24]}.json"


def watch_of(dataset: Dataset) -> Watch:
    """The drift of a data set; it lies beside the folder that DVC versions."""
    root = dataset.workspace.dataset(dataset.name)
    return Watch(root.with_name(f"{root.name}.drift"))


def drift_line(e: Experiment) -> str:
    """What the champion says of the images that no decided run has seen, in one line. It never fails a retraining."""
    if e.task == "detection":
        return "drift was not measured: it is for classifiers"
    dataset = open_dataset(e.place, e.machine)
    intake = read_intake(intake_path(dataset.store.root))
    seen = seen_rows(journal_of(dataset.workspace, dataset.name).lines(), intake)
    try:
        window = watch(e, new_images(intake, seen_rows=seen))
    except Exception as error:  # whatever is wrong with the measurement, the images can still be trained on
        return f"drift was not measured: {error}"
    return line_of(window) if window else "drift was not measured: no champion, or no new image"


def line_of(window: Window) -> str:
    """What a run keeps of a window: what was decided, and the window's name, because the words return."""
    return f"{window.decision.reason} [window {window.name}]"


def reason_and_name(line: str) -> tuple[str, str | None]:
    """The two parts of `line_of`; a line of an earlier version has no name."""
    found = re.fullmatch(r"(.*) \[window ([^\]]+)\]", line, re.DOTALL)
    return (found[1], found[2]) if found else (line, None)


def watch(e: Experiment, image_ids: Sequence[str]) -> Window | None:
    """The window of these new images, as the champion sees them; None where there is no champion, or no two images.

    Images that were watched together before are not asked again. A window whose images are among those of this one, as
    while they wait for a retraining, is replaced by it.
    """
    dataset = open_dataset(e.place, e.machine)
    kept, first = watch_of(dataset), image_ids[0] if len(image_ids) > 1 else ""
    name = f"{first[:12]}+{len(image_ids)}"
    past = kept.windows()
    champion = versions.champion(open_tracking(dataset.workspace.root), e.registry.model_name) if first else None
    if champion is None or not dataset.store.manifest_path.exists():
        return None
    if past and past[-1].name == name and past[-1].summary.space.model == champion.identity:
        return past[-1]
    start_keras()
    past = [each for each in past if not each.name.startswith(f"{first[:12]}+")]
    windows = _measure(e, dataset, champion, image_ids, name=name, past=past)
    kept.keep(windows)
    return windows[-1]


def _measure(
    e: Experiment,
    dataset: Dataset,
    champion: versions.Version,
    image_ids: Sequence[str],
    *,
    name: str,
    past: Sequence[Window],
) -> list[Window]:
    """`past`, what a new champion sees in the images of earlier decided runs, and the window of `image_ids`."""
    from selftrain.learn.models.loading import load
    from selftrain.retraining.drift.observation import window_of

    tracking = open_tracking(dataset.workspace.root)
    folder = versions.load_model_folder(tracking, champion, cache=dataset.workspace.models)
    model, contract = load(folder)
    reference = _reference(dataset, model, contract)

    def seen(ids: Sequence[str]) -> Summary:
        images = _images(dataset.store, ids, contract)
        pixels = dataset.pixels(images, contract.image_size)
        return window_of(model, pixels, np.arange(len(images)), reference, temperature=contract.temperature)

    known = list(past)
    if not any(each.summary.space == reference.space for each in past):
        earlier = [(f"{ids[0][:12]}={len(ids)}", seen(ids)) for ids in _earlier(dataset, e.drift.warmup)]
        known += replay(earlier, reference=reference, settings=e.drift)
    return [*known, look(seen(image_ids), name=name, reference=reference, past=known, settings=e.drift)]


def _earlier(dataset: Dataset, count: int) -> list[list[str]]:
    """The images that each of the last `count` decided runs had seen first, where it had seen any; oldest run first."""
    intake = read_intake(intake_path(dataset.store.root))
    lines = journal_of(dataset.workspace, dataset.name).lines()
    ends = [0, *(int(line.facts.get("intake_rows", 0)) for line in lines if line.kind == "decided")]
    parts = [new_images(intake.slice(0, end), seen_rows=start) for start, end in pairwise(ends)]
    return [ids for ids in parts if len(ids) > 1][-count:]


def _reference(dataset: Dataset, model: keras.Model, contract: Contract) -> Reference:
    """What the champion sees in the training images; made once per champion, as windows are tied to it."""
    from selftrain.retraining.drift.observation import reference_of

    path = watch_of(dataset).reference(contract.identity)
    if path.exists():
        return Reference.model_validate_json(path.read_text(encoding="utf-8"))
    manifest = Manifest.read(dataset.store.manifest_path).part(Split.TRAIN).read_as(contract.bits)
    pixels = dataset.pixels(manifest, contract.image_size)
    rows = np.arange(len(manifest))
    reference = reference_of(model, pixels, rows, name=contract.identity, temperature=contract.temperature)
    replace_text(path, reference.model_dump_json())
    return reference


def _images(store: ImageStore, image_ids: Sequence[str], contract: Contract) -> Manifest:
    """A manifest of images that no ingest has seen yet, from the store's index, as the model reads them."""
    index = store.index()
    found = index.filter(pc.is_in(index["image_id"], value_set=pa.array(image_ids, pa.string())))
    first = found.take(np.unique(np.asarray(found["image_id"].to_pylist()), return_index=True)[1])
    columns = {name: first[name] for name in ("image_id", "shard", "index", "width", "height", "phash")}
    plain = {
        "origin": first["path"],
        "split": pa.array(["unlabeled"] * len(first)),
        "weight": pa.array(np.ones(len(first), np.float32)),
    }
    return Manifest.build(pa.table({**columns, **plain}), LabelMap(contract.class_names), bits=contract.bits)
