"""Pseudo-labels: from class probabilities to an accepted subset, with the reason for each rejection."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, assert_never

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel

from selftrain.config import PseudoLabel
from selftrain.data import columns
from selftrain.errors import ConfigError, PredictionError
from selftrain.evaluate.coverage import CoverageCurve, HeldOut, MeasuredPrecision, coverage_curve
from selftrain.evaluate.probabilities import checked_probs
from selftrain.files import writing
from selftrain.selflabel.selection.alignment import aligned, alignment_ratio
from selftrain.selflabel.selection.thresholds import (
    Acceptance,
    above_own_class,
    decide,
    describe_threshold,
    within_quota,
)
from selftrain.selflabel.selection.weights import weigh

if TYPE_CHECKING:
    from selftrain.data.manifest import Manifest

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("label", pa.int32(), nullable=False),
        pa.field("confidence", pa.float32(), nullable=False),
        pa.field("probs", pa.list_(pa.float32()), nullable=False),
        pa.field("accepted", pa.bool_(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("weight", pa.float32(), nullable=False),
    ]
)
METADATA_KEY = b"selftrain.pseudo_labels"
ROWS_PER_GROUP = 1 << 16
"""Rows per row group of the file. Rows sorted by image_id let a search for one image read one group."""


class RejectionReason(StrEnum):
    """Why a prediction is or is not a pseudo-label."""

    ACCEPTED = "accepted"
    BELOW_THRESHOLD = "below_threshold"
    OVER_QUOTA = "over_quota"


@dataclass(frozen=True)
class PseudoLabels:
    """One round's predictions for the pool, one row per image in input order, each accepted or with a reason.

    - `table`: columns of SCHEMA. `label` is the predicted class index, `confidence` its probability, and `weight` the
      row's weight in the loss (0: rejected).
    - `teacher`: the identity of the model that made the predictions.
    - `threshold`: the rule in words.
    - `cutoffs`: the lowest confidence that passes, one number per class, 1 where nothing does.
    - `targets`: what a student learns from, the probabilities (soft) or the label alone (hard).
    - `measured`, `curve`: the precision on held-out labels at the threshold, and at every other cut-off. None where
      there were no held-out labels.
    - `findings`: what the reader of a run must not miss.
    - `lineage`: the identities of the teacher's own teachers, oldest first.
    """

    table: pa.Table
    class_names: tuple[str, ...]
    round: int
    teacher: str
    threshold: str
    cutoffs: tuple[float, ...]
    targets: Literal["soft", "hard"]
    measured: MeasuredPrecision | None = None
    curve: CoverageCurve | None = None
    findings: tuple[str, ...] = ()
    lineage: tuple[str, ...] = ()

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def accepted(self) -> pa.Table:
        """The accepted rows."""
        return self.table.filter(self.table["accepted"])

    def count(self, reason: RejectionReason) -> int:
        """How many rows have `reason`."""
        return int(pc.sum(pc.equal(self.table["reason"], reason.value)).as_py() or 0)

    def accepted_per_class(self) -> Ints:
        """How many rows of each class were accepted, int64 (classes,)."""
        return np.bincount(self.accepted["label"].to_numpy(), minlength=len(self.class_names))

    def cutoffs_by_class(self) -> dict[str, float]:
        """The lowest confidence that passes, by class name."""
        return dict(zip(self.class_names, self.cutoffs, strict=True))

    def probs(self) -> Floats:
        """The probabilities of all rows, float32 (n, classes)."""
        return columns.list_values(self.table["probs"], len(self.class_names))

    def applied_to(self, manifest: Manifest) -> Manifest:
        """`manifest` with the accepted images as training images, and without pseudo-labels of earlier rounds.

        Hard targets leave `probs` empty. Raises ManifestError for an image that is not in the unlabelled pool.
        """
        rows = self.accepted
        if not rows.num_rows:
            return manifest.without_pseudo_labels()
        soft = self.targets == "soft"
        return manifest.with_pseudo_labels(
            rows["image_id"].combine_chunks(),
            labels=rows["label"].to_numpy(),
            confidence=rows["confidence"].to_numpy(),
            probs=columns.list_values(rows["probs"], len(self.class_names)) if soft else None,
            weight=rows["weight"].to_numpy(),
            round=self.round,
            teacher=self.teacher,
        )

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of every row and fact; equal values have equal digests, before and after Parquet."""
        digest = hashlib.sha256(self._facts())
        columns.update_digest(digest, self.table.drop_columns(["accepted"]))  # `reason` says the same
        return digest.hexdigest()

    def write(self, path: Path, *, rows_per_group: int = ROWS_PER_GROUP) -> None:
        """Write to `path` as Parquet; a reader sees the old file or the whole new one."""
        table = self.table.replace_schema_metadata({METADATA_KEY: self._facts()})
        writing.replace(
            path, lambda part: pq.write_table(table, part, compression="zstd", row_group_size=rows_per_group)
        )

    def _facts(self) -> bytes:
        facts = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "table"}
        return json.dumps(facts, sort_keys=True, default=BaseModel.model_dump).encode()

    @classmethod
    def read(cls, path: Path) -> PseudoLabels:
        """The PseudoLabels that `write` put at `path`. Raises PredictionError for any other table."""
        return cls.of(pq.read_table(path), path)

    @classmethod
    def of(cls, table: pa.Table, path: object) -> PseudoLabels:
        """The PseudoLabels of `table`, which holds all or some rows of the file that `write` put at `path`.

        Raises PredictionError for any other table.
        """
        metadata = (table.schema.metadata or {}).get(METADATA_KEY)
        if metadata is None or table.schema.names != SCHEMA.names:
            raise PredictionError(f"{path} holds no pseudo-labels; make them with `selftrain pseudo-label` or a run")
        facts = json.loads(metadata)
        facts |= {name: tuple(facts.get(name, ())) for name in ("class_names", "cutoffs", "findings", "lineage")}
        for name, kind in (("measured", MeasuredPrecision), ("curve", CoverageCurve)):
            facts[name] = None if facts[name] is None else kind.model_validate(facts[name])
        return cls(table=table.cast(SCHEMA).replace_schema_metadata(None), **facts)


