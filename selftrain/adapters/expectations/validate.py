"""Expectations: what a good manifest looks like, stated in Great Expectations 1.x; docs/data.md lists them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from selftrain.adapters.expectations.checks import Check, class_checks, dataset_checks, image_checks, schema_checks
from selftrain.adapters.expectations.frames import Frames, frames, schema_frame
from selftrain.config import Checks, Severity
from selftrain.data.manifest import Manifest
from selftrain.errors import ValidationError
from selftrain.files.workspace import Workspace
from selftrain.report.validation import ClassCount, ExpectationResult, ValidationReport, sentence

if TYPE_CHECKING:
    import pandas as pd

    from selftrain.data.store.image_store import ImageStore

Stated: TypeAlias = "tuple[list[Check], pd.DataFrame]"
NAMED_ROWS = 5
TALKATIVE = "great_expectations.data_context.types.base"  # sets its own level when it is imported
PAGE, REPORT, RESULT = "validation.html", "validation.json", "great_expectations.json"


def report_folder(workspace: Workspace, manifest: Manifest, quarantine_share: float, checks: Checks) -> Path:
    """The folder in `workspace` for the reports on this manifest under these checks."""
    key = hashlib.sha256(f"{manifest.digest} {quarantine_share} {checks.model_dump_json()}".encode()).hexdigest()
    return workspace.root / "validation" / key[:16]


def validate(
    manifest: Manifest,
    quarantine_share: float,
    checks: Checks,
    out_dir: Path,
    store: ImageStore | None = None,
    *,
    also: Sequence[Stated] = (),
) -> ValidationReport:
    """Check `manifest` against the expectations; write an HTML page, the report, and Great Expectations' own JSON.

    `quarantine_share` is the share (0-1) of source files. With a `store`, near-duplicates are confirmed by pixels.
    Without it they are known by hash alone, and only cause a warning. `also` are further checks, each list with the
    frame that it reads. A missed expectation goes into the report, and
    only `require_passed` raises it.
    """
    severities = checks.severities
    results, documents = _run(schema_checks(), schema_frame(manifest), severities)
    tables = frames(manifest, quarantine_share, store) if results[0].success else None
    if tables is not None:
        if not tables.pixels_compared:
            severities["leakage_near"] = "warn"
        for stated, frame in (
            (image_checks(manifest.label_map, checks, tables), tables.images),
            (class_checks(checks, tables), tables.classes),
            (dataset_checks(checks, tables), tables.dataset),
            *also,
        ):
            more, document = _run(stated, frame, severities)
            results, documents = results + more, documents + document
    report = _report(manifest, quarantine_share, results, tables, out_dir / PAGE)
    _write(report, documents, out_dir)
    return report


def _run(
    stated: list[Check], frame: pd.DataFrame, severities: dict[str, Severity]
) -> tuple[list[ExpectationResult], list[dict[str, Any]]]:
    """The results of the checks `stated` on `frame`, in order, and Great Expectations' own document."""
    import great_expectations as gx

    logging.getLogger(TALKATIVE).setLevel(logging.WARNING)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    suite = context.suites.add(gx.ExpectationSuite(name="manifest"))
    for check in stated:
        stated_class = getattr(gx.expectations, check.expectation)
        suite.add_expectation(stated_class(**check.arguments, meta={"name": check.name}, notes=check.advice))
    batch = (
        context.data_sources.add_pandas("manifest")
        .add_dataframe_asset("rows")
        .add_batch_definition_whole_dataframe("all")
    )
    definition = gx.ValidationDefinition(name="manifest", data=batch, suite=suite)
    shown = sorted({column for check in stated for column in check.shown})
    result_format = {"result_format": "SUMMARY", "partial_unexpected_count": NAMED_ROWS}
    if shown:
        result_format["unexpected_index_column_names"] = shown
    done = definition.run(batch_parameters={"dataframe": frame}, result_format=result_format)
    by_name = {result.expectation_config.meta["name"]: result for result in done.results}
    results = [_result(check, by_name[check.name], severities[check.name]) for check in stated]
    return results, [done.to_json_dict()]


def _result(check: Check, answer: Any, severity: Severity) -> ExpectationResult:
    broken = _exception(answer.exception_info)
    rows = answer.result.get("partial_unexpected_index_list") or []
    named = [check.describe({name: row[name] for name in check.shown}) for row in rows[:NAMED_ROWS] if check.shown]
    return ExpectationResult(
        expectation=check.name,
        severity=severity,
        success=bool(answer.success),
        allowed=check.allowed,
        observed=f"could not be checked: {broken}" if broken else check.observed,
        unexpected=int(answer.result.get("unexpected_count", 0)),
        rows=tuple(named),
        advice=check.advice,
    )


def _exception(info: dict[str, Any]) -> str:
    """What an expectation raised, if anything. Great Expectations keeps it flat, or under a metric's name."""
    inner = [value for value in info.values() if isinstance(value, dict)]
    messages = [str(each["exception_message"]) for each in (info, *inner) if each.get("exception_message")]
    return "; ".join(messages)


def _report(
    manifest: Manifest, quarantine_share: float, results: list[ExpectationResult], tables: Frames | None, page: Path
) -> ValidationReport:
    missed = [result for result in results if not result.success]
    counts = (
        () if tables is None else zip(*(tables.classes[name] for name in ("class", "split", "images")), strict=True)
    )
    return ValidationReport(
        manifest_digest=manifest.digest if tables is not None else "",
        images=len(manifest),
        unlabeled=int(tables.dataset["unlabeled"].iloc[0]) if tables is not None else 0,
        quarantine_share=quarantine_share,
        passed=not any(result.severity == "stop" for result in missed),
        warnings=tuple(sentence(result) for result in missed if result.severity == "warn"),
        results=tuple(results),
        classes=tuple(ClassCount(class_name=name, split=split, images=images) for name, split, images in counts),
        quality=None if tables is None else tables.quality,
        page=str(page),
    )


def require_passed(report: ValidationReport) -> None:
    """Raise ValidationError naming each missed expectation of severity stop, its rows, and what to do."""
    missed = [result for result in report.results if result.severity == "stop" and not result.success]
    if not missed:
        return
    text = " ".join(f"{sentence(result)} {result.advice}" for result in missed)
    if report.page and not Path(report.page).exists():  # the cache of another clone had the report
        write_report(report, Path(report.page).parent)
    where = f" The whole report: {report.page}" if report.page else ""
    raise ValidationError(f"the data did not pass {len(missed)} of {len(report.results)} expectations: {text}{where}")


def write_report(report: ValidationReport, out_dir: Path) -> None:
    """Write the page and the report itself into `out_dir`."""
    from selftrain.report.page.validation import page

    out_dir.mkdir(parents=True, exist_ok=True)
    (out_dir / PAGE).write_text(page(report), encoding="utf-8")
    (out_dir / REPORT).write_text(report.model_dump_json(indent=2), encoding="utf-8")


def _write(report: ValidationReport, documents: list[dict[str, Any]], out_dir: Path) -> None:
    write_report(report, out_dir)
    (out_dir / RESULT).write_text(json.dumps(documents, indent=2), encoding="utf-8")
