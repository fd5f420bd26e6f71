"""Comparing: two real runs on one page, whose numbers are those of the runs; a run with itself is refused."""

from __future__ import annotations

import re

import pytest

from tests.pipelines.site import TINY, Site

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]


def test_two_runs_are_compared_on_one_page(site: Site) -> None:
    records = []
    for steps in (24, 60):
        teacher = {**TINY["teacher"], "steps": steps}
        done = site.run("selftrain", "run", "--config", str(site.config(teacher=teacher)))
        assert done.returncode == 0, done.stderr
        records.append(site.status())
    first, second = records
    out = site.folder / "pair.html"
    done = site.run("selftrain", "report", "--compare", first["run_id"], second["run_id"], "--out", str(out))
    assert (done.returncode, done.stdout.strip()) == (0, str(out)), done.stderr
    page = out.read_text()
    assert "Both runs have the same test images with the same labels." in page
    assert re.search(r"teacher\.steps</th><td><code>24</code></td><td><code>60</code>", page)
    (gained, lost, points) = re.findall(r"have: (\d+) gained, (\d+) lost, ([-+][\d.]+) points", page)[0]
    difference = second["test_accuracy"] - first["test_accuracy"]
    assert float(points) == pytest.approx(100 * difference, abs=0.051)
    assert int(gained) + int(lost) > 0
    assert int(gained) - int(lost) == round(difference * first["test_images"])
    assert page.count("data:image/webp") == min(48, int(gained)) + min(48, int(lost))
    assert "no picture" not in page

    same = site.run("selftrain", "report", "--compare", first["run_id"], first["run_id"])
    assert same.returncode == 2
    assert "are the same run" in same.stderr
    third = site.run("selftrain", "report", "third", "--compare", first["run_id"], second["run_id"])
    assert third.returncode == 2
    assert "leave it out" in third.stderr
