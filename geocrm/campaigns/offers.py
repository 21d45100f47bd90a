"""Offers: made as drafts, checked, set live, ended. What is live is never changed: an edit makes a new version."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from sqlalchemy import delete, insert, select, text, tuple_
from sqlalchemy.orm import Session

from geocrm import filters, ids
from geocrm.access import Actor, require
from geocrm.campaigns import audiences, geofences, holdouts, hours
from geocrm.crm import consents
from geocrm.db import audit
from geocrm.db.models import (
    Area,
    Audience,
    Layer,
    Offer,
    OfferArea,
    OfferCounter,
    OfferOpening,
    OfferVersion,
    Place,
    Product,
)
from geocrm.db.models.places import PLACE_KINDS
from geocrm.db.queries import named
from geocrm.errors import Conflict, Fault, Invalid, NotFound
from geocrm.spatial import publishing

MOST_AREAS: Final = 1000
MOST_PRODUCTS: Final = 1000
LONGEST: Final = timedelta(days=5 * 366)
WIDEST_M: Final = 100_000
CONSENT: Final = "marketing"
"""The purpose of the consent that offers ask for unless they say another one, or none."""
NAMED_BY: Final = ("area_id", "geofence", "geofence_tag", "place_id", "place_kind")
"""What an area of an offer may be named by; of each exactly one."""
FIELDS: Final = (
    "title", "terms", "product_ids", "attributes", "audience", "consent_purpose", "starts_at", "ends_at", "time_zone",
    "hours", "closed_on", "cap_total", "cap_per_customer", "priority", "hold_out_share", "hold_out_unit",
)  # fmt: skip
"""What a version says, areas aside."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A version of an offer with its areas, in the order in which they were given."""

    version: OfferVersion
    areas: tuple[OfferArea, ...]


def status_of(offer: Offer) -> str:
    """draft, live or ended."""
    return "ended" if offer.ended_at is not None else "live" if offer.live_version is not None else "draft"


def find_offers(
    session: Session, *, status: str | None = None, before: int | None = None, limit: int = 50
) -> Sequence[Offer]:
    """Offers, newest first, those of a status where one is asked for, and older than `before`."""
    query = select(Offer).order_by(Offer.id.desc()).limit(limit)
    if before is not None:
        query = query.where(Offer.id < before)
    if status == "ended":
        query = query.where(Offer.ended_at.is_not(None))
    elif status == "live":
        query = query.where(Offer.ended_at.is_(None), Offer.live_version.is_not(None))
    elif status == "draft":
        query = query.where(Offer.ended_at.is_(None), Offer.live_version.is_(None))
    return session.scalars(query).all()


def get_offer(session: Session, offer_id: int, *, lock: bool = False) -> Offer:
    """An offer; raises NotFound."""
    query = select(Offer).where(Offer.id == offer_id).execution_options(populate_existing=True)
    found = session.scalars(query.with_for_update() if lock else query).one_or_none()
    if found is None:
        raise NotFound()
    return found


def get_version(session: Session, offer_id: int, version: int) -> Whole:
    """A version of an offer; raises NotFound."""
    found = session.get(OfferVersion, (offer_id, version), populate_existing=True)
    if found is None:
        raise NotFound()
    areas = session.scalars(
        select(OfferArea).where(OfferArea.offer_id == offer_id, OfferArea.version == version).order_by(OfferArea.n)
    )
    return Whole(found, tuple(areas))


def get_versions(session: Session, wanted: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Whole]:
    """Versions of offers, by offer and version; those that are there."""
    if not wanted:
        return {}
    key, areas_key = (tuple_(one.offer_id, one.version) for one in (OfferVersion, OfferArea))
    areas: dict[tuple[int, int], list[OfferArea]] = {}
    for area in session.scalars(select(OfferArea).where(areas_key.in_(wanted)).order_by(OfferArea.n)):
        areas.setdefault((area.offer_id, area.version), []).append(area)
    query = select(OfferVersion).where(key.in_(wanted)).execution_options(populate_existing=True)
    return {
        (one.offer_id, one.version): Whole(one, tuple(areas.get((one.offer_id, one.version), ())))
        for one in session.scalars(query)
    }


def find_versions(session: Session, offer_id: int) -> list[Whole]:
    """All versions of an offer, newest first; raises NotFound."""
    get_offer(session, offer_id)
    numbers = session.scalars(
        select(OfferVersion.version).where(OfferVersion.offer_id == offer_id).order_by(OfferVersion.version.desc())
    ).all()
    found = get_versions(session, [(offer_id, number) for number in numbers])
    return [found[offer_id, number] for number in numbers]


