"""Who sells where: teams, managers, reps and the territories made of counties, rules and named accounts."""

from __future__ import annotations

from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
from shapely.geometry.base import BaseGeometry

from geocrm.demo import names
from geocrm.demo.geography import random

# team → territory → counties, written "Name ST"
TEAMS: dict[str, dict[str, str]] = {
    "Front Range North": {
        "Denver": "Denver CO",
        "Boulder & Broomfield": "Boulder CO, Broomfield CO",
        "Foothills": "Jefferson CO, Clear Creek CO, Gilpin CO",
        "Adams": "Adams CO",
        "Arapahoe & Elbert": "Arapahoe CO, Elbert CO",
        "Douglas": "Douglas CO",
        "Poudre": "Larimer CO",
        "South Platte": "Weld CO",
        "Northeast Plains": "Logan CO, Morgan CO, Phillips CO, Sedgwick CO, Washington CO, Yuma CO",
    },
    "Front Range South": {
        "Pikes Peak": "El Paso CO",
        "South Park & Royal Gorge": "Teller CO, Park CO, Fremont CO, Custer CO",
        "Spanish Peaks": "Pueblo CO, Huerfano CO, Las Animas CO",
        "Arkansas Plains": "Baca CO, Bent CO, Cheyenne CO, Crowley CO, Kiowa CO, Kit Carson CO, Lincoln CO, Otero CO, "
        "Prowers CO",
        "San Luis Valley": "Alamosa CO, Conejos CO, Costilla CO, Rio Grande CO, Saguache CO",
    },
    "Western Slope": {
        "San Juan Mountains": "La Plata CO, San Juan CO, Ouray CO, Hinsdale CO, Archuleta CO, Mineral CO, "
        "San Miguel CO",
        "Black Canyon": "Gunnison CO, Montrose CO, Delta CO",
        "Grand Valley": "Mesa CO",
        "Roaring Fork & Vail": "Pitkin CO, Eagle CO",
        "Colorado River": "Garfield CO, Rio Blanco CO",
        "Tenmile & Upper Arkansas": "Summit CO, Lake CO, Chaffee CO",
        "Yampa & North Park": "Routt CO, Moffat CO, Jackson CO, Grand CO",
        "Bears Ears & Mesa Verde": "San Juan UT, Montezuma CO, Dolores CO",
    },
    "Wasatch": {
        "Salt Lake": "Salt Lake UT",
        "Davis": "Davis UT",
        "Ogden Valley": "Weber UT, Morgan UT",
        "Utah Valley": "Utah UT",
        "Wasatch Back": "Summit UT, Wasatch UT",
        "Cache & Bear Lake": "Cache UT, Rich UT, Box Elder UT",
        "West Desert": "Tooele UT, Juab UT, Millard UT",
    },
    "Canyon Country": {
        "Zion": "Washington UT, Iron UT, Beaver UT",
        "Escalante": "Kane UT, Garfield UT, Wayne UT, Piute UT, Sevier UT, Sanpete UT",
        "Moab & Castle Country": "Grand UT, Emery UT, Carbon UT",
        "Uinta Basin": "Duchesne UT, Uintah UT, Daggett UT",
    },
    "Wyoming": {
        "Cheyenne": "Laramie WY, Goshen WY, Platte WY",
        "Snowy Range": "Albany WY, Carbon WY",
        "Flaming Gorge": "Sweetwater WY, Uinta WY, Lincoln WY",
        "Tetons": "Teton WY, Sublette WY",
        "Wind River": "Fremont WY, Hot Springs WY, Washakie WY",
        "Cody & Bighorn Basin": "Park WY, Big Horn WY",
        "Powder River": "Campbell WY, Sheridan WY, Johnson WY, Crook WY, Weston WY",
        "Casper": "Natrona WY, Converse WY, Niobrara WY",
    },
    "New Mexico": {
        "Albuquerque": "Bernalillo NM",
        "Jemez": "Sandoval NM, Los Alamos NM",
        "Santa Fe": "Santa Fe NM",
        "Enchanted Circle": "Taos NM, Colfax NM, Mora NM, Union NM, Rio Arriba NM",
        "Chaco": "San Juan NM, McKinley NM",
        "Middle Rio Grande": "Valencia NM, Socorro NM, Torrance NM, Cibola NM",
        "Organ Mountains": "Doña Ana NM",
        "Gila": "Grant NM, Catron NM, Hidalgo NM, Luna NM, Sierra NM",
        "Sacramento Mountains": "Otero NM, Lincoln NM",
        "Pecos": "Chaves NM, Eddy NM, Lea NM",
        "Llano Estacado": "Curry NM, Roosevelt NM, De Baca NM, Quay NM, Guadalupe NM, San Miguel NM, Harding NM",
    },
}
KEY_TEAM = "Key Accounts"
DEMO_TEAM, DEMO_TERRITORY = "Western Slope", "San Juan Mountains"

# territories of the key account team: a rule on attributes, no polygon of their own
KEY_RULES: dict[str, dict[str, object]] = {
    "Public Lands & Agencies": {
        "all": [
            {"field": "industry", "op": "=", "value": "public agency"},
            {"field": "size_class", "op": "=", "value": "250+"},
        ]
    },
    "Resorts": {
        "all": [
            {"field": "industry", "op": "=", "value": "lodging"},
            {"field": "size_class", "op": "=", "value": "250+"},
        ]
    },
}
# named accounts only: the fifteen largest resellers and schools, wherever they are
STRATEGIC = "Strategic Accounts"
STRATEGIC_ACCOUNTS = 15

