"""When a schedule comes round: a time on the clock on the wall, on days of the week, in a time zone.

A time that daylight saving skips is that of the offset before, so an hour later by the clock; of one that comes twice
it is the first, as in RFC 5545 (section 3.3.5).
"""

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from geocrm.campaigns.hours import DAYS


def read_clock(clock: str) -> time | None:
    """A time of day such as 09:00; None for what is none."""
    if len(clock) != 5 or clock[2] != ":" or not (clock[:2] + clock[3:]).isdecimal() or not clock.isascii():
        return None
    hour, minute = int(clock[:2]), int(clock[3:])
    return time(hour, minute) if hour < 24 and minute < 60 else None


def next_after(moment: datetime, clock: time, days: Sequence[str], zone: ZoneInfo) -> datetime:
    """The first time after a moment (with an offset), UTC. `days` are of mon … sun, at least one."""
    day = moment.astimezone(zone).date() - timedelta(days=1)
    for _ in range(9):
        if DAYS[day.weekday()] in days:
            found = datetime.combine(day, clock, tzinfo=zone).astimezone(UTC)
            if found > moment:
                return found
        day += timedelta(days=1)
    raise ValueError("a schedule has at least one day of the week")
