"""The space of a run's images, for its page: vectors by the run's model, or kept ones, or its teacher's answers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from selftrain.adapters.process.quiet_start import start_keras
from selftrain.adapters.registry.references import find_version
from selftrain.adapters.registry.versions import load_model_folder
from selftrain.data import columns
from selftrain.data.images.thumbnails import sprite
from selftrain.data.manifest import Manifest, Split
from selftrain.data.store.dataset import Dataset
from selftrain.data.store.feature_files import FeatureFiles
from selftrain.data.store.pixels import KeptPixels, StoredPixels
from selftrain.data.workers import cores
from selftrain.report.page.run_facts import Space
from selftrain.report.plane import planes
from selftrain.reviewing.vectors import kept_vectors
from selftrain.selflabel.rounds.record import RunRecord
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels

Floats = npt.NDArray[np.float32]
MOST_PEOPLE, MOST_POOL = 1000, 2000
"""Points of training images that people labelled, and of the pool."""
MOST_ASKED = 16_000_000
"""Pixels that the run's model is asked about, some seconds on two cores."""
MOST_SHOWN = 1_000_000_000
"""Pixels that the points' pictures have, some half a minute of decoding; those of a JPEG count an eighth."""
TILE = 40
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Drawn:
    """Rows of the manifest that become points: of the pool, and of training images; and of how many they are drawn."""

    pool: npt.NDArray[np.int64]
    people: npt.NDArray[np.int64]
    pool_of: int
    people_of: int

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        return np.concatenate([self.pool, self.people])

    def at_most(self, count: int) -> _Drawn:
        """A third of `count` from people, as far as there are any; the others from the pool."""
        people = min(len(self.people), max(count // 3, count - len(self.pool)))
        return replace(self, pool=self.pool[: count - people], people=self.people[:people])


def space_of(record: RunRecord, dataset: Dataset, manifest: Manifest, labels: Sequence[PseudoLabels]) -> Space | None:
    """Some images of the run in the plane; None without pseudo-labels, or with fewer than three images.

    Vectors are the features of the model that the run registered; else those that a frozen network's runs kept; else
    the logarithms of the last teacher's probabilities. Nothing is written, and images of validation and test are
    not asked about.
    """
    filled = [each for each in labels if len(each)]
    if not filled:
        return None
    drawn = _drawn(manifest, filled[-1])
    found = _asked(record, dataset, manifest, drawn) or _kept(dataset, manifest, drawn) or _answered(filled[-1], drawn)
    drawn, vectors, basis = found
    return None if len(vectors) < 3 else _space(dataset, manifest, filled[-1], drawn, vectors, basis)


def _drawn(manifest: Manifest, last: PseudoLabels) -> _Drawn:
    order = pc.sort_indices(manifest.table["image_id"]).to_numpy().astype(np.int64)
    in_pool = np.asarray(pc.is_in(manifest.table["image_id"], value_set=last.table["image_id"].combine_chunks()))
    in_training = np.isin(np.arange(len(manifest)), manifest.rows(Split.TRAIN))
    pool, people = order[in_pool[order]], order[(in_training & ~in_pool)[order]]
    drawn = _Drawn(pool[:MOST_POOL], people[:MOST_PEOPLE], len(pool), len(people))
    pixels = _pixels_to_decode(manifest, drawn)
    return drawn if pixels <= MOST_SHOWN else drawn.at_most(max(3, int(len(drawn.rows) * MOST_SHOWN / pixels)))


def _pixels_to_decode(manifest: Manifest, drawn: _Drawn) -> float:
    """The pixels of the drawn images; those of a JPEG, which is decoded at a smaller scale, count an eighth."""
    table = manifest.table.select(["width", "height", "origin"]).take(pa.array(drawn.rows))
    sizes = table["width"].to_numpy().astype(float) * table["height"].to_numpy()
    jpeg = np.asarray(pc.match_substring_regex(table["origin"], r"(?i)\.jpe?g$"), bool)
    return float(np.where(jpeg, sizes / 8, sizes).sum())


def _asked(record: RunRecord, dataset: Dataset, manifest: Manifest, drawn: _Drawn) -> tuple[_Drawn, Floats, str] | None:
    """The features of the registered model; None where there is none, or its files or the images are gone."""
    if record.model_uri is None:
        return None
    try:
        opened, version = find_version(record.model_uri, workspace=dataset.workspace.root)
        folder = load_model_folder(opened.tracking, version, cache=dataset.workspace.models)
        start_keras()
        from selftrain.learn.models.features import feature_network
        from selftrain.learn.models.kept_features import reads_kept, views_of
        from selftrain.learn.models.loading import load

        model, contract = load(folder)
        pixels = _pixels(dataset, manifest, drawn, contract.image_size)
        if not reads_kept(model, contract, pixels):
            drawn = drawn.at_most(MOST_ASKED // contract.image_size**2)
            pixels = _pixels(dataset, manifest, drawn, contract.image_size)
        [vectors] = views_of(feature_network(model), pixels, np.arange(len(drawn.rows)))
    except Exception as error:  # a registry out of reach, a model of another version: the page has answers instead
        _LOG.info("the registered model gave no features: %s", error)
        return None
    return drawn, vectors, f"the features that the registered model, {record.model_uri}, computes for the images"


def _pixels(dataset: Dataset, manifest: Manifest, drawn: _Drawn, size: int) -> KeptPixels:
    """The drawn images; features of them that were kept are read, and none are written."""
    table = manifest.table.select(["image_id", "shard", "index"]).take(pa.array(drawn.rows))
    shards = np.asarray(table["shard"].cast("string").to_pylist(), dtype=object)
    records = table["index"].to_numpy().astype(np.int64)
    stored = StoredPixels(dataset.store.shards, shards, records, size, cores(), manifest.bits)
    kept = FeatureFiles(dataset.workspace.features_cache, 0)
    return KeptPixels(stored, tuple(table["image_id"].to_pylist()), kept, manifest.bits)


def _kept(dataset: Dataset, manifest: Manifest, drawn: _Drawn) -> tuple[_Drawn, Floats, str] | None:
    ids = manifest.table["image_id"].take(pa.array(drawn.rows)).to_pylist()
    vectors = kept_vectors(dataset.workspace.features_cache, ids)
    if vectors is None:
        return None
    known = vectors.known(ids)
    pool, people = known[: len(drawn.pool)], known[len(drawn.pool) :]
    held = replace(drawn, pool=drawn.pool[pool], people=drawn.people[people])
    told = "features that a frozen network computed for the images and the runs of this workspace kept"
    return held, vectors.values, told


def _answered(last: PseudoLabels, drawn: _Drawn) -> tuple[_Drawn, Floats, str]:
    """The pool alone: people's images have no answers of a teacher."""
    table = last.table.take(pc.sort_indices(last.table["image_id"])[: len(drawn.pool)])
    logs = np.log(np.maximum(columns.list_values(table["probs"], len(last.class_names)), 1e-6))
    told = "the logarithms of the class probabilities that the last teacher gave; these are answers, not features"
    return replace(drawn, people=drawn.people[:0], people_of=0), logs - logs.mean(axis=1, keepdims=True), told


def _space(
    dataset: Dataset, manifest: Manifest, last: PseudoLabels, drawn: _Drawn, vectors: Floats, basis: str
) -> Space:
    table = manifest.table.select(["image_id", "origin", "shard", "index"]).take(pa.array(drawn.rows))
    ids = table["image_id"].to_pylist()
    people = manifest.labels()[drawn.people]
    place = pc.index_in(table["image_id"][: len(drawn.pool)], value_set=last.table["image_id"].combine_chunks())
    taught = np.asarray(last.table["label"])[np.asarray(place, np.int64)]
    places = zip(table["shard"].to_pylist(), table["index"].to_numpy().astype(np.int64), strict=True)
    images = (dataset.store.read([shard], np.array([index]))[0] for shard, index in places)
    picture, across = sprite(images, count=len(ids), side=TILE, bits=manifest.bits)
    return Space(
        ids=tuple(ids),
        names=tuple(table["origin"].to_pylist()),
        labels=(*[-1] * len(drawn.pool), *people.tolist()),
        counted=(*taught.tolist(), *people.tolist()),
        planes={name: tuple(map(tuple, at.round(4).tolist())) for name, at in planes(vectors).items()},
        basis=basis,
        rule=_rule(drawn),
        sprite=picture,
        across=across,
        tile=TILE,
    )


def _rule(drawn: _Drawn) -> str:
    parts = [(len(drawn.pool), drawn.pool_of, "images of the pool")]
    parts += [(len(drawn.people), drawn.people_of, "training images that people labelled")] if drawn.people_of else []
    counts = [f"all {of:,} {what}" if count == of else f"{count:,} of {of:,} {what}" for count, of, what in parts]
    chance = "" if all(count == of for count, of, _ in parts) else ", by the smallest image ids: a draw by chance"
    return f"Drawn are {' and '.join(counts)}{chance}."
