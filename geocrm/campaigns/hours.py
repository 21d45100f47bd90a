"""Weekly opening hours on the wall clock of a time zone, as spans of absolute time.

Hours mean what a clock on the wall shows. A day's span runs from its start to its end on that clock, so it is an hour
shorter or longer where daylight saving begins or ends within it, an hour that the clock skips is never open, and one
that it shows twice is open twice. A span that ends at or before its start goes on past midnight and belongs to the day
on which it begins.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from geocrm.errors import Fault, Invalid

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MOST_SPANS: Final = 100
_CLOCK: Final = re.compile("[0-9]{2}:[0-9]{2}")
_STEP: Final = timedelta(hours=6)
_MINUTE: Final = timedelta(minutes=1)
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Span:
    """From a minute of a day of the week (0 = Monday) to another minute, counted from the same midnight."""

    day: int
    begin: int
    end: int


def read_zone(name: str, *, pointer: str = "/time_zone") -> ZoneInfo:
    """The time zone of that IANA name; raises Invalid."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise _invalid([{"pointer": pointer, "detail": f"no time zone {name[:60]!r}; one is Europe/Zurich"}]) from None


def read_hours(value: Sequence[Mapping[str, Any]], *, pointer: str = "/hours") -> tuple[Span, ...]:
    """Spans of `[{"days": ["mon", …], "from": "09:00", "to": "18:00"}, …]`; `to` may be 24:00.

    Raises Invalid with a pointer to each fault."""
    faults: list[Fault] = []
    made: list[Span] = []
    if not 0 < len(value) <= MOST_SPANS:
        raise _invalid([{"pointer": pointer, "detail": f"expected 1 to {MOST_SPANS} spans of hours; null is always"}])
    for number, given in enumerate(value):
        at = f"{pointer}/{number}"
        for key in given:
            if key not in ("days", "from", "to"):
                faults.append({"pointer": f"{at}/{key}", "detail": "unknown key; known are days, from, to"})
        days = given.get("days")
        if not isinstance(days, list) or not days or any(day not in DAYS for day in days):
            faults.append({"pointer": f"{at}/days", "detail": f"expected days of {', '.join(DAYS)}"})
            days = []
        begin, end = (_clock(given.get(word)) for word in ("from", "to"))
        if begin is None or begin == 1440:
            faults.append({"pointer": f"{at}/from", "detail": "expected a time of day such as 09:00"})
        if end is None:
            faults.append({"pointer": f"{at}/to", "detail": "expected a time of day such as 18:00, or 24:00"})
        if begin is None or end is None:
            continue
        if begin == end:
            faults.append(
                {"pointer": f"{at}/to", "detail": "the hours end when they begin; a whole day is 00:00 to 24:00"}
            )
        made += [Span(DAYS.index(day), begin, end if end > begin else end + 1440) for day in dict.fromkeys(days)]
    if faults:
        raise _invalid(faults)
    return tuple(made)


def openings(
    starts_at: datetime,
    ends_at: datetime,
    zone: ZoneInfo,
    *,
    hours: Sequence[Span] | None = None,
    closed_on: Sequence[date] = (),
) -> list[tuple[datetime, datetime]]:
    """What is open from `starts_at` to before `ends_at` (both with an offset), as spans of UTC in order, none touching.

    Without `hours` whole days are open. Spans that begin on a day of `closed_on` are not."""
    if hours is None and not closed_on:
        return [(starts_at.astimezone(UTC), ends_at.astimezone(UTC))] if starts_at < ends_at else []
    spans = hours if hours is not None else [Span(day, 0, 1440) for day in range(7)]
    closed = frozenset(closed_on)
    found: list[tuple[datetime, datetime]] = []
    for begin, end, offset in _stretches(starts_at.astimezone(UTC), ends_at.astimezone(UTC), zone):
        day = (begin + offset).date() - _DAY  # a span of the day before may reach into this one
        last = (end + offset).date()
        while day <= last:
            if day not in closed:
                midnight = datetime(day.year, day.month, day.day, tzinfo=UTC) - offset
                for span in spans:
                    if span.day == day.weekday():
                        opens = max(begin, midnight + span.begin * _MINUTE)
                        closes = min(end, midnight + span.end * _MINUTE)
                        if opens < closes:
                            found.append((opens, closes))
            day += _DAY
    return _merged(found)


def _stretches(begin: datetime, end: datetime, zone: ZoneInfo) -> list[tuple[datetime, datetime, timedelta]]:
    """Spans of time with one offset from UTC each. Offsets that last under six hours are not found; there are none."""
    if begin >= end:
        return []
    cuts = [begin]
    at, offset = begin, _offset(begin, zone)
    while at < end:
        then = min(at + _STEP, end)
        later = _offset(then, zone)
        if later != offset:
            low, high = at, then
            while high - low > timedelta(microseconds=1):
                middle = low + (high - low) / 2
                if _offset(middle, zone) == offset:
                    low = middle
                else:
                    high = middle
            cuts.append(high)
            offset = later
        at = then
    return [(a, b, _offset(a, zone)) for a, b in pairwise([*cuts, end]) if a < b]


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    offset = moment.astimezone(zone).utcoffset()
    assert offset is not None
    return offset


def _merged(spans: list[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    made: list[tuple[datetime, datetime]] = []
    for opens, closes in sorted(spans):
        if made and opens <= made[-1][1]:
            made[-1] = (made[-1][0], max(made[-1][1], closes))
        else:
            made.append((opens, closes))
    return made


def _clock(value: Any) -> int | None:
    if not isinstance(value, str) or not _CLOCK.fullmatch(value):
        return None
    minutes = int(value[:2]) * 60 + int(value[3:])
    return minutes if int(value[3:]) < 60 and minutes <= 1440 else None


def _invalid(faults: list[Fault]) -> Invalid:
    first = faults[0]
    return Invalid(f"{first['pointer'].lstrip('/')}: {first['detail']}", errors=faults)
