"""A map as one HTML file, made with folium: customers in clusters, areas, legend, title, date, filter. Pure.

The sites stand in the page as columns of JSON, texts that repeat as numbers of a list: some 60 bytes each. The page
clusters them by itself, for each zoom once (`map_page.js`).

Nothing that stands in the data becomes markup or script: texts of the page are escaped, data for the map go in as JSON
with `<`, `>` and `&` written as escapes, and pop-ups are built of text nodes. A content security policy in the page
forbids every request.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import folium
import geopandas as gpd
import numpy as np
import shapely
from branca.element import Element, Figure
from folium.template import Template
from jinja2.utils import htmlsafe_json_dumps

from geocrm.reports import assets
from geocrm.spatial import atlas

# Colour and shape of each stage, those of the web map (maps/src/design/palette.ts): colours of Okabe and Ito (2008).
STAGES = {
    "prospect": ("#56b4e9", "diamond"),
    "lead": ("#e69f00", "triangle"),
    "active": ("#009e73", "circle"),
    "lapsed": ("#d55e00", "square"),
}
# Outlines in a square from −1.3 to 1.3, all about equally large.
SHAPES = {
    "diamond": "M0-1.15 1.15 0 0 1.15-1.15 0z",
    "triangle": "M0-1 1.02.77-1.02.77z",
    "circle": "M-1 0a1 1 0 1 0 2 0a1 1 0 1 0-2 0z",
    "square": "M-.8-.8H.8V.8H-.8z",
}
AREA_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#a6761d", "#56b4e9", "#7a5195", "#5c6b2f")
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; font-src data:"


@dataclass(frozen=True)
class SiteRow:
    """One site on the map."""

    lon: float
    lat: float
    customer_id: int
    name: str
    stage: str
    town: str = ""
    owner: str = ""
    territory: str = ""
    precision: str = ""
    precision_m: float = 25.0


@dataclass(frozen=True)
class AreaRow:
    """One area on the map; `geometry` in EPSG:4326."""

    name: str
    geometry: shapely.Geometry
    owner: str = ""
    sites: int | None = None  # of those on this map; None: not counted


@dataclass(frozen=True)
class MapContent:
    """Everything a map page says."""

    title: str
    made_at: datetime
    filter_sentence: str
    reader: str
    layer: str
    sites: Sequence[SiteRow]
    areas: Sequence[AreaRow]
    customers: int = 0
    unplaced: int = 0
    focus: Literal["sites", "areas", "both"] = "sites"  # what the view is fitted to
    notes: Sequence[str] = field(default_factory=tuple)


def render(content: MapContent) -> str:
    """The page as text of one HTML file."""
    bounds = _bounds(content)
    page = folium.Map(tiles=None, control_scale=True, prefer_canvas=True, world_copy_jump=True)
    page.options["maxZoom"] = 19  # else the clusters refuse to work without tiles
    page.options["zoomSnap"] = 0.25
    page.options["attributionControl"] = False  # there is nothing to attribute but the outlines: see the legend
    page.default_js, page.default_css = [], []
    root = page.get_root()
    assert isinstance(root, Figure)
    root.title = None
    root.header.add_child(_Markup(_head(content)), name="geocrm")
    root.html.add_child(_Markup(_above(content)), name="above")
    page.add_child(_Call("geocrmBackground", background(bounds)))
    page.add_child(_Call("geocrmAreas", _area_features(content.areas, bounds)))
    page.add_child(_Call("geocrmFit", [[bounds[1], bounds[0]], [bounds[3], bounds[2]]]))
    page.add_child(_Call("geocrmSites", {stage: (colour, SHAPES[shape]) for stage, (colour, shape) in STAGES.items()}))
    text = str(root.render())
    # people must be able to enlarge the page
    text = text.replace("maximum-scale=1.0, user-scalable=no", "maximum-scale=5.0")
    text = text.replace("<html>", '<html lang="en">', 1)
    drawn = re.search(r'<div class="folium-map" id="map_\w+" ></div>', text)
    assert drawn is not None
    loading = f'<p class="loading" role="status">Drawing {_many(len(content.sites), "site")} …</p>'
    data = f'<script type="application/json" id="sites">{htmlsafe_json_dumps(_columns(content.sites))}</script>'
    main = f'<main aria-busy="true">{drawn.group()}{_legend(content)}{loading}</main>{data}'
    return f"{text[: drawn.start()]}{main}{text[drawn.end() :]}"


# --- the page round the map ---


class _Markup(Element):
    """Finished markup. (A text given to `Element` itself would be run as a template, the data's texts in it too.)"""

    _template = Template("{{ this.content }}")

    def __init__(self, content: str) -> None:
        super().__init__()
        self.content = content


def _head(content: MapContent) -> str:
    styles = (
        assets.style("leaflet/dist/leaflet.css"),
        _own("map_page.css"),
    )
    scripts = (
        assets.script("leaflet/dist/leaflet.js"),
        _own("map_page.js"),
    )
    return "\n".join(
        [
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            f"<title>{html.escape(content.title)}</title>",
            *(f"<style>{sheet}</style>" for sheet in styles),
            *(f"<script>{code}</script>" for code in scripts),
        ]
    )


@lru_cache(maxsize=2)
def _own(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _above(content: MapContent) -> str:
    said = html.escape
    counts = f"{_many(content.customers, 'customer')}, {_many(len(content.sites), 'site')} on the map"
    if content.focus != "sites" and content.areas and all(area.sites is not None for area in content.areas):
        inside = _many(sum(area.sites or 0 for area in content.areas), "site")
        counts = f"{inside} in {_many(len(content.areas), 'area')} of {content.layer}; {counts}"
    if content.unplaced:
        counts += f", {_many(content.unplaced, 'site')} without a usable place left out"
    notes = "".join(f'<p class="note">{said(note)}</p>' for note in content.notes)
    if not content.sites:
        notes += '<p class="note">No site that you may see passes this filter.</p>'
    made = (
        f'<time datetime="{said(content.made_at.isoformat())}">{said(f"{content.made_at:%-d %B %Y, %H:%M %Z}")}</time>'
    )
    reader = f" for {said(content.reader)}" if content.reader else ""
    return f"""<header><h1>{said(content.title)}</h1>
<p>{said(counts)}. <b>Filter:</b> {said(content.filter_sentence)}. <b>Made</b> {made}{reader}.</p>
{notes}</header>"""


def _many(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _legend(content: MapContent) -> str:
    said = html.escape
    there = {site.stage for site in content.sites}
    marks = "".join(
        '<li><svg class="mark" viewBox="-1.3 -1.3 2.6 2.6" aria-hidden="true">'
        f'<path fill="{colour}" d="{SHAPES[shape]}"/></svg>{said(stage)}</li>'
        for stage, (colour, shape) in STAGES.items()
        if stage in there
    )
    if len(content.sites) > 1:
        marks += '<li><b class="many">12</b>several sites: zoom in or click</li>'
    return f"""<details class="legend" open><summary>Legend</summary>
<ul>{marks}</ul>{_table_of_areas(content)}
<p class="sources">Outlines: Natural Earth, US Census Bureau (public domain). Drawn by Leaflet.</p></details>"""


def _table_of_areas(content: MapContent) -> str:
    """The areas with what is known of them; no column in which nothing stands, no area without a site of the map."""
    if not content.areas:
        return ""
    said = html.escape
    counted = any(area.sites is not None for area in content.areas)
    listed = [(n, area) for n, area in enumerate(content.areas) if area.sites or not counted or not content.sites]
    owned = any(area.owner for _, area in listed)
    heads = '<th scope="col">Owner</th>' * owned + '<th scope="col" class="number">Sites</th>' * counted
    rows = "".join(
        f'<tr><td><i style="background:{AREA_COLOURS[n % len(AREA_COLOURS)]}"></i></td>'
        f'<th scope="row">{said(area.name)}</th>'
        + f"<td>{said(area.owner)}</td>" * owned
        + f'<td class="number">{"" if area.sites is None else f"{area.sites:,}"}</td>' * counted
        + "</tr>"
        for n, area in listed
    )
    left = len(content.areas) - len(listed)
    rest = f"<p>{_many(left, 'more area')} without a site on this map.</p>" if left else ""
    heads = f'<tr><td></td><th scope="col">{said(content.layer)}</th>{heads}</tr>'
    return f"<table><thead>{heads}</thead><tbody>{rows}</tbody></table>{rest}"


# --- what is drawn ---


class _Call(Element):
    """A call of one of the functions in `map_page.js` with the map and data as JSON (`<`, `>`, `&`, `'` escaped).

    Not a `MacroElement`: folium runs what such an element renders as a template once more, with the data's texts in it.
    """

    def __init__(self, function: str, *parts: Any) -> None:
        super().__init__()
        self._name = function
        self.parts = parts

    def render(self, **kwargs: Any) -> str:
        """Put the call among the scripts of the page."""
        root = self.get_root()
        assert isinstance(root, Figure)
        assert self._parent is not None
        given = [self._parent.get_name(), *(str(htmlsafe_json_dumps(part)) for part in self.parts)]
        root.script.add_child(_Markup(f"{self._name}({', '.join(given)});"), name=self.get_name())
        return ""


def _columns(sites: Sequence[SiteRow]) -> dict[str, Any]:
    """The sites by column: degrees times 100,000 (a metre), ids without their prefix, words as numbers of a list."""
    words: dict[str, dict[str, int]] = {name: {} for name in ("stage", "town", "owner", "territory", "precision")}
    return {
        "lon": [round(site.lon * 1e5) for site in sites],
        "lat": [round(site.lat * 1e5) for site in sites],
        "id": [site.customer_id for site in sites],
        "name": [site.name for site in sites],
        "metres": [round(site.precision_m) for site in sites],
        **{
            name: [known.setdefault(getattr(site, name), len(known)) for site in sites] for name, known in words.items()
        },
        "words": {name: list(known) for name, known in words.items()},
    }


# --- shapes ---

_Bounds = tuple[float, float, float, float]


def _bounds(content: MapContent) -> _Bounds:
    """West, south, east, north of what the page is about; never less than a few km, the world where there is nothing.

    Of `both`: where sites and areas are, or all of them where they are nowhere together.
    """
    points = [shapely.Point(site.lon, site.lat) for site in content.sites]
    shapes = [area.geometry for area in content.areas]
    if not points and not shapes:
        return (-170.0, -55.0, 180.0, 75.0)
    sites, areas = shapely.total_bounds(points or shapes), shapely.total_bounds(shapes or points)
    found = areas if content.focus == "areas" else sites
    if content.focus == "both":
        low, high = np.maximum(sites[:2], areas[:2]), np.minimum(sites[2:], areas[2:])
        if (low > high).any():
            low, high = np.minimum(sites[:2], areas[:2]), np.maximum(sites[2:], areas[2:])
        found = np.concatenate([low, high])
    west, south, east, north = (float(value) for value in found)
    pad = 0.02
    return (max(west - pad, -180.0), max(south - pad, -85.0), min(east + pad, 180.0), min(north + pad, 85.0))


def _area_features(areas: Sequence[AreaRow], bounds: _Bounds) -> dict[str, Any]:
    """Areas for display: borders simplified together, so that neighbours stay neighbours; the data keep theirs."""
    if not areas:
        return {"type": "FeatureCollection", "features": []}
    tolerance = max(bounds[2] - bounds[0], bounds[3] - bounds[1]) / 3000.0
    shapes = [area.geometry for area in areas]
    try:
        simple = list(shapely.coverage_simplify(shapes, tolerance))
    except shapely.errors.GEOSException:  # areas that overlap are no coverage
        simple = list(shapely.simplify(shapes, tolerance))
    features = []
    for number, (area, shape) in enumerate(zip(areas, simple, strict=True)):
        drawn = shape if not shape.is_empty else area.geometry
        labels = _label_places(max(shapely.get_parts(drawn), key=lambda part: part.area))
        features.append(
            {
                "type": "Feature",
                "geometry": shapely.geometry.mapping(shapely.set_precision(drawn, 1e-5, mode="pointwise")),
                "properties": {
                    "name": area.name,
                    "owner": area.owner,
                    "sites": area.sites,
                    "colour": AREA_COLOURS[number % len(AREA_COLOURS)],
                    "labels": [[round(place.y, 4), round(place.x, 4)] for place in labels],
                },
            }
        )
    return {"type": "FeatureCollection", "features": features}


def _label_places(part: shapely.Geometry) -> list[shapely.Point]:
    """Where the name of an area may stand, best first: its middle, then other places in it, the nearest first."""
    middle = shapely.point_on_surface(part)
    west, south, east, north = part.bounds
    x, y = np.meshgrid(np.linspace(west, east, 9)[1:-1], np.linspace(south, north, 9)[1:-1])
    places = shapely.points(x.ravel(), y.ravel())
    inside = places[shapely.contains(part, places)]
    return [middle, *inside[np.argsort(shapely.distance(inside, middle), kind="stable")]]


def background(bounds: _Bounds) -> dict[str, Any]:
    """Land round the map's middle and, in the United States, state and county lines when it is near enough."""
    width, height = bounds[2] - bounds[0], bounds[3] - bounds[1]
    size = max(width, height, 0.5)
    window = (
        max(bounds[0] - 2 * size, -180.0),
        max(bounds[1] - 2 * size, -85.0),
        min(bounds[2] + 2 * size, 180.0),
        min(bounds[3] + 2 * size, 85.0),
    )
    features = _clip(atlas.countries("50m" if size > 10 else "10m"), window, size, line=0.0)
    if size < 80:
        features += _clip(atlas.us_states(), window, size, line=1.0)
    if size < 6:
        features += _clip(atlas.us_counties(), window, size, line=0.5)
    return {"type": "FeatureCollection", "features": features}


def _clip(frame: gpd.GeoDataFrame, window: _Bounds, size: float, *, line: float) -> list[dict[str, Any]]:
    near = frame.geometry[frame.geometry.intersects(shapely.box(*window))]
    shapes = shapely.simplify(shapely.clip_by_rect(near.to_numpy(), *window), size / 4000.0)
    features = []
    for shape in shapes:
        if shape.is_empty or math.isclose(shape.area, 0.0):
            continue
        rounded = shapely.set_precision(shape, 1e-4, mode="pointwise")
        features.append(
            {"type": "Feature", "geometry": shapely.geometry.mapping(rounded), "properties": {"line": line}}
        )
    return features
