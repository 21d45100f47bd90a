"""Own shops and depots, and the competitors' shops."""

from __future__ import annotations

import numpy as np
import pandas as pd

from geocrm.demo.geography import KM_PER_DEGREE, random

# town, state, postal code of the shop, floor area in m²
OWN_SHOPS = [
    ("Denver", "CO", "80202", 2400), ("Boulder", "CO", "80302", 1500), ("Fort Collins", "CO", "80524", 1300),
    ("Colorado Springs", "CO", "80903", 1600), ("Lakewood", "CO", "80226", 1400), ("Castle Rock", "CO", "80104", 900),
    ("Grand Junction", "CO", "81501", 1000), ("Durango", "CO", "81301", 850), ("Glenwood Springs", "CO", "81601", 650),
    ("Frisco", "CO", "80443", 700), ("Steamboat Springs", "CO", "80487", 650), ("Salida", "CO", "81201", 450),
    ("Pueblo", "CO", "81003", 700), ("Salt Lake City", "UT", "84101", 2200), ("Sandy", "UT", "84070", 1300),
    ("Ogden", "UT", "84401", 1000), ("Park City", "UT", "84060", 800), ("Provo", "UT", "84601", 1200),
    ("Logan", "UT", "84321", 700), ("Saint George", "UT", "84770", 900), ("Moab", "UT", "84532", 600),
    ("Cheyenne", "WY", "82001", 700), ("Laramie", "WY", "82070", 600), ("Jackson", "WY", "83001", 750),
    ("Lander", "WY", "82520", 400), ("Casper", "WY", "82601", 600), ("Albuquerque", "NM", "87110", 1700),
    ("Albuquerque", "NM", "87114", 900), ("Santa Fe", "NM", "87501", 900), ("Taos", "NM", "87571", 500),
    ("Las Cruces", "NM", "88001", 700), ("Farmington", "NM", "87401", 600),
]  # fmt: skip
DEPOTS = [("Aurora", "CO", "80011", 9000), ("Salt Lake City", "UT", "84104", 7000)]
RIVALS = [("Peak & Prairie", 0.9), ("TrailBarn", 1.5), ("Gearwright", 0.7)]  # chain, size relative to our median shop
COMPETITORS = 64
# where a competitor opens inside the treated region of the campaign, while it runs (see truth)
NEW_RIVAL = ("Grand Junction", "CO", "81505", 1600)


def build(zips: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Places: code, name, kind (own, depot, competitor), address, lon, lat, floor_m2, opened_on."""
    rng = random(seed, 3)
    at = zips.drop_duplicates("postal_code").set_index("postal_code")
    rows: list[tuple[object, ...]] = []

    def add(code: str, name: str, kind: str, postal_code: str, floor_m2: float, opened: str, spread_km: float) -> None:
        here = at.loc[postal_code]
        east, north = rng.normal(0, spread_km, 2) / KM_PER_DEGREE
        number, street = rng.integers(1, 60) * 20 + 1, rng.choice(["Main Street", "Center Street", "Railroad Avenue"])
        rows.append((code, name, kind, f"{number} {street}", here["city"], here["region"], postal_code,
                     round(here["lon"] + east / np.cos(np.radians(here["lat"])), 6), round(here["lat"] + north, 6),
                     float(floor_m2), opened))  # fmt: skip

    # a shop whose postal code has no point of its own stands at the nearest one of its town
    def known(town: str, state: str, code: str) -> str:
        if code in at.index:
            return code
        return str(zips.loc[(zips["city"] == town) & (zips["region"] == state), "postal_code"].iloc[0])

    seen: dict[str, int] = {}
    for town, state, code, floor in OWN_SHOPS:
        seen[town] = seen.get(town, 0) + 1
        nth = "" if seen[town] == 1 else f" {['', '', 'West', 'North'][seen[town]]}"
        opened = f"{rng.integers(1998, 2020)}-0{rng.integers(3, 9)}-01"
        add(f"S{len(rows) + 1:02d}", f"Cairnwell {town}{nth}", "own", known(town, state, code), floor, opened, 0.4)
    for i, (town, state, code, floor) in enumerate(DEPOTS):
        add(f"D{i + 1}", f"{town} Distribution Center", "depot", known(town, state, code), floor, "2009-05-01", 0.8)
    weight = zips["people"].to_numpy() ** 0.85 * (zips["people"].to_numpy() > 5000)
    sites = rng.choice(len(zips), size=COMPETITORS, replace=False, p=weight / weight.sum())
    for i, z in enumerate(sites):
        chain, size = RIVALS[rng.choice(3, p=[0.45, 0.35, 0.2])]
        area = float(round(900 * size * rng.lognormal(0, 0.3), -1))
        opened = f"{rng.integers(1995, 2023)}-0{rng.integers(2, 9)}-15"
        add(
            f"C{i + 1:02d}",
            f"{chain} {zips['city'].iloc[z]}",
            "competitor",
            zips["postal_code"].iloc[z],
            area,
            opened,
            1.2,
        )
    town, state, code, floor = NEW_RIVAL
    add(
        f"C{COMPETITORS + 1:02d}", f"TrailBarn {town}", "competitor", known(town, state, code), floor, "2025-04-05", 0.8
    )
    return pd.DataFrame(rows, columns=["code", "name", "kind", "line1", "city", "region", "postal_code", "lon", "lat",
                                       "floor_m2", "opened_on"])  # fmt: skip