def select(
    image_ids: Sequence[str] | npt.NDArray[np.str_] | npt.NDArray[np.object_] | pa.Array | pa.ChunkedArray,
    probs: npt.ArrayLike,
    settings: PseudoLabel,
    *,
    round_index: int,
    teacher: str,
    class_names: tuple[str, ...],
    held_out: HeldOut | None = None,
    prior: npt.ArrayLike | None = None,
) -> PseudoLabels:
    """The pseudo-labels that `settings` make of a teacher's answers for a pool.

    - `image_ids` (n,): the pool. Images are sorted by them, and ties in confidence go to the smaller one, so the same
      images get the same labels in any order.
    - `probs` (n, classes): the teacher's calibrated probabilities.
    - `held_out`: the same teacher's answers, calibrated in the same way, to images with human labels that it did not
      learn from.
    - `prior` (classes,): the counts of the human training labels.

    Raises PredictionError for invalid probabilities, and for image_ids that repeat or are not one per image, and
    ConfigError if `settings` need held-out labels or a prior that are missing.
    """
    checked = checked_probs(probs, classes=len(class_names))
    ids = _checked_ids(image_ids, images=len(checked))
    order = pc.sort_indices(ids).to_numpy(zero_copy_only=False)
    checked, held_out = _aligned(checked, held_out, settings, prior=prior, order=order)
    ranked = checked[order]
    decision = decide(ranked, settings.threshold, round_index=round_index, class_names=class_names, held_out=held_out)
    return PseudoLabels(
        table=_table(ids, checked, ranked, order, decision, settings, held_out),
        class_names=tuple(class_names),
        round=round_index,
        teacher=teacher,
        threshold=describe_threshold(settings.threshold, round_index=round_index),
        cutoffs=tuple(np.minimum(decision.cutoffs, 1.0).tolist()),
        targets=settings.targets,
        measured=_measured(decision, held_out),
        curve=None if held_out is None else coverage_curve(ranked.max(axis=1), held_out),
        findings=decision.findings,
    )