@dataclass(frozen=True, slots=True)
class AreaOfLayer:
    """An area by its name, and its layer; its id begins with `prefix`: ter in exclusive layers, are in others."""

    area_id: int
    name: str
    layer_id: int
    prefix: str


def describe_areas(session: Session, area_ids: Sequence[int]) -> dict[int, AreaOfLayer]:
    """What areas are called and which layers they are of, by id."""
    rows = session.execute(
        select(Area.id, Area.name, Layer.id, Layer.kind)
        .join(Layer, Layer.id == Area.layer_id)
        .where(Area.id.in_(area_ids))
    )
    return {
        number: AreaOfLayer(number, name, layer_id, "ter" if kind == "territories" else "are")
        for number, name, layer_id, kind in rows
    }


def name_places(session: Session, place_ids: Sequence[int]) -> dict[int, str]:
    """What places are called, by id."""
    rows = session.execute(select(Place.id, Place.name).where(Place.id.in_(place_ids)))
    return {row.id: row.name for row in rows}


def create_offer(session: Session, *, actor: Actor, name: str, campaign_id: int | None = None, **values: Any) -> Offer:
    """A draft. `values` are :data:`FIELDS` and `areas`, any of ``{"area_id"}``, ``{"geofence": "tag/external_id"}``,
    ``{"geofence_tag"}``, ``{"place_id", "radius_m"}`` and ``{"place_kind", "radius_m"}``; what it lacks is asked for
    when it goes live.

    Raises Forbidden, and Invalid with a pointer for what cannot be or is not there."""
    require(actor, "offers:write")
    offer = Offer(name=name, campaign_id=campaign_id, draft_version=1, created_by=actor.user_id)
    session.add(offer)
    session.flush()
    session.add(OfferCounter(offer_id=offer.id))
    version = OfferVersion(offer_id=offer.id, version=1, consent_purpose=CONSENT, made_by=actor.user_id)
    session.add(version)
    session.flush()
    session.refresh(version)
    _set(session, actor, version, values)
    session.refresh(offer)
    _audit(session, actor, "offer.create", offer, after={"name": name, **_said(values)})
    return offer


def edit_offer(session: Session, offer_id: int, *, actor: Actor, **changes: Any) -> Offer:
    """Change the draft. Where there is none the offer is live, and a draft is made of what is live, with the changes.

    Raises NotFound, Forbidden, Invalid, Conflict for an offer that has ended, and for another campaign of one that was
    live: who is held out would change."""
    require(actor, "offers:write")
    offer = get_offer(session, offer_id, lock=True)
    if offer.ended_at is not None:
        raise Conflict("This offer has ended; make a new one.")
    given = dict(changes)
    if "name" in given:
        offer.name = given.pop("name")
    if "campaign_id" in given:
        campaign_id = given.pop("campaign_id")
        if offer.live_version is not None and campaign_id != offer.campaign_id:
            raise Conflict(
                "In another campaign others would be held out of this live offer: end it and make a new one."
            )
        offer.campaign_id = campaign_id
    if given:
        if offer.draft_version is None:
            _draft_of_live(session, actor, offer)
        assert offer.draft_version is not None
        _set(session, actor, get_version(session, offer_id, offer.draft_version).version, given)
    _changed(session, offer)
    _audit(session, actor, "offer.update", offer, after=_said(changes))
    return offer


def discard_draft(session: Session, offer_id: int, *, actor: Actor) -> bool:
    """Throw the draft away, and with it an offer that was never live; whether the offer is still there.

    Raises NotFound, Forbidden, Conflict where there is no draft."""
    require(actor, "offers:write")
    offer = get_offer(session, offer_id, lock=True)
    if offer.draft_version is None:
        raise Conflict("There is no draft of this offer; what was live stays as it was.")
    _audit(session, actor, "offer.discard", offer, before={"version": offer.draft_version})
    if offer.live_version is None and offer.ended_at is None:
        session.delete(offer)
        session.flush()
        return False
    session.execute(
        delete(OfferVersion).where(OfferVersion.offer_id == offer_id, OfferVersion.version == offer.draft_version)
    )
    offer.draft_version = None
    _changed(session, offer)
    return True


def check_draft(session: Session, offer_id: int, *, moment: datetime | None = None) -> list[Fault]:
    """What stands in the way of the draft going live; empty where nothing does. Its audience is worked out.

    Raises NotFound, Conflict where there is no draft."""
    offer = get_offer(session, offer_id)
    if offer.draft_version is None:
        raise Conflict("There is no draft of this offer to check.")
    whole = get_version(session, offer_id, offer.draft_version)
    return _faults(session, whole, moment or datetime.now(UTC))[0]


