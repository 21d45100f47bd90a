"""Placing sites from their addresses, and the queue of those that could not be placed.

Gazetteers place by postal code or town at once and without a network (`gazetteers.locate`). A geocoder for street
precision is off unless the setting `GEOCRM_GEOCODER` names one of geopy's; it is only ever asked by a job, never while
a person saves, so an outage delays precision and nothing else. Every change of a place ends in `ledger.evaluate`,
which makes territories and lookups follow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pandas as pd
from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from geocrm import errors, ids
from geocrm.access import SYSTEM, Actor
from geocrm.db.queries import named
from geocrm.settings import Settings
from geocrm.spatial import gazetteers, ledger
from geocrm.spatial.checks import FLAGS, check_points
from geocrm.spatial.precision import GIVEN_M
from geocrm.spatial.towns import distance_m

BATCH = 10_000
"""Sites placed in one transaction."""

PROVIDER_ATTEMPTS = 6
_GAZETTEER_WAIT_S = (86_400.0, 90 * 86_400.0)  # first and longest wait: gazetteers change with releases only
_PROVIDER_WAIT_S = (900.0, 7 * 86_400.0)

PROBLEMS = {
    "no_country": "The country is missing or not known: write it as a two-letter code.",
    "no_address": "There is neither a postal code nor a town.",
    "not_found": "No gazetteer knows this postal code or town.",
    "ambiguous_town": "Several towns bear this name: add the postal code or the region.",
    "contradiction": "Postal code, town and region do not fit together.",
}
"""What a person reads for each `problem` of the gazetteers."""


@dataclass(frozen=True)
class Outcome:
    """What a placing did: numbers of sites, and the customers whose place changed."""

    considered: int = 0
    placed: int = 0
    by_source: dict[str, int] = field(default_factory=dict)
    problems: dict[str, int] = field(default_factory=dict)
    customer_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Waiting:
    """One site of the queue: an address without a usable place, and why."""

    customer_id: int
    site_id: int
    customer_name: str
    line1: str | None
    line2: str | None
    city: str | None
    region: str | None
    postal_code: str | None
    country: str | None
    lon: float | None
    lat: float | None
    placement: str
    flags: tuple[str, ...]
    attempts: int
    why: str | None


@dataclass(frozen=True)
class Place:
    """What a geocoder found: degrees, and how far off it may be."""

    lon: float
    lat: float
    precision: str = "street"
    precision_m: float = 150.0


class Provider(Protocol):
    """A geocoder for street precision."""

    name: str

    def locate(self, address: Mapping[str, str | None]) -> Place | None:
        """The place of an address (line1, line2, city, region, postal_code, country), None where it has none.

        Raises `errors.Unavailable` where it cannot be asked now.
        """


class GeopyProvider:
    """Any geocoder of geopy as `Provider`. `precision_m` is a setting, for no geocoder states a calibrated radius."""

    def __init__(self, geocoder: Any, name: str, *, precision_m: float = 150.0, timeout_s: float = 5.0) -> None:
        self.geocoder = geocoder
        self.name = name
        self.precision_m = precision_m
        self.timeout_s = timeout_s

    def locate(self, address: Mapping[str, str | None]) -> Place | None:
        """Ask the geocoder for the address written in one line."""
        from geopy.exc import GeopyError

        town = " ".join(part for part in (address.get("postal_code"), address.get("city")) if part)
        parts = (address.get("line1"), town, address.get("region"), address.get("country"))
        try:
            found = self.geocoder.geocode(", ".join(part for part in parts if part), timeout=self.timeout_s)
        except GeopyError as error:
            raise errors.Unavailable(f"the geocoder {self.name} cannot be asked: {error}") from error
        if found is None:
            return None
        return Place(float(found.longitude), float(found.latitude), "street", self.precision_m)


def open_provider(settings: Settings) -> Provider | None:
    """The geocoder that the settings name, None where they name none (the default)."""
    if not settings.geocoder:
        return None
    from geopy.exc import GeopyError
    from geopy.geocoders import get_geocoder_for_service

    options = dict(settings.geocoder_options)
    precision_m = float(str(options.pop("precision_m", 150.0)))
    timeout_s = float(str(options.pop("timeout_s", 5.0)))
    try:
        geocoder = get_geocoder_for_service(settings.geocoder)(**options)
    except (GeopyError, TypeError) as error:
        raise errors.SetupError(
            f"GEOCRM_GEOCODER={settings.geocoder!r} with GEOCRM_GEOCODER_OPTIONS does not open a geocoder: {error}"
        ) from error
    return GeopyProvider(geocoder, settings.geocoder, precision_m=precision_m, timeout_s=timeout_s)


# --- placing ---


def place(
    session: Session,
    site_ids: Iterable[int] | None = None,
    *,
    actor: Actor = SYSTEM,
    reason: str = "placed from the address",
    limit: int = BATCH,
) -> Outcome:
    """Place pending sites from gazetteers: the given ones, or up to `limit` that are due.

    What cannot be placed stays pending, with the reason and a later time to try again. Runs as worker; the caller has
    checked that the actor may edit these customers.
    """
    return _place(session, site_ids, ("pending",), actor=actor, reason=reason, limit=limit)


def replace_flagged(
    session: Session,
    site_ids: Iterable[int] | None = None,
    *,
    flags: Sequence[str] = FLAGS,
    actor: Actor = SYSTEM,
    reason: str = "flagged coordinates replaced from the address",
    limit: int = BATCH,
) -> Outcome:
    """Place flagged sites ((0,0), swapped, out of country …) anew from their address; the flags are cleared.

    Those whose address is not found stay flagged as they are, with the reason noted.
    """
    unknown = [flag for flag in flags if flag not in FLAGS]
    if unknown:
        raise errors.Invalid(f"there is no flag {unknown[0]!r}: use one of {', '.join(FLAGS)}")
    return _place(session, site_ids, ("flagged",), actor=actor, reason=reason, limit=limit, flags=flags)


def _place(
    session: Session,
    site_ids: Iterable[int] | None,
    placements: Sequence[str],
    *,
    actor: Actor,
    reason: str,
    limit: int,
    flags: Sequence[str] = (),
) -> Outcome:
    wanted = None if site_ids is None else sorted({int(number) for number in site_ids})
    if wanted is not None and not wanted:
        return Outcome()
    session.flush()
    rows = session.execute(
        text(named("placing", "take")),
        {"site_ids": wanted, "placements": list(placements), "limit": limit if wanted is None else len(wanted)},
    ).all()
    if flags:
        rows = [row for row in rows if set(row.flags) & set(flags)]
    if not rows:
        return Outcome()
    found = gazetteers.locate(_frame(rows))
    good = found["problem"].to_numpy() == ""
    chosen = [row for row, ok in zip(rows, good, strict=True) if ok]
    _settle(session, chosen, found[good])
    failed = [row for row, ok in zip(rows, good, strict=True) if not ok]
    _put_off(session, failed, [PROBLEMS[problem] for problem in found["problem"][~good]], _GAZETTEER_WAIT_S)
    changed = _follow(session, chosen, actor, reason)
    return Outcome(
        considered=len(rows),
        placed=len(chosen),
        by_source={str(key): int(n) for key, n in found["location_source"][good].value_counts().items()},
        problems={str(key): int(n) for key, n in found["problem"][~good].value_counts().items()},
        customer_ids=changed,
    )


def _frame(rows: Sequence[Row[Any]]) -> pd.DataFrame:
    columns = ("country", "postal_code", "city", "region")
    return pd.DataFrame({name: pd.Series([getattr(row, name) for row in rows], dtype=object) for name in columns})


def _settle(session: Session, rows: Sequence[Row[Any]], found: pd.DataFrame) -> None:
    if rows:
        session.execute(
            text(named("placing", "settle")),
            {
                "customer_ids": [row.customer_id for row in rows],
                "ids": [row.id for row in rows],
                "lons": found["lon"].tolist(),
                "lats": found["lat"].tolist(),
                "precisions": found["location_precision"].tolist(),
                "radii": found["precision_m"].tolist(),
                "sources": found["location_source"].tolist(),
            },
        )


def _put_off(session: Session, rows: Sequence[Row[Any]], problems: Sequence[str], wait_s: tuple[float, float]) -> None:
    if rows:
        session.execute(
            text(named("placing", "put_off")),
            {
                "customer_ids": [row.customer_id for row in rows],
                "ids": [row.id for row in rows],
                "problems": list(problems),
                "first_s": wait_s[0],
                "longest_s": wait_s[1],
            },
        )


def _follow(session: Session, rows: Iterable[Row[Any]], actor: Actor, reason: str) -> tuple[int, ...]:
    """Territories and lookups follow the sites that moved; the customers that they belong to."""
    changed = tuple(sorted({int(row.customer_id) for row in rows}))
    if changed:
        session.expire_all()
        ledger.evaluate(session, changed, actor=actor, reason=reason)
    return changed


def readdress(
    session: Session, site_ids: Iterable[int], *, actor: Actor = SYSTEM, reason: str = "address changed"
) -> Outcome:
    """Let places follow an edit of the address of these sites, in the same transaction.

    A place that came from the address is found anew. Coordinates given with the data or set by hand are kept while the
    new address does not speak against them: while the point lies within the new place's radius and its own.
    """
    wanted = sorted({int(number) for number in site_ids})
    if not wanted:
        return Outcome()
    session.flush()
    everything = ["placed", "pending", "flagged", "failed"]
    rows = session.execute(
        text(named("placing", "take")), {"site_ids": wanted, "placements": everything, "limit": len(wanted)}
    ).all()
    given = [row for row in rows if row.placement == "placed" and row.location_precision in ("given", "rooftop")]
    kept: set[int] = set()
    if given:
        found = gazetteers.locate(_frame(given))
        apart = distance_m(found["lon"], found["lat"], [row.lon for row in given], [row.lat for row in given])
        reach = found["precision_m"].to_numpy() + np.array([float(row.precision_m) for row in given])
        fits = (found["problem"].to_numpy() != "") | (apart <= reach)
        kept = {int(row.id) for row, fit in zip(given, fits, strict=True) if fit}
    moving = [row for row in rows if int(row.id) not in kept]
    if moving:
        session.execute(text(named("placing", "unplace")), {"ids": [row.id for row in moving]})
    outcome = _place(
        session, [int(row.id) for row in moving], ("pending",), actor=actor, reason=reason, limit=len(moving)
    )
    lost = [row for row in moving if row.customer_id not in outcome.customer_ids]
    left = _follow(session, lost, actor, reason)
    return Outcome(
        outcome.considered, outcome.placed, outcome.by_source, outcome.problems, (*outcome.customer_ids, *left)
    )


def place_by_hand(
    session: Session,
    site_id: int,
    lon: float,
    lat: float,
    *,
    precision_m: float = GIVEN_M,
    confirmed: bool = False,
    actor: Actor = SYSTEM,
    reason: str = "placed by hand",
) -> None:
    """Put one site at a point that a person chose.

    Raises `errors.NotFound` for an unknown site, `errors.Invalid` for a point that is no place on earth or, unless
    `confirmed`, lies at (0,0) or outside the site's country.
    """
    session.flush()
    rows = session.execute(
        text(named("placing", "take")),
        {"site_ids": [int(site_id)], "placements": ["placed", "pending", "flagged", "failed"], "limit": 1},
    ).all()
    if not rows:
        raise errors.NotFound(f"there is no site {ids.show('sit', site_id)}")
    if not 0 < precision_m < 20_100_000:
        raise errors.Invalid("precision_m must be a positive number of metres", errors=[{"pointer": "/precision_m"}])
    flag = str(check_points([lon], [lat], rows[0].country)[0]) if not (np.isnan(lon) and np.isnan(lat)) else FLAGS[1]
    if flag == FLAGS[1]:
        raise errors.Invalid("lon must lie within ±180 and lat within ±90", errors=[{"pointer": "/lon"}])
    if flag and not confirmed:
        where = "at (0,0)" if flag == FLAGS[0] else f"outside the country of the address, {rows[0].country}"
        hint = "; lon and lat seem to be exchanged" if flag == FLAGS[2] else ""
        raise errors.Invalid(
            f"this point lies {where}{hint}: confirm it, or mend the country", errors=[{"pointer": "/lon"}]
        )
    place_found = pd.DataFrame(
        {
            "lon": [float(lon)],
            "lat": [float(lat)],
            "location_precision": ["given"],
            "precision_m": [float(precision_m)],
            "location_source": ["hand"],
        }
    )
    _settle(session, rows, place_found)
    _follow(session, rows, actor, reason)


# --- the queue ---


def waiting(
    session: Session,
    *,
    placements: Sequence[str] = ("pending", "flagged", "failed"),
    after: int = 0,
    limit: int = 100,
) -> list[Waiting]:
    """The sites without a usable place that the session's reader may see, by site id, beginning after an id."""
    rows = session.execute(
        text(named("placing", "waiting")), {"placements": list(placements), "after": after, "limit": limit}
    ).all()
    return [
        Waiting(
            customer_id=row.customer_id,
            site_id=row.id,
            customer_name=row.name,
            line1=row.line1,
            line2=row.line2,
            city=row.city,
            region=row.region,
            postal_code=row.postal_code,
            country=row.country,
            lon=row.lon,
            lat=row.lat,
            placement=row.placement,
            flags=tuple(row.flags),
            attempts=row.placing_attempts,
            why=row.placing_error,
        )
        for row in rows
    ]


