"""Lineage: who is tainted by a withdrawal, and what a log of withdrawals comes to."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftrain.errors import RegistryError, WithdrawnError
from selftrain.selflabel.lineage.descent import Descent, Recall, Recalled, Trust

MODELS = 8


def line(
    identity: str, action: Literal["withdraw", "restore"] = "withdraw", *, number: int = 1, file: str = ""
) -> Recall:
    return Recall(
        number=number,
        when="2026-11-21T10:00:00+00:00",
        who="ada",
        action=action,
        identity=identity,
        file=file,
        called=f"models:/m/{identity}",
        why="wrong labels",
    )


def model(identity: str, *lineage: str, file: str = "") -> Descent:
    return Descent(frozenset({identity, file} - {""}), lineage)


def named(number: int) -> str:
    return f"model{number}"


@st.composite
def families(draw: st.DrawFn) -> dict[str, tuple[str, ...]]:
    """Models 0 to 7 by identity, each taught by some of those before it."""
    teachers = {named(0): ()}
    for number in range(1, MODELS):
        taught_by = draw(st.lists(st.integers(0, number - 1), unique=True, max_size=2))
        teachers[named(number)] = tuple(named(each) for each in taught_by)
    return teachers


def reaches(teachers: dict[str, tuple[str, ...]], start: str, goal: str) -> bool:
    """Whether `goal` taught `start` at whatever remove: by following every edge, once for each path."""
    return any(each == goal or reaches(teachers, each, goal) for each in teachers[start])


@given(families(), st.integers(0, MODELS - 1))
def test_exactly_those_are_tainted_that_a_path_leads_from_to_the_withdrawn_model(
    teachers: dict[str, tuple[str, ...]], number: int
) -> None:
    known = [model(identity, *lineage) for identity, lineage in teachers.items()]
    recalled = Recalled.of([line(named(number))], known)
    for each in known:
        (identity,) = each.names
        if identity == named(number):
            expected = Trust.WITHDRAWN
        else:
            expected = Trust.TAINTED if reaches(teachers, identity, named(number)) else Trust.TRUSTED
        assert recalled.trust(each) is expected
        assert (recalled.cause(each) is None) == (expected is Trust.TRUSTED)


@given(families(), st.lists(st.integers(0, MODELS - 1), max_size=4), st.integers(0, MODELS - 1))
def test_one_recall_more_never_makes_a_model_trusted_and_taking_it_back_restores_all(
    teachers: dict[str, tuple[str, ...]], before: list[int], number: int
) -> None:
    known = [model(identity, *lineage) for identity, lineage in teachers.items()]
    log = [line(named(each), number=index) for index, each in enumerate(before)]
    fewer, more = Recalled.of(log, known), Recalled.of([*log, line(named(number), number=9)], known)
    for each in known:
        if fewer.trust(each) is not Trust.TRUSTED:
            assert more.trust(each) is not Trust.TRUSTED
    back = Recalled.of([*log, line(named(number), number=9), line(named(number), "restore", number=10)], known)
    without = Recalled.of([each for each in log if each.identity != named(number)], known)
    assert [back.trust(each) for each in known] == [without.trust(each) for each in known]


@given(families())
def test_a_model_that_names_all_its_ancestors_needs_nobody_else_to_be_known(
    teachers: dict[str, tuple[str, ...]],
) -> None:
    whole = Recalled.of([], [model(identity, *lineage) for identity, lineage in teachers.items()])
    for identity in teachers:
        ancestors = whole.ancestors(model(identity, *teachers[identity]))
        alone = Recalled.of([line(named(0))])
        assert (alone.trust(model(identity, *ancestors)) is Trust.TAINTED) == (named(0) in ancestors)


def test_models_that_are_said_to_have_taught_each_other_end_the_search() -> None:
    known = [model("a", "b"), model("b", "a")]
    recalled = Recalled.of([line("a")], known)
    assert [recalled.trust(each) for each in known] == [Trust.WITHDRAWN, Trust.TAINTED]


def test_a_model_is_known_by_its_file_too() -> None:
    recalled = Recalled.of([line("identity", file="f" * 64)])
    assert recalled.trust(model("", file="f" * 64)) is Trust.WITHDRAWN
    assert recalled.trust(model("student", "f" * 64)) is Trust.TAINTED


def test_the_last_line_about_a_model_holds_and_a_withdrawal_is_told_once() -> None:
    log = [line("a", number=1), line("b", number=2), line("a", "restore", number=3), line("a", number=4, file="f")]
    assert [each.number for each in Recalled.of(log).in_force] == [2, 4]
    assert [each.identity for each in Recalled.of(log[:3]).in_force] == ["b"]


def test_a_refusal_says_why_since_when_and_what_to_do() -> None:
    recalled = Recalled.of([line("teacher")])
    by = r"models:/m/2 is tainted: it was taught by models:/m/teacher, withdrawn 2026-11-21 by ada: wrong labels; p"
    with pytest.raises(WithdrawnError, match=by):
        recalled.refuse(model("student", "teacher"), "models:/m/2", advice="promote another")
    with pytest.raises(RegistryError, match=r"x is withdrawn \(2026-11-21 by ada: wrong labels\); promote another"):
        recalled.refuse(model("teacher"), "x", advice="promote another")
    recalled.refuse(model("other"), "models:/m/3", advice="promote another")


def test_a_withdrawal_names_the_digest_once() -> None:
    named = line("abc").model_copy(update={"called": "models:/m/3"})
    assert named.text == "models:/m/3 (abc), withdrawn 2026-11-21 by ada: wrong labels"
    assert named.model_copy(update={"called": "teacher abc"}).text.startswith("teacher abc, withdrawn")


def test_of_several_causes_the_models_own_goes_first_and_then_the_oldest() -> None:
    recalled = Recalled.of([line("a", number=1), line("b", number=2), line("c", number=3)])
    own, theirs = recalled.cause(model("c", "a")), recalled.cause(model("d", "b", "a"))
    assert own is not None
    assert theirs is not None
    assert (own.identity, theirs.identity) == ("c", "a")
