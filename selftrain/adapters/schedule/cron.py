"""Cron expressions: when a schedule is due, in its own time zone. Pure functions; all times are aware, results UTC."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim, CronSimError

from selftrain.errors import InputError

FIELDS = 5
HOUR_MIN = 60


@dataclass(frozen=True)
class DueTime:
    """What one look at the clock found: the time that is due, if any, and up to when the schedule is dealt with."""

    due: datetime | None
    since: datetime


@dataclass(frozen=True)
class Cron:
    """When something happens: a cron expression of five fields, and the time zone it is meant in.

    On a day whose clock is put forward, a time that does not exist is its first minute that does. On a day whose clock
    is put back, a time that exists twice counts once, the first time.

    >>> Cron("0 3 * * *", "Europe/Berlin").after(datetime(2026, 7, 1, tzinfo=UTC)).isoformat()
    '2026-07-01T01:00:00+00:00'
    """

    expression: str
    time_zone: str

    def after(self, moment: datetime) -> datetime:
        """The first time after `moment`."""
        return next(each for each in self._times(moment, back=False) if each > moment)

    def before(self, moment: datetime) -> datetime:
        """The last time up to `moment`, itself included."""
        return next(each for each in self._times(moment, back=True) if each <= moment)

    def look(self, now: datetime, *, since: datetime) -> DueTime:
        """What is due at `now`, where everything up to `since` is dealt with.

        However many times were missed, one is due: the last. A clock that was put back a little makes nothing due
        twice. Where it was put back by more than one time, what was noted with the wrong clock is forgotten.
        """
        if since > self.after(now):
            return DueTime(due=None, since=now)
        last = self.before(now)
        return DueTime(due=last, since=last) if last > since else DueTime(due=None, since=since)

    @property
    def minutes(self) -> frozenset[int]:
        """The minutes of an hour in which it can be due."""
        return frozenset(CronSim(self.expression, datetime.now(UTC)).minutes)

    def _times(self, moment: datetime, *, back: bool) -> Iterator[datetime]:
        start = moment.astimezone(ZoneInfo(self.time_zone))
        # Backwards, the first time is before the start: a second later, so that the start itself is found.
        times = CronSim(self.expression, start + timedelta(seconds=back), reverse=back)
        return (each.astimezone(UTC) for each in times)


def cron(expression: str, time_zone: str) -> Cron:
    """`expression` in `time_zone`, such as "0 3 * * *" and "Europe/Berlin".

    Raises InputError for fields that are wrong, for a time that never comes, and for an unknown time zone.
    """
    _check_zone(time_zone)
    fields = expression.split()
    allowed = "give five fields: minute hour day-of-month month day-of-week, such as '0 3 * * *' for 03:00 every day"
    if len(fields) != FIELDS:
        raise InputError(f"the cron expression {expression!r} has {len(fields)} fields; {allowed}")
    parsed = Cron(" ".join(fields), time_zone)
    try:
        parsed.after(datetime.now(UTC))
    except CronSimError as error:
        raise InputError(f"the cron expression {expression!r} is wrong: {error}; {allowed}") from error
    except StopIteration:
        raise InputError(f"the cron expression {expression!r} is never due; {allowed}") from None
    return parsed


def local_zone() -> str:
    """The name of this machine's time zone: that of TZ or of /etc/localtime; UTC if neither names one."""
    linked = os.path.realpath("/etc/localtime").partition("/zoneinfo/")[2]
    for name in (os.environ.get("TZ", "").lstrip(":"), linked):
        if name and name in available_timezones():
            return name
    return "UTC"


def hourly_minutes(schedule: Cron, machine_zone: str) -> frozenset[int]:
    """Minutes of the machine's own hours in which `schedule` can be due, whatever daylight saving does.

    Zones differ by quarters of an hour. Where two differ by whole hours all year, the minutes are the expression's.
    """
    year = datetime.now(UTC).year
    moments = [datetime(year, month, 15, tzinfo=UTC) for month in range(1, 13)]
    zones = (ZoneInfo(schedule.time_zone), ZoneInfo(machine_zone))
    offsets = {_minutes_off(moment, zones[0]) - _minutes_off(moment, zones[1]) for moment in moments}
    shifts = (0,) if not any(offset % HOUR_MIN for offset in offsets) else (0, 15, 30, 45)
    return frozenset((minute + shift) % HOUR_MIN for minute in schedule.minutes for shift in shifts)


def _minutes_off(moment: datetime, zone: ZoneInfo) -> int:
    return int((moment.astimezone(zone).utcoffset() or timedelta()).total_seconds() // 60)


def _check_zone(name: str) -> None:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        known = available_timezones()
        near = difflib.get_close_matches(name, sorted(known), n=1)
        hint = f"did you mean {near[0]!r}?" if near else "give a name such as 'Europe/Berlin' or 'UTC'"
        missing = "" if known else " (this machine has no time zones: install tzdata)"
        raise InputError(f"{name!r} is not a time zone; {hint}{missing}") from None