def find_doubts(session: Session, offer_id: int) -> list[Fault]:
    """What does not stand in the draft's way, and may be a mistake. Raises as :func:`check_draft`."""
    offer = get_offer(session, offer_id)
    if offer.draft_version is None:
        raise Conflict("There is no draft of this offer to check.")
    doubt = consents.doubt(session, get_version(session, offer_id, offer.draft_version).version.consent_purpose)
    return [] if doubt is None else [{"pointer": "/consent_purpose", "detail": doubt}]


def go_live(session: Session, offer_id: int, *, actor: Actor, moment: datetime | None = None) -> Offer:
    """Set the draft live, in the place of what was live.

    Raises NotFound, Forbidden, Conflict where there is no draft, Invalid with every fault of :func:`check_draft`."""
    require(actor, "offers:publish")
    offer = get_offer(session, offer_id, lock=True)
    if offer.draft_version is None:
        raise Conflict("There is no draft of this offer to set live.")
    now = moment or datetime.now(UTC)
    whole = get_version(session, offer_id, offer.draft_version)
    faults, openings = _faults(session, whole, now)
    if faults:
        said = "; ".join(f"{fault['pointer'].lstrip('/')}: {fault['detail']}" for fault in faults)
        raise Invalid(f"The offer cannot go live yet. {said}", errors=faults)
    _hold_counter(session, offer_id)
    if offer.live_version is not None:
        _retire(session, offer_id, offer.live_version, now)
    version = whole.version
    version.starts_at = version.starts_at or now
    version.live_from = now
    session.flush()
    session.execute(
        insert(OfferOpening),
        [
            {"offer_id": offer_id, "version": version.version, "opens_at": opens, "closes_at": closes}
            for opens, closes in openings
        ],
    )
    offer.live_version, offer.draft_version = version.version, None
    _changed(session, offer)
    _audit(session, actor, "offer.live", offer, after={"version": version.version})
    return offer


def end_offer(session: Session, offer_id: int, *, actor: Actor, moment: datetime | None = None) -> Offer:
    """End a live offer for good. Raises NotFound, Forbidden, Conflict where it is not live."""
    require(actor, "offers:publish")
    offer = get_offer(session, offer_id, lock=True)
    if status_of(offer) != "live" or offer.live_version is None:
        raise Conflict("Only a live offer can be ended; a draft can be thrown away.")
    now = moment or datetime.now(UTC)
    _hold_counter(session, offer_id)
    _retire(session, offer_id, offer.live_version, now)
    if offer.draft_version is not None:
        session.execute(
            delete(OfferVersion).where(OfferVersion.offer_id == offer_id, OfferVersion.version == offer.draft_version)
        )
        offer.draft_version = None
    offer.ended_at = now
    _changed(session, offer)
    _audit(session, actor, "offer.end", offer, after={"version": offer.live_version})
    return offer


# ---------------------------------------------------------------- versions


def _draft_of_live(session: Session, actor: Actor, offer: Offer) -> None:
    assert offer.live_version is not None
    live = get_version(session, offer.id, offer.live_version)
    number = 1 + max(
        session.scalars(select(OfferVersion.version).where(OfferVersion.offer_id == offer.id)).all(), default=0
    )
    same = {name: getattr(live.version, name) for name in (*FIELDS, "audience_id", "everywhere")}
    session.add(OfferVersion(offer_id=offer.id, version=number, made_by=actor.user_id, **same))
    session.flush()
    for area in live.areas:
        kept = {name: getattr(area, name) for name in _AREA_COLUMNS}
        session.add(OfferArea(offer_id=offer.id, version=number, n=area.n, **kept))
    offer.draft_version = number
    session.flush()


_AREA_COLUMNS: Final = ("kind", "area_id", "place_id", "place_kind", "fence_id", "fence_tag", "radius_m")


