"""Gathering: what ZenML's store and the data set's folder hold of a run, as a page about the run shows it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selftrain.adapters.process.console import logs_to_stderr
from selftrain.adapters.report.drift import measured_drift
from selftrain.adapters.report.left_out import counted, left_out_files
from selftrain.adapters.runs.records import find_record
from selftrain.config import Place
from selftrain.data.images.thumbnails import thumbnail
from selftrain.data.ingest.report import IngestReport
from selftrain.data.manifest import Manifest, Split
from selftrain.data.store.dataset import Dataset, dataset_at
from selftrain.data.store.shards import read_records
from selftrain.errors import ImageError, SelftrainError
from selftrain.evaluate.detection import DetectionReport
from selftrain.evaluate.evaluation import EvaluationReport
from selftrain.evaluate.statistics.forecast import LabelForecast
from selftrain.learn.models.contract import FORECAST_FILE
from selftrain.report.page.run import needed_pictures
from selftrain.report.page.run_facts import Picture, ReportedRun, Space
from selftrain.report.validation import ValidationReport
from selftrain.selflabel.rounds.record import RunRecord
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels
from selftrain.version import __version__

if TYPE_CHECKING:
    from zenml.models import ArtifactVersionResponse, PipelineRunResponse

WHOLE = (("manifest", Manifest), ("evaluation", EvaluationReport), ("ingest_report", IngestReport))
_WORDS = {
    "manifest": "the manifest, so the page has no pictures and no splits",
    "evaluation": "the evaluation on test, so the page has no confusion matrix and no scores per class",
    "ingest_report": "the report of ingest",
    "validation": "the validation of the data",
    "pseudo-labels": "pseudo-labels, so the page cannot say what was labelled",
}


def gather(run_id: str | None) -> ReportedRun:
    """What is stored of the run with the id, name or prefix `run_id`; None: the latest.

    `missing` names what an unfinished or failed run did not store. Raises SourceError for an unknown run.
    """
    return gathered(find_record(run_id))


def gathered(record: RunRecord) -> ReportedRun:
    """What is stored of the run that `record` is about."""
    from zenml.client import Client

    logs_to_stderr()
    stored = Client().get_pipeline_run(record.run_id)
    found, missing = _values(stored)
    labels = found["labels"]
    manifest: Manifest | None = found.get("manifest")
    settings = _settings(stored)
    dataset = _dataset(record, settings)
    run = ReportedRun(
        record=record,
        evaluation=found.get("evaluation"),
        detection=found.get("detection"),
        ingested=found.get("ingest_report"),
        validation=found.get("validation"),
        labels=labels,
        forecast=_forecast(tuple(_outputs(stored)), found.get("ingest_report")),
        human_labels=() if manifest is None else tuple(manifest.class_counts(Split.TRAIN).tolist()),
        splits={} if manifest is None else {split.value: len(manifest.rows(split)) for split in Split},
        quarantine=counted(dataset),
        left_out=left_out_files(dataset, (settings.get("ingest") or {}).get("bits")),
        drift=measured_drift(found.get("drift"), dataset),
        receipt=_receipt(settings, stored),
        missing=missing,
    )
    if manifest is None:
        return run
    pictures, lost = pictures_of(dataset, manifest, needed_pictures(run))
    told = (*missing, f"{lost} pictures: their images are not in the store on this machine") if lost else missing
    return replace(run, pictures=pictures, missing=told, space=_space(record, dataset, manifest, labels))


def _space(record: RunRecord, dataset: Dataset, manifest: Manifest, labels: tuple[PseudoLabels, ...]) -> Space | None:
    """Some images in the plane; None where their pixels are not on this machine."""
    from selftrain.adapters.report.space import space_of

    try:
        return space_of(record, dataset, manifest, labels)
    except SelftrainError:
        return None


@dataclass(frozen=True)
class Stored:
    """What a run stored that can be checked: its record, manifest and evaluation, its data set and its settings.

    `detection` is a detector's evaluation; `python` is the version of Python.
    """

    record: RunRecord
    manifest: Manifest | None
    evaluation: EvaluationReport | None
    detection: DetectionReport | None
    dataset: Dataset
    settings: Mapping[str, Any]
    python: str


def stored_run(run_id: str | None) -> Stored:
    """What the run with the id, name or prefix `run_id` stored; None: the latest. Raises SourceError for another."""
    from zenml.client import Client

    logs_to_stderr()
    record = find_record(run_id)
    stored = Client().get_pipeline_run(record.run_id)
    found, _ = _values(stored)
    python = str((stored.client_environment or {}).get("python_version", ""))
    settings = _settings(stored)
    return Stored(
        record=record,
        manifest=found.get("manifest"),
        evaluation=found.get("evaluation"),
        detection=found.get("detection"),
        dataset=_dataset(record, settings),
        settings=settings,
        python=python,
    )


def _settings(stored: PipelineRunResponse) -> dict[str, Any]:
    """The experiment of a run."""
    experiment = (stored.config.parameters or {}).get("experiment", {})
    return dict(experiment if isinstance(experiment, dict) else experiment.model_dump(mode="json"))


def _dataset(record: RunRecord, settings: Mapping[str, Any]) -> Dataset:
    return dataset_at(Place(workspace=settings.get("workspace", ".selftrain"), dataset=record.name))


def reviewed(run_id: str | None) -> tuple[RunRecord, tuple[PseudoLabels, ...], Dataset, Manifest | None]:
    """The record of a run, the pseudo-labels of its rounds, its data set, and its manifest if it stored one.

    Raises SourceError for an unknown run.
    """
    from zenml.client import Client

    logs_to_stderr()
    record = find_record(run_id)
    stored = Client().get_pipeline_run(record.run_id)
    outputs = list(_outputs(stored))
    manifests = (_load(each, Manifest) for name, each in reversed(outputs) if name == "manifest")
    manifest = next((each for each in manifests if each is not None), None)
    return record, _labels(outputs), _dataset(record, _settings(stored)), manifest


def _values(stored: PipelineRunResponse) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The values that the steps of a run left, by name, and what is missing, in words."""
    outputs = list(_outputs(stored))
    found: dict[str, Any] = {"labels": _labels(outputs)}
    for name, kind in (*WHOLE, ("validation", ValidationReport), ("drift", str)):
        value = next((_load(each, kind) for output, each in reversed(outputs) if output == name), None)
        if value is not None:
            found[name] = value
    boxes = next(
        (value for output, each in outputs if output == "evaluation" and (value := _load(each, DetectionReport))), None
    )
    if boxes is not None:
        found["detection"] = boxes
    lacking = [name for name in ("manifest", "ingest_report", "validation", "evaluation") if name not in found]
    lacking += [] if found["labels"] else ["pseudo-labels"]
    if boxes is not None:  # a detector's run has neither of them
        lacking = [name for name in lacking if name not in ("evaluation", "pseudo-labels")]
    return found, tuple(f"The run has not stored {_WORDS[name]}." for name in lacking)


