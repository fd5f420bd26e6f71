"""Labelling the pool: a teacher's answers, shard by shard, and the pseudo-labels from all shards together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import assert_never

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from selftrain.config import PseudoLabel
from selftrain.data.manifest import Int64s, Manifest, Split
from selftrain.data.store.pixels import Pixels
from selftrain.errors import PredictionError
from selftrain.evaluate.coverage import HeldOut
from selftrain.learn.models.calibrate import FEWEST, cross_fitted_probs, fit_temperature, softmax
from selftrain.learn.models.contract import Contract, SavedModel
from selftrain.learn.models.features import feature_network, with_features
from selftrain.learn.models.kept_features import reads_kept, with_kept_features
from selftrain.learn.models.loading import load
from selftrain.learn.models.predict import predict_logits
from selftrain.progress import Progress, silent
from selftrain.selflabel.graph.propagation import Nodes, Space, as_logits, propagate
from selftrain.selflabel.graph.spaces import NetworkSpace
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels, select
from selftrain.selflabel.teaching.asked import asked_rows
from selftrain.selflabel.teaching.spaces import columns_of, fitted_space

_OWN = "features"
_NO_SPACES: Mapping[NetworkSpace, Pixels] = MappingProxyType({})


def label_shard(
    pixels: Pixels,
    teacher: SavedModel,
    *parts: Int64s,
    settings: PseudoLabel,
    spaces: Mapping[NetworkSpace, Pixels] = _NO_SPACES,
    progress: Progress = silent,
) -> pa.Table:
    """The teacher's logits for the images of `pixels` in `parts`: columns `row` and `logits`, in that order.

    If labels are to be spread over similar images, a column `features` follows, and one for each of `spaces` that is
    not the teacher's own; each has its pixels, of the same images as `pixels`.

    Each part holds rows (k,) and is asked in batches of its own. The last bits of a logit may depend on the batch that
    it was computed in, so a part has the same answers whatever else is asked.
    """
    model, contract = load(teacher.folder)
    classes, spreading = len(contract.class_names), settings.labeler == "propagate"
    kept = reads_kept(model, contract, pixels)
    network = with_features(model) if spreading and not kept else model
    width = classes + (int(feature_network(model).output_shape[-1]) if spreading else 0)
    total, asked = sum(map(len, parts)), 0
    answers = [np.empty((0, width), np.float32)]
    for rows in parts:
        show = _from(asked, total, progress)
        if kept:
            found = with_kept_features(model, pixels, rows, flips=settings.flips, progress=show)[:, -width:]
        else:
            size, flips = settings.batch_size, settings.flips
            found = predict_logits(network, pixels, rows, batch_size=size, flips=flips, progress=show)
        answers.append(found)
        asked += len(rows)
    values = np.concatenate(answers)
    columns = {
        "row": np.concatenate([np.empty(0, np.int64), *parts]),
        "logits": _lists(values[:, -classes:]),
    }
    if spreading:
        columns[_OWN] = _lists(values[:, :-classes])
        others = columns_of(spaces, model, parts, flips=settings.flips)
        columns |= {name: _lists(features) for name, features in others.items()}
    return pa.table(columns)


def _lists(values: npt.NDArray[np.float32]) -> pa.FixedSizeListArray:
    """The rows of `values` (n, k) as lists of k numbers."""
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).reshape(-1)), values.shape[1])


def _from(asked: int, whole: int, progress: Progress) -> Progress:
    """The progress of one part, which begins after `asked` of `whole` images."""

    def show(done: int, total: int, note: str = "") -> None:
        progress(asked + done, whole, note)

    return show


def join(
    manifest: Manifest,
    teacher: SavedModel,
    shards: Sequence[pa.Table],
    *,
    settings: PseudoLabel,
    round_index: int,
) -> PseudoLabels:
    """Pseudo-labels for every unlabelled image of `manifest`, from the shards' logits in any order.

    The validation images calibrate the probabilities and measure the precision of what is accepted. Each of them gets a
    temperature that was fitted on others. The pool gets the temperature that was fitted on all of them. If there are
    too few, it gets the contract's temperature and nothing is measured. With `settings.labeler` "propagate" all this
    happens to the answers after labels were spread over similar images. Raises PredictionError if an image has no
    answer or more than one, or if a shard has another number of classes.
    """
    contract, held_rows, rows = teacher.contract, manifest.rows(Split.VALIDATION), manifest.rows(Split.UNLABELED)
    logits, findings = _answers(manifest, contract, shards, settings=settings)
    held_logits, pool_logits = logits[: len(held_rows)], logits[len(held_rows) :]
    held_labels = manifest.labels()[held_rows].astype(np.int64)
    fits = len(held_rows) >= FEWEST
    labels = select(
        np.asarray(manifest.image_ids())[rows],
        softmax(pool_logits, fit_temperature(held_logits, held_labels) if fits else contract.temperature),
        settings,
        round_index=round_index,
        teacher=contract.identity,
        class_names=contract.class_names,
        held_out=HeldOut(cross_fitted_probs(held_logits, held_labels), held_labels) if fits else None,
        prior=np.bincount(manifest.labels()[manifest.rows(Split.TRAIN)], minlength=len(contract.class_names)),
    )
    return replace(labels, lineage=contract.lineage, findings=(*labels.findings, *findings))


def _answers(
    manifest: Manifest, contract: Contract, shards: Sequence[pa.Table], *, settings: PseudoLabel
) -> tuple[npt.NDArray[np.float32], tuple[str, ...]]:
    """Logits (n, classes) of validation and then the pool, and what the reader of a run should know of them."""
    asked, classes = asked_rows(manifest, settings), len(contract.class_names)
    logits = _in_order(shards, asked, "logits", width=classes)
    match settings.labeler:
        case "teacher":
            return logits, ()
        case "propagate":
            features = {name: _in_order(shards, asked, name, width=None) for name in _spaces_in(shards)}
            return _propagated(manifest, contract, logits, features)
        case _:
            assert_never(settings.labeler)


def _spaces_in(shards: Sequence[pa.Table]) -> list[str]:
    """The columns of the shards with features. Raises PredictionError if not all shards have the same."""
    names: list[list[str]] = [shard.column_names[2:] for shard in shards] or [[_OWN]]
    if any(each != names[0] for each in names):
        raise PredictionError(f"the shards have different columns, {names}; label all of them for the same round")
    return names[0]


def _propagated(
    manifest: Manifest,
    contract: Contract,
    logits: npt.NDArray[np.float32],
    features: Mapping[str, npt.NDArray[np.float32]],
) -> tuple[npt.NDArray[np.float32], tuple[str, ...]]:
    """Logits of validation and the pool after spreading; logits and `features` also hold the labelled images, first."""
    labels, labelled = manifest.labels(), manifest.rows(Split.TRAIN)
    held_labels = labels[manifest.rows(Split.VALIDATION)].astype(np.int64)
    answers = logits[len(labelled) :]
    fits = len(held_labels) >= FEWEST
    temperature = fit_temperature(answers[: len(held_labels)], held_labels) if fits else contract.temperature
    known, classes = labels[labelled].astype(np.int64), len(contract.class_names)
    spaces = [Space("the teacher's features", features[_OWN], softmax(answers, temperature))]
    for name in sorted(features.keys() - {_OWN}):
        spaces.append(fitted_space(name, features[name], known, held_labels, classes=classes, fewest=FEWEST))
    spread = propagate(Nodes(tuple(spaces), known, held_labels), fewest=FEWEST)
    return as_logits(spread.probs), (spread.finding,)


def _no_answers(column: str, width: int) -> pa.Table:
    """A shard without images."""
    return pa.table({"row": pa.array([], pa.int64()), column: pa.array([], pa.list_(pa.float32(), width))})


def _in_order(shards: Sequence[pa.Table], rows: Int64s, column: str, *, width: int | None) -> npt.NDArray[np.float32]:
    """The lists (n, width) in `column` of `rows` (n,), from shards in any order; `width` None: that of the shards."""
    for shard in shards:
        found = shard.schema.field(column).type.list_size
        width = found if width is None else width
        if found != width:
            raise PredictionError(f"a shard has {found} {column} per image, not {width}; label it with this teacher")
    width = width or 0
    table = pa.concat_tables([_no_answers(column, width), *(each.select(["row", column]) for each in shards)])
    table = table.combine_chunks()
    answered = table["row"].to_numpy()
    order = np.argsort(answered, kind="stable")
    if not np.array_equal(answered[order], np.sort(rows)):
        raise PredictionError(
            f"{len(answered)} answers for {len(rows)} images: each image needs one; label the shards of this manifest"
        )
    values = np.asarray(table[column].combine_chunks().flatten()).reshape(-1, width)
    return values[order[np.searchsorted(answered[order], rows)]]
