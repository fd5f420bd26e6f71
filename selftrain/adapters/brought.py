"""Brought along: what names a model or weights file that a run starts from, so that another one is seen."""

from __future__ import annotations

from pathlib import Path

from selftrain.config import Place, Registry
from selftrain.data import dataset


def described(start: str, *, place: Place, registry: Registry) -> str:
    """`teacher.start` with what it means now: the champion's version and digest, or the file's sha256."""
    if start == "train":
        return start
    if start != "champion":
        return f"{start} {_content(Path(start))}"
    from selftrain.adapters.registry import champion
    from selftrain.adapters.tracking import open_tracking

    present = champion(open_tracking(dataset.workspace(place).root), registry.model_name)
    return f"{start} {present.number} {present.model_digest}" if present else f"{start} none"


def described_weights(weights: str | None) -> str | None:
    """A recipe's `weights`, with the file's sha256 where it is one."""
    return weights if weights in (None, "imagenet") else f"{weights} {_content(Path(weights))}"


def _content(path: Path) -> str:
    """sha256 of a file, or of a saved model's contract, which holds that of its weights; 'missing' without either."""
    from selftrain.learn.contract import CONTRACT_FILE, file_digest

    file = path / CONTRACT_FILE if path.is_dir() else path
    return file_digest(file) if file.is_file() else "missing"
