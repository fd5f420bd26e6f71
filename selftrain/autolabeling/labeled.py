"""Reading labelled images: once through, in chunks, a part of them held out by hash and shown to the model."""

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
from selftrain.data.inputs.values import Pixels, join_pixels
from selftrain.errors import SourceError
from selftrain.naming import name_rows, named_rows

SAMPLED = 256  # held-out images that are kept in memory
_SHOWN = 10


@dataclass(frozen=True)
class Reading:
    """Labelled images, read once through: a row an image in `index` and `labels`, both as they came; `role` names them.

    `held` (n,) are held out, `answers` (held, columns) what the model says of them; `sample` are the first of these.
    """

    role: str
    index: pa.Table
    labels: Labels
    held: Mask
    answers: Floats
    sample: Array
    pixels: Pixels
    files: bool
    unreadable: tuple[Unreadable, ...]

    def name_held(self, rows: npt.NDArray[np.int64]) -> str:
        """Those of `rows` (k,) of the held-out images, as a user knows them."""
        of_all = np.flatnonzero(self.held)[rows]
        return name_rows(self.index["path"].take(of_all).to_pylist()) if self.files else named_rows(of_all)

    @property
    def ids(self) -> npt.NDArray[np.object_]:
        """Ids (n,)."""
        return np.array(self.index["image_id"].to_pylist(), dtype=object)


def read_labeled(
    given: ImageStream, asked: UserModel, *, role: str, share: float, seed: int, batch_size: int, arrays: Path | None
) -> Reading:
    """Read `given` once, hold out `share` of it by hash, ask the model about that part, keep the pixels in `arrays`.

    None: keep none. Raises SourceError for images that do not fit together, and where there is none.
    """
    index, labels, held, answers, samples = [], [], [], [], []
    unreadable: list[Unreadable] = []
    pixels, files = None, False
    for name, chunk in _named(given, role):
        unreadable += chunk.unreadable
        if not len(chunk) or chunk.labels is None:
            continue
        pixels = join_pixels(pixels, chunk.images, role=role)
        files = chunk.paths is not None
        if arrays is not None and not files:
            write_array(arrays, name, chunk.images)
        index.append(index_rows(chunk, name))
        labels.append(chunk.labels)
        held.append(held_out_mask(chunk.ids, share=share, seed=seed))
        apart = chunk.images[held[-1]]
        if len(apart):
            name_held = _named_of(chunk, held[-1])
            answers.append(answers_of(asked, apart, batch_size=batch_size, role=role, named=name_held))
            samples.append(apart[:SAMPLED])
    if pixels is None:
        bad = f" ({len(unreadable)} files cannot be read)" if unreadable else ""
        raise SourceError(f"{role} holds no image{bad}; give at least two a class")
    return Reading(
        role=role,
        index=pa.concat_tables(index),
        labels=joined_labels(labels, role=role),
        held=np.concatenate(held),
        answers=np.concatenate(answers) if answers else np.empty((0, 0), np.float32),
        sample=np.concatenate(samples)[:SAMPLED] if samples else np.empty((0, *pixels.shape), pixels.dtype),
        pixels=pixels,
        files=files,
        unreadable=tuple(unreadable),
    )


def class_names_of(reading: Reading, *, classes: int, given: tuple[str, ...] | None, role: str) -> tuple[str, ...]:
    """The class names: those given, the sorted names of the labels, or the indices; SourceError for a mismatch.

    Names that are numbers are refused where their values and their text sort differently: the model's order is unknown.
    """
    form = label_form(reading.labels, role=role)
    names = given or (sorted_names(text(reading.labels)) if form is LabelForm.NAME else None)
    if names is None:
        return tuple(str(index) for index in range(classes))
    if len(names) != classes:
        shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
        raise SourceError(
            f"{'class_names' if given else role} has {len(names)} classes ({shown}), the model answers {classes}; "
            "give class_names=, one for each output in its order"
        )
    if not given and list(names) != sorted(names):
        raise SourceError(
            f"{role}: its classes are numbers as text, in their order {', '.join(names[:_SHOWN])}, ..., sorted as text "
            f"{', '.join(sorted(names)[:_SHOWN])}, ...; give class_names= in the order of the model's outputs, or "
            "labels that are integers"
        )
    return names


def _named_of(chunk: ImageChunk, held: Mask) -> Named:
    """What names rows of those `held` (n,) out of `chunk`."""
    rows = np.flatnonzero(held)
    return lambda bad: chunk.named(rows[bad])


def _named(given: ImageStream, role: str) -> Iterator[tuple[str, ImageChunk]]:
    for number, chunk in enumerate(given.chunks()):
        yield f"{role}-{number:06d}.npy", chunk
