"""Divergence: what a student or control leaves instead of a model when its training diverged."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from selftrain.files.writing import replace_text
from selftrain.learn.models.contract import CONTRACT_FILE, REASON_FILE, Contract, SavedModel


def leave(reason: str, contract: Contract, folder: Path) -> SavedModel:
    """Write to `folder` the `contract` of a model that does not exist, and the `reason`.

    The folder has no weights, so `loading.load` refuses it. The contract is written last, because a folder without it
    does not count.
    """
    leave_reason(reason, folder)
    replace_text(folder / CONTRACT_FILE, contract.model_dump_json(indent=2) + "\n")
    return SavedModel(folder, contract)


class InFolder(Protocol):
    """A saved model or detector."""

    @property
    def folder(self) -> Path:
        """Where its files are."""
        ...


def leave_reason(why: str, folder: Path) -> None:
    """Write to `folder` why the training of what it holds diverged: another model stands in for it."""
    replace_text(folder / REASON_FILE, why + "\n")


def reason(saved: InFolder) -> str | None:
    """Why the training of `saved` diverged; None for a model."""
    path = saved.folder / REASON_FILE
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None


def trained(models: Iterable[SavedModel | None]) -> tuple[SavedModel, ...]:
    """The `models` that can predict: neither missing (None) nor diverged."""
    return tuple(each for each in models if each is not None and reason(each) is None)
