"""Labelled images: read once, in chunks, with a share held out by hash and shown to the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from selftrain.autolabeling.kept_images import index_rows, write_array
from selftrain.autolabeling.user_model import Floats, Named, UserModel, answers_of
from selftrain.data.inputs.held_out import Mask, held_out_mask
from selftrain.data.inputs.images import Array, ImageChunk, ImageStream, Unreadable
from selftrain.data.inputs.labels import LabelForm, Labels, joined_labels, label_form, sorted_names, text
from selftrain.data.inputs.values import PixelValues, Redness, join_values
from selftrain.errors import SourceError
from selftrain.naming import name_rows, named_rows
from selftrain.progress import Progress, silent

SAMPLED = 256  # held-out images that are kept in memory
_SHOWN = 10


@dataclass(frozen=True)
class Reading:
    """Labelled images, read once: `index` and `labels` have a row per image, in the order of reading.

    `role` is the name of these images in errors. `held_out` (n,) marks those shown to the model, and `answers` (held
    out, columns) are its answers. `sample` holds the first of these images.
    """

    role: str
    index: pa.Table
    labels: Labels
    held_out: Mask
    answers: Floats
    sample: Array
    pixels: PixelValues
    files: bool
    unreadable: tuple[Unreadable, ...]
    redness: Redness

    def name_held_out(self, rows: npt.NDArray[np.int64]) -> str:
        """Names for the `rows` (k,) of the held-out images that a user recognizes: paths or row numbers."""
        of_all = np.flatnonzero(self.held_out)[rows]
        return name_rows(self.index["path"].take(of_all).to_pylist()) if self.files else named_rows(of_all)

    @property
    def ids(self) -> npt.NDArray[np.str_]:
        """Ids (n,)."""
        return np.array(self.index["image_id"].to_pylist(), str)


def read_labeled(
    images: ImageStream,
    model: UserModel,
    *,
    role: str,
    share: float,
    seed: int,
    batch_size: int,
    arrays: Path | None,
    progress: Progress = silent,
) -> Reading:
    """Read `images` once, hold out `share` of them by hash, and show these to the model.

    The pixels are written to the folder `arrays`, unless it is None or the images are files. Raises SourceError for
    images that do not fit together, and where there are none.
    """
    index, labels, masks, answers, samples = [], [], [], [], []
    pixels, files, unreadable, redness = None, False, list[Unreadable](), Redness()
    done = 0
    for name, chunk in _named_chunks(images, role):
        unreadable += chunk.unreadable
        done += len(chunk) + len(chunk.unreadable)
        progress(done, images.count or done, f"{role}: images read")
        if not len(chunk) or chunk.labels is None:
            continue
        pixels = join_values(pixels, chunk.images, role=role)
        redness = redness.joined(chunk.images)
        files = chunk.paths is not None
        if arrays is not None and not files:
            write_array(arrays, name, chunk.images)
        index.append(index_rows(chunk, name))
        labels.append(chunk.labels)
        masks.append(held_out_mask(chunk.ids, share=share, seed=seed))
        shown = chunk.images[masks[-1]]
        if len(shown):
            naming = _naming(chunk, masks[-1])
            answers.append(answers_of(model, shown, batch_size=batch_size, role=role, named=naming))
            samples.append(shown[:SAMPLED])
    if pixels is None:
        bad = f" ({len(unreadable)} files cannot be read)" if unreadable else ""
        raise SourceError(f"{role} holds no image{bad}; give at least two per class")
    return Reading(
        role=role,
        index=pa.concat_tables(index),
        labels=joined_labels(labels, role=role),
        held_out=np.concatenate(masks),
        answers=np.concatenate(answers) if answers else np.empty((0, 0), np.float32),
        sample=np.concatenate(samples)[:SAMPLED] if samples else np.empty((0, *pixels.shape), pixels.dtype),
        pixels=pixels,
        files=files,
        unreadable=tuple(unreadable),
        redness=redness,
    )


def class_names_of(reading: Reading, *, classes: int, given: tuple[str, ...] | None, role: str) -> tuple[str, ...]:
    """The class names: those given, the sorted names of the labels, or the indices.

    Raises SourceError where the model has another number of classes. If names are numbers that sort differently by
    value and as text, the order of the model's outputs is unknown. Then it raises SourceError too.
    """
    form = label_form(reading.labels, role=role)
    names = given or (sorted_names(text(reading.labels)) if form is LabelForm.NAME else None)
    if names is None:
        return tuple(str(index) for index in range(classes))
    if len(names) != classes:
        shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
        raise SourceError(
            f"{'class_names' if given else role} has {len(names)} classes ({shown}), but the model answers {classes}; "
            "give class_names=, one for each output in order"
        )
    if not given and list(names) != sorted(names):
        raise SourceError(
            f"{role}: the class names are numbers, in order {', '.join(names[:_SHOWN])}, ..., but sorted as text "
            f"{', '.join(sorted(names)[:_SHOWN])}, ...; give class_names= in the order of the model's outputs, or "
            "labels that are integers"
        )
    return names


def _naming(chunk: ImageChunk, mask: Mask) -> Named:
    """A function that names rows of those images of `chunk` that `mask` (n,) marks."""
    rows = np.flatnonzero(mask)
    return lambda bad: chunk.named(rows[bad])


def _named_chunks(images: ImageStream, role: str) -> Iterator[tuple[str, ImageChunk]]:
    for number, chunk in enumerate(images.chunks()):
        yield f"{role}-{number:06d}.npy", chunk
