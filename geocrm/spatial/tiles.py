"""Vector tiles of customers and areas, and what TileJSON says of them.

The tiles themselves are composed in the database (`db/sql/functions/40_tiles.sql`), for the hot route and for
:func:`customer_tile` alike.
"""

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import errors
from geocrm.access import Actor, as_user
from geocrm.filter_tree import key_of_score
from geocrm.filters import Filter

COLOURS: Final = ("stage", "kind", "owner", "territory", "segment")
"""Dimensions that may colour a tile of customers; so may a score, `scores.KEY.NAME`."""
MAX_CUTS: Final = 8
MAX_ZOOM: Final = 22
POINTS_FROM_ZOOM: Final = 12
LIMIT_LAT: Final = 85.0511287798066

_TYPES: Final = (
    "integer", "integer", "integer", "text", "text[]", "text[]", "bigint[]", "bigint[]", "bigint[]", "text", "text[]",
    "text", "real[]",
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


def check_colour(colour: str, cuts: Sequence[float] | None) -> tuple[str, str | None, list[float] | None]:
    """The dimension, the score as KEY.NAME and the cuts between its shades; raises errors.Invalid.

    A score needs cuts, at most 8 numbers, ascending: a shade says how many of them are not above the score. Dimensions
    have none."""
    if colour in COLOURS:
        if cuts is not None:
            raise _invalid("cuts", "are of scores only")
        return colour, None, None
    key = key_of_score(colour)
    if key is None:
        raise _invalid("colour", f"expected one of {', '.join(COLOURS)}, or scores.KEY.NAME")
    if cuts is None:
        raise _invalid("cuts", "say where the shades of a score begin; the segmentation's `shades` suggest some")
    if len(cuts) > MAX_CUTS or any(not abs(cut) < 1e30 for cut in cuts) or any(a >= b for a, b in pairwise(cuts)):
        raise _invalid("cuts", f"expected at most {MAX_CUTS} numbers, ascending")
    return "score", key, list(cuts)


def arguments(
    z: int, x: int, y: int, *, colour: str, filter: Filter, exact: bool, cuts: Sequence[float] | None = None
) -> tuple[Any, ...]:
    """The arguments of the SQL function `geocrm_customer_tile`."""
    dimension, score, numbers = check_colour(colour, cuts)
    dims, rest = filter.split()
    adhoc, packed = rest.compile("lookup", snapped=not exact).packed("$9") if rest else (None, None)
    lists = (dims.stages, dims.kinds, dims.owners, dims.territories, dims.segments)
    plain = (None if values is None else list(values) for values in lists)
    return (z, x, y, dimension, *plain, adhoc, packed, score, numbers)


def customer_tile(
    session: Session,
    actor: Actor,
    z: int,
    x: int,
    y: int,
    *,
    colour: str = "stage",
    cuts: Sequence[float] | None = None,
    filter: Filter | None = None,
) -> bytes:
    """The MVT of the customers that the actor sees and the filter holds for; empty where there are none.

    Up to zoom 11, and where a tile holds more than 5,000 sites, features are cells of a 64 × 64 grid with `n`, `key`
    (the most frequent value of `colour`) and `counts`; else points with the site's ids and dimensions. Coloured by a
    score, points have `score` and `shade`, the number of `cuts` not above it; cells the shade in the middle as `key`,
    and `counts` by shade of the `looked_at` sites, which are all of them in tiles of up to 10,000 sites."""
    values = arguments(*check_tile(z, x, y), colour=colour, cuts=cuts, filter=filter or Filter(), exact=actor.exact)
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
        "key": "the most frequent value of the colour's dimension; the middle shade of a score",
        "counts": "JSON: sites for each of the four most frequent values; of a score for each shade of those looked at",
        "score": "coloured by a score, on points only: it; absent where there is none",
        "shade": "coloured by a score, on points only: how many cuts are not above it",
        "looked_at": "coloured by a score, on cells only: at how many sites it was looked",
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


def _invalid(name: str, detail: str) -> errors.Invalid:
    return errors.Invalid(f"{name}: {detail}", errors=[{"pointer": f"/{name}", "detail": detail}])


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