def _set(session: Session, actor: Actor, version: OfferVersion, values: Mapping[str, Any]) -> None:
    """Write what is given into a draft; raises Invalid with a pointer to each fault."""
    given = dict(values)
    faults: list[Fault] = []

    def look(read: Any) -> None:
        try:
            read()
        except Invalid as error:
            faults.extend(error.errors)

    areas = given.pop("areas", None)
    if given.get("hours") is not None:
        look(lambda: hours.read_hours(given["hours"]))
    if given.get("time_zone") is not None:
        look(lambda: hours.read_zone(given["time_zone"]))
    for name in ("cap_total", "cap_per_customer"):
        if given.get(name) is not None and given[name] < 1:
            faults.append({"pointer": f"/{name}", "detail": "expected at least 1; null is without a cap"})
    if not 0 <= given.get("hold_out_share", 0) <= holdouts.LARGEST_SHARE:
        faults.append({"pointer": "/hold_out_share", "detail": f"expected 0 to {holdouts.LARGEST_SHARE}"})
    if given.get("hold_out_unit", "customer") not in ("customer", "area"):
        faults.append({"pointer": "/hold_out_unit", "detail": "expected customer or area"})
    starts, ends = (given.get(name, getattr(version, name)) for name in ("starts_at", "ends_at"))
    if starts is not None and ends is not None and ends <= starts:
        faults.append({"pointer": "/ends_at", "detail": "the offer ends before it starts"})
    if given.get("product_ids"):
        faults += _unknown(session, Product.id, given["product_ids"], "/product_ids", "product")
    if "audience" in given:
        version.audience_id = None
        if given["audience"] is not None:
            reader = filters.Reader(contacts=actor.contacts != "masked", exact=actor.exact)
            try:
                wanted = filters.parse(given["audience"], reader=reader, pointer="/audience")
            except Invalid as error:
                faults += error.errors
            else:
                if wanted:
                    version.audience_id = audiences.find_or_make(session, wanted).id
                given["audience"] = wanted.to_json() if wanted else None
    rows = None if areas is None else _read_areas(session, areas, faults)
    if faults:
        first = faults[0]
        raise Invalid(f"{first['pointer'].lstrip('/')}: {first['detail']}", errors=faults)
    for name, value in given.items():
        setattr(version, name, value)
    if rows is not None:
        version.everywhere = not rows
    session.flush()
    if rows is not None:
        session.execute(
            delete(OfferArea).where(OfferArea.offer_id == version.offer_id, OfferArea.version == version.version)
        )
        session.add_all(
            OfferArea(offer_id=version.offer_id, version=version.version, n=n, **row) for n, row in enumerate(rows)
        )
        session.flush()


