"""Placing by postal code or town: known places, spelling, what is not guessed."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyproj
import pytest

from geocrm.spatial import gazetteers
from geocrm.spatial.towns import admin1_of, distance_m, town_key, towns_of

GEOD = pyproj.Geod(ellps="WGS84")

# lon, lat of a known building or town hall in the code or town, from general knowledge, not from the packages
KNOWN = [
    ("US", "80202", "Denver", "CO", -105.0002, 39.7527, "us_zip"),
    ("US", "2138", "Cambridge", "MA", -71.1167, 42.3770, "us_zip"),  # a leading zero lost in a spreadsheet
    ("US", "80202.0", "", "", -105.0002, 39.7527, "us_zip"),  # a number in a spreadsheet
    ("US", "80202-1234", "Denver", "CO", -105.0002, 39.7527, "us_zip"),
    ("PR", "00901", "San Juan", "", -66.1185, 18.4655, "us_zip"),
    ("GB", "SW1A 1AA", "London", "", -0.1419, 51.5014, "gb_unit_postcode"),
    ("GB", "sw1a1aa", "", "", -0.1419, 51.5014, "gb_unit_postcode"),
    ("GB", "SW1A", "London", "ENG", -0.1300, 51.5030, "gb_outward_code"),
    ("UK", "EH1 2NG", "Edinburgh", "SCT", -3.1997, 55.9486, None),
    ("DE", "10117", "Berlin", "", 13.3888, 52.5170, "de_postal_code"),
    ("DE", "1067", "Dresden", "SN", 13.7257, 51.0567, "de_postal_code"),
    ("CA", "V6B 4Y8", "Vancouver", "BC", -123.1180, 49.2810, "postal_code"),
    ("AU", "2000", "Sydney", "NSW", 151.2093, -33.8688, "postal_code"),
    ("AU", "800", "Darwin", "NT", 130.8418, -12.4634, "postal_code"),
    ("BE", "1000", "Brussel", "", 4.3517, 50.8466, "postal_code"),
    ("FR", "69001", "Lyon", "", 4.8320, 45.7676, "postal_code_town"),
    ("CH", "8001", "Zürich", "ZH", 8.5417, 47.3717, "postal_code_town"),
    ("DE", "", "München", "BY", 11.5755, 48.1372, "town"),
    ("DE", "", "MUENCHEN", "Bayern", 11.5755, 48.1372, "town"),
    ("CA", "", "Québec", "QC", -71.2082, 46.8139, "town"),
    ("US", "", "St. Louis", "MO", -90.1994, 38.6270, "town"),
    ("US", "", "Saint Louis", "Missouri", -90.1994, 38.6270, "town"),
    ("JP", "", "Kyoto", "", 135.7681, 35.0116, "town_alone"),
    ("BR", "", "Brasília", "", -47.8825, -15.7942, "town_alone"),
]


def frame(*rows: tuple[object, ...]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=["country", "postal_code", "city", "region"])


def test_known_places_lie_within_their_radius() -> None:
    found = gazetteers.locate(frame(*[row[:4] for row in KNOWN]))
    _, _, apart = GEOD.inv(found["lon"], found["lat"], [row[4] for row in KNOWN], [row[5] for row in KNOWN])
    for row, metres, place in zip(KNOWN, apart, found.itertuples(), strict=True):
        assert place.problem == "", row
        assert metres <= place.precision_m, (row, metres, place)
        assert row[6] is None or place.location_source == row[6], (row, place)
        assert place.location_precision == ("locality" if "town" in place.location_source else "postcode")


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ((None, "80202", "Denver", "CO"), "no_country"),
        (("Atlantis", "80202", "Denver", "CO"), "no_country"),
        (("US", "", "", "CO"), "no_address"),
        (("US", None, None, None), "no_address"),
        (("US", "", "Xyzzyville", "CO"), "not_found"),
        (("US", "", "Springfield", ""), "ambiguous_town"),
        (("US", "", "Denver", "ME"), "contradiction"),
        (("US", "97201", "Boston", "MA"), "contradiction"),  # Portland, Oregon
        (("GB", "YO24 1GF", "London", ""), "contradiction"),
        (("DE", "", "Neustadt", ""), "ambiguous_town"),
        (("TV", "", "", ""), "no_address"),
        (("AQ", "1234", "Base", ""), "not_found"),
    ],
)
def test_what_is_not_placed_says_why(row: tuple[object, ...], problem: str) -> None:
    found = gazetteers.locate(frame(row)).iloc[0]
    assert found["problem"] == problem
    assert np.isnan(found["lon"])
    assert np.isnan(found["lat"])
    assert np.isnan(found["precision_m"])
    assert found["location_precision"] is None
    assert found["location_source"] is None


def test_region_and_code_settle_towns_of_one_name() -> None:
    found = gazetteers.locate(
        frame(
            ("US", "", "Springfield", "IL"), ("US", "", "Springfield", "Massachusetts"),
            ("US", "62799", "Springfield", ""), ("DE", "", "Frankfurt", "BB"), ("DE", "", "Frankfurt", "HE"),
            ("US", "97201", "Boston", "OR"),
        )
    )  # fmt: skip
    assert found["problem"].tolist() == [""] * 6
    assert found["lon"].round(0).tolist() == [-90, -73, -90, 15, 9, -123]


def test_index_columns_and_missing_columns() -> None:
    given = pd.DataFrame({"country": ["US", "US"], "postal_code": ["80202", None]}, index=["b", "a"])
    found = gazetteers.locate(given)
    assert found.index.tolist() == ["b", "a"]
    assert tuple(found.columns) == gazetteers.COLUMNS
    assert found["problem"].tolist() == ["", "no_address"]
    empty = gazetteers.locate(given.iloc[:0])
    assert tuple(empty.columns) == gazetteers.COLUMNS
    assert empty.empty


def test_rows_do_not_influence_each_other() -> None:
    seed = 3
    rows = [row[:4] for row in KNOWN] * 3
    order = np.random.default_rng(seed).permutation(len(rows))
    together = gazetteers.locate(frame(*[rows[i] for i in order]))
    alone = pd.concat([gazetteers.locate(frame(rows[i])) for i in order], ignore_index=True)
    pd.testing.assert_frame_equal(together, alone)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Saint-Étienne", "St Etienne"), ("MÜNCHEN", "Munchen"), ("Frankfurt am Main", "Frankfurt Main"),
        ("Łódź", "Lodz"), ("Fort Worth", "Ft. Worth"), ("West Chester", "W. Chester"), ("Sankt Gallen", "St. Gallen"),
        ("L'Aquila", "Aquila"), ("Weißenburg", "Weissenburg"),
    ],
)  # fmt: skip
def test_spellings_of_one_name(one: str, other: str) -> None:
    assert town_key(one) == town_key(other)


def test_regions() -> None:
    assert admin1_of("US", "co") == "CO"
    assert admin1_of("US", "Colorado") == "CO"
    assert admin1_of("US", "US-CO") == "CO"
    assert admin1_of("DE", "Bayern") == admin1_of("DE", "BY") == "02"
    assert admin1_of("CA", "Ontario") == "08"
    assert admin1_of("US", "Nowhere") is None
    assert admin1_of("US", "") is None


def test_the_town_file_is_cut_at_its_records() -> None:
    """The one large file is read in pieces: every record of a country is there, none of another."""
    for country, least in (("US", 20_000), ("DE", 10_000), ("LI", 10), ("SG", 1)):
        towns = towns_of(country)
        assert towns is not None
        assert len(towns.lon) >= least
        assert np.isfinite(towns.lon).all()
    assert towns_of("AQ") is None or len(towns_of("AQ").lon) < 50  # type: ignore[union-attr]
    liechtenstein = towns_of("LI")
    assert liechtenstein is not None
    assert ((liechtenstein.lon > 9.4) & (liechtenstein.lon < 9.7)).all()


def test_spacing_counts_codes_at_one_point_once() -> None:
    lon = np.array([0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0])
    spaced = gazetteers.spacing_m(lon, np.zeros(7), neighbours=1)
    assert spaced == pytest.approx(np.full(7, 111_195), rel=1e-3)
    among = np.array([False, False, False, True, True, True, True])
    spaced = gazetteers.spacing_m(lon, np.zeros(7), neighbours=1, among=among)
    assert spaced == pytest.approx(np.full(7, 111_195), rel=1e-3)
    spaced = gazetteers.spacing_m(lon, np.zeros(7), neighbours=2, among=among)
    assert spaced[:4] == pytest.approx(np.full(4, 222_390), rel=1e-3)


def test_codes_placed_by_their_town_against_codes_with_known_points() -> None:
    """German codes have both: placed by name alone, 95 % of them lie within the radius of that source."""
    truth = gazetteers.postal_codes("DE")
    assert truth is not None
    from geocrm.spatial import calibration, precision

    held = calibration.code_town_truth("DE")
    radius = [precision.radius_m("postal_code_town", scale) for scale in held.scale_m]
    assert len(held.error_m) > 0.85 * len(truth.codes)
    assert precision.coverage(held.error_m, radius) >= 0.95


def test_import_reads_no_gazetteer_and_memory_stays_small() -> None:
    code = (
        "import re, sys\n"
        "from geocrm.spatial import gazetteers as g\n"
        "assert not g.postal_codes.cache_info().currsize and 'zipcodes' not in sys.modules\n"
        "import pandas as pd\n"
        "rows = [('US','80202','Denver','CO'), ('GB','SW1A 1AA','',''), ('DE','','München',''), ('FR','69001','','')]\n"
        "found = g.locate(pd.DataFrame(rows, columns=['country','postal_code','city','region']))\n"
        "assert (found.problem == '').all(), found\n"
        # not ru_maxrss: a child inherits its parent's
        "print(int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read()).group(1)) // 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert int(done.stdout) < 330  # MB, of which 160 are pandas and the like


def test_adventureworks(shared_data: Path) -> None:
    """Real, dirty addresses of six countries: nearly all are placed, in their country, and every (0,0) person is.

    The given points are scattered round their towns by the sample's authors, so distances to them say little; nine of
    ten lie within 35 km of the place found.
    """
    people = pd.read_csv(shared_data / "adventureworks" / "customers_geo.csv", keep_default_na=False, dtype=str)
    people["region"] = people["state_code"].str.strip()
    found = gazetteers.locate(people)
    unplaced = people[found["problem"] != ""]
    assert len(unplaced) < 200
    assert set(unplaced["country"]) <= {"GB", "DE"}
    assert found["problem"][found["problem"] != ""].unique().tolist() == ["contradiction"]
    lon, lat = people["lon"].astype(float), people["lat"].astype(float)
    zero = (lon == 0) & (lat == 0)
    assert zero.sum() == 873
    assert (found["problem"][zero] == "").all()
    apart = distance_m(found["lon"], found["lat"], lon, lat)
    placed = ~zero & (found["problem"] == "")
    for country, rows in people[placed].groupby("country").groups.items():
        assert np.quantile(apart[people.index.get_indexer(rows)], 0.9) < 35_000, country
    from geocrm.spatial.checks import check_points

    good = found["problem"] == ""
    assert (check_points(found["lon"][good], found["lat"][good], people["country"][good]) == "").all()
