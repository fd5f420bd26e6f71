"""The validation report: the result of each expectation on a manifest."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from selftrain.config import Severity
from selftrain.data.store.quality import QualityReport


class ExpectationResult(BaseModel):
    """One expectation: what is allowed, what was found, up to five of the failing rows, and what to do."""

    model_config = ConfigDict(frozen=True)

    expectation: str
    severity: Severity
    success: bool
    allowed: str
    observed: str
    unexpected: int = 0
    rows: tuple[str, ...] = ()
    advice: str = ""


class ClassCount(BaseModel):
    """The number of human-labelled images of one class in one split."""

    model_config = ConfigDict(frozen=True)

    class_name: str
    split: str
    images: int


class ValidationReport(BaseModel):
    """The results of all expectations on one manifest.

    `passed` is False if an expectation with severity "stop" was missed. `quality` holds the hints at unfit images; None
    in reports of earlier versions.
    """

    model_config = ConfigDict(frozen=True)

    manifest_digest: str
    images: int
    unlabeled: int
    quarantine_share: float
    passed: bool
    warnings: tuple[str, ...]
    results: tuple[ExpectationResult, ...]
    classes: tuple[ClassCount, ...] = ()
    quality: QualityReport | None = None
    page: str = ""


def sentence(result: ExpectationResult) -> str:
    """A missed expectation in one sentence: its name, what was found, what is allowed, and the failing rows."""
    rows = (
        f" ({', '.join(result.rows)}{', ...' if result.unexpected > len(result.rows) else ''})" if result.rows else ""
    )
    return f"{result.expectation}: {result.observed}; allowed is {result.allowed}{rows}."
