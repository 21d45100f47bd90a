"""Countries, US states and US counties as polygons, from the npm packages `world-atlas` and `us-atlas`.

Both packages carry TopoJSON made from public-domain sources (Natural Earth 1:10 million and 1:50 million; US Census
cartographic boundaries 1:10 million). The files are decoded here, without a further library, into valid shapely
geometries in EPSG:4326 (lon, lat) whose longitudes stay within ±180°: rings that cross the antimeridian are unwrapped
and cut there, a ring round a pole is closed over the pole.

`npm ci` in `maps/` installs the packages; the setting `GEOCRM_ATLAS_DIR` names another directory holding
`world-atlas/` and `us-atlas/`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pycountry
import shapely
from numpy.typing import ArrayLike, NDArray
from shapely.geometry.base import BaseGeometry

from geocrm import errors
from geocrm.settings import get_settings

# Entries of Natural Earth without an ISO number, by the name that world-atlas gives them.
_UNNUMBERED = {
    "Kosovo": "XK",
    "N. Cyprus": "CY",
    "Cyprus U.N. Buffer Zone": "CY",
    "Dhekelia": "CY",
    "Akrotiri": "CY",
    "Somaliland": "SO",
    "USNB Guantanamo Bay": "CU",
    "Baikonur": "KZ",
    "Coral Sea Is.": "AU",
    "Indian Ocean Ter.": "AU",
    "Clipperton I.": "FR",
}

# Addresses are written with one code where the atlas draws several outlines, or the reverse. A point in any of the
# outlines is accepted for the code: the check is there to find mistakes in data, not to settle borders.
_ACCEPTED_WITH = {
    "AU": ("NF", "CX", "CC", "HM"),
    "BQ": ("NL",),
    "BV": ("NO",),
    "CC": ("AU",),
    "CN": ("HK", "MO", "TW"),
    "CX": ("AU",),
    "DK": ("FO", "GL"),
    "FI": ("AX",),
    "FR": ("BL", "MF", "NC", "PF", "PM", "TF", "WF"),
    "GB": ("GG", "GI", "IM", "JE"),
    "GF": ("FR",),
    "GP": ("FR",),
    "IL": ("PS",),
    "IN": ("PK",),
    "MA": ("EH",),
    "EH": ("MA",),
    "MQ": ("FR",),
    "NL": ("AW", "CW", "SX"),
    "NO": ("SJ",),
    "NZ": ("CK", "NU", "TK"),
    "PK": ("IN",),
    "PS": ("IL",),
    "RE": ("FR",),
    "RS": ("XK",),
    "SJ": ("NO",),
    "TK": ("NZ",),
    "UM": ("US",),
    "US": ("AS", "GU", "MP", "PR", "UM", "VI"),
    "XK": ("RS",),
    "YT": ("FR",),
}
# Where the two scales of the atlas disagree by more than the check tolerates, and where addresses are written with
# the codes of two countries: boxes (west, south, east, north) that count as the country's too.
_ACCEPTED_BOXES = {
    "UA": (32.4, 44.3, 36.7, 46.3),
    "MV": (72.5, -0.8, 73.9, 7.2),  # atolls missing at 1:10 million
    "KE": (34.9, 4.6, 36.1, 5.7),
    "DZ": (-5.4, 29.9, -4.4, 30.9),
}

FIPS_TO_STATE = {
    "01": "AL", "02": "AK", "04": "AZ", "05": "AR", "06": "CA", "08": "CO", "09": "CT", "10": "DE", "11": "DC",
    "12": "FL", "13": "GA", "15": "HI", "16": "ID", "17": "IL", "18": "IN", "19": "IA", "20": "KS", "21": "KY",
    "22": "LA", "23": "ME", "24": "MD", "25": "MA", "26": "MI", "27": "MN", "28": "MS", "29": "MO", "30": "MT",
    "31": "NE", "32": "NV", "33": "NH", "34": "NJ", "35": "NM", "36": "NY", "37": "NC", "38": "ND", "39": "OH",
    "40": "OK", "41": "OR", "42": "PA", "44": "RI", "45": "SC", "46": "SD", "47": "TN", "48": "TX", "49": "UT",
    "50": "VT", "51": "VA", "53": "WA", "54": "WV", "55": "WI", "56": "WY",
    "60": "AS", "66": "GU", "69": "MP", "72": "PR", "78": "VI",
}  # fmt: skip
STATE_TO_FIPS = {state: fips for fips, state in FIPS_TO_STATE.items()}


def atlas_directory() -> Path:
    """The directory that holds `world-atlas/` and `us-atlas/` (setting `GEOCRM_ATLAS_DIR`)."""
    return get_settings().atlas_dir


def read_topology(name: str) -> dict[str, Any]:
    """One TopoJSON file of the atlas packages, parsed. `name` is its path below the atlas directory.

    Raises `errors.Unavailable` naming the file and the mend where it is not installed.
    """
    path = atlas_directory() / name
    try:
        with path.open(encoding="utf-8") as file:
            topology: dict[str, Any] = json.load(file)
    except FileNotFoundError:
        raise errors.Unavailable(
            f"the map outlines {name} are not installed under {path.parents[1]}: run `npm ci` in maps/ "
            "(or `make setup`), or set GEOCRM_ATLAS_DIR to a directory that holds world-atlas and us-atlas"
        ) from None
    return topology


def decode_arcs(topology: dict[str, Any]) -> list[NDArray[np.float64]]:
    """The arcs of a quantized or plain topology as (n, 2) arrays of lon, lat in degrees.

    Source: the TopoJSON format specification, section 2.1.3 (arcs) and 2.1.2 (transforms).
    """
    transform = topology.get("transform")
    arcs: list[NDArray[np.float64]] = []
    for raw in topology["arcs"]:
        points = np.asarray(raw, dtype=np.float64)[:, :2]
        if transform is not None:
            points = np.cumsum(points, axis=0) * transform["scale"] + transform["translate"]
        arcs.append(points)
    return arcs


def _ring(arcs: Sequence[NDArray[np.float64]], indexes: Iterable[int]) -> NDArray[np.float64]:
    parts: list[NDArray[np.float64]] = []
    for index in indexes:
        points = arcs[index] if index >= 0 else arcs[~index][::-1]
        parts.append(points if not parts else points[1:])
    return np.concatenate(parts)


def _cut(ring: NDArray[np.float64]) -> tuple[BaseGeometry, bool]:
    """The inside of one ring within ±180°, and whether the ring runs round a pole (its inside then holds the pole)."""
    lon = np.degrees(np.unwrap(np.radians(ring[:, 0])))
    points = np.column_stack([lon, ring[:, 1]])
    polar = abs(lon[-1] - lon[0]) > 180
    if polar:
        pole = -90.0 if ring[:, 1].mean() < 0 else 90.0
        points = np.vstack([points, [lon[-1], pole], [lon[0], pole], points[0]])
    whole = shapely.make_valid(shapely.Polygon(points))
    if whole.is_empty:
        return whole, polar
    west, _, east, _ = whole.bounds
    pieces = []
    for turn in range(int(np.floor((west + 180) / 360)), int(np.floor((east + 180) / 360)) + 1):
        piece = shapely.intersection(whole, shapely.box(turn * 360 - 180, -90, turn * 360 + 180, 90))
        if not piece.is_empty:
            pieces.append(shapely.transform(piece, lambda xy, turn=turn: xy - [turn * 360.0, 0.0]))
    return shapely.union_all(pieces), polar


def _polygon(rings: Sequence[NDArray[np.float64]]) -> BaseGeometry | None:
    """A valid polygon from closed rings of lon, lat, cut at ±180° where a ring crosses it.

    Two rings round the same pole bound the belt between them.
    """
    usable = [ring for ring in rings if len(ring) >= 4]
    if not usable:
        return None
    if not any((np.abs(np.diff(ring[:, 0])) > 180).any() for ring in usable):
        plain = shapely.Polygon(usable[0], usable[1:])
        return plain if plain.is_valid else _areal(shapely.make_valid(plain))
    whole, _ = _cut(usable[0])
    for ring in usable[1:]:
        hole, polar = _cut(ring)
        whole = shapely.symmetric_difference(whole, hole) if polar else shapely.difference(whole, hole)
    return _areal(whole)


def _areal(geometry: BaseGeometry) -> BaseGeometry | None:
    """The polygons of a geometry; what `make_valid` may add of lines and points is left out."""
    polygons = [part for part in shapely.get_parts(geometry, return_index=False) if part.geom_type == "Polygon"]
    for part in shapely.get_parts(geometry):
        if part.geom_type == "MultiPolygon":
            polygons.extend(shapely.get_parts(part))
    if not polygons:
        return None
    return polygons[0] if len(polygons) == 1 else shapely.MultiPolygon(polygons)


def decode_geometry(arcs: Sequence[NDArray[np.float64]], item: dict[str, Any]) -> BaseGeometry | None:
    """A Polygon or MultiPolygon of a topology as a valid shapely geometry, None where it has no area."""
    if item["type"] == "Polygon":
        polygons = [item["arcs"]]
    elif item["type"] == "MultiPolygon":
        polygons = item["arcs"]
    else:
        return None
    decoded = [_polygon([_ring(arcs, ring) for ring in rings]) for rings in polygons]
    kept = [polygon for polygon in decoded if polygon is not None]
    if not kept:
        return None
    if len(kept) == 1:
        return kept[0]
    whole = shapely.MultiPolygon([part for polygon in kept for part in shapely.get_parts(polygon)])
    return whole if whole.is_valid else _areal(shapely.union_all(kept))


@lru_cache(maxsize=4)
def _topology(name: str) -> tuple[dict[str, Any], list[NDArray[np.float64]]]:
    topology = read_topology(name)
    arcs = decode_arcs(topology)
    del topology["arcs"]
    return topology, arcs


def _decode(name: str, layer: str) -> list[tuple[str | None, str, BaseGeometry]]:
    topology, arcs = _topology(name)
    rows = []
    for item in topology["objects"][layer]["geometries"]:
        geometry = decode_geometry(arcs, item)
        if geometry is not None:
            rows.append((item.get("id"), item.get("properties", {}).get("name", ""), geometry))
    return rows


@lru_cache(maxsize=4)
def countries(scale: str = "50m") -> gpd.GeoDataFrame:
    """Countries: columns iso_n3, iso2 (both may be None), name, geometry; `scale` is '10m', '50m' or '110m'.

    1:50 million draws 241 countries and leaves out many small islands, 1:10 million draws 255. Do not change the frame:
    it is shared.
    """
    rows = _decode(f"world-atlas/countries-{scale}.json", "countries")
    return gpd.GeoDataFrame(
        {
            "iso_n3": [number for number, _, _ in rows],
            "iso2": [_iso2_of(number, name) for number, name, _ in rows],
            "name": [name for _, name, _ in rows],
        },
        geometry=[geometry for _, _, geometry in rows],
        crs=4326,
    )


@lru_cache(maxsize=1)
def us_states() -> gpd.GeoDataFrame:
    """US states and territories: columns fips (2 digits), state (postal code), name, geometry. Do not change it."""
    rows = _decode("us-atlas/counties-10m.json", "states")
    return gpd.GeoDataFrame(
        {
            "fips": [str(fips) for fips, _, _ in rows],
            "state": [FIPS_TO_STATE.get(str(fips)) for fips, _, _ in rows],
            "name": [name for _, name, _ in rows],
        },
        geometry=[geometry for _, _, geometry in rows],
        crs=4326,
    )


@lru_cache(maxsize=1)
def us_counties() -> gpd.GeoDataFrame:
    """US counties: columns fips (5 digits), state (postal code), name, geometry. Do not change it."""
    rows = _decode("us-atlas/counties-10m.json", "counties")
    return gpd.GeoDataFrame(
        {
            "fips": [str(fips) for fips, _, _ in rows],
            "state": [FIPS_TO_STATE.get(str(fips)[:2]) for fips, _, _ in rows],
            "name": [name for _, name, _ in rows],
        },
        geometry=[geometry for _, _, geometry in rows],
        crs=4326,
    )


def _iso2_of(number: str | None, name: str) -> str | None:
    if number is None:
        return _UNNUMBERED.get(name)
    country = pycountry.countries.get(numeric=str(number).zfill(3))
    return country.alpha_2 if country is not None else None


@lru_cache(maxsize=4096)
def country_code(text: str | None) -> str | None:
    """ISO 3166-1 alpha-2 code of a country written as alpha-2, alpha-3, number or name; None where unknown.

    'UK' and 'USA' are understood; names are matched exactly (official, common and short names), never fuzzily.
    """
    if text is None:
        return None
    word = str(text).strip()
    if not word:
        return None
    upper = word.upper()
    if upper in {"UK", "ENGLAND", "SCOTLAND", "WALES", "NORTHERN IRELAND", "GREAT BRITAIN"}:
        return "GB"
    if upper in {"XK", "KOSOVO"}:
        return "XK"
    if len(upper) == 2 and upper.isalpha():
        found = pycountry.countries.get(alpha_2=upper)
    elif len(upper) == 3 and upper.isalpha():
        found = pycountry.countries.get(alpha_3=upper)
    elif upper.isdigit() and len(upper) <= 3:
        found = pycountry.countries.get(numeric=upper.zfill(3))
    else:
        try:
            found = pycountry.countries.lookup(word)
        except LookupError:
            return None
    return found.alpha_2 if found is not None else None


@lru_cache(maxsize=300)
def country_shape(iso2: str, scale: str = "10m") -> BaseGeometry | None:
    """The outline that a point of this country may lie in, prepared; None for a code the atlas does not draw.

    Dependencies and outlines that other maps draw differently are part of it (see the module's tables).
    """
    topology, arcs = _topology(f"world-atlas/countries-{scale}.json")
    codes = {iso2, *_ACCEPTED_WITH.get(iso2, ())}
    items = [
        item
        for item in topology["objects"]["countries"]["geometries"]
        if _iso2_of(item.get("id"), item["properties"]["name"]) in codes
    ]
    shapes = [shape for shape in (decode_geometry(arcs, item) for item in items) if shape is not None]
    if not shapes:
        return None
    if iso2 in _ACCEPTED_BOXES:
        shapes.append(shapely.box(*_ACCEPTED_BOXES[iso2]))
    shape = shapes[0] if len(shapes) == 1 else shapely.union_all(shapes)
    shapely.prepare(shape)
    return shape


@lru_cache(maxsize=2)
def _country_tree(scale: str) -> tuple[shapely.STRtree, NDArray[np.object_]]:
    frame = countries(scale)
    parts, owner = shapely.get_parts(frame.geometry.to_numpy(), return_index=True)
    shapely.prepare(parts)
    return shapely.STRtree(parts), frame["iso2"].to_numpy(dtype=object)[owner]


def country_at(lon: ArrayLike, lat: ArrayLike, scale: str = "50m") -> NDArray[np.object_]:
    """ISO alpha-2 code of the country that each point lies in, None at sea, in (n,) arrays of degrees."""
    x = np.atleast_1d(np.asarray(lon, dtype=np.float64))
    y = np.atleast_1d(np.asarray(lat, dtype=np.float64))
    result = np.full(len(x), None, dtype=object)
    usable = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    tree, owner = _country_tree(scale)
    point, part = tree.query(shapely.points(x[usable], y[usable]), predicate="intersects")
    result[usable[point[::-1]]] = owner[part[::-1]]
    return result
