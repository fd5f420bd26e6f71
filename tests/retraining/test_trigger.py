"""The trigger: golden decisions, and properties that hold for every set of facts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftrain.config import Retrain, Triggers
from selftrain.errors import ConfigError
from selftrain.retraining.trigger import Due, NotDue, TriggerFacts, due, wants_drift

NOW = datetime(2026, 12, 1, 3, tzinfo=UTC)
QUIET = TriggerFacts(now=NOW, new=0, decided_at=NOW - timedelta(hours=5))


@pytest.mark.parametrize(
    ("facts", "policy", "is_due", "reason"),
    [
        ({"new": 99}, {}, False, "99 new images of 100; nobody asked"),
        ({"new": 100}, {}, True, "100 new images of 100"),
        ({"requested": True}, {}, True, "asked for by hand"),
        ({}, {"any_of": {"max_age_hours": 4}}, True, "last decided run 5.0 h ago of 4"),
        ({}, {"any_of": {"max_age_hours": 6}}, False, "last decided run 5.0 h ago of 6"),
        ({"decided_at": None}, {"any_of": {"max_age_hours": 6}}, True, "no run was decided yet"),
        ({"drift": "brightness moved"}, {"any_of": {"drift": True}}, True, "brightness moved"),
        ({}, {"any_of": {"drift": True}}, False, "drift was not measured"),
        ({"measured": True}, {"any_of": {"drift": True}}, False, "no drift was found"),
        ({"inbox": False}, {}, False, "0 new images of 100, as there is no section `inbox`; nobody asked"),
        (
            {"accuracy": 0.7},
            {"any_of": {"performance": 0.8}},
            True,
            "the champion's accuracy in production is 0.700, floor 0.8",
        ),
        (
            {},
            {"any_of": {"performance": 0.8}},
            False,
            "no labelled production images to measure the champion on",
        ),
        (
            {"new": 500},
            {"cooldown_hours": 8},
            False,
            "cooling down: the last decided run ended 5.0 h ago, and cooldown_hours is 8",
        ),
        ({"new": 500, "requested": True}, {"cooldown_hours": 8}, True, "asked for by hand"),
        (
            {"new": 500},
            {"all_of": {"max_age_hours": 6}},
            False,
            "last decided run 5.0 h ago of 6",
        ),
        (
            {"new": 500},
            {"all_of": {"max_age_hours": 4}},
            True,
            "500 new images of 100; last decided run 5.0 h ago of 4",
        ),
        (
            {"new": 500},
            {"any_of": {}, "all_of": {"min_new": 400, "max_age_hours": 4}},
            True,
            "500 new images of 400; last decided run 5.0 h ago of 4",
        ),
    ],
)
def test_each_condition_decides_with_its_reason(
    facts: dict[str, object], policy: dict[str, object], is_due: bool, reason: str
) -> None:
    decision = due(replace(QUIET, **facts), Retrain.model_validate(policy))
    assert isinstance(decision, Due) == is_due
    assert decision.reason == reason


def test_failures_in_a_row_stop_everything_even_a_request() -> None:
    decision = due(replace(QUIET, new=500, requested=True, failures=3), Retrain())
    assert isinstance(decision, NotDue)
    assert decision.stopped
    assert "selftrain retrain --resume" in decision.reason


def test_a_clock_that_was_set_back_extends_no_pause_and_holds_no_run_for_ever() -> None:
    ahead = replace(QUIET, new=500, decided_at=NOW + timedelta(days=300))
    assert isinstance(due(ahead, Retrain(cooldown_hours=8)), Due)
    assert isinstance(due(ahead, Retrain.model_validate({"any_of": {"max_age_hours": 6}})), Due)


def test_a_policy_that_could_never_be_due_is_refused() -> None:
    with pytest.raises(ConfigError, match="name no condition"):
        Retrain(any_of=Triggers())


@given(
    new=st.integers(0, 300),
    more=st.integers(0, 300),
    failures=st.integers(0, 4),
    requested=st.booleans(),
    cooldown=st.floats(0, 10),
)
def test_more_images_never_make_a_due_retraining_undue(
    new: int, more: int, failures: int, requested: bool, cooldown: float
) -> None:
    policy = Retrain(cooldown_hours=cooldown)
    facts = replace(QUIET, new=new, failures=failures, requested=requested)
    if isinstance(due(facts, policy), Due):
        assert isinstance(due(replace(facts, new=new + more), policy), Due)


def test_drift_is_measured_only_where_it_could_decide() -> None:
    policy = Retrain.model_validate({"any_of": {"min_new": 1000, "drift": True}})
    enough = replace(QUIET, new=200)
    assert wants_drift(enough, policy, min_images=100)
    assert not wants_drift(replace(QUIET, new=50), policy, min_images=100)
    assert not wants_drift(replace(QUIET, new=2000), policy, min_images=100)
    assert not wants_drift(enough, Retrain(), min_images=100)
    assert not wants_drift(replace(enough, failures=3), policy, min_images=100)
