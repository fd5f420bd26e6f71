"""Trust: what speaks for and against the numbers of a run, and the images whose quality is in doubt."""

from __future__ import annotations

from selftrain.report.page.run_facts import ReportedRun


def hinted(run: ReportedRun) -> tuple[str, ...]:
    """The ids of the images that the section on image quality shows."""
    found = None if run.validation is None else run.validation.quality
    return () if found is None else tuple(image.image_id for kind in found.kinds for image in kind.worst)


def reasons(run: ReportedRun) -> list[str]:
    """What speaks for and against the numbers, one sentence each."""
    record, lines = run.record, list[str]()
    if record.test_looks is not None:
        models = "model has" if record.test_looks == 1 else "models have"
        lines.append(f"{record.test_looks} {models} been evaluated on this test set so far. Each one wears it out.")
    if run.evaluation is not None:
        lines.append(f"On test, the calibration error is {100 * run.evaluation.calibration_error:.1f} %.")
    for count, what in (
        (record.excluded, "unlabelled images were left out as copies or near-copies of a validation or test image"),
        (record.excluded_groups, "images were left out because their group has images in validation or test"),
        (record.disputed, "images were left out because people disagree about their label"),
        (record.reserved, "unlabelled images are reserved for validation and test"),
        (record.quarantined, "files are in quarantine"),
    ):
        if count:
            lines.append(f"{count:,} {what}.")
    if record.excluded == 0:
        lines.append("No unlabelled image is a copy or near-copy of a validation or test image.")
    if record.excluded_groups == 0:
        lines.append("No image was left out for its group.")
    if run.validation is not None:
        missed = [each.expectation for each in run.validation.results if not each.success]
        told = f"missed {len(missed)} of {len(run.validation.results)} expectations: {', '.join(missed)}"
        lines.append(f"The data {told if missed else f'met all {len(run.validation.results)} expectations'}.")
    return lines
