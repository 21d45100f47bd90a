"""Offers and geofences at a terminal."""

from typing import Any

from sqlalchemy import text

from geocrm import ids
from geocrm.campaigns import geofences, offers, redemptions
from geocrm.db.engine import command_session
from geocrm.db.queries import named
from geocrm.errors import Invalid

PAGE = 1000


def list_offers(status: str | None) -> list[dict[str, Any]]:
    """A row for each offer: what it is called, how it stands, when it ends, how often it was redeemed."""
    if status not in (None, "draft", "live", "ended"):
        raise Invalid(f"{status!r} is no status: draft, live or ended")
    rows: list[dict[str, Any]] = []
    with command_session() as session:
        found = offers.find_offers(session, status=status, limit=PAGE)
        while found:
            for offer in found:
                number = offer.live_version or offer.draft_version
                version = None if number is None else offers.get_version(session, offer.id, number).version
                rows.append(
                    {
                        "id": ids.show("off", offer.id),
                        "name": offer.name,
                        "status": offers.status_of(offer),
                        "title": None if version is None else version.title,
                        "ends_at": None
                        if version is None or version.ends_at is None
                        else f"{version.ends_at:%Y-%m-%d}",
                        "cap": None if version is None else version.cap_total,
                        "redeemed": redemptions.count_redeemed(session, offer.id),
                    }
                )
            found = offers.find_offers(session, status=status, before=found[-1].id, limit=PAGE)
    return rows


def list_fences(tag: str | None) -> list[dict[str, Any]]:
    """A row for each geofence: what names it, its kind and size, and which live offers hold there by name."""
    rows: list[dict[str, Any]] = []
    with command_session() as session:
        found = geofences.find(session, tag=tag, limit=PAGE)
        while found:
            for fence in found:
                number = ids.read("fen", fence["id"])
                named_by = session.execute(text(named("offers", "live_at_fence")), {"fence": number}).all()
                rows.append(
                    {
                        "fence": f"{fence['tag']}/{fence['external_id']}",
                        "name": fence["name"],
                        "kind": fence["kind"],
                        "radius_m": fence["radius_m"],
                        "dwell_s": fence["dwell_s"],
                        "offers": ", ".join(f"off_{offer.id}" for offer in named_by) or None,
                    }
                )
            found = geofences.find(session, tag=tag, after=ids.read("fen", found[-1]["id"]), limit=PAGE)
    return rows
