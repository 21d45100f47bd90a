"""Who is near a point: the exact geodesic nearest sites, within a radius or not, under the filter language.

The work is done by SQL functions (`db/sql/functions/30_nearby.sql`), which the hot route of the API calls too, so that
there is one truth. Distances are geodesics on the WGS 84 ellipsoid; order is by distance, then by site id, at ±180° and
at the poles as anywhere.
"""

import base64
import binascii
import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import errors
from geocrm.access import Actor, as_user
from geocrm.filters import Filter

MAX_LIMIT: Final = 1000
DEFAULT_LIMIT: Final = 20
MAX_RADIUS_M: Final = 1_000_000.0
MAX_DEPTH: Final = 100_000
"""How many rows may lie before a page: looking further down costs in proportion."""

_TYPES: Final = (
    "double precision", "double precision", "double precision", "integer", "double precision", "bigint", "integer",
    "text[]", "text[]", "bigint[]", "bigint[]", "bigint[]", "text", "text[]", "text",
)  # fmt: skip


@dataclass(frozen=True)
class Page:
    """Sites near a point, as the API shows them, and the cursor of the next page (None on the last)."""

    data: list[dict[str, Any]]
    next_cursor: str | None


def find_near(
    session: Session,
    actor: Actor,
    lon: float,
    lat: float,
    *,
    radius_m: float | None = None,
    limit: int = DEFAULT_LIMIT,
    filter: Filter | None = None,
    cursor: str | None = None,
) -> Page:
    """The sites nearest to (lon, lat) that the actor sees and the filter holds for.

    Degrees and metres. `session` is a worker's; the look-up runs in it as the actor. Without exact places
    (`actor.exact` false) distance, order, radius, bearing and territory are those of the 500 m grid. Raises
    errors.Invalid for a point, radius, limit or cursor that cannot be."""
    with as_user(session, actor):
        return find_seen(
            session, lon, lat, radius_m=radius_m, limit=limit, filter=filter, cursor=cursor, exact=actor.exact
        )


def find_seen(
    session: Session,
    lon: float,
    lat: float,
    *,
    radius_m: float | None = None,
    limit: int = DEFAULT_LIMIT,
    filter: Filter | None = None,
    cursor: str | None = None,
    exact: bool = True,
) -> Page:
    """The same in a session that has entered its reader already."""
    values = arguments(lon, lat, radius_m=radius_m, limit=limit, filter=filter, cursor=cursor, exact=exact)
    calls = ", ".join(f"CAST(:a{i} AS {kind})" for i, kind in enumerate(_TYPES))
    row = session.execute(
        text(f"SELECT body, next_cursor FROM geocrm_nearby({calls})"), {f"a{i}": v for i, v in enumerate(values)}
    ).one()
    return Page(json.loads(row.body)["data"], row.next_cursor)


def arguments(
    lon: float,
    lat: float,
    *,
    radius_m: float | None,
    limit: int,
    filter: Filter | None,
    cursor: str | None,
    exact: bool,
    max_radius_m: float = MAX_RADIUS_M,
) -> tuple[Any, ...]:
    """The arguments of the SQL function `geocrm_nearby`, checked."""
    check_point(lon, lat)
    if radius_m is not None and not 0 < radius_m <= max_radius_m:
        raise _invalid("/radius_m", f"expected more than 0 and at most {max_radius_m:g} metres")
    if not 1 <= limit <= MAX_LIMIT:
        raise _invalid("/limit", f"expected a whole number from 1 to {MAX_LIMIT}")
    filter = filter or Filter()
    dims, rest = filter.split()
    adhoc, packed = rest.compile("lookup", snapped=not exact).packed("$9") if rest else (None, None)
    question = json.dumps([lon, lat, radius_m, filter.to_json()], sort_keys=True, default=str)
    tag = hashlib.sha256(question.encode()).hexdigest()[:12]
    after_m, after_site, seen = _read_cursor(cursor, tag) if cursor is not None else (None, None, 0)
    lists = (dims.stages, dims.kinds, dims.owners, dims.territories, dims.segments)
    return (
        float(lon), float(lat), radius_m, limit, after_m, after_site, seen,
        *(None if values is None else list(values) for values in lists),
        adhoc, packed, tag,
    )  # fmt: skip


def check_point(lon: float, lat: float) -> None:
    """Raise errors.Invalid unless lon and lat are degrees on earth."""
    if not (math.isfinite(lon) and -180 <= lon <= 180):
        raise _invalid("/lon", "expected degrees from -180 to 180")
    if not (math.isfinite(lat) and -90 <= lat <= 90):
        exchanged = ": perhaps lon and lat are exchanged" if abs(lon) <= 90 < abs(lat) <= 180 else ""
        raise _invalid("/lat", f"expected degrees from -90 to 90{exchanged}")


def _read_cursor(cursor: str, tag: str) -> tuple[float, int, int]:
    try:
        question, _, token = cursor.partition(".")
        decoded = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode("ascii")
        distance, site, seen = decoded.split(" ")
        made = float(distance), int(site), int(seen)
    except (ValueError, binascii.Error):
        raise _invalid("/cursor", "this is no cursor; take it from next_cursor of the page before") from None
    if question != tag:
        raise _invalid("/cursor", "the cursor belongs to another point, radius or filter")
    if not (math.isfinite(made[0]) and made[0] >= 0 and 0 < made[1] < 2**63 and made[2] > 0):
        raise _invalid("/cursor", "this is no cursor; take it from next_cursor of the page before")
    if made[2] > MAX_DEPTH:
        raise _invalid("/cursor", f"more than {MAX_DEPTH:,} sites lie before this page; narrow the filter or radius")
    return made


def _invalid(pointer: str, detail: str) -> errors.Invalid:
    return errors.Invalid(f"{pointer.removeprefix('/')}: {detail}", errors=[{"pointer": pointer, "detail": detail}])