def waiting_counts(session: Session) -> list[dict[str, Any]]:
    """How many visible sites wait, by placement and reason: rows of placement, why, n."""
    return [dict(row._mapping) for row in session.execute(text(named("placing", "waiting_counts")))]


def retry(session: Session, site_ids: Iterable[int], *, actor: Actor = SYSTEM) -> Outcome:
    """Try pending or failed sites again now, with attempts counted anew."""
    wanted = sorted({int(number) for number in site_ids})
    session.flush()
    again = session.execute(text(named("placing", "try_again")), {"ids": wanted}).scalars().all()
    return place(session, again, actor=actor)


def give_up(session: Session, site_ids: Iterable[int], *, reason: str = "given up by a person") -> int:
    """Take pending or flagged sites off the queue as failed; returns how many. `retry` brings them back."""
    session.flush()
    done = session.execute(
        text(named("placing", "give_up")), {"ids": sorted({int(n) for n in site_ids}), "reason": reason}
    ).all()
    session.expire_all()
    return len(done)


# --- street precision ---


def refine(
    session: Session,
    provider: Provider,
    *,
    limit: int = 50,
    actor: Actor = SYSTEM,
    reason: str = "placed by the geocoder",
) -> Outcome:
    """Ask a geocoder for street addresses that are pending or placed by postal code, town or region.

    An answer outside the country, or further from the gazetteers' place than that place's radius and half as much
    again, is not believed. An outage ends the run: attempts are counted and put off (15 minutes, doubled up to a week,
    `PROVIDER_ATTEMPTS` in all), the places stay what they are.
    """
    session.flush()
    rows = session.execute(text(named("placing", "take_coarse")), {"limit": limit, "attempts": PROVIDER_ATTEMPTS}).all()
    found: list[tuple[Row[Any], Place]] = []
    failed: list[tuple[Row[Any], str]] = []
    outage: str | None = None
    for row in rows:
        if outage is not None:
            failed.append((row, outage))
            continue
        try:
            answer = provider.locate({name: getattr(row, name) for name in _ADDRESS})
        except errors.Unavailable as error:
            outage = error.detail
            failed.append((row, outage))
            continue
        doubt = "the geocoder does not know this address" if answer is None else _doubt(row, answer)
        if answer is None or doubt:
            failed.append((row, doubt or ""))
        else:
            found.append((row, answer))
    frame = pd.DataFrame(
        {
            "lon": [answer.lon for _, answer in found],
            "lat": [answer.lat for _, answer in found],
            "location_precision": [answer.precision for _, answer in found],
            "precision_m": [answer.precision_m for _, answer in found],
            "location_source": [f"geocoder:{provider.name}"] * len(found),
        }
    )
    _settle(session, [row for row, _ in found], frame)
    _put_off(session, [row for row, _ in failed], [why for _, why in failed], _PROVIDER_WAIT_S)
    changed = _follow(session, [row for row, _ in found], actor, reason)
    return Outcome(
        considered=len(rows),
        placed=len(found),
        by_source={f"geocoder:{provider.name}": len(found)} if found else {},
        problems={"outage" if outage else "not_found": len(failed)} if failed else {},
        customer_ids=changed,
    )


_ADDRESS = ("line1", "line2", "city", "region", "postal_code", "country")


def _doubt(row: Row[Any], answer: Place) -> str:
    flag = str(check_points([answer.lon], [answer.lat], row.country)[0])
    if flag:
        return f"the geocoder's answer is not believed: {flag.replace('_', ' ')}"
    if row.lon is not None and row.placement == "placed":
        apart = float(distance_m(answer.lon, answer.lat, row.lon, row.lat))
        if apart > 1.5 * float(row.precision_m) + answer.precision_m:
            return f"the geocoder's answer is not believed: {apart / 1000:.0f} km from the {row.location_precision}"
    return ""


__all__ = [
    "BATCH",
    "FLAGS",
    "PROBLEMS",
    "GeopyProvider",
    "Outcome",
    "Place",
    "Provider",
    "Waiting",
    "check_points",
    "give_up",
    "open_provider",
    "place",
    "place_by_hand",
    "readdress",
    "refine",
    "replace_flagged",
    "retry",
    "waiting",
    "waiting_counts",
]
