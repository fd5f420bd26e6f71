"""Answers: what a model says of the files and folders a user names, an error in the row of each it cannot read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from selftrain.data.sources.listing import find_images
from selftrain.learn.models.contract import Contract
from selftrain.progress import Progress, silent

if TYPE_CHECKING:
    import keras


class Answer(BaseModel):
    """One file's label, calibrated confidence (0-1) and probabilities a class; or the `error` that it has instead."""

    model_config = ConfigDict(frozen=True)

    path: str
    label: str | None = None
    confidence: float | None = None
    probabilities: Mapping[str, float] | None = None
    error: str | None = None


def named_files(paths: Sequence[Path]) -> tuple[tuple[str, ...], tuple[Answer, ...]]:
    """The files that `paths` name, folders searched through, each once; and an error row for the rest."""
    files: dict[str, None] = {}
    errors: list[Answer] = []
    for path in paths:
        if path.is_dir():
            below = sorted(find_images(str(path)).paths)
            files |= dict.fromkeys(below)
            if not below:
                errors.append(Answer(path=str(path), error="the folder holds no image files"))
        elif path.is_file():
            files[str(path)] = None
        else:
            errors.append(Answer(path=str(path), error="no such file or folder"))
    return tuple(files), tuple(errors)


def answer_files(
    model: keras.Model, contract: Contract, paths: Sequence[str], *, progress: Progress = silent
) -> tuple[Answer, ...]:
    """A row for each of `paths`, in their order; a file that cannot be decoded has its reason in `error`."""
    from selftrain.learn.models.predict_files import predict_files

    found = predict_files(model, contract, paths, progress=progress)
    rows = {each.path: Answer(path=each.path, error=f"{each.reason}: {each.detail}") for each in found.unread}
    for path, probs in zip(found.paths, found.probs.tolist(), strict=True):
        named = dict(zip(contract.class_names, probs, strict=True))
        label = max(named, key=lambda name: named[name])
        rows[path] = Answer(path=path, label=label, confidence=named[label], probabilities=named)
    return tuple(rows[path] for path in paths)
