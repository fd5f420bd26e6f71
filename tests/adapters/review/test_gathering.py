"""What a review is gathered from: the queue quarantine on a real store, and runs that have no such queues."""

from __future__ import annotations

import csv
import io
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from selftrain import config
from selftrain.adapters.review.gathering import RunToReview, to_review
from selftrain.config import Place
from selftrain.data.ingest.ingest import ingest
from selftrain.data.label_log import read_log, standing
from selftrain.data.manifest import Manifest
from selftrain.data.sources.source import open_source
from selftrain.data.store.dataset import Dataset, dataset_at
from selftrain.errors import InputError
from selftrain.retraining.label_entry import LabelledSet, labelled_listing
from selftrain.retraining.label_file import LabelledBy
from selftrain.reviewing.desk import Desk
from selftrain.reviewing.label_studio import as_tasks, labels_of_export
from selftrain.reviewing.questions import Question, as_csv
from selftrain.reviewing.queues import QueueName
from selftrain.selflabel.rounds.record import RunRecord
from tests.adapters.review.small_set import make_source

RECORD = RunRecord(run_id="r" * 8, name="small", status="completed")


def run_again(folder: Path) -> tuple[Dataset, Manifest]:
    source = open_source(config.FolderSource(labeled=str(folder / "labeled"), unlabeled=str(folder / "pool")))
    dataset = dataset_at(Place(workspace=str(folder / "workspace"), dataset="small"))
    dataset.workspace.ensure()
    listing = labelled_listing(source.scan(), dataset.store)
    done = ingest(source, listing, dataset.store, settings=config.Ingest(), splitting=config.Splitting(), workers=1)
    return dataset, done.manifest


def quarantined(run: RunToReview) -> tuple[Question, ...]:
    return run.queue(QueueName.QUARANTINE, limit=10, seed=0, spread_out=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_source(tmp_path)
    shutil.copy(tmp_path / "labeled/cat/3.png", tmp_path / "labeled/dog/copy.png")
    return tmp_path


def test_an_answer_settles_a_conflict_of_the_source_and_the_next_run_uses_it(folder: Path) -> None:
    dataset, manifest = run_again(folder)
    run = to_review(RECORD, (), dataset, manifest)
    (question,) = quarantined(run)
    assert (question.labels, question.disputed) == ((), True)
    Desk(dataset.store.root, run.classes, [question]).answer([question.image_id], "cat", "anna")
    dataset, manifest = run_again(folder)
    names = manifest.label_map.names
    rows = {each["image_id"]: each for each in manifest.table.select(["image_id", "label"]).to_pylist()}
    assert names[rows[question.image_id]["label"]] == "cat"
    with pytest.raises(InputError, match="holds no image"):
        quarantined(to_review(RECORD, (), dataset, manifest))


def test_people_who_differ_about_it_are_asked_again(folder: Path) -> None:
    dataset, manifest = run_again(folder)
    run = to_review(RECORD, (), dataset, manifest)
    (question,) = quarantined(run)
    desk = Desk(dataset.store.root, run.classes, [question])
    desk.answer([question.image_id], "cat", "anna")
    desk.answer([question.image_id], "dog", "ben")
    for again in (to_review(RECORD, (), dataset, manifest), to_review(RECORD, (), *run_again(folder))):
        (asked,) = quarantined(again)
        assert set(asked.labels) == {"cat", "dog"}
    with dataset.store.quarantine_path.open() as file:
        assert "people disagree" in file.read()


def test_labels_of_a_filled_list_and_of_label_studio_settle_as_those_of_the_page_do(folder: Path) -> None:
    dataset, manifest = run_again(folder)
    names = manifest.label_map.names
    rows = [each for each in manifest.table.to_pylist() if each["split"] == "train" and names[each["label"]] == "cat"]
    first, second = (each["image_id"] for each in rows[:2])
    run = to_review(RECORD, (), dataset, manifest)
    paths = [str(run.paths[each]) for each in (first, second)]
    listed, task = (
        Question(each, path, "doubted", labels=("cat",)) for each, path in zip((first, second), paths, strict=True)
    )
    (row,) = csv.DictReader(io.StringIO(as_csv([listed])))
    (annotated,) = json.loads(as_tasks([task], picture=lambda _: (b"", "image/png")))
    result = [{"from_name": "label", "type": "choices", "value": {"choices": ["dog"]}}]
    said = {"completed_by": 3, "updated_at": "2026-12-01T10:00:00Z", "result": result}
    export, files = folder / "export.json", (folder / "list.csv", folder / "export.csv")
    export.write_text(json.dumps([{**annotated, "annotations": [said]}]))
    with files[0].open("w", newline="") as file:
        writer = csv.DictWriter(file, row.keys())
        writer.writeheader()
        writer.writerow({**row, "label": "dog"})
    files[1].write_text(labels_of_export(export)[0])
    default, labelled = LabelledBy("anna", datetime.now(UTC)), LabelledSet(dataset.store, "small")
    for path in files:
        report = labelled.take(path, default=default)
        assert (report.added, report.conflicts) == (1, ())
    _, manifest = run_again(folder)
    now = {each["image_id"]: names[each["label"] or 0] for each in manifest.table.to_pylist()}
    assert (now[first], now[second]) == ("dog", "dog")
    Desk(dataset.store.root, names, [task]).answer([second], "cat", "ben")
    assert labelled.take(files[1], default=default).added == 0, "an export that comes again overrules nobody"
    assert standing(read_log(dataset.store.root)).agreed == {first: "dog", second: "cat"}


def test_a_run_of_a_detector_has_no_review(tmp_path: Path) -> None:
    dataset = dataset_at(Place(workspace=str(tmp_path), dataset="boxes"))
    with pytest.raises(InputError, match="trains a detector"):
        to_review(RECORD.model_copy(update={"metric": "map"}), (), dataset, None)
