"""Answers: a row per image file that a user names, with the model's label, or an error if it cannot be read."""

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
    """One file's label, calibrated confidence (0-1) and probability per class, or its `error` instead."""

    model_config = ConfigDict(frozen=True)

    path: str
    label: str | None = None
    confidence: float | None = None
    probabilities: Mapping[str, float] | None = None
    error: str | None = None


def named_files(paths: Sequence[Path]) -> tuple[tuple[str, ...], tuple[Answer, ...]]:
    """The files that `paths` name, each once, and an error row for other paths. Folders are searched for images."""
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
    """A row for each of `paths`, in their order. A file that cannot be decoded has the reason in `error`."""
    from selftrain.learn.models.predict_files import predict_files

    predictions = predict_files(model, contract, paths, progress=progress)
    rows = {each.path: Answer(path=each.path, error=f"{each.reason}: {each.detail}") for each in predictions.unread}
    for path, probs in zip(predictions.paths, predictions.probs.tolist(), strict=True):
        named = dict(zip(contract.class_names, probs, strict=True))
        label = max(named, key=lambda name: named[name])
        rows[path] = Answer(path=path, label=label, confidence=named[label], probabilities=named)
    return tuple(rows[path] for path in paths)
