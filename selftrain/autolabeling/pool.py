"""A pool, asked: unlabelled images go through the model in chunks; what is answered survives an interruption."""

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
from selftrain.data.inputs.values import Pixels, join_pixels
from selftrain.errors import ConfigError, PredictionError, SourceError
from selftrain.progress import Progress

UNLABELED = "unlabeled"
_SAME_ANSWERS = 1e-2


def check_same_model(folder: AnalysisFolder, answers: Floats) -> None:
    """Keep the answers to the held-out images; ConfigError where an unfinished analysis has others."""
    path = folder.held_out_path
    if not path.is_file():
        write_array(path.parent, path.name, answers)
        return
    before = np.load(path, allow_pickle=False)
    if before.shape != answers.shape or not np.allclose(before, answers, atol=_SAME_ANSWERS, rtol=_SAME_ANSWERS):
        raise ConfigError(
            f"out={str(folder.root)!r} was begun with another model or other labelled images; give those, or "
            "another folder"
        )


def read_pool(
    asked: UserModel,
    unlabeled: ImageStream,
    folder: AnalysisFolder,
    *,
    pixels: Pixels,
    outputs: OutputKind,
    columns: int,
    batch_size: int,
    progress: Progress,
) -> tuple[pa.Table, Floats, tuple[Unreadable, ...]]:
    """The index of the unlabelled images, the model's answers (n, columns), and the files that cannot be read.

    `pixels` are those of the labelled images, which these must go together with, and `outputs` and `columns` what
    the model answered to them. Raises SourceError, PredictionError.
    """
    index: list[pa.Table] = []
    answers: list[Floats] = []
    unreadable: list[Unreadable] = []
    done = 0
    for number, chunk in enumerate(unlabeled.chunks()):
        unreadable += chunk.unreadable
        done += len(chunk) + len(chunk.unreadable)
        if len(chunk):
            name = f"{UNLABELED}-{number:06d}.npy"
            pixels = join_pixels(pixels, chunk.images, role=UNLABELED)
            index.append(index_rows(chunk, name))
            known = _answers_before(folder, name, chunk.ids)
            if known is None:
                if chunk.paths is None:
                    write_array(folder.arrays, name, chunk.images)
                known = answers_of(asked, chunk.images, batch_size=batch_size, role=UNLABELED, named=chunk.named)
                _refuse_others(known, chunk, outputs=outputs, columns=columns)
                write_array(folder.unfinished, f"ids-{name}", chunk.ids)
                write_array(folder.unfinished, name, known)
            answers.append(known)
        progress(done, unlabeled.count or done, "images labelled")
    if not index:
        bad = f" ({len(unreadable)} files cannot be read)" if unreadable else ""
        raise SourceError(f"{UNLABELED} holds no image{bad}; give images for the model to label")
    return pa.concat_tables(index), np.concatenate(answers), tuple(unreadable)


def _refuse_others(answers: Floats, chunk: ImageChunk, *, outputs: OutputKind, columns: int) -> None:
    """Raise PredictionError where `answers` to a chunk are not of the kind of those to the labelled images."""
    if answers.shape[1] != columns:
        raise PredictionError(
            f"{UNLABELED}: the model answers {answers.shape[1]} columns, to labelled images {columns}; "
            "it must answer (n, classes), the same classes each time"
        )
    if outputs == "probabilities":
        refuse_no_probabilities(answers, role=UNLABELED, named=chunk.named)


def _answers_before(folder: AnalysisFolder, name: str, ids: npt.NDArray[np.bytes_]) -> Floats | None:
    """The answers an unfinished analysis has for this chunk; ConfigError where it had other images."""
    if not (folder.unfinished / name).is_file():
        return None
    if not np.array_equal(np.load(folder.unfinished / f"ids-{name}", allow_pickle=False), ids):
        raise ConfigError(
            f"out={str(folder.root)!r} was begun with other unlabelled images, or in another order; to go on, give the "
            "same in the same order (no shuffling), or another folder"
        )
    answers: Floats = np.load(folder.unfinished / name, allow_pickle=False)
    return answers


def without_copies(index: pa.Table, answers: Floats, known: Iterable[str]) -> tuple[pa.Table, Floats, int]:
    """The first of each image that is no labelled one, its answers, and how many were left out."""
    ids = index["image_id"].combine_chunks()
    _, first = np.unique(ids.to_numpy(zero_copy_only=False).astype("S64"), return_index=True)
    once = np.zeros(len(ids), np.bool_)
    once[first] = True
    once &= ~pc.is_in(ids, pa.array(sorted(known), pa.string())).to_numpy(zero_copy_only=False)
    return index.filter(pa.array(once)), answers[once], int((~once).sum())
