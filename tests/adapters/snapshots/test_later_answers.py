"""Answers of a review on one machine while others work on the same data set: nobody is refused, nothing is lost."""

from __future__ import annotations

import contextlib
import logging
import threading
from pathlib import Path

import pytest

from selftrain.adapters.cluster import contenders
from selftrain.adapters.cluster.contenders import STATE_VARIABLE
from selftrain.adapters.snapshots.carrying import carried_over, shared_state
from selftrain.adapters.snapshots.later_answers import answers_carried
from selftrain.adapters.snapshots.repository import REMOTE_VARIABLE
from selftrain.config import Place
from selftrain.data.label_log import Standing, read_log, standing
from selftrain.files.workspace import Workspace
from selftrain.reviewing.desk import Desk
from selftrain.reviewing.questions import Question

pytestmark = [
    # pygtrie warns at a use of it that DVC makes; DVC leaves its SQLite state to the garbage collector.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
ASKED = tuple(Question(each, f"{each}.png", "new") for each in "abc")


@pytest.fixture(autouse=True)
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REMOTE_VARIABLE, str(tmp_path / "remote"))
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "state"))
    (tmp_path / "state").mkdir()


def place(tmp_path: Path, machine: str) -> Place:
    return Place(workspace=str(tmp_path / machine), dataset="cats")


def folder(tmp_path: Path, machine: str) -> Path:
    found = Workspace(tmp_path / machine).ensure().dataset("cats")
    found.mkdir(parents=True, exist_ok=True)
    return found


def desk(tmp_path: Path, machine: str) -> Desk:
    return Desk(folder(tmp_path, machine), ("cat", "dog"), ASKED)


def conflicts(tmp_path: Path, machine: str) -> Desk:
    return Desk(folder(tmp_path, machine), ("cat", "dog"), [Question("a", "a.png", "conflict", disputed=True)])


def kept(tmp_path: Path, machine: str = "empty") -> Standing:
    """What a machine with an empty disk finds."""
    with carried_over(place(tmp_path, machine)):
        return standing(read_log(folder(tmp_path, machine)))


def test_a_night_and_another_review_go_on_while_a_page_is_open_and_all_labels_are_kept(tmp_path: Path) -> None:
    with shared_state(place(tmp_path, "night"), "run"):
        (folder(tmp_path, "night") / "shard").write_text("one")
    with answers_carried(place(tmp_path, "anna"), "review"):
        assert (folder(tmp_path, "anna") / "shard").read_text() == "one", "it begins with the newest state"
        page = desk(tmp_path, "anna")
        page.answer(["a", "b"], "cat", "anna")
        with shared_state(place(tmp_path, "night"), "run"):
            (folder(tmp_path, "night") / "shard").write_text("two")
        with answers_carried(place(tmp_path, "ben"), "review"):
            desk(tmp_path, "ben").answer(["b", "c"], "dog", "ben")
        page.answer(["a"], "dog", "anna")
    found = kept(tmp_path)
    assert found.agreed == {"a": "dog", "c": "dog"}
    assert set(found.disputed["b"]) == {"cat", "dog"}
    assert (folder(tmp_path, "empty") / "shard").read_text() == "two"


def test_what_others_took_back_or_corrected_meanwhile_is_no_conflict(tmp_path: Path) -> None:
    with answers_carried(place(tmp_path, "anna"), "review"):
        page = desk(tmp_path, "anna")
        page.answer(["a", "b", "c"], "cat", "anna")
        page.undo(["c"], "cat", "anna")
        with answers_carried(place(tmp_path, "ben"), "review"):
            other = desk(tmp_path, "ben")
            other.answer(["a", "b", "c"], "dog", "ben")
            other.undo(["a"], "dog", "ben")
            other.answer(["b"], "cat", "ben")
    assert kept(tmp_path).agreed == {"a": "cat", "b": "cat", "c": "dog"}
    assert kept(tmp_path).disputed == {}


