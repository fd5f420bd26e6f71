"""An analysis: what labelling the unlabelled images came to, and the folder that holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from selftrain.data.inputs.labels import LabelForm
from selftrain.data.kept_images import KeptImages
from selftrain.errors import SourceError
from selftrain.evaluate.coverage import CoverageCurve, Measured
from selftrain.files.writing import replace
from selftrain.learn.asked import Outputs
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels

FORMAT_VERSION: Literal[1] = 1


class Facts(BaseModel):
    """A frozen value that is written as JSON and read back."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Calibration(Facts):
    """The model on `images` held out, before and after its `temperature`; errors are expected calibration errors.

    What is said of after is cross-fitted: no image is judged by a temperature that it was fitted on.
    """

    images: int
    accuracy: float
    temperature: float
    error_before: float
    error_after: float
    log_loss_before: float
    log_loss_after: float


class ClassCounts(Facts):
    """One class: images of it with a human label (to train on), predicted as it, accepted; the lowest confidence."""

    labeled: int
    predicted: int
    accepted: int
    cutoff: float


class Counts(Facts):
    """How many images there were: each is counted once.

    `training` and `held_out` have a human label, `unlabeled` were labelled by the model and `accepted` or not.
    `copies` are further copies of an image, `conflicting` labelled images whose copies have different labels,
    `unreadable` files that cannot be used: none of these is used.
    """

    training: int
    held_out: int
    unlabeled: int
    accepted: int
    copies: int
    conflicting: int
    unreadable: int


class Analysis(Facts):
    """What `selftrain.autolabel` found: counts, calibration, acceptance, and what to mind (`warnings`).

    `held_out_by` says whether the model was judged on a part of the labelled images ("hash") or on images of its own
    ("validation"). `threshold` is the rule in words, `measured` how right what it accepts is on the held-out images,
    `coverage` how right what every other confidence would accept. `image_range` are the lowest and the highest value of
    the labelled images. `pseudo_labels` is the digest of the table beside this file.
    """

    format_version: Literal[1] = FORMAT_VERSION
    selftrain: str
    class_names: tuple[str, ...]
    outputs: Outputs
    labels: LabelForm
    image_shape: tuple[int, ...]
    image_dtype: str
    image_range: tuple[float, float]
    files: bool = Field(description="the images are the user's files, decoded to image_shape")
    counts: Counts
    held_out_by: Literal["hash", "validation"]
    calibration: Calibration
    threshold: str
    measured: Measured | None
    coverage: CoverageCurve | None
    targets: Literal["soft", "hard"]
    round: int
    classes: Mapping[str, ClassCounts]
    pseudo_labels: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class AnalysisFolder:
    """A folder with an analysis: complete when `analysis.json` is there, which is written last."""

    root: Path

    @property
    def analysis_path(self) -> Path:
        return self.root / "analysis.json"

    @property
    def labels_path(self) -> Path:
        return self.root / "pseudo_labels.parquet"

    @property
    def index_path(self) -> Path:
        return self.root / "images.parquet"

    @property
    def settings_path(self) -> Path:
        """What was asked for; written first."""
        return self.root / "settings.json"

    @property
    def unreadable_path(self) -> Path:
        return self.root / "unreadable.csv"

    @property
    def arrays(self) -> Path:
        """Images that are no files of the user's own."""
        return self.root / "images"

    @property
    def unfinished(self) -> Path:
        """Answers of a labelling that has not come to its end."""
        return self.root / "unfinished"

    @property
    def held_out_path(self) -> Path:
        """The answers to the held-out images, while the labelling has not come to its end."""
        return self.unfinished / "held_out.npy"

    def finish(self, analysis: Analysis) -> None:
        """Write the analysis, whole or not at all."""
        text = analysis.model_dump_json(indent=2) + "\n"
        replace(self.analysis_path, lambda part: part.write_text(text, encoding="utf-8"))

    def read(self) -> Analysis:
        """The analysis in this folder. Raises SourceError where there is none, or an unfinished one."""
        try:
            return Analysis.model_validate_json(self.analysis_path.read_bytes())
        except OSError as error:
            state = (
                "an unfinished analysis; finish it with resume=True" if self.settings_path.exists() else "no analysis"
            )
            raise SourceError(f"{self.root} holds {state}; selftrain.autolabel(..., out=...) makes one") from error
        except ValidationError as error:
            first = error.errors()[0]
            raise SourceError(
                f"{self.analysis_path} is no analysis of format {FORMAT_VERSION}: {first['msg']}"
            ) from error

    def images(self, analysis: Analysis) -> KeptImages:
        """The images of the analysis, labelled ones first."""
        shape, dtype = analysis.image_shape, analysis.image_dtype
        return KeptImages.read(self.index_path, folder=self.arrays, shape=shape, dtype=dtype)

    def labels(self) -> PseudoLabels:
        """The pseudo-labels."""
        return PseudoLabels.read(self.labels_path)
