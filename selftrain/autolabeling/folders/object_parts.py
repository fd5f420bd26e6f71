"""Parts: what a detector found in many files, kept beside the result so that a killed command continues."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Final

from selftrain.autolabeling.folders.detect_files import found_in
from selftrain.autolabeling.folders.found_objects import Found, find_objects
from selftrain.autolabeling.folders.sources import ListedImage, ListedSources
from selftrain.data.images.reasons import QuarantineReason
from selftrain.data.sources.objects.coco_writing import FoundObjects
from selftrain.files.writing import replace
from selftrain.learn.detection.saving import SavedDetector
from selftrain.learn.models.predict_files import Unread
from selftrain.progress import Progress

PART: Final = 256  # images; what a killed command loses at most


def found_in_parts(
    saved: SavedDetector,
    sources: ListedSources,
    lowest: Mapping[str, float],
    folder: Path,
    *,
    batch_size: int,
    flips: bool,
    progress: Progress,
) -> tuple[list[FoundObjects | Unread], int]:
    """What each image of `sources` holds, called by its path, and how many of them an earlier command had looked at.

    `lowest` is the score per class from which a box counts. Finished parts lie in `folder`, each under a digest of the
    model, scores, views and states of its files: where one of these changed, its images are looked at again.
    """
    images = sources.images
    parts = [images[start : start + PART] for start in range(0, len(images), PART)]
    files = [folder / f"{_key(saved, lowest, part, flips=flips)}.json" for part in parts]
    open_parts = [k for k, file in enumerate(files) if not _is_finished(file)]
    left = [image for k in open_parts for image in parts[k]]
    before = len(images) - len(left)
    if left:
        looked = find_objects(
            saved,
            left,
            lowest,
            threads=sources.threads,
            batch_size=batch_size,
            flips=flips,
            progress=lambda done, total, note="": progress(before + done, before + total, note),
        )
        for k in open_parts:
            _write(files[k], [_plain(each) for each in islice(looked, len(parts[k]))])
    return [each for file in files for each in _read(file)], before


def _key(saved: SavedDetector, lowest: Mapping[str, float], part: Sequence[ListedImage], *, flips: bool) -> str:
    listed = [f"{image.path}\0{image.state}\0{image.error}" for image in part]
    asked = [saved.contract.model_dump_json(), json.dumps([dict(lowest), flips])]
    return hashlib.sha256("\n".join([*asked, *listed]).encode("utf-8", "surrogateescape")).hexdigest()


def _is_finished(file: Path) -> bool:
    """Whether a part is kept whole; a file that could not be opened then may be there by now."""
    if not file.is_file():
        return False
    return not any(isinstance(each, Unread) and each.reason == QuarantineReason.UNREADABLE for each in _read(file))


def _plain(each: Found | Unread) -> FoundObjects | Unread:
    return each if isinstance(each, Unread) else found_in(each.path, each)


def _write(file: Path, answers: Sequence[FoundObjects | Unread]) -> None:
    rows = [[isinstance(each, Unread), asdict(each)] for each in answers]
    replace(file, lambda part: part.write_text(json.dumps(rows), encoding="utf-8"))


def _read(file: Path) -> Iterator[FoundObjects | Unread]:
    for is_unread, fields in json.loads(file.read_text(encoding="utf-8")):
        yield Unread(**fields) if is_unread else FoundObjects(**fields)
