"""The times of a schedule, by the clock on the wall."""

from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from geocrm.campaigns import (
    schedules,
)


@pytest.mark.parametrize(
    ("after", "clock", "days", "zone", "expected"),
    [
        ("2026-11-22T10:00Z", "09:00", None, "America/Denver", "2026-11-22T16:00Z"),
        ("2026-11-22T16:00Z", "09:00", None, "America/Denver", "2026-11-23T16:00Z"),  # after, not at
        ("2026-03-07T17:00Z", "09:00", None, "America/Denver", "2026-03-08T15:00Z"),  # summer began, the clock says 9
        ("2026-10-31T16:00Z", "09:00", None, "America/Denver", "2026-11-01T16:00Z"),
        ("2026-03-08T05:00Z", "02:30", None, "America/Denver", "2026-03-08T09:30Z"),  # skipped: 3:30 by the clock
        ("2026-11-01T05:00Z", "01:30", None, "America/Denver", "2026-11-01T07:30Z"),  # the first of two
        ("2026-11-01T07:30Z", "01:30", None, "America/Denver", "2026-11-02T08:30Z"),  # and not the second
        ("2026-11-22T10:00Z", "09:00", ["sun"], "Pacific/Kiritimati", "2026-11-28T19:00Z"),  # Sunday there
        ("2026-11-22T10:00Z", "00:00", ["mon"], "UTC", "2026-11-23T00:00Z"),
        ("2026-11-23T00:00Z", "00:00", ["mon"], "UTC", "2026-11-30T00:00Z"),
        ("2011-12-29T12:00Z", "12:00", ["fri"], "Pacific/Apia", "2011-12-30T22:00Z"),  # a Friday that there was not
    ],
)
def test_a_schedule_goes_by_the_clock_on_the_wall(
    after: str, clock: str, days: list[str] | None, zone: str, expected: str
) -> None:
    at = time.fromisoformat(clock)
    every = days or ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    found = schedules.next_after(datetime.fromisoformat(after), at, every, ZoneInfo(zone))
    assert found == datetime.fromisoformat(expected)


def test_every_day_has_one_time_whatever_the_clock_does() -> None:
    """Against a minute-by-minute walk over the days on which clocks change."""
    for zone, start in (
        ("America/Denver", "2026-03-06"),
        ("America/Denver", "2026-10-30"),
        ("Australia/Lord_Howe", "2026-04-03"),
    ):
        for clock in ("01:30", "02:00", "02:30", "23:59"):
            moment, times = datetime.fromisoformat(f"{start}T00:00Z"), []
            while len(times) < 5:
                moment = schedules.next_after(
                    moment, time.fromisoformat(clock), ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ZoneInfo(zone)
                )
                times.append(moment.astimezone(ZoneInfo(zone)))
            assert [one.date() for one in times] == [times[0].date() + timedelta(days=n) for n in range(5)]
            assert sum(f"{one:%H:%M}" != clock for one in times) <= 1, (zone, clock, times)
