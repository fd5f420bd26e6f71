"""Expectations on manifests that are good, and broken in one way each."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from selftrain.adapters.expectations.validate import require_passed, validate
from selftrain.config import EXPECTATIONS, Checks
from selftrain.data.label_map import LabelMap
from selftrain.data.manifest import SCHEMA, Manifest
from selftrain.errors import ValidationError
from selftrain.report.validation import ValidationReport

pytestmark = [
    # marshmallow, that Great Expectations builds on, warns of its own next version at import.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

CLASSES = LabelMap(("cat", "dog"))
SPLITS = ["train"] * 8 + ["validation"] * 4 + ["test"] * 4 + ["unlabeled"] * 24


def table(**changed: list[Any]) -> pa.Table:
    """40 images in 2 classes; `changed` replaces whole columns."""
    n = len(SPLITS)
    labeled = np.array(SPLITS) != "unlabeled"
    columns: dict[str, Any] = {
        "image_id": [hashlib.sha256(str(i).encode()).hexdigest() for i in range(n)],
        "shard": ["a.arrayrecord"] * n,
        "index": list(range(n)),
        "origin": [f"photos/{i}.png" for i in range(n)],
        "width": [32] * n,
        "height": [24] * n,
        "phash": np.random.default_rng(0).integers(0, 2**63, n).tolist(),
        "split": SPLITS,
        "label": [i % 2 if labeled[i] else None for i in range(n)],
        "label_source": ["human" if labeled[i] else None for i in range(n)],
        "weight": [1.0] * n,
    }
    made = {**columns, **changed}
    arrays = [pa.array(made[field.name], _plain(field.type)) for field in SCHEMA if field.name in made]
    return pa.table(arrays, names=[field.name for field in SCHEMA if field.name in made])


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def broken(**changed: list[Any]) -> Manifest:
    """A Manifest that went around `Manifest.build` and its own refusals."""
    made = table(**changed)
    missing = {field.name: pa.nulls(len(made), field.type) for field in SCHEMA if field.name not in made.column_names}
    arrays = [
        missing[field.name] if field.name in missing else made[field.name].combine_chunks().cast(_plain(field.type))
        for field in SCHEMA
    ]
    encoded = [
        array.dictionary_encode() if pa.types.is_dictionary(field.type) and array.null_count < len(array) else array
        for array, field in zip(arrays, SCHEMA, strict=True)
    ]
    return Manifest(pa.table([a.cast(f.type) for a, f in zip(encoded, SCHEMA, strict=True)], schema=SCHEMA), CLASSES)


def missed(report: ValidationReport) -> list[str]:
    return [result.expectation for result in report.results if not result.success]


def column(name: str) -> list[Any]:
    return list(table()[name].to_pylist())


def test_a_good_manifest_meets_every_expectation_and_each_has_a_result(tmp_path: Path) -> None:
    report = validate(Manifest.build(table(), CLASSES), 0.0, Checks(), tmp_path)
    assert missed(report) == []
    assert report.passed
    assert report.warnings == ()
    assert sorted(result.expectation for result in report.results) == sorted(EXPECTATIONS)
    require_passed(report)


def with_one(name: str, row: int, value: object) -> dict[str, list[Any]]:
    values = column(name)
    values[row] = value
    return {name: values}


BROKEN: dict[str, tuple[dict[str, list[Any]], str]] = {
    "unique_ids": ({"image_id": [*column("image_id")[:39], column("image_id")[38]]}, "photos/39.png"),
    "label_set": (with_one("label", 3, 7), "photos/3.png"),
    "labels_present": ({**with_one("label", 4, None)}, "photos/4.png"),
    "human_held_out": (with_one("label_source", 9, "pseudo"), "photos/9.png"),
    "smallest_side": (with_one("height", 5, 3), "photos/5.png"),
    "largest_side": (with_one("width", 6, 20_000), "photos/6.png"),
    "leakage_near": (with_one("phash", 30, column("phash")[13] ^ 0b11), "photos/30.png"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_row_misses_its_expectation_and_is_named(name: str, tmp_path: Path) -> None:
    changed, origin = BROKEN[name]
    report = validate(broken(**changed), 0.0, Checks(min_images_per_class=1), tmp_path)
    assert missed(report) == [name]
    [result] = [result for result in report.results if result.expectation == name]
    assert any(origin in row for row in result.rows)
    assert result.advice


def test_an_image_in_two_splits_misses_both_uniqueness_and_leakage(tmp_path: Path) -> None:
    ids = column("image_id")
    ids[0] = ids[15]
    report = validate(broken(image_id=ids), 0.0, Checks(), tmp_path)
    assert missed(report) == ["unique_ids", "leakage_exact"]


def test_near_hashes_inside_one_split_or_of_two_classes_are_no_leak(tmp_path: Path) -> None:
    hashes = column("phash")
    hashes[1] = hashes[3]  # both train
    hashes[12] = hashes[5]  # a test cat, a train dog
    report = validate(broken(phash=hashes), 0.0, Checks(), tmp_path)
    assert missed(report) == []


class Thumbnails:
    """The part of an ImageStore that tells near-duplicates: image 30 looks like image 13, image 31 does not."""

    def gray(self, shard: list[str], index: np.ndarray[Any, np.dtype[np.int32]]) -> np.ndarray[Any, Any]:
        pictures = np.random.default_rng(1).integers(0, 256, (40, 32, 32)).astype(np.uint8)
        pictures[30] = pictures[13]
        return pictures[index]

    def read(self, shard: list[str], index: np.ndarray[Any, np.dtype[np.int32]]) -> list[bytes]:
        buffer = io.BytesIO()
        Image.fromarray(np.random.default_rng(1).integers(0, 256, (24, 32, 3)).astype(np.uint8)).save(buffer, "PNG")
        return [buffer.getvalue()] * len(index)


def test_with_the_store_near_duplicates_are_confirmed_by_pixels_and_stop(tmp_path: Path) -> None:
    hashes = column("phash")
    hashes[30] = hashes[31] = hashes[13]
    report = validate(broken(phash=hashes), 0.0, Checks(), tmp_path, Thumbnails())  # type: ignore[arg-type]
    [result] = [result for result in report.results if not result.success]
    assert (result.expectation, result.severity, result.unexpected) == ("leakage_near", "stop", 1)
    assert "photos/30.png, unlabeled" in result.rows[0]
    assert "photos/13.png, test" in result.rows[0]
    assert not report.passed


def test_images_that_look_the_same_and_have_two_labels_are_named_once_where_pixels_tell(tmp_path: Path) -> None:
    hashes, labels = column("phash"), column("label")
    hashes[30] = hashes[5]
    hashes[12] = hashes[5]  # a test cat, a train dog; and an unlabelled image
    assert labels[12] != labels[5]

    class Alike(Thumbnails):
        def gray(self, shard: list[str], index: np.ndarray[Any, np.dtype[np.int32]]) -> np.ndarray[Any, Any]:
            pictures = np.stack([np.full((32, 32), each, np.uint8) for each in range(0, 240, 6)])
            pictures[12] = pictures[30] = pictures[5]
            return pictures[index]

        read = Thumbnails.read

    report = validate(broken(phash=hashes), 0.0, Checks(), tmp_path, Alike())  # type: ignore[arg-type]
    by_name = {result.expectation: result for result in report.results}
    agree = by_name["labels_agree"]
    assert (agree.success, agree.severity, agree.unexpected) == (False, "warn", 1)
    assert "photos/5.png, train" in agree.rows[0]
    assert "photos/12.png, test" in agree.rows[0]
    assert by_name["leakage_near"].unexpected == 1  # the unlabelled one


def test_without_the_store_near_hashes_only_warn(tmp_path: Path) -> None:
    report = validate(broken(**BROKEN["leakage_near"][0]), 0.0, Checks(), tmp_path)
    assert report.passed
    assert "pixels not compared" in report.warnings[0]


def test_too_few_images_of_a_class_in_a_split_are_counted(tmp_path: Path) -> None:
    manifest = Manifest.build(table(), CLASSES)
    report = validate(manifest, 0.0, Checks(min_images_per_class=3), tmp_path)
    [result] = [result for result in report.results if not result.success]
    assert result.expectation == "images_per_class"
    assert result.rows == (
        "2 of 'cat' in validation",
        "2 of 'dog' in validation",
        "2 of 'cat' in test",
        "2 of 'dog' in test",
    )


def test_class_balance_is_the_largest_class_over_the_smallest_in_training(tmp_path: Path) -> None:
    labels = [0, 0, 0, 0, 0, 0, 1, 1, *column("label")[8:]]
    manifest = Manifest.build(table(label=labels), CLASSES)
    assert missed(validate(manifest, 0.0, Checks(max_class_ratio=3.0), tmp_path)) == []
    report = validate(manifest, 0.0, Checks(max_class_ratio=2.9), tmp_path)
    assert missed(report) == ["class_balance"]
    assert "3 (most: 6 of 'cat' in train; fewest: 2 of 'dog' in train)" in report.model_dump_json()


@pytest.mark.parametrize(("share", "passes"), [(0.05, True), (0.051, False)])
def test_the_quarantine_share_is_allowed_up_to_its_limit(share: float, passes: bool, tmp_path: Path) -> None:
    report = validate(Manifest.build(table(), CLASSES), share, Checks(max_quarantine=0.05), tmp_path)
    assert report.passed is passes


def test_no_unlabelled_images_are_a_warning(tmp_path: Path) -> None:
    report = validate(Manifest.build(table().slice(0, 16), CLASSES), 0.0, Checks(), tmp_path)
    assert report.passed
    assert "unlabeled_pool" in report.warnings[0]


def test_a_missing_column_is_the_only_finding(tmp_path: Path) -> None:
    manifest = Manifest(broken().table.drop_columns(["width"]), CLASSES)
    report = validate(manifest, 0.0, Checks(), tmp_path)
    assert missed(report) == ["schema"]
    assert report.results[0].rows == ("width: missing instead of int32",)


def test_severity_is_configured_by_name(tmp_path: Path) -> None:
    manifest = broken(**BROKEN["smallest_side"][0])
    assert validate(manifest, 0.0, Checks(), tmp_path).passed
    assert not validate(manifest, 0.0, Checks(severity={"smallest_side": "stop"}), tmp_path).passed
    ratio = Checks(min_images_per_class=3, severity={"images_per_class": "warn"})
    assert validate(Manifest.build(table(), CLASSES), 0.0, ratio, tmp_path).passed


def test_unfit_images_are_hints_that_only_warn(tmp_path: Path) -> None:
    odd = {"width": [320] * 3 + [32] * 37}
    report = validate(Manifest.build(table(**odd), CLASSES), 0.0, Checks(), tmp_path)
    assert missed(report) == ["image_quality"]
    assert report.passed
    assert "image_quality: hints at 7.5% of the images: 3 of an odd shape; allowed is <= 5.0%." in report.warnings
    assert report.quality is not None
    assert [each.value for each in report.quality.kinds[0].worst] == ["320 x 24 pixels"] * 3
    assert missed(validate(Manifest.build(table(**odd), CLASSES), 0.0, Checks(max_quality_hints=0.1), tmp_path)) == []


def test_a_stop_names_expectation_rows_advice_and_page(tmp_path: Path) -> None:
    report = validate(broken(**BROKEN["label_set"][0]), 0.0, Checks(), tmp_path)
    with pytest.raises(ValidationError) as caught:
        require_passed(report)
    said = str(caught.value)
    assert "label_set: labels 0-7; allowed is 0-1" in said
    assert "photos/3.png" in said
    assert "Correct these labels" in said
    assert str(tmp_path / "validation.html") in said


def test_page_report_and_great_expectations_json_are_written(tmp_path: Path) -> None:
    report = validate(Manifest.build(table(), CLASSES), 0.0, Checks(), tmp_path / "new" / "folder")
    folder = tmp_path / "new" / "folder"
    assert ValidationReport.model_validate_json((folder / "validation.json").read_text()) == report
    documents = json.loads((folder / "great_expectations.json").read_text())
    assert sum(len(document["results"]) for document in documents) == len(EXPECTATIONS)
    page = (folder / "validation.html").read_text()
    assert all(name in page for name in EXPECTATIONS)


def test_the_page_escapes_what_the_data_say_and_loads_nothing(tmp_path: Path) -> None:
    hostile = LabelMap(("<script>alert(1)</script>", "dog"))
    origin = with_one("origin", 5, '"><img src="http://example.org/x">')
    table_ = table(**origin, **with_one("height", 5, 3))
    validate(Manifest.build(table_, hostile), 0.0, Checks(), tmp_path)
    page = (tmp_path / "validation.html").read_text()
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page
    assert "http" not in page.replace("http://example.org/x", "")


def test_a_hundred_thousand_images_take_seconds(tmp_path: Path) -> None:
    import time

    n = 2500
    big = pa.concat_tables([table()] * n)
    ids = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(40 * n)]
    hashes = np.random.default_rng(0).integers(0, 2**63, 40 * n)
    big = big.set_column(0, "image_id", pa.array(ids)).set_column(6, "phash", pa.array(hashes, pa.uint64()))
    manifest = Manifest.build(big, CLASSES)
    started = time.monotonic()
    assert validate(manifest, 0.0, Checks(), tmp_path).passed
    assert time.monotonic() - started < 15