# postal codes handed to the neighbour by agreement: rule and polygon contradict each other there
CEDED_POSTCODES: dict[str, list[str]] = {
    "San Juan Mountains": ["81328", "81323"],  # Mancos and Dolores shop in Durango
    "Roaring Fork & Vail": ["81623", "81601"],  # Carbondale and Glenwood Springs belong to the valley
    "Wasatch Back": ["84121"],  # the mouth of the Cottonwood Canyons
}


# until the first of January of the last year these counties were another territory's
MOVED = {"Ouray CO": "Black Canyon", "San Miguel CO": "Black Canyon"}
MOVE_REASON = "Ouray and San Miguel are served from Durango"


@dataclass(frozen=True)
class SalesForce:
    """teams: team, parent · users: login, name, role, team · territories: name, team, login, counties, geometry, rule.

    `territory_of_county` gives for each county (order of the county frame) the row of its territory; `former` the
    polygon and counties that a territory had before counties moved.
    """

    teams: pd.DataFrame
    users: pd.DataFrame
    territories: gpd.GeoDataFrame
    territory_of_county: npt.NDArray[np.int64]
    former: dict[str, tuple[BaseGeometry, list[str]]]


def build(counties: gpd.GeoDataFrame, seed: int) -> SalesForce:
    """Dissolve the counties into territories and give each one a rep of its team, each team a manager."""
    key = counties["name"] + " " + counties["region"]
    row_of = {name: i for i, name in enumerate(key)}
    home = np.full(len(counties), -1, dtype=np.int64)
    rows: list[dict[str, object]] = []
    for team, territories in TEAMS.items():
        for territory, written in territories.items():
            members = [row_of[name.strip()] for name in written.split(",")]
            home[members] = len(rows)
            rule: dict[str, object] | None = None
            if territory in CEDED_POSTCODES:
                rule = {"field": "postal_code", "op": "in", "value": CEDED_POSTCODES[territory]}
            rows.append(
                {
                    "name": territory,
                    "team": team,
                    "counties": sorted(key.iloc[members]),
                    "rule": rule,
                    "geometry": counties.geometry.iloc[members].union_all(),
                }
            )
    if (home < 0).any():
        raise ValueError(f"counties without a territory: {', '.join(key[home < 0])}")
    for territory, key_rule in KEY_RULES.items():
        rows.append({"name": territory, "team": KEY_TEAM, "counties": [], "rule": key_rule, "geometry": None})
    rows.append({"name": STRATEGIC, "team": KEY_TEAM, "counties": [], "rule": None, "geometry": None})
    frame = gpd.GeoDataFrame(rows, geometry="geometry", crs=4326)

    rng = random(seed, 2)
    n = len(frame)
    teams = [*TEAMS, KEY_TEAM]
    person = _unlike(rng, n + len(teams))
    users: list[tuple[str, str, str, str | None]] = [
        ("admin@demo.example", "Renata Holloway", "administrator", None),
        ("marketer@demo.example", "Theo Vasquez", "marketer", None),
        ("analyst@demo.example", "Ingrid Bergstrom", "analyst", None),
    ]
    managers = {team: person[n + i] for i, team in enumerate(teams)}
    for team in teams:
        login = "manager@demo.example" if team == DEMO_TEAM else _login(managers[team])
        users.append((login, managers[team], "manager", team))
    logins = []
    for name, territory, team in zip(person[:n], frame["name"], frame["team"], strict=True):
        logins.append("rep@demo.example" if territory == DEMO_TERRITORY else _login(name))
        users.append((logins[-1], name, "rep", team))
    frame["login"] = logins
    return SalesForce(
        teams=pd.DataFrame({"team": teams}),
        users=pd.DataFrame(users, columns=["login", "name", "role", "team"]),
        territories=frame,
        territory_of_county=home,
        former=_former(frame, counties),
    )


def _former(frame: gpd.GeoDataFrame, counties: gpd.GeoDataFrame) -> dict[str, tuple[BaseGeometry, list[str]]]:
    """Polygon and counties of each territory concerned by the move, before it."""
    members = {name: set(listed) for name, listed in zip(frame["name"], frame["counties"], strict=True)}
    concerned: set[str] = set()
    for county, before in MOVED.items():
        now = next(name for name, listed in members.items() if county in listed)
        members[now].remove(county)
        members[before].add(county)
        concerned |= {now, before}
    key = counties["name"] + " " + counties["region"]
    return {
        name: (counties.geometry[key.isin(members[name])].union_all(), sorted(members[name]))
        for name in sorted(concerned)
    }


def _unlike(rng: np.random.Generator, n: int) -> list[str]:
    """n names, no two alike."""
    found: dict[str, None] = {}
    while len(found) < n:
        for first, last in zip(
            names.pick(rng, names.FIRST_NAMES, n), names.pick(rng, names.LAST_NAMES, n), strict=True
        ):
            found.setdefault(f"{first} {last}")
    return list(found)[:n]


def _login(name: str) -> str:
    return names.slugs(np.array([name], dtype=object))[0].replace("-", ".") + "@demo.example"
