"""Review: the list of a real run, filled in, is what `selftrain label` takes, and its images are not listed again."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.pipelines.site import Site

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]


def listed(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def ask(site: Site, *command: str) -> str:
    done = site.run("selftrain", *command)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_filled_list_is_taken_and_its_images_are_not_listed_again(site: Site) -> None:
    config = str(site.config())
    ask(site, "run", "--config", config)
    first, second = site.folder / "first.csv", site.folder / "second.csv"
    ask(site, "review", "--queue", "uncertain", "--limit", "5", "--out", str(first))
    rows = listed(first)
    assert len(rows) == 5
    assert all(row["path"] and row["shown"] and not row["label"] for row in rows)
    refused = site.run("selftrain", "review", "--out", str(first))
    assert refused.returncode != 0
    assert "may hold labels" in refused.stdout + refused.stderr
    with first.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(row | {"label": row["shown"]} for row in rows)
    assert "added: 5 labels" in ask(site, "label", "--from", str(first), "--config", config)
    ask(site, "review", "--limit", "1000", "--out", str(second))
    again = {row["image_id"] for row in listed(second)}
    assert again
    assert not again & {row["image_id"] for row in rows}
