"""What a page about a run shows: values that the run stored, and nothing that must be computed by a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from selftrain.data.ingest.report import IngestReport
from selftrain.evaluate.detection import DetectionReport
from selftrain.evaluate.evaluation import EvaluationReport
from selftrain.evaluate.statistics.forecast import LabelForecast
from selftrain.report.validation import ValidationReport
from selftrain.retraining.drift.decision import Window
from selftrain.selflabel.rounds.record import RunRecord
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels


@dataclass(frozen=True)
class Picture:
    """A thumbnail: `source` is a data URI, `name` is where the user keeps the image."""

    source: str
    name: str


@dataclass(frozen=True)
class MeasuredDrift:
    """What a retraining said of its new images in one `line`, and their window after those before it, oldest first."""

    line: str
    windows: tuple[Window, ...] = ()


@dataclass(frozen=True)
class LeftOutFile:
    """A file that was not used: its path, why, and what can still be shown of it as a data URI; "" for nothing."""

    path: str
    detail: str
    source: str = ""


@dataclass(frozen=True)
class Space:
    """Images of a run as points in the plane, one entry each (n,).

    - `labels` (n,): the class that people gave a training image; -1 for an image of the pool. `counted` (n,) is the
      class that either, or the last teacher, gave it, from which colours are chosen.
    - `planes`: the points (x, y), from 0 to 1, by method.
    - `basis`: what lies near to what, in words. `rule`: which images are drawn, in words.
    - `sprite`: their thumbnails as one picture, a data URI, in rows of `across` squares of `tile` pixels.
    """

    ids: tuple[str, ...]
    names: tuple[str, ...]
    labels: tuple[int, ...]
    counted: tuple[int, ...]
    planes: Mapping[str, tuple[tuple[float, float], ...]]
    basis: str
    rule: str
    sprite: str = ""
    across: int = 1
    tile: int = 1


@dataclass(frozen=True)
class ReportedRun:
    """A run as its page shows it. What is None or empty is not there, and `missing` says why, one sentence each.

    - `evaluation` on test is a classifier's, `detection` a detector's.
    - `forecast`: what more human labels would add.
    - `human_labels` (classes,): how many training images of each class people labelled.
    - `splits`: how many images each split holds, by its name.
    - `pictures`: thumbnails by image id. The page shows those that it needs and finds here.
    - `drift`: what a retraining measured; None for other runs.
    - `space`: some images as points in the plane.
    - `quarantine`: how many files were left out, by reason; `left_out`: some of them, by reason.
    - `receipt`: what the run was made of, as names and values.
    """

    record: RunRecord
    evaluation: EvaluationReport | None = None
    detection: DetectionReport | None = None
    ingested: IngestReport | None = None
    validation: ValidationReport | None = None
    labels: tuple[PseudoLabels, ...] = ()
    forecast: LabelForecast | None = None
    human_labels: tuple[int, ...] = ()
    splits: Mapping[str, int] = field(default_factory=dict)
    pictures: Mapping[str, Picture] = field(default_factory=dict)
    drift: MeasuredDrift | None = None
    space: Space | None = None
    quarantine: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[str, tuple[LeftOutFile, ...]] = field(default_factory=dict)
    receipt: tuple[tuple[str, str], ...] = ()
    missing: tuple[str, ...] = ()
