"""Two nights: people label what was reserved, the test set grows, and both runs stay comparable."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.site import Site

pytestmark = [pytest.mark.pipeline, pytest.mark.keras, pytest.mark.slow]


def run(site: Site, config: Path) -> dict[str, Any]:
    done = site.run("selftrain", "run", "--json", "--config", str(config))
    assert done.returncode == 0, done.stderr
    record: dict[str, Any] = json.loads(done.stdout)
    return record


def test_labels_of_reserved_images_grow_the_test_set_to_a_version_that_is_counted_by_itself(
    site: Site, colours: Path
) -> None:
    source = {"kind": "folder", "labeled": str(colours / "labeled"), "unlabeled": str(colours / "unlabeled")}
    config = site.config(name="late", source=source, splitting={"reserve": 1.0})
    first = run(site, config)
    assert first["reserved"] > 0
    assert (first["test_version"], first["earlier_test_images"]) == (1, None)

    quarantine = (site.workspace / "datasets" / "late" / "quarantine.csv").read_text().splitlines()
    waiting = [row for row in csv.DictReader(quarantine) if row["reason"] == "reserved"]
    labels = site.folder / "labels.csv"
    names = [(row["origin"], Path(row["origin"]).stem.rstrip("0123456789")) for row in waiting]
    labels.write_text("path,label,who\n" + "".join(f"{path},{label},anna\n" for path, label in names))
    added = site.run("selftrain", "label", "--from", str(labels), "--config", str(config), "--json")
    assert added.returncode == 0, added.stderr
    assert json.loads(added.stdout)["added"] == len(waiting) == first["reserved"]

    second = run(site, config)
    new = Counter("test image" in row["detail"] for row in waiting)[True]
    assert new > 0
    assert second["test_version"] == 2
    assert second["earlier_test_images"] == first["test_images"] == second["test_images"] - new
    assert second["reserved"] == 0
    assert second["labels_used"] == first["labels_used"] + len(waiting)
    # Both runs' models, the baseline, and the champion of the second's comparison, were evaluated on version 2 alone.
    assert second["test_looks"] <= 4
    shown = site.run("selftrain", "status")
    assert f"this test set is version 2, with {second['test_images']} images" in shown.stdout
