"""Left out: the images that ingest did not take into the manifest, and that people can decide about."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from selftrain.data.images.reasons import QuarantineReason

_COPIES = (QuarantineReason.DUPLICATE, QuarantineReason.HELD_OUT_COPY)


@dataclass(frozen=True)
class LeftOutImages:
    """Images that were left out, each with the reason in words.

    - `copies`: they are nearly the same as another image; `twins` says which (image_id -> image_id).
    - `disputed`: their labels contradict each other, or were taken back.
    - `unseen`: how many files cannot be shown, because they cannot be read.
    """

    copies: tuple[tuple[str, str], ...] = ()
    disputed: tuple[tuple[str, str], ...] = ()
    twins: dict[str, str] = field(default_factory=dict)
    unseen: int = 0


def left_out_images(table: Path, index: pa.Table, in_conflict: Mapping[str, Sequence[str]]) -> LeftOutImages:
    """The images of the quarantine table (CSV: origin, reason, detail) that the store's `index` has pixels of.

    `in_conflict` (image_id -> labels) are disputed too: the next run would leave them out.
    """
    columns = (index[name].to_pylist() for name in ("path", "image_id", "reason"))
    stored = {path: image_id for path, image_id, reason in zip(*columns, strict=True) if reason is None and image_id}
    copies: dict[str, str] = {}
    disputed: dict[str, str] = {}
    twins: dict[str, str] = {}
    unseen = 0
    with table.open(newline="", encoding="utf-8") if table.is_file() else io.StringIO() as file:
        for row in csv.DictReader(file):
            image_id, reason, detail = stored.get(row["origin"]), row["reason"], row.get("detail") or ""
            if image_id is None:
                unseen += 1
            elif reason == QuarantineReason.CONFLICTING_LABEL:
                disputed[image_id] = detail
            elif reason in _COPIES:
                twin = next((stored[path] for path in _paths(detail) if path in stored), None)
                if twin != image_id:  # the same bytes are the same image
                    copies[image_id] = f"{reason}: {detail}"
                    twins |= {image_id: twin} if twin else {}
    for image_id, labels in in_conflict.items():
        disputed.setdefault(image_id, f"people disagree: {' and '.join(map(repr, labels))}")
    return LeftOutImages(tuple(copies.items()), tuple(disputed.items()), twins, unseen)


def _paths(detail: str) -> list[str]:
    """What may be the path at the end of 'same bytes as PATH' or 'looks the same as PATH'."""
    words = detail.split(" ")
    return [" ".join(words[start:]) for start in range(len(words))]