def test_an_end_of_a_conflict_holds_where_another_answered_and_took_it_back(tmp_path: Path) -> None:
    with answers_carried(place(tmp_path, "old"), "review"):
        for who, label in (("cleo", "cat"), ("dan", "dog")):
            desk(tmp_path, "old").answer(["a"], label, who)
    with answers_carried(place(tmp_path, "anna"), "review"):
        page = conflicts(tmp_path, "anna")
        page.answer(["a"], "cat", "anna")
        with answers_carried(place(tmp_path, "ben"), "review"):
            conflicts(tmp_path, "ben").answer(["a"], "dog", "ben")
        page.undo(["a"], "cat", "anna")
    assert kept(tmp_path).agreed == {"a": "dog"}


def test_a_review_that_fails_keeps_its_answers_and_one_without_answers_keeps_nothing(tmp_path: Path) -> None:
    with contextlib.suppress(ZeroDivisionError), answers_carried(place(tmp_path, "anna"), "review"):
        desk(tmp_path, "anna").answer(["a"], "cat", "anna")
        1 / 0  # noqa: B018 - any error will do
    assert kept(tmp_path).agreed == {"a": "cat"}
    before = sorted((tmp_path / "state").rglob("*"))
    with answers_carried(place(tmp_path, "ben"), "review"):
        pass
    assert sorted((tmp_path / "state").rglob("*")) == before


def test_answers_of_a_review_that_was_killed_are_kept_by_the_next_one(tmp_path: Path) -> None:
    killed: list[object] = []
    for answered in ("first", "killed", "next"):
        review = answers_carried(place(tmp_path, "anna"), "review")
        review.__enter__()
        if answered != "next":
            desk(tmp_path, "anna").answer(["a" if answered == "first" else "b"], "cat", "anna")
        if answered != "killed":
            review.__exit__(None, None, None)
        killed.append(review)  # one that was collected would still end
    assert kept(tmp_path).agreed == {"a": "cat", "b": "cat"}


def test_answers_of_a_review_that_was_killed_are_added_to_what_others_kept_meanwhile(tmp_path: Path) -> None:
    killed: list[object] = []
    for answered in ("first", "killed"):
        review = answers_carried(place(tmp_path, "anna"), "review")
        review.__enter__()
        desk(tmp_path, "anna").answer(["a" if answered == "first" else "b"], "cat", "anna")
        if answered == "first":
            review.__exit__(None, None, None)
        killed.append(review)
    with answers_carried(place(tmp_path, "ben"), "review"):
        desk(tmp_path, "ben").answer(["c"], "dog", "ben")
    with answers_carried(place(tmp_path, "anna"), "review"):
        said = standing(read_log(folder(tmp_path, "anna"))).agreed
        assert said == {"a": "cat", "b": "cat", "c": "dog"}, "the next review begins with all of them"
        with answers_carried(place(tmp_path, "ben"), "review"):
            desk(tmp_path, "ben").answer(["b"], "dog", "ben")
    found = kept(tmp_path)
    assert found.agreed == {"a": "cat", "c": "dog"}
    assert set(found.disputed["b"]) == {"cat", "dog"}


def test_answers_wait_for_a_run_that_is_at_the_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(contenders, "BY_HAND_S", 0.2)
    begun, done = threading.Event(), threading.Event()

    def night() -> None:
        with shared_state(place(tmp_path, "night"), "run"):
            (folder(tmp_path, "night") / "shard").write_text("long")
            begun.set()
            done.wait(20)

    other = threading.Thread(target=night)
    with caplog.at_level(logging.WARNING), answers_carried(place(tmp_path, "anna"), "review"):
        desk(tmp_path, "anna").answer(["a"], "cat", "anna")
        other.start()
        assert begun.wait(20)
        threading.Timer(1.0, done.set).start()
    other.join()
    assert "the answers wait for their turn" in caplog.text
    assert kept(tmp_path).agreed == {"a": "cat"}
