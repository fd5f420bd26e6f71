"""A saved detector: a `.keras` file and its contract, written together and checked before they are loaded."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from selftrain.errors import ConfigError, UntrustedFileError
from selftrain.learn.models.contract import file_digest
from selftrain.learn.models.saving import values_digest

if TYPE_CHECKING:
    import keras

    from selftrain.learn.detection.detect import Choice, Detector

MODEL_FILE, CONTRACT_FILE = "detector.keras", "detector.json"


class DetectorContract(BaseModel):
    """What a detector reads and answers.

    It reads uint8 images (n, h, w, 3) in RGB whose sides are multiples of the largest of `strides`, and answers logits
    and boxes as `network.build_detector` says. Images are looked at with a longer side of at most `longest` pixels.
    `thresholds`: the score per class from which its boxes were taken as pseudo-labels, and can be shown. `masks` is the
    number of prototypes that outlines are mixed from, 0 for a detector of boxes alone. `turns`: its training images
    had no up and down.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    backbone: str
    class_names: tuple[str, ...] = Field(min_length=1)
    strides: tuple[int, ...] = Field(min_length=1)
    longest: int = Field(1024, ge=64)
    thresholds: dict[str, float] = Field(default_factory=dict)
    masks: int = Field(0, ge=0)
    turns: bool = False
    weights_sha256: str = ""
    values_sha256: str = ""
    lineage: tuple[str, ...] = ()
    manifest_digest: str = ""
    image_steps: int = Field(0, ge=0, description="training steps times the views of each")
    seconds: float = Field(0.0, ge=0, description="wall time of the training")
    seed: int = 0

    @property
    def identity(self) -> str:
        """The name of the model as a teacher: the same for the same weights, however often they were saved."""
        return self.values_sha256 or self.weights_sha256

    @property
    def taught(self) -> tuple[str, ...]:
        """The lineage of a model that learns from this one's answers."""
        return tuple(dict.fromkeys((*self.lineage, self.identity)))


@dataclass(frozen=True)
class SavedDetector:
    """A folder with a detector and its contract."""

    folder: Path
    contract: DetectorContract

    @property
    def digest(self) -> str:
        """sha256 of the contract, which holds the weights' digests, without how long the training took."""
        unsaid = (
            {"seconds"} if self.contract.masks else {"seconds", "masks"}
        )  # what a contract without masks always had
        return hashlib.sha256(self.contract.model_dump_json(exclude=unsaid).encode()).hexdigest()

    @classmethod
    def read(cls, folder: Path) -> SavedDetector:
        """The detector in `folder`, whose file is checked when it is opened. Raises UntrustedFileError without one."""
        path = folder / CONTRACT_FILE
        try:
            return cls(folder, DetectorContract.model_validate_json(path.read_bytes()))
        except OSError as error:
            raise UntrustedFileError(f"{folder} has no {CONTRACT_FILE}; give a folder with a saved detector") from error
        except ValidationError as error:
            raise UntrustedFileError(f"{path} is not a detector's contract: {error.errors()[0]}") from error

    def open(self, choice: Choice | None = None) -> Detector:
        """The detector, ready to be asked. Raises UntrustedFileError if its file is not the one that was saved."""
        import keras

        from selftrain.learn.detection.detect import Choice, Detector

        path = self.folder / MODEL_FILE
        if not path.is_file() or file_digest(path) != self.contract.weights_sha256:
            raise UntrustedFileError(f"{path} is missing or was changed since it was saved; take it from its source")
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
        return Detector(model, self.contract.strides, choice or Choice(longest=self.contract.longest))


def holds_detector(folder: Path) -> bool:
    """Whether `folder` is that of a saved detector."""
    return (folder / CONTRACT_FILE).is_file()


def save_detector(model: keras.Model, contract: DetectorContract, folder: Path) -> SavedDetector:
    """Write `model` and `contract` with its digests to the empty or missing `folder`, whole or not at all.

    Raises ConfigError for a folder that holds anything.
    """
    place = Path(os.path.realpath(folder))
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise ConfigError(f"{str(folder)!r} is not an empty folder; it was left as it is, give another one")
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{place.name}-", dir=place.parent) as scratch:
        part = Path(scratch, "new")
        part.mkdir()
        model.save(part / MODEL_FILE)
        digests = {"weights_sha256": file_digest(part / MODEL_FILE), "values_sha256": values_digest(model)}
        signed = contract.model_copy(update=digests)
        (part / CONTRACT_FILE).write_text(signed.model_dump_json(indent=2) + "\n", encoding="utf-8")
        part.replace(place)
    return SavedDetector(folder, signed)