def _read_areas(session: Session, areas: Sequence[Mapping[str, Any]], faults: list[Fault]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    if len(areas) > MOST_AREAS:
        faults.append({"pointer": "/areas", "detail": f"more than {MOST_AREAS} areas"})
        return rows
    fences = geofences.find_ids(session, [area["geofence"] for area in areas if area.get("geofence") is not None])
    for n, area in enumerate(areas):
        at = f"/areas/{n}"
        named_by = [word for word in NAMED_BY if area.get(word) is not None]
        if len(named_by) != 1:
            many = f"say only one of {', '.join(named_by)}; another place is an entry of its own"
            faults.append({"pointer": at, "detail": many if named_by else f"say one of {', '.join(NAMED_BY)}"})
            continue
        radius = area.get("radius_m")
        if named_by[0] in ("area_id", "geofence", "geofence_tag"):
            if radius is not None:
                what = "an area" if named_by[0] == "area_id" else "a fence"
                faults.append({"pointer": f"{at}/radius_m", "detail": f"{what} has no radius here; a place has"})
            if named_by[0] == "area_id":
                rows.append({"kind": "area", "area_id": area["area_id"]})
            elif named_by[0] == "geofence":
                rows.append({"kind": "geofence", "fence_id": fences.get(area["geofence"])})
                if area["geofence"] not in fences:
                    faults.append({"pointer": f"{at}/geofence", "detail": "there is no such fence"})
            else:
                rows.append({"kind": "geofences", "fence_tag": area["geofence_tag"]})
            continue
        if radius is None or not 0 < radius <= WIDEST_M:
            faults.append({"pointer": f"{at}/radius_m", "detail": f"expected metres, at most {WIDEST_M}"})
        if named_by[0] == "place_id":
            rows.append({"kind": "place", "place_id": area["place_id"], "radius_m": radius})
        else:
            if area["place_kind"] not in PLACE_KINDS:
                faults.append({"pointer": f"{at}/place_kind", "detail": f"expected one of {', '.join(PLACE_KINDS)}"})
            rows.append({"kind": "places", "place_kind": area["place_kind"], "radius_m": radius})
    for column, model, what in ((Area.id, "area_id", "area"), (Place.id, "place_id", "place")):
        wanted = [(n, row[model]) for n, row in enumerate(rows) if row.get(model) is not None]
        present = set(session.scalars(select(column).where(column.in_({number for _, number in wanted}))))
        faults += [
            {"pointer": f"/areas/{n}/{model}", "detail": f"there is no such {what}"}
            for n, number in wanted
            if number not in present
        ]
    return rows


def _unknown(session: Session, column: Any, wanted: Sequence[int], pointer: str, what: str) -> list[Fault]:
    if len(wanted) > MOST_PRODUCTS:
        return [{"pointer": pointer, "detail": f"more than {MOST_PRODUCTS} {what}s"}]
    present = set(session.scalars(select(column).where(column.in_(set(wanted)))))
    return [
        {"pointer": f"{pointer}/{n}", "detail": f"there is no such {what}"}
        for n, number in enumerate(wanted)
        if number not in present
    ]


def _faults(session: Session, whole: Whole, now: datetime) -> tuple[list[Fault], list[tuple[datetime, datetime]]]:
    """What stands in the way of going live, and when the version is open."""
    version = whole.version
    faults: list[Fault] = []
    openings: list[tuple[datetime, datetime]] = []

    def fault(pointer: str, detail: str) -> None:
        faults.append({"pointer": pointer, "detail": detail})

    if not version.title:
        fault("/title", "say in a few words what the customer gets")
    starts = version.starts_at or now
    if version.ends_at is None:
        fault("/ends_at", "an offer needs an end")
    elif version.ends_at <= max(now, starts):
        fault("/ends_at", "the offer is over before it can begin")
    elif version.ends_at - starts > LONGEST:
        fault("/ends_at", "an offer lasts five years at most")
    elif (version.hours is not None or version.closed_on) and version.time_zone is None:
        fault("/time_zone", "hours and closed days are those of a time zone, such as Europe/Zurich")
    else:
        openings = _openings(version, starts, version.ends_at)
        if not any(closes > now for _, closes in openings):
            fault("/hours", "from its start to its end the offer is never open")
    if (version.cap_total or 0) < (version.cap_per_customer or 0) and version.cap_total is not None:
        fault("/cap_per_customer", "more for one customer than there are in all")
    if version.hold_out_share > 0 and version.hold_out_unit == "area" and not whole.areas:
        fault("/hold_out_unit", "an offer that holds everywhere has no areas to hold out; hold out customers")
    others = session.execute(text(named("offers", "campaign_hold_outs")), {"offer": version.offer_id}).all()
    if others and (version.hold_out_share, version.hold_out_unit) not in [tuple(row) for row in others]:
        share, unit = others[0]
        fault("/hold_out_share", f"a campaign holds out one share: its other live offers hold out {share:g} by {unit}")
    named_areas = {area.area_id for area in whole.areas if area.area_id is not None}
    by_layer: dict[int, list[int]] = {}
    for layer_id, area_id in session.execute(select(Area.layer_id, Area.id).where(Area.id.in_(named_areas))):
        by_layer.setdefault(layer_id, []).append(area_id)
    for layer_id in sorted(by_layer):
        publishing.make_lookable(session, layer_id, by_layer[layer_id])
    faults += [
        {"pointer": f"/areas/{row.n}", "detail": row.detail}
        for row in session.execute(
            text(named("offers", "areas_nowhere")),
            {"offer": version.offer_id, "version": version.version, "moment": now},
        )
    ]
    if version.audience_id is not None and not faults and audiences.count_fresh(session, version.audience_id) == 0:
        audience = session.get_one(Audience, version.audience_id)
        if not audiences.is_awaited(session, audience, version.offer_id):
            fault("/audience", "nobody is in the audience")
    return faults, openings


def _openings(version: OfferVersion, starts: datetime, ends: datetime) -> list[tuple[datetime, datetime]]:
    zone = hours.read_zone(version.time_zone or "UTC")
    spans = None if version.hours is None else hours.read_hours(version.hours)
    closed: Sequence[date] = version.closed_on or ()
    return hours.openings(starts, ends, zone, hours=spans, closed_on=closed)


def _retire(session: Session, offer_id: int, version: int, now: datetime) -> None:
    former = get_version(session, offer_id, version).version
    former.live_until = max(now, former.live_from or now)
    session.execute(delete(OfferOpening).where(OfferOpening.offer_id == offer_id, OfferOpening.version == version))
    session.flush()


def _hold_counter(session: Session, offer_id: int) -> None:
    """Let redemptions of the offer wait until the transaction ends."""
    session.execute(select(OfferCounter.offer_id).where(OfferCounter.offer_id == offer_id).with_for_update())


def _changed(session: Session, offer: Offer) -> None:
    offer.version += 1
    offer.updated_at = datetime.now(UTC)
    session.flush()


def _said(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _audit(session: Session, actor: Actor, action: str, offer: Offer, **payload: Any) -> None:
    audit.record(
        session, action, actor_id=actor.user_id, key_id=actor.key_id, object_id=ids.show("off", offer.id), **payload
    )
