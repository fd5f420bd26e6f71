"""Review: the list of a real run, filled in, is what `selftrain label` takes, and its images are not listed again."""

from __future__ import annotations

import csv
import json
import signal
from pathlib import Path

import pytest

from tests.adapters.review.served import Page
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
    answers_of_the_page_are_labels_too(site, config)
    annotations_of_label_studio_are_labels_too(site)


def answers_of_the_page_are_labels_too(site: Site, config: str) -> None:
    process = site.start("selftrain", "review", "--limit", "3", "--who", "ben")
    assert process.stdout is not None
    line = next(each for each in process.stdout if "http://" in each)
    page = Page(process, line.split()[-1])
    question = page.queue()["questions"][0]
    assert page.ask("GET", f"{page.path}image/{question['image_id']}")[0] == 200
    page.post("answer", [question["image_id"]], question["shown"], who="ben")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 0
    process.stdout.close()
    assert "6 images with labels of the log" in ask(site, "label", "--list", "--config", config)
    third = site.folder / "third.csv"
    ask(site, "review", "--limit", "1000", "--out", str(third))
    assert question["image_id"] not in {row["image_id"] for row in listed(third)}


def annotations_of_label_studio_are_labels_too(site: Site) -> None:
    tasks, export = site.folder / "tasks.json", site.folder / "export.json"
    ask(site, "review", "--queue", "mixed", "--limit", "4", "--to-label-studio", str(tasks))
    written = json.loads(tasks.read_text())
    for task in written[:3]:
        task["annotations"] = [
            {"completed_by": {"email": "eve@example.org"}, "result": task["predictions"][0]["result"]}
        ]
    written[3]["annotations"] = [{"completed_by": 1, "was_cancelled": True, "result": []}]
    export.write_text(json.dumps(written))
    said = ask(site, "review", "--from-label-studio", str(export))
    assert "added: 3 labels; 0 were known; 1 tasks have no label" in said
    assert "added: 0 labels; 3 were known" in ask(site, "review", "--from-label-studio", str(export))
    doubted = site.folder / "doubted.csv"
    ask(site, "review", "--queue", "mislabelled", "--out", str(doubted))
    assert all(row["why"].startswith("labelled ") for row in listed(doubted))
    ask(site, "review", "--queue", "typical", "--limit", "3", "--to-fiftyone", str(site.folder / "fiftyone"))
    places = json.loads((site.folder / "fiftyone" / "data.json").read_text())
    assert len(places) == 3
    assert all(Path(each).is_file() for each in places.values())
