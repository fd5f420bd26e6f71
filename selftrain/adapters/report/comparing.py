"""Comparing: what two stored runs answered on test, and thumbnails of the images on which they disagree."""

from __future__ import annotations

import pyarrow as pa

from selftrain.adapters.report.gathering import Stored, pictures_of, stored_run
from selftrain.data.manifest import Split
from selftrain.errors import InputError
from selftrain.report.comparison.answers import ComparedRun
from selftrain.report.comparison.page import comparison_page, shown_images
from selftrain.report.page.run_facts import Picture


def compare_runs(first: str, second: str) -> tuple[ComparedRun, ComparedRun, str]:
    """The runs with the ids, names or prefixes `first` and `second`, and the page that compares them, as HTML.

    It reads what the runs stored, and evaluates no model. Raises SourceError for an unknown run, and InputError for
    two runs that cannot be compared.
    """
    stored = stored_run(first), stored_run(second)
    one, other = (each.record for each in stored)
    if one.run_id == other.run_id:
        raise InputError(f"{first} and {second} are the same run, {one.run_id[:8]}; `selftrain runs` lists the others")
    if one.metric != other.metric:
        raise InputError(
            f"{one.run_id[:8]} measured {one.metric}, {other.run_id[:8]} {other.metric}: a classifier and a detector "
            "cannot be compared; `selftrain report RUN` writes a page for each"
        )
    run_a, run_b = _compared_run(stored[0]), _compared_run(stored[1])
    return run_a, run_b, comparison_page(run_a, run_b, _pictures(stored, shown_images(run_a, run_b)))


def _compared_run(stored: Stored) -> ComparedRun:
    truth: dict[str, int] = {}
    if stored.manifest is not None:
        table = stored.manifest.table.take(pa.array(stored.manifest.rows(Split.TEST)))
        truth = dict(zip(table["image_id"].to_pylist(), table["label"].to_pylist(), strict=True))
    return ComparedRun(
        record=stored.record,
        evaluation=stored.evaluation,
        detection=stored.detection,
        truth=truth,
        settings=stored.settings,
        made={"Python": stored.python} if stored.python else {},
    )


def _pictures(stored: tuple[Stored, ...], image_ids: tuple[str, ...]) -> dict[str, Picture]:
    """Thumbnails of `image_ids`, from whichever of the data sets holds an image."""
    found: dict[str, Picture] = {}
    for run in stored:
        lacking = [each for each in image_ids if each not in found]
        if lacking and run.manifest is not None:
            pictures, _ = pictures_of(run.dataset, run.manifest, lacking)
            found |= pictures
    return found
