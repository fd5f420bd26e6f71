"""Shard groups: labelling the pool in parts that share nothing, and joining their answers over the whole pool."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from selftrain.config import PseudoLabel
from selftrain.data import columns
from selftrain.data.manifest import Manifest
from selftrain.errors import PredictionError, SelftrainError
from selftrain.files.writing import replace
from selftrain.progress import Progress, silent
from selftrain.selflabel.graph.spaces import NO_SPACES, Spaces
from selftrain.selflabel.teaching.asked import asked_splits

if TYPE_CHECKING:
    from selftrain.learn.models.contract import SavedModel
    from selftrain.selflabel.selection.pseudo_labels import PseudoLabels
    from selftrain.selflabel.teaching.task import Task, TaskData


class ShardGroup(BaseModel):
    """Shards of the store that are labelled together; `images` is the sha256 (hex) of the ids to label, in order.

    It names all that the teacher's answers follow from, beside the teacher. A group is the same while its shards hold
    the same images to label, however the rest of the pool grows.
    """

    model_config = ConfigDict(frozen=True)

    shards: tuple[str, ...]
    images: str


def shard_groups(manifest: Manifest, size: int | None, settings: PseudoLabel) -> tuple[ShardGroup, ...]:
    """The shards with images to label, `size` to a group; no group at all for None, or without such images."""
    if size is None:
        return ()
    asked = _images_of(manifest, None, settings)
    names = asked.table["shard"].unique().cast("string").to_pylist()
    parts = [tuple(sorted(names)[start : start + size]) for start in range(0, len(names), size)]
    return tuple(ShardGroup(shards=shards, images=_digest(_images_of(asked, shards, settings))) for shards in parts)


def images_of(manifest: Manifest, group: ShardGroup, settings: PseudoLabel) -> Manifest:
    """The images of `manifest` that the group labels. Raises PredictionError if they are others than it names."""
    images = _images_of(manifest, group.shards, settings)
    if _digest(images) != group.images:
        raise PredictionError(
            f"the shards {', '.join(group.shards)} hold other images than their group names; make the groups of this "
            "manifest"
        )
    return images


def _images_of(manifest: Manifest, shards: Sequence[str] | None, settings: PseudoLabel) -> Manifest:
    rows = manifest.rows(*asked_splits(settings))
    if shards is not None:
        there = pc.is_in(manifest.table["shard"].cast("string"), value_set=pa.array(shards, pa.string()))
        rows = rows[np.asarray(there)[rows]]
    return Manifest.build(manifest.table.take(pa.array(rows)), manifest.label_map, bits=manifest.bits)


def _digest(images: Manifest) -> str:
    """sha256 (hex) of the ids, shards and splits, which fix the batches that the images are asked in."""
    digest = hashlib.sha256()
    columns.update_digest(digest, images.table.select(["image_id", "shard", "split"]))
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class GroupAnswers:
    """A teacher's answers for a group: a column `image_id`, and the task's own; one row per image."""

    table: pa.Table

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of the values."""
        digest = hashlib.sha256()
        columns.update_digest(digest, self.table.select(["image_id"]))
        for name in self.table.column_names[1:]:
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(self.table[name].combine_chunks().flatten()).tobytes())
        return digest.hexdigest()

    def write(self, path: Path) -> None:
        """Write one Parquet file."""
        replace(path, lambda part: pq.write_table(self.table, part, compression="zstd"))

    @classmethod
    def read(cls, path: Path) -> GroupAnswers:
        """What `write` put at `path`."""
        return cls(pq.ParquetFile(path).read())

    def rows_in(self, manifest: Manifest) -> pa.Table:
        """The answers with the images' rows in `manifest` (column `row`) instead of their ids."""
        rows = pc.index_in(self.table["image_id"], value_set=manifest.table["image_id"].combine_chunks())
        if rows.null_count:
            raise PredictionError(
                f"{rows.null_count} answers are for images that the manifest lacks; label the groups of this manifest"
            )
        return self.table.drop_columns(["image_id"]).add_column(0, "row", rows.cast(pa.int64()))


def label_group(
    task: Task,
    data: TaskData,
    teacher: SavedModel,
    *,
    settings: PseudoLabel,
    spaces: Spaces = NO_SPACES,
    progress: Progress = silent,
) -> GroupAnswers:
    """The answers of `teacher` for all images to label of `data`, whose manifest is that of one group."""
    rows = data.rows_to_label(settings)
    table = task.label_shard(data, teacher, rows, settings=settings, spaces=spaces, progress=progress)
    ids = data.manifest.table["image_id"].take(table["row"])
    return GroupAnswers(table.drop_columns(["row"]).add_column(0, "image_id", ids))


def join_groups(
    task: Task,
    data: TaskData,
    teacher: SavedModel,
    answers: Sequence[GroupAnswers],
    *,
    settings: PseudoLabel,
    round_index: int,
) -> PseudoLabels:
    """The pseudo-labels of round `round_index` from the answers of all groups; they are those of `task.label_pool`."""
    shards = [each.rows_in(data.manifest) for each in answers]
    return task.join(data, teacher, shards, settings=settings, round_index=round_index)


@contextmanager
def named(group: ShardGroup) -> Iterator[None]:
    """An expected error of the block names the group; what the other groups answered stays in the step cache."""
    try:
        yield
    except SelftrainError as error:
        shards = ", ".join(group.shards)
        raise type(error)(f"shards {shards} were not labelled: {error}; a new run asks for these alone") from error


def asking(settings: PseudoLabel) -> PseudoLabel:
    """What of `settings` the answers follow from: another threshold asks no group again."""
    return PseudoLabel(labeler=settings.labeler, flips=settings.flips, batch_size=settings.batch_size)
