"""Vector tiles of customers and areas, and what TileJSON says of them.

The tiles themselves are composed in the database (`db/sql/functions/40_tiles.sql`), for the hot route and for
:func:`customer_tile` alike.
"""

import json
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import errors
from geocrm.access import Actor, as_user
from geocrm.filters import Filter

COLOURS: Final = ("stage", "kind", "owner", "territory", "segment")
"""Dimensions that may colour a tile of customers."""
MAX_ZOOM: Final = 22
POINTS_FROM_ZOOM: Final = 12
LIMIT_LAT: Final = 85.0511287798066

_TYPES: Final = (
    "integer", "integer", "integer", "text", "text[]", "text[]", "bigint[]", "bigint[]", "bigint[]", "text", "text[]",
)  # fmt: skip


def check_tile(z: int, x: int, y: int) -> tuple[int, int, int]:
    """The tile, if there is one of that number; raises errors.Invalid."""
    if not 0 <= z <= MAX_ZOOM:
        raise errors.Invalid(
            f"z: expected 0 to {MAX_ZOOM}", errors=[{"pointer": "/z", "detail": f"expected 0 to {MAX_ZOOM}"}]
        )
    for name, value in (("x", x), ("y", y)):
        if not 0 <= value < 2**z:
            detail = f"at zoom {z} expected 0 to {2**z - 1}"
            raise errors.Invalid(f"{name}: {detail}", errors=[{"pointer": f"/{name}", "detail": detail}])
    return z, x, y


def arguments(z: int, x: int, y: int, *, colour: str, filter: Filter, exact: bool) -> tuple[Any, ...]:
    """The arguments of the SQL function `geocrm_customer_tile`."""
    dims, rest = filter.split()
    adhoc, packed = rest.compile("lookup", snapped=not exact).packed("$9") if rest else (None, None)
    lists = (dims.stages, dims.kinds, dims.owners, dims.territories, dims.segments)
    return (z, x, y, colour, *(None if values is None else list(values) for values in lists), adhoc, packed)


def customer_tile(
    session: Session, actor: Actor, z: int, x: int, y: int, *, colour: str = "stage", filter: Filter | None = None
) -> bytes:
    """The MVT of the customers that the actor sees and the filter holds for; empty where there are none.

    Up to zoom 11, and where a tile holds more than 5,000 sites, features are cells of a 64 × 64 grid with `n`, `key`
    (the most frequent value of `colour`) and `counts`; else points with the site's ids and dimensions."""
    values = arguments(*check_tile(z, x, y), colour=colour, filter=filter or Filter(), exact=actor.exact)
    calls = ", ".join(f"CAST(:a{i} AS {kind})" for i, kind in enumerate(_TYPES))
    with as_user(session, actor):
        made = session.scalar(text(f"SELECT geocrm_customer_tile({calls})"), {f"a{i}": v for i, v in enumerate(values)})
    return bytes(made or b"")


def area_tile(session: Session, layer_id: int, z: int, x: int, y: int) -> bytes:
    """The MVT of a layer's areas as published now."""
    check_tile(z, x, y)
    made = session.scalar(
        text(
            "SELECT geocrm_area_tile(CAST(:layer AS bigint), CAST(:z AS integer), CAST(:x AS integer),"
            " CAST(:y AS integer))"
        ),
        {"layer": layer_id, "z": z, "x": x, "y": y},
    )
    return bytes(made or b"")


def customer_tilejson(
    origin: str,
    *,
    bounds: tuple[float, float, float, float] | None,
    sites: int,
    outside: int,
    keys: dict[str, dict[str, int] | None] | None,
) -> bytes:
    """TileJSON 3.0.0 of the customers a reader sees; `outside` of `sites` lie beyond ±85.05° and are in no tile. `keys`
    counts the others by stage, owner, territory and segment, '' for none; None for readers of snapped places."""
    fields = {
        "id": "cus_…, on points only",
        "site_id": "sit_…",
        "stage": "prospect, lead, active or lapsed",
        "kind": "person or organisation",
        "owner": "usr_…",
        "territory": "ter_…",
        "segment": "seg_…",
        "is_primary": "whether it is the customer's primary site",
        "location_precision": "how the point was found",
        "n": "sites in the cell, on cells only",
        "key": "the most frequent value of the colour's dimension",
        "counts": "JSON: sites for each of the four most frequent values",
    }
    extra: dict[str, Any] = {"sites": sites, "sites_beyond_85": outside}
    if keys is not None:
        extra["keys"] = {dimension: counts or {} for dimension, counts in keys.items()}
    return _tilejson(
        "Customers",
        f"{origin}/tiles/customers/{{z}}/{{x}}/{{y}}.mvt",
        "customers",
        fields,
        bounds,
        maxzoom=17,
        extra=extra,
    )


def area_tilejson(origin: str, *, layer: str, name: str, bounds: tuple[float, float, float, float] | None) -> bytes:
    """TileJSON 3.0.0 of a layer's areas."""
    fields = {"id": "ter_… or are_…", "name": "the area's name", "owner": "usr_…", "team": "tea_…"}
    return _tilejson(name, f"{origin}/tiles/areas/{layer}/{{z}}/{{x}}/{{y}}.mvt", "areas", fields, bounds, maxzoom=14)


def _tilejson(
    name: str,
    address: str,
    layer: str,
    fields: dict[str, str],
    bounds: tuple[float, float, float, float] | None,
    *,
    maxzoom: int,
    extra: dict[str, Any] | None = None,
) -> bytes:
    made: dict[str, Any] = {
        "tilejson": "3.0.0",
        "name": name,
        "scheme": "xyz",
        "tiles": [address],
        "minzoom": 0,
        "maxzoom": maxzoom,
        "vector_layers": [{"id": layer, "fields": fields}],
    }
    if bounds is not None:
        made["bounds"] = [round(edge, 6) for edge in bounds]
    return json.dumps(made | (extra or {}), ensure_ascii=False).encode()
