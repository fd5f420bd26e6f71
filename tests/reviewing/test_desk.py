"""The desk: what answers, corrections and undoings of several people come to in the label log."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selftrain.data.label_log import LABEL_LOG_SCHEMA, NONE_OF_THEM, Standing, append_lines, read_log, standing
from selftrain.reviewing.desk import Desk
from selftrain.reviewing.questions import Question

CLASSES = ("cat", "dog", "cow")
NEW, LABELLED = Question("a", "a.png", "new"), Question("a", "a.png", "doubted", labels=("cat",))
Opened = Callable[[Question], Desk]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


@pytest.fixture
def opened(folder: Path) -> Opened:
    return lambda question: Desk(folder, CLASSES, [question])


def now(folder: Path) -> Standing:
    return standing(read_log(folder))


def test_an_answer_that_was_taken_back_does_not_return_when_another_person_undoes(opened: Opened, folder: Path) -> None:
    desk = opened(NEW)
    desk.answer(["a"], "cat", "anna")
    desk.answer(["a"], "dog", "ben")
    desk.undo(["a"], "cat", "anna")
    assert now(folder).agreed == {"a": "dog"}
    desk.undo(["a"], "dog", "ben")
    assert (now(folder).agreed, now(folder).retracted) == ({}, {"a"})


def test_two_people_who_both_correct_themselves_agree(opened: Opened, folder: Path) -> None:
    desk = opened(NEW)
    for label in ("cat", "cow"):
        desk.answer(["a"], label, "anna")
        desk.answer(["a"], {"cat": "dog"}.get(label, label), "ben")
    assert now(folder).agreed == {"a": "cow"}
    desk.undo(["a"], "cow", "anna")
    assert now(folder).disputed == {"a": ("cat", "cow")} or now(folder).disputed == {"a": ("cow", "cat")}
    desk.undo(["a"], "cat", "anna")
    assert now(folder).agreed == {"a": "cow"}


def test_an_image_whose_answer_was_undone_waits_for_an_answer_in_every_browser(opened: Opened) -> None:
    desk = opened(NEW)
    desk.answer(["a"], "cat", "anna")
    assert desk.standing()["a"].label == "cat"
    desk.undo(["a"], "cat", "anna")
    assert desk.standing() == {}


def test_spaces_around_a_name_make_no_other_person(opened: Opened, folder: Path) -> None:
    desk = opened(NEW)
    desk.answer(["a"], "cat", "anna")
    desk.answer(["a"], "dog", " anna ")
    assert now(folder).agreed == {"a": "dog"}
    assert set(read_log(folder)["who"].to_pylist()) == {"anna"}


@pytest.mark.parametrize("other", ["cow", NONE_OF_THEM])
def test_two_people_who_differ_about_a_labelled_image_are_a_conflict(opened: Opened, folder: Path, other: str) -> None:
    desk, elsewhere = opened(LABELLED), opened(LABELLED)
    desk.answer(["a"], "dog", "anna")
    assert (now(folder).agreed, now(folder).settled) == ({"a": "dog"}, {"a"})
    elsewhere.answer(["a"], other, "ben")
    assert now(folder).disputed == {"a": ("dog", other)}
    desk.undo(["a"], "dog", "anna")
    if other == NONE_OF_THEM:
        assert now(folder).excluded == {"a"}
    else:
        assert (now(folder).agreed, now(folder).settled) == ({"a": other}, {"a"}), "what remains settles alone"
    elsewhere.undo(["a"], other, "ben")
    assert now(folder).retracted == {"a"}


def say_before(folder: Path) -> None:
    """Eve called the image a cat before the review."""
    said = {"image_id": "a", "label": "cat", "who": "eve", "when": datetime(2026, 1, 1, tzinfo=UTC)}
    append_lines(folder, pa.Table.from_pylist([{**said, "settles": False, "shown": None}], schema=LABEL_LOG_SCHEMA))


def test_undoing_none_of_the_classes_brings_back_what_the_log_said_before(opened: Opened, folder: Path) -> None:
    say_before(folder)
    desk = opened(LABELLED)
    desk.answer(["a"], NONE_OF_THEM, "anna")
    assert now(folder).excluded == {"a"}
    desk.undo(["a"], NONE_OF_THEM, "anna")
    assert now(folder).agreed == {"a": "cat"}
    assert desk.standing() == {}, "nobody has answered it on the page"
    desk.answer(["a"], NONE_OF_THEM, "anna")
    desk.answer(["a"], "dog", "anna")
    assert (now(folder).agreed, now(folder).settled) == ({"a": "dog"}, {"a"})
    desk.undo(["a"], "dog", "anna")
    assert now(folder).excluded == {"a"}


DEEDS = st.lists(st.tuples(st.sampled_from("AB"), st.sampled_from(["cat", "dog", NONE_OF_THEM, "undo"])), max_size=8)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(deeds=DEEDS, question=st.sampled_from([NEW, LABELLED]), older=st.booleans())
def test_what_holds_is_what_each_person_said_last(
    tmp_path_factory: pytest.TempPathFactory, deeds: list[tuple[str, str]], question: Question, older: bool
) -> None:
    """The naive model: a pile of answers a person, of which undo takes the top one off."""
    folder = tmp_path_factory.mktemp("log") / "store"
    folder.mkdir()
    if older and question is LABELLED:
        say_before(folder)
    desks = dict(zip("AB", (Desk(folder, CLASSES, [question]) for _ in range(2)), strict=True))
    piles: dict[str, list[str]] = {"A": [], "B": []}
    for who, deed in deeds:
        pile = piles[who]
        if deed != "undo":
            desks[who].answer(["a"], deed, who)
            if pile[-1:] != [deed]:
                pile.append(deed)
        elif pile:
            desks[who].undo(["a"], pile.pop(), who)
    holds = {pile[-1] for pile in piles.values() if pile} or ({"cat"} if older and question is LABELLED else set())
    log = now(folder)
    said = {*log.disputed.get("a", ()), *({log.agreed["a"]} if "a" in log.agreed else ())}
    assert said | ({NONE_OF_THEM} if "a" in log.excluded else set()) == holds
    if any(piles.values()) and len(holds) == 1 and question is LABELLED and holds != {NONE_OF_THEM}:
        assert log.settled == {"a"}