def _outputs(stored: PipelineRunResponse) -> Iterable[tuple[str, ArtifactVersionResponse]]:
    """The outputs of all steps that ended well, by name, in the order in which the steps began."""
    ended = [step for step in stored.steps.values() if step.status.is_successful]
    for step in sorted(ended, key=lambda each: str(each.start_time)):
        for name, values in step.outputs.items():
            for value in values:
                yield name, value


def _labels(outputs: Sequence[tuple[str, ArtifactVersionResponse]]) -> tuple[PseudoLabels, ...]:
    """The pseudo-labels of each round, in the order of rounds."""
    loaded = [_load(each, PseudoLabels) for _, each in outputs if _path(each) == _name(PseudoLabels)]
    by_round = {each.round: each for each in loaded if each is not None}
    return tuple(by_round[index] for index in sorted(by_round))


def _forecast(
    outputs: Sequence[tuple[str, ArtifactVersionResponse]], ingested: IngestReport | None
) -> LabelForecast | None:
    """What more labels would add, as the run's baseline left it beside its model; None where it left nothing.

    A control that is the baseline as well has left it instead. The curve holds out images. Where these come in groups,
    each has others like it, so the curve says nothing of images of a new group.
    """
    from zenml.io import fileio

    models = [artifact for wanted in ("baseline", "control") for name, artifact in outputs if name == wanted]
    for artifact in models:
        path = f"{artifact.uri}/{FORECAST_FILE}"
        try:
            if not fileio.exists(path):
                continue
            with fileio.open(path) as file:
                told = LabelForecast.read(file.read())
        except (OSError, ValueError):  # another version's, or out of reach: the page does without
            continue
        if ingested is None or not ingested.grouped:
            return told
        reason = "the images come in groups, and a curve that holds out single images cannot know new groups"
        return LabelForecast(labels=told.labels, unknown=reason)
    return None


def _load(artifact: ArtifactVersionResponse, kind: type[Any]) -> Any:
    """The value of `artifact`; None where it is of another class, or cannot be read by this version."""
    if _path(artifact) != _name(kind):
        return None
    try:
        return artifact.load()
    except (OSError, ValueError, LookupError, SelftrainError):
        return None


def _path(artifact: ArtifactVersionResponse) -> str:
    return str(artifact.data_type.import_path)


def _name(kind: type[Any]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def pictures_of(dataset: Dataset, manifest: Manifest, image_ids: Sequence[str]) -> tuple[dict[str, Picture], int]:
    """Thumbnails of `image_ids`, and how many of them could not be made."""
    table = manifest.table
    position = pc.index_in(pa.array(image_ids, pa.string()), value_set=table["image_id"].combine_chunks())
    rows = np.asarray(pc.drop_null(position), dtype=np.int64)
    places = table.select(["image_id", "shard", "index", "origin"]).take(pa.array(rows)).to_pylist()
    found: dict[str, Picture] = {}
    for shard in sorted({place["shard"] for place in places}):
        here = [place for place in places if place["shard"] == shard]
        try:
            index = np.array([place["index"] for place in here], np.int64)
            encoded = read_records(dataset.store.shards, [shard] * len(here), index)
        except SelftrainError:
            continue
        found |= {
            place["image_id"]: _picture(data, place["origin"], manifest.bits)
            for place, data in zip(here, encoded, strict=True)
        }
    shown = {image_id: picture for image_id, picture in found.items() if picture.source}
    return shown, len(image_ids) - len(shown)


def _picture(data: bytes, origin: str, bits: int | None) -> Picture:
    try:
        return Picture(thumbnail(data, bits=bits), origin)
    except ImageError:
        return Picture("", origin)


def _receipt(settings: Mapping[str, Any], stored: PipelineRunResponse) -> tuple[tuple[str, str], ...]:
    client = stored.client_environment or {}
    facts = {
        "seed": str(settings.get("seed", 0)),
        "started": str(stored.start_time or ""),
        "ended": str(stored.end_time or ""),
        "selftrain, for this page": __version__,
        "Python": str(client.get("python_version", "")),
        "system": " ".join(str(client.get(key, "")) for key in ("os", "linux_distro", "linux_distro_version")).strip(),
        "configuration": json.dumps(settings, indent=2, sort_keys=True, default=str),
    }
    return tuple((name, value) for name, value in facts.items() if value)