def _table(
    ids: pa.Array,
    probs: Floats,
    ranked: Floats,
    order: npt.NDArray[np.uint64],
    decision: Acceptance,
    settings: PseudoLabel,
    held_out: HeldOut | None,
) -> pa.Table:
    """The rows of SCHEMA for `ids` (n,) and `probs` (n, classes); `ranked` and `decision` are in `order` (n,)."""
    confidence, predicted = ranked.max(axis=1), ranked.argmax(axis=1)
    kept = within_quota(decision.accepted, confidence, predicted, max_per_class=settings.max_per_class)
    weight = weigh(confidence, predicted, kept, settings, held_out=held_out, classes=probs.shape[1])
    unsorted = np.empty_like(order)
    unsorted[order] = np.arange(len(order), dtype=order.dtype)
    values = [
        ids,
        predicted[unsorted].astype(np.int32),
        confidence[unsorted],
        probs_column(probs),
        kept[unsorted],
        _reasons(decision.accepted[unsorted], kept[unsorted]),
        weight[unsorted],
    ]
    return pa.table(values, schema=SCHEMA)


def _aligned(
    probs: Floats,
    held_out: HeldOut | None,
    settings: PseudoLabel,
    *,
    prior: npt.ArrayLike | None,
    order: npt.NDArray[np.uint64],
) -> tuple[Floats, HeldOut | None]:
    """The pool's and the held-out probabilities, aligned in the same way if `settings` ask for it."""
    match settings.align:
        case "none":
            return probs, held_out
        case "labeled_prior":
            if prior is None:
                raise ConfigError("pseudo_label.align is 'labeled_prior', which needs training labels; there are none")
            ratio = alignment_ratio(probs[order], prior)
            if held_out is not None:
                held_out = replace(held_out, probs=aligned(held_out.probs, ratio))
            return aligned(probs, ratio), held_out
        case _:
            assert_never(settings.align)


def _measured(decision: Acceptance, held_out: HeldOut | None) -> MeasuredPrecision | None:
    """The precision on `held_out` of the labels that pass the threshold, before quotas reject some of them."""
    if held_out is None:
        return None
    above = above_own_class(held_out.confidence, held_out.predicted, decision.cutoffs)
    return MeasuredPrecision(
        accepted=int(decision.accepted.sum()),
        pool=decision.accepted.size,
        images=int(above.sum()),
        right=int(held_out.right[above].sum()),
    )


def probs_column(probs: Floats) -> pa.ListArray:
    """Probabilities (n, classes) as a list column, without a Python object per row."""
    images, classes = probs.shape
    offsets = np.arange(images + 1, dtype=np.int64) * classes
    if offsets[-1] > np.iinfo(np.int32).max:
        raise PredictionError(
            f"{images} images of {classes} classes do not fit into one column; label the pool in parts"
        )
    return pa.ListArray.from_arrays(offsets.astype(np.int32), np.ascontiguousarray(probs).reshape(-1))


def _checked_ids(
    image_ids: Sequence[str] | npt.NDArray[np.generic] | pa.Array | pa.ChunkedArray, *, images: int
) -> pa.Array:
    chunked = image_ids if isinstance(image_ids, pa.ChunkedArray) else pa.chunked_array([image_ids], pa.string())
    ids = chunked.cast(pa.string()).combine_chunks()
    if len(ids) != images:
        raise PredictionError(f"{len(ids)} image_ids for the probabilities of {images} images; give one per image")
    distinct = pc.count_distinct(ids).as_py()
    if distinct != images:
        raise PredictionError(f"{images - distinct} of {images} image_ids repeat; give each image once")
    return ids


def _reasons(passed: Mask, kept: Mask) -> pa.Array:
    names = pa.array(
        [RejectionReason.ACCEPTED, RejectionReason.OVER_QUOTA, RejectionReason.BELOW_THRESHOLD], pa.string()
    )
    codes = np.select([kept, passed], [np.int8(0), np.int8(1)], np.int8(2))
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int8()), names).cast(pa.string())
