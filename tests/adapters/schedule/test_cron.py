"""When a schedule is due: days of daylight saving, missed nights, and clocks that jump."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftrain.adapters.schedule.cron import Cron, cron, hourly_minutes
from selftrain.errors import InputError

BERLIN = "Europe/Berlin"
NIGHTLY = Cron("0 3 * * *", BERLIN)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def nights(schedule: Cron, start: str, count: int) -> list[str]:
    moment, found = utc(start), []
    for _ in range(count):
        moment = schedule.after(moment)
        found.append(moment.strftime("%d %H:%M"))
    return found


def test_three_o_clock_stays_three_o_clock_when_the_clock_is_put_forward_or_back() -> None:
    assert nights(NIGHTLY, "2026-03-27T12:00+00:00", 3) == ["28 02:00", "29 01:00", "30 01:00"]
    assert nights(NIGHTLY, "2026-10-23T12:00+00:00", 3) == ["24 01:00", "25 02:00", "26 02:00"]


def test_a_time_that_does_not_exist_is_due_once_and_one_that_exists_twice_is_due_once() -> None:
    half_past_two = Cron("30 2 * * *", BERLIN)
    assert nights(half_past_two, "2026-03-28T12:00+00:00", 2) == ["29 01:00", "30 00:30"]
    assert nights(half_past_two, "2026-10-24T12:00+00:00", 2) == ["25 00:30", "26 01:30"]


def test_every_hour_is_every_hour_also_when_the_clock_is_put_back() -> None:
    hourly = Cron("0 * * * *", BERLIN)
    assert nights(hourly, "2026-10-24T23:30+00:00", 3) == ["25 00:00", "25 01:00", "25 02:00"]


@given(
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31)),
    st.sampled_from(["0 3 * * *", "30 2 * * *", "*/7 * * * *", "15 1,2,3 * * 0", "0 3 1 * *", "0 0 L * *"]),
    st.sampled_from([BERLIN, "UTC", "Australia/Lord_Howe", "America/New_York", "Asia/Kathmandu"]),
)
def test_nothing_lies_between_the_time_before_and_the_time_after(
    moment: datetime, expression: str, time_zone: str
) -> None:
    schedule, now = Cron(expression, time_zone), moment.replace(tzinfo=UTC)
    before, after = schedule.before(now), schedule.after(now)
    assert before <= now < after
    if time_zone in ("UTC", "Asia/Kathmandu"):  # elsewhere, a time that exists twice counts once
        assert (schedule.after(before), schedule.before(after)) == (after, after)


def test_a_night_is_due_from_its_time_on_and_only_once() -> None:
    since = utc("2026-06-01T12:00+02:00")
    assert NIGHTLY.look(utc("2026-06-02T02:59:59+02:00"), since=since).due is None
    look = NIGHTLY.look(utc("2026-06-02T03:00+02:00"), since=since)
    assert look.due == utc("2026-06-02T03:00+02:00")
    assert NIGHTLY.look(utc("2026-06-02T23:00+02:00"), since=look.since).due is None


def test_five_missed_nights_are_made_up_once() -> None:
    look = NIGHTLY.look(utc("2026-06-06T09:00+02:00"), since=utc("2026-06-01T12:00+02:00"))
    assert look.due == utc("2026-06-06T03:00+02:00")
    assert NIGHTLY.look(utc("2026-06-06T09:01+02:00"), since=look.since).due is None
    assert NIGHTLY.look(utc("2026-06-07T03:00+02:00"), since=look.since).due == utc("2026-06-07T03:00+02:00")


def test_a_clock_that_jumps_back_makes_no_night_due_twice() -> None:
    done = NIGHTLY.look(utc("2026-06-02T03:00+02:00"), since=utc("2026-06-01T12:00+02:00")).since
    for again in ("2026-06-02T01:00+02:00", "2026-06-02T03:00+02:00", "2026-06-02T05:00+02:00"):
        assert NIGHTLY.look(utc(again), since=done).due is None


def test_a_clock_that_was_years_ahead_does_not_stop_the_schedule_for_years() -> None:
    wrong = NIGHTLY.look(utc("2035-01-01T12:00+00:00"), since=utc("2026-06-01T12:00+02:00")).since
    right = NIGHTLY.look(utc("2026-06-02T09:00+02:00"), since=wrong)
    assert right.due is None
    assert NIGHTLY.look(utc("2026-06-03T03:00+02:00"), since=right.since).due == utc("2026-06-03T03:00+02:00")


@given(st.lists(st.integers(1, 5000), min_size=2, max_size=40))
def test_whenever_one_looks_each_time_is_due_at_most_once_and_the_last_one_always(steps: list[int]) -> None:
    now = since = utc("2026-03-27T12:00+00:00")
    due: list[datetime] = []
    for step in steps:
        now += timedelta(minutes=step)
        look = NIGHTLY.look(now, since=since)
        since = look.since
        due += [look.due] if look.due else []
    assert all(one < other for one, other in pairwise(due))
    assert NIGHTLY.look(now, since=since).due is None
    assert not due or due[-1] == NIGHTLY.before(now)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("every night", "has 2 fields; give five fields"),
        ("0 0 3 * * *", "has 6 fields"),
        ("61 3 * * *", "Bad minute"),
        ("0 3 * * MONDAY", "Bad day-of-week"),
        ("0 3 30 2 *", "Bad day-of-month"),
        ("", "has 0 fields"),
    ],
)
def test_a_wrong_expression_is_refused_with_what_is_allowed(expression: str, said: str) -> None:
    with pytest.raises(InputError, match="such as '0 3") as error:
        cron(expression, "UTC")
    assert said in error.value.message


@pytest.mark.parametrize("name", ["Europe/Berln", "Mars/Base", "", "/etc/passwd", "Europe"])
def test_an_unknown_time_zone_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(InputError, match="is not a time zone"):
        cron("0 3 * * *", name)


def test_the_nearest_time_zone_is_offered() -> None:
    with pytest.raises(InputError, match="did you mean 'Europe/Berlin'"):
        cron("0 3 * * *", "Europe/Berln")


def test_a_machine_in_another_zone_looks_at_the_minutes_that_matter() -> None:
    assert hourly_minutes(NIGHTLY, "UTC") == {0}
    assert hourly_minutes(Cron("20 3 * * *", "America/New_York"), BERLIN) == {20}
    assert hourly_minutes(Cron("20 3 * * *", "Asia/Kathmandu"), "UTC") == {20, 35, 50, 5}
    assert hourly_minutes(Cron("0 3 * * *", "Australia/Lord_Howe"), "UTC") == {0, 15, 30, 45}


@given(st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31)))
def test_every_time_falls_on_a_minute_that_the_machine_looks_at(moment: datetime) -> None:
    schedule = Cron("20 3 * * *", "Asia/Kathmandu")
    due = schedule.after(moment.replace(tzinfo=UTC))
    assert due.minute in hourly_minutes(schedule, "UTC")
