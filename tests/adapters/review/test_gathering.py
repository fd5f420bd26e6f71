"""What a review is gathered from: the queue quarantine on a real store, and runs that have no such queues."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from selftrain import config
from selftrain.adapters.review.gathering import RunToReview, to_review
from selftrain.config import Place
from selftrain.data.ingest.ingest import ingest
from selftrain.data.manifest import Manifest
from selftrain.data.sources.source import open_source
from selftrain.data.store.dataset import Dataset, dataset_at
from selftrain.errors import InputError
from selftrain.retraining.label_entry import labelled_listing
from selftrain.reviewing.desk import Desk
from selftrain.reviewing.questions import Question
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


def test_a_run_of_a_detector_has_no_review(tmp_path: Path) -> None:
    dataset = dataset_at(Place(workspace=str(tmp_path), dataset="boxes"))
    with pytest.raises(InputError, match="trains a detector"):
        to_review(RECORD.model_copy(update={"metric": "map"}), (), dataset, None)
