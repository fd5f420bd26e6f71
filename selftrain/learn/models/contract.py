"""The contract: what a saved model promises. It lies beside the weights and is checked before they are loaded."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from selftrain.errors import UntrustedFileError

FORMAT_VERSION: Literal[1] = 1
MODEL_FILE = "model.keras"
CONTRACT_FILE = "contract.json"
CURVE_FILE = "curve.parquet"
FORECAST_FILE = "label_forecast.json"
REASON_FILE = "diverged.txt"


Answers = Literal["logits", "softmax", "sigmoids", "sigmoid"]
"""What a model that a user brought answers; one sigmoid stands for two classes."""


class Reading(BaseModel):
    """How a model that a user brought reads images, and how that is known; its `.keras` file does it all inside.

    - `pixels`: the range of its pixels, or another usual preparation, such as "0..1".
    - `shape`: height and width in pixels.
    - `known_by`: "measured" on labelled `images`, with this `accuracy`; "said" by the user, or else "assumed".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pixels: str
    shape: tuple[int, int]
    answers: Answers
    known_by: Literal["measured", "said", "assumed"]
    accuracy: float | None = None
    images: int = 0


class Contract(BaseModel):
    """What a model reads and answers, and where it comes from.

    It reads uint8 images (n, image_size, image_size, 3) in `channel_order` and answers logits (n, classes). Its
    calibrated probabilities are softmax(logits / temperature).

    - `thresholds`: the confidence per class name above which its pseudo-labels were accepted.
    - `weights_sha256`: the digest of its .keras file, which differs each time it is saved.
    - `values_sha256`: the digest of the weights' values, which stays the same.
    - `brought`: how a model that a user brought reads images; None for one that was trained here.
    - `bits`: how many of 16 bits its grey pictures fill, as `ingest.bits` says.
    - `lineage`: the identities of the models whose answers it learnt or whose weights it started from, and their
      lineage, oldest first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = FORMAT_VERSION
    backbone: str
    image_size: int = Field(ge=1)
    channel_order: Literal["RGB"] = "RGB"
    class_names: tuple[str, ...] = Field(min_length=2)
    temperature: float = Field(1.0, gt=0)
    thresholds: dict[str, float] = Field(default_factory=dict)
    manifest_digest: str = ""
    weights_sha256: str = ""
    values_sha256: str = ""
    lineage: tuple[str, ...] = ()
    image_steps: int = Field(
        0, ge=0, description="training steps times batch size; in-training methods: (1 + 2 mu) times"
    )
    seconds: float = Field(0.0, ge=0, description="wall time of the training")
    churn: float | None = Field(
        None,
        ge=0,
        le=1,
        description="for a student: the share of the pool, or of a sample, on which its teacher disagrees",
    )
    seed: int = 0
    batch_parts: int = Field(1, ge=1, description="in how many parts it saw each batch: 2 if memory ran out")
    brought: Reading | None = None
    bits: int | None = Field(None, ge=8, le=16)

    @property
    def text(self) -> str:
        """The contract as JSON. What came later is left out where it is not set: the text stays as it was."""
        return self.model_dump_json(indent=2, exclude=self.unset)

    @property
    def unset(self) -> set[str]:
        """The later fields that are not set."""
        return {name for name in ("brought", "bits") if getattr(self, name) is None}

    @property
    def identity(self) -> str:
        """The name of the model as a teacher: the same for the same weights, however often they were saved."""
        return self.values_sha256 or self.weights_sha256

    @property
    def taught(self) -> tuple[str, ...]:
        """The lineage of a model that learns from this one's answers."""
        return tuple(dict.fromkeys((*self.lineage, self.identity)))


@dataclass(frozen=True)
class SavedModel:
    """A folder with a model and its contract."""

    folder: Path
    contract: Contract

    @classmethod
    def read(cls, folder: Path) -> SavedModel:
        """The saved model in `folder`, whose file is checked only when it is loaded. Raises as `read_contract` does."""
        return cls(folder, read_contract(folder))

    @property
    def digest(self) -> str:
        """sha256 of the contract, which holds the weights' digests. Left out is how the training went."""
        promised = self.contract.model_dump_json(exclude={"seconds", "churn", "batch_parts"} | self.contract.unset)
        return hashlib.sha256(promised.encode()).hexdigest()


def read_contract(folder: Path) -> Contract:
    """The contract in `folder`, without its model. Raises UntrustedFileError if there is none or it is malformed."""
    path = folder / CONTRACT_FILE
    try:
        return Contract.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UntrustedFileError(f"{folder} has no {CONTRACT_FILE}; give a folder that selftrain saved") from error
    except ValidationError as error:
        raise UntrustedFileError(f"{path} is not a contract of format {FORMAT_VERSION}: {error.errors()[0]}") from error


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
