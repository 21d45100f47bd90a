"""Hours against a clock that is read minute by minute."""

import random
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from geocrm.campaigns import hours
from geocrm.errors import Invalid

DAY = timedelta(days=1)


def is_open(moment: datetime, zone: ZoneInfo, spans: tuple[hours.Span, ...], closed: list[date]) -> bool:
    """The rule in plain words: what the clock on the wall shows lies in a span of today or of yesterday."""
    shown = moment.astimezone(zone).replace(tzinfo=None)
    for begins in (shown.date(), shown.date() - DAY):
        midnight = datetime.combine(begins, datetime.min.time())
        for span in spans:
            if span.day == begins.weekday() and begins not in closed:
                minutes = (shown - midnight) / timedelta(minutes=1)
                if span.begin <= minutes < span.end:
                    return True
    return False


# Daylight saving begins and ends; half an hour of it (Lord Howe); an offset of 5:45; one that ended (Paraguay, 2024); a
# day that never was (Samoa left out 30 December 2011).
@pytest.mark.parametrize(
    ("zone", "start"),
    [
        ("Europe/Zurich", "2026-03-27"), ("Europe/Zurich", "2026-10-23"), ("America/Denver", "2026-03-06"),
        ("America/Denver", "2026-10-30"), ("Australia/Lord_Howe", "2026-04-03"), ("Asia/Kathmandu", "2026-01-01"),
        ("America/Asuncion", "2024-10-04"), ("Pacific/Apia", "2011-12-28"), ("UTC", "2026-02-27"),
    ],
)  # fmt: skip
def test_openings_are_what_the_clock_on_the_wall_says(zone: str, start: str) -> None:
    where = ZoneInfo(zone)
    rng = random.Random(zone + start)
    given = [
        {"days": rng.sample(hours.DAYS, 4), "from": "00:30", "to": "02:45"},
        {"days": ["sat", "sun"], "from": "22:00", "to": "03:15"},
        {"days": ["mon", "thu"], "from": "09:00", "to": "24:00"},
        {"days": list(hours.DAYS), "from": "02:15", "to": "02:20"},
    ]
    spans = hours.read_hours(given)
    begin = datetime.fromisoformat(start).replace(tzinfo=UTC) + timedelta(hours=5, minutes=rng.randrange(60))
    closed = [begin.date() + 2 * DAY]
    end = begin + timedelta(days=5, minutes=7)
    found = hours.openings(begin, end, where, hours=spans, closed_on=closed)
    assert found
    assert all(a < b for a, b in found)
    assert all(former[1] < later[0] for former, later in pairwise(found))
    for number in range(int((end - begin) / timedelta(minutes=1))):
        moment = begin + timedelta(minutes=number)
        told = any(opens <= moment < closes for opens, closes in found)
        assert told == is_open(moment, where, spans, closed), moment


def test_a_night_in_which_the_clock_is_put_back_is_an_hour_longer() -> None:
    zurich = ZoneInfo("Europe/Zurich")
    spans = hours.read_hours([{"days": ["sat"], "from": "22:00", "to": "05:00"}])
    lengths = {}
    for day in (date(2026, 3, 28), date(2026, 10, 24), date(2026, 6, 6)):
        begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
        ((opens, closes),) = hours.openings(begin, begin + 2 * DAY, zurich, hours=spans)
        lengths[day.month] = (closes - opens) / timedelta(hours=1)
    assert lengths == {3: 6.0, 10: 8.0, 6: 7.0}
    # what the clock skips is never open
    gone = hours.read_hours([{"days": ["sun"], "from": "02:00", "to": "03:00"}])
    begin = datetime(2026, 3, 28, tzinfo=UTC)
    assert hours.openings(begin, begin + 3 * DAY, zurich, hours=gone) == []


def test_without_hours_it_is_open_throughout_but_for_closed_days() -> None:
    zone = ZoneInfo("America/Denver")
    begin, end = datetime(2026, 5, 1, 12, tzinfo=UTC), datetime(2026, 5, 4, 12, tzinfo=UTC)
    assert hours.openings(begin, end, zone) == [(begin, end)]
    assert hours.openings(end, begin, zone) == []
    found = hours.openings(begin, end, zone, closed_on=[date(2026, 5, 2)])
    assert found == [(begin, datetime(2026, 5, 2, 6, tzinfo=UTC)), (datetime(2026, 5, 3, 6, tzinfo=UTC), end)]


@pytest.mark.parametrize(
    ("given", "pointer"),
    [
        ([], "/hours"),
        ([{"days": ["monday"], "from": "09:00", "to": "18:00"}], "/hours/0/days"),
        ([{"days": [], "from": "09:00", "to": "18:00"}], "/hours/0/days"),
        ([{"days": ["mon"], "from": "9:00", "to": "18:00"}], "/hours/0/from"),
        ([{"days": ["mon"], "from": "0²:00", "to": "18:00"}], "/hours/0/from"),
        ([{"days": ["mon"], "from": "24:00", "to": "18:00"}], "/hours/0/from"),
        ([{"days": ["mon"], "from": "09:00", "to": "24:01"}], "/hours/0/to"),
        ([{"days": ["mon"], "from": "09:60", "to": "18:00"}], "/hours/0/from"),
        ([{"days": ["mon"], "from": "09:00", "to": "09:00"}], "/hours/0/to"),
        ([{"days": ["mon"], "from": "09:00", "to": "10:00", "until": 1}], "/hours/0/until"),
    ],
)
def test_hours_that_cannot_be(given: list[dict[str, object]], pointer: str) -> None:
    with pytest.raises(Invalid) as caught:
        hours.read_hours(given)
    assert caught.value.errors[0]["pointer"] == pointer


def test_there_is_no_such_zone() -> None:
    for name in ("Mars/Olympus", "../etc/passwd", ""):
        with pytest.raises(Invalid):
            hours.read_zone(name)
