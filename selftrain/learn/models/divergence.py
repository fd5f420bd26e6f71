"""Divergence: what a student or control whose training diverged leaves in place of a model, and how it is seen."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from selftrain.learn.models.contract import CONTRACT_FILE, REASON_FILE, Contract, SavedModel


def leave(reason: str, contract: Contract, folder: Path) -> SavedModel:
    """Write to `folder` the `contract` of a model that came to nothing, and the `reason`.

    There are no weights, so `contract.load` refuses it. The contract is written last: without it, nothing is there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / REASON_FILE).write_text(reason + "\n", encoding="utf-8")
    part = folder / f".{CONTRACT_FILE}.part"
    part.write_text(contract.model_dump_json(indent=2) + "\n", encoding="utf-8")
    part.replace(folder / CONTRACT_FILE)
    return SavedModel(folder, contract)


def reason(saved: SavedModel) -> str | None:
    """Why the training of `saved` diverged; None: it is a model."""
    path = saved.folder / REASON_FILE
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None


def trained(models: Iterable[SavedModel | None]) -> tuple[SavedModel, ...]:
    """Those of `models` that can be asked: neither missing (None) nor diverged."""
    return tuple(each for each in models if each is not None and reason(each) is None)
