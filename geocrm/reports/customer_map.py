"""The map of customers and territories as one file to hand on: what its reader sees and may take along."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import shapely
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import errors, frames
from geocrm.access import Actor, as_user, require
from geocrm.crm import exports
from geocrm.db import audit
from geocrm.db.models import Layer
from geocrm.db.queries import named
from geocrm.filters import Filter
from geocrm.frames import AreaInForce
from geocrm.reports.map_page import AreaRow, MapContent, SiteRow, render
from geocrm.spatial import layers

MOST_SITES = 200_000
"""Sites on one page: some 15 MB."""

_PAGE = 5_000
_MERCATOR_LAT = 85.05


def make(
    session: Session,
    actor: Actor,
    *,
    layer: str | None = None,
    filter: Filter | None = None,
    title: str | None = None,
    now: datetime | None = None,
    tell: Callable[[str], object] = lambda _: None,
) -> str:
    """The HTML page with the visible customers that pass the filter and the areas of a layer (default: the primary).

    `session` is a worker's; everything is read in it as the actor, under row security, and the export is recorded in
    the audit log. Raises `errors.Forbidden` where the role may not export (or not so many), `errors.NotFound` for an
    unknown layer, `errors.TooLarge` for over `MOST_SITES` sites. `tell` hears what is being done.
    """
    require(actor, "exports")
    wanted = filter if filter is not None else Filter()
    moment = now if now is not None else datetime.now(UTC)
    with as_user(session, actor):
        customers = exports.count_customers(session, actor, wanted)
        shown = _layer(session, layer)
        outlines = frames.areas_in_force(session, shown.id) if shown is not None else []
        tell(f"reading the sites of {customers:,} customers …")
        placed, unplaced = _sites(session, actor, wanted)
        sites = [site for _, site in placed]
        of_area = {} if shown is None else _count(session, actor, shown, outlines, placed)
        names = _names(session, wanted)
    content = MapContent(
        title=title or _title(shown),
        made_at=moment,
        filter_sentence=wanted.sentence(lambda short: names.get(short, short)),
        reader="" if actor.user_id is None else actor.name,
        layer=shown.name if shown is not None else "",
        sites=sites,
        areas=[
            AreaRow(row.name, row.shape, row.owner or "", of_area.get(row.id, 0))
            for row in outlines
            if row.shape is not None
        ],
        customers=customers,
        unplaced=unplaced,
        focus="sites" if layer is None else "both" if wanted else "areas",
        notes=_notes(actor, shown, outlines),
    )
    tell(f"drawing {len(sites):,} sites and {len(content.areas):,} areas …")
    page = render(content)
    audit.record(
        session,
        "report.map",
        actor_id=actor.user_id,
        key_id=actor.key_id,
        object_id=None if shown is None else f"lay_{shown.key}",
        after={"customers": customers, "sites": len(sites), "filter": wanted.to_json()},
    )
    return page


def _title(layer: Layer | None) -> str:
    if layer is None:
        return "Customers"
    return "Customers and territories" if layer.is_primary else f"Customers and {layer.name}"


def _layer(session: Session, layer: str | None) -> Layer | None:
    """The layer asked for by key, else the primary one, None where there is none yet."""
    if layer is not None:
        return layers.get_layer(session, layer.removeprefix("lay_"))
    return next((found for found in layers.find_layers(session) if found.is_primary), None)


@dataclass(frozen=True)
class _SiteOf:
    """What is counted of a site, and never shown."""

    site_id: int
    territory_id: int | None


def _sites(session: Session, actor: Actor, wanted: Filter) -> tuple[list[tuple[_SiteOf, SiteRow]], int]:
    """The placed sites, and how many more have no usable place."""
    condition = wanted.compile("customer", snapped=not actor.exact)
    sql = named("frames", "customers").replace("{condition}", f"{condition.named()} AND {exports.condition_of(actor)}")
    values = condition.params() | {"all_sites": True, "limit": _PAGE}
    found: list[tuple[_SiteOf, SiteRow]] = []
    unplaced = after = 0
    while True:
        rows = session.execute(text(sql), values | {"after": after}).all()
        if not rows:
            return found, unplaced
        after = rows[-1].id
        for row in rows:
            if row.site_id is None:
                continue
            if row.lon is None or abs(row.lat) > _MERCATOR_LAT:
                unplaced += 1
                continue
            site = SiteRow(
                lon=row.lon,
                lat=row.lat,
                customer_id=row.id,
                name=row.name,
                stage=row.stage,
                town=row.city or "",
                owner=row.owner or "",
                territory=row.territory or "",
                precision=row.location_precision or "",
                precision_m=row.precision_m or 25.0,
            )
            found.append((_SiteOf(row.site_id, row.territory_id), site))
        if len(found) > MOST_SITES:
            raise errors.TooLarge(
                f"A map page shows at most {MOST_SITES:,} sites; narrow it with --filter, for example to one stage: "
                """'{"field": "stage", "op": "=", "value": "active"}'."""
            )


def _count(
    session: Session,
    actor: Actor,
    layer: Layer,
    outlines: Sequence[AreaInForce],
    placed: Sequence[tuple[_SiteOf, SiteRow]],
) -> Counter[int]:
    """How many of the sites stand in each area: as the ledger says for territories, else as they lie on the map."""
    if layer.is_primary:
        return Counter(known.territory_id for known, _ in placed if known.territory_id is not None)
    if layer.kind == "territories" and actor.exact:
        rows = session.execute(text(named("frames", "areas_of_sites")), {"layer": layer.id})
        area_of = {row.site_id: row.area_id for row in rows}
        return Counter(area for known, _ in placed if (area := area_of.get(known.site_id)) is not None)
    drawn = [row for row in outlines if row.shape is not None]
    tree = shapely.STRtree([row.shape for row in drawn])
    points = shapely.points([(site.lon, site.lat) for _, site in placed] or np.empty((0, 2)))
    return Counter(drawn[number].id for number in tree.query(points, predicate="intersects")[1])


def _names(session: Session, wanted: Filter) -> dict[str, str]:
    """Names for the users and areas that a filter speaks of, by their ids as shown."""
    named_rows = session.execute(
        text("SELECT 'usr_' || id AS id, name FROM users UNION ALL SELECT 'ter_' || id, name FROM areas "
             "UNION ALL SELECT 'are_' || id, name FROM areas UNION ALL SELECT 'pla_' || id, name FROM places")
    ) if wanted else ()  # fmt: skip
    return {row.id: row.name for row in named_rows}


def _notes(actor: Actor, layer: Layer | None, outlines: Sequence[AreaInForce]) -> list[str]:
    """What a reader of the page must know about what it leaves out."""
    notes = []
    if layer is not None and not outlines:
        notes.append(f"No area of {layer.name} is in force: publish a draft of it.")
    if actor.role == "marketer":
        notes.append("Only customers who consented to marketing.")
    if not actor.sees_all:
        notes.append("Only the customers that this reader sees.")
    if not actor.exact:
        notes.append("Points are snapped to a grid of 500 m.")
    return notes
