"""The pool: unlabelled images go through the model in chunks, and an interruption loses no answer."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from selftrain.autolabeling.folder import AnalysisFolder
from selftrain.autolabeling.kept_images import index_rows, write_array
from selftrain.autolabeling.user_model import Floats, OutputKind, UserModel, answers_of, refuse_no_probabilities
from selftrain.data.inputs.images import ImageChunk, ImageStream, Unreadable
from selftrain.data.inputs.values import PixelValues, Redness, join_values
from selftrain.errors import ConfigError, PredictionError, SourceError
from selftrain.progress import Progress

UNLABELED = "unlabeled"
_TOLERANCE = 1e-2  # the same model's answers to the same images may differ by this much between calls


def check_same_model(folder: AnalysisFolder, answers: Floats) -> None:
    """Keep the `answers` to the held-out images in `folder`. A resumed analysis is compared with them.

    Raises ConfigError where an unfinished analysis kept different ones.
    """
    path = folder.held_out_path
    if not path.is_file():
        write_array(path.parent, path.name, answers)
        return
    kept = np.load(path, allow_pickle=False)
    if kept.shape != answers.shape or not np.allclose(kept, answers, atol=_TOLERANCE, rtol=_TOLERANCE):
        raise ConfigError(
            f"out={str(folder.root)!r} was begun with another model or other labelled images; give those, or "
            "another folder"
        )


def read_pool(
    model: UserModel,
    unlabeled: ImageStream,
    folder: AnalysisFolder,
    *,
    pixels: PixelValues,
    outputs: OutputKind,
    columns: int,
    batch_size: int,
    progress: Progress,
) -> tuple[pa.Table, Floats, tuple[Unreadable, ...], Redness]:
    """The index of the unlabelled images, the model's answers (n, columns), the files that cannot be read, and colours.

    The images must have the shape, type and range of the labelled ones (`pixels`). The answers must be of the kind
    `outputs` and have as many `columns` as those to the labelled images. Raises SourceError, PredictionError.
    """
    index, answers, unreadable, redness = list[pa.Table](), list[Floats](), list[Unreadable](), Redness()
    done = 0
    for number, chunk in enumerate(unlabeled.chunks()):
        unreadable += chunk.unreadable
        done += len(chunk) + len(chunk.unreadable)
        if len(chunk):
            name = f"{UNLABELED}-{number:06d}.npy"
            pixels = join_values(pixels, chunk.images, role=UNLABELED)
            redness = redness.joined(chunk.images)
            index.append(index_rows(chunk, name))
            kept = _kept_answers(folder, name, chunk.ids)
            if kept is None:
                kept = _answers(model, chunk, name, folder, outputs=outputs, columns=columns, batch_size=batch_size)
            answers.append(kept)
        progress(done, unlabeled.count or done, "images labelled")
    if not index:
        bad = f" ({len(unreadable)} files cannot be read)" if unreadable else ""
        raise SourceError(f"{UNLABELED} holds no image{bad}; give images for the model to label")
    return pa.concat_tables(index), np.concatenate(answers), tuple(unreadable), redness


def _answers(
    model: UserModel,
    chunk: ImageChunk,
    name: str,
    folder: AnalysisFolder,
    *,
    outputs: OutputKind,
    columns: int,
    batch_size: int,
) -> Floats:
    """The model's answers to a chunk, kept in `folder` with its images. Raises PredictionError."""
    if chunk.paths is None:
        write_array(folder.arrays, name, chunk.images)
    answers = answers_of(model, chunk.images, batch_size=batch_size, role=UNLABELED, named=chunk.named)
    if answers.shape[1] != columns:
        raise PredictionError(
            f"{UNLABELED}: the model answers {answers.shape[1]} columns, but {columns} to labelled images; "
            "it must answer (n, classes), the same classes each time"
        )
    if outputs == "probabilities":
        refuse_no_probabilities(answers, role=UNLABELED, named=chunk.named)
    write_array(folder.unfinished, f"ids-{name}", chunk.ids)
    write_array(folder.unfinished, name, answers)
    return answers


def _kept_answers(folder: AnalysisFolder, name: str, ids: npt.NDArray[np.bytes_]) -> Floats | None:
    """The answers to this chunk in an unfinished analysis; None where there are none.

    Raises ConfigError where that analysis had other images in this chunk.
    """
    if not (folder.unfinished / name).is_file():
        return None
    if not np.array_equal(np.load(folder.unfinished / f"ids-{name}", allow_pickle=False), ids):
        raise ConfigError(
            f"out={str(folder.root)!r} was begun with other unlabelled images, or in another order; to continue, give "
            "the same in the same order (no shuffling), or another folder"
        )
    answers: Floats = np.load(folder.unfinished / name, allow_pickle=False)
    return answers


def without_copies(index: pa.Table, answers: Floats, labeled: Iterable[str]) -> tuple[pa.Table, Floats, int]:
    """One row per image, without those whose ids are in `labeled`; their answers; and how many rows were left out."""
    ids = index["image_id"].combine_chunks()
    _, first = np.unique(ids.to_numpy(zero_copy_only=False).astype("S64"), return_index=True)
    unique = np.zeros(len(ids), np.bool_)
    unique[first] = True
    unique &= ~pc.is_in(ids, pa.array(sorted(labeled), pa.string())).to_numpy(zero_copy_only=False)
    return index.filter(pa.array(unique)), answers[unique], int((~unique).sum())
