"""Cairnwell Outdoor Supply, the demo company: pure generator, arrays and frames out, in chunks.

    world = build_world(seed=1)
    for chunk in chunks(world, customers=50_000):
        chunk.customers, chunk.sites, chunk.contacts, chunk.consents, chunk.sales, chunk.lines, chunk.interactions

Every chunk is drawn from its own generator (seed, subject, chunk number): the same seed gives the same bytes, whatever
the order, and memory is bounded by the chunk size, not by the number of customers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd

from geocrm.demo import customers as people
from geocrm.demo import geography, interactions, places, products, sales, territories
from geocrm.demo.geography import FloatArray, IntArray, Streets, distance_km
from geocrm.demo.truth import UNTIL, YEARS, Truth

NAME = "Cairnwell Outdoor Supply"
CHUNK = 10_000


@dataclass(frozen=True)
class World:
    """What is there before any customer: land, shops, products, sales force, truth. Small; built once."""

    seed: int
    start: date
    until: date
    truth: Truth
    zips: pd.DataFrame
    counties: gpd.GeoDataFrame
    streets: Streets
    street_mass: FloatArray  # cumulative weight for people
    street_mass_firms: FloatArray
    places: pd.DataFrame
    products: pd.DataFrame
    sales_force: territories.SalesForce
    owner_of_county: IntArray  # row of the users frame: the rep of the county
    _own: npt.NDArray[np.bool_]
    _mean_access: float

    def _pull(
        self, lon: FloatArray, lat: FloatArray, near: npt.NDArray[np.bool_], rows: npt.NDArray[np.bool_]
    ) -> FloatArray:
        """Pull of each place in `rows` on each point, (points, places)."""
        pull, shops = self.truth.pull, self.places[rows]
        d = distance_km(lon[:, None], lat[:, None], shops["lon"].to_numpy()[None], shops["lat"].to_numpy()[None])
        stay = np.exp(-((d / pull.near_scale_km) ** pull.near_shape))
        drive = (1 + d / pull.far_scale_km) ** -pull.far_power
        size = (shops["floor_m2"].to_numpy() / 900.0) ** pull.size_power
        result: FloatArray = np.where(near[:, None], stay, drive) * size
        return result

    def own_pull(self, lon: FloatArray, lat: FloatArray, near: npt.NDArray[np.bool_]) -> FloatArray:
        """Pull of each own shop, (points, own shops), in the order of `own_shops`."""
        return self._pull(lon, lat, near, self._own)

    @property
    def own_shops(self) -> IntArray:
        """Rows of the own shops in `places`."""
        return np.flatnonzero(self._own)

    def access(self, lon: FloatArray, lat: FloatArray, near: npt.NDArray[np.bool_]) -> FloatArray:
        """How well own shops are reached, net of the competitors'; logarithm, about 0 on average."""
        rivals = (self.places["kind"] == "competitor").to_numpy() & (self.places["opened_on"] < "2024").to_numpy()
        ours = self.own_pull(lon, lat, near).sum(axis=1)
        theirs = self._pull(lon, lat, near, rivals).sum(axis=1)
        result: FloatArray = np.clip(np.log(0.02 + ours) - 0.45 * np.log(0.05 + theirs) - self._mean_access, -3, 3)
        return result


def build_world(seed: int = 1, until: date | None = None) -> World:
    """Land, shops, products and sales force of the demo company whose books end on `until`."""
    until = until or UNTIL
    zips = geography.zip_points()
    counties = geography.county_polygons()
    streets = geography.draw_streets(zips, counties, seed)
    shops = places.build(zips, seed)
    force = territories.build(counties, seed)
    # firms gather less in the big towns than people, and more where guests go
    zip_people = zips["people"].to_numpy()
    firm_weight = streets.weight * (zip_people[streets.zip_index] / np.median(zip_people)) ** -0.28
    row_of_login = {login: i for i, login in enumerate(force.users["login"])}
    rep = np.array([row_of_login[login] for login in force.territories["login"]])
    world = World(
        seed=seed,
        start=date(until.year - YEARS, until.month, min(until.day, 28)),
        until=until,
        truth=Truth(),
        zips=zips,
        counties=counties,
        streets=streets,
        street_mass=np.cumsum(streets.weight),
        street_mass_firms=np.cumsum(firm_weight),
        places=shops,
        products=products.catalogue(),
        sales_force=force,
        owner_of_county=rep[force.territory_of_county],
        _own=(shops["kind"] == "own").to_numpy(),
        _mean_access=0.0,
    )
    rng = geography.random(seed, 4)
    some = np.searchsorted(world.street_mass, rng.random(4000) * world.street_mass[-1])
    some = np.minimum(some, len(streets) - 1)
    mean = world.access(streets.lon[some], streets.lat[some], rng.random(4000) < world.truth.pull.near_share).mean()
    object.__setattr__(world, "_mean_access", float(mean))
    return world


@dataclass(frozen=True)
class Chunk:
    """The customers of one chunk with all their facts. Ids of sites, contacts, sales … are given by `load`."""

    number: int
    customers: pd.DataFrame
    sites: pd.DataFrame
    contacts: pd.DataFrame
    consents: pd.DataFrame
    sales: pd.DataFrame
    lines: pd.DataFrame
    interactions: pd.DataFrame
    truth: pd.DataFrame


def chunk(world: World, number: int, size: int = CHUNK, customers: int | None = None) -> Chunk:
    """Chunk `number` (from 0) of `size` customers; the last one of `customers` may be shorter."""
    first = 1 + number * size
    n = size if customers is None else max(0, min(size, customers - number * size))
    drawn = people.draw(world, first, n, number)
    orders, lines, traits = sales.draw(world, drawn["customers"], drawn["sites"], drawn["traits"], number)
    last = sales.days_since_last(world, drawn["customers"]["id"].to_numpy(), orders)
    settled = people.settle_stages(world, drawn["customers"], drawn["traits"], last)
    talks = interactions.draw(world, settled, drawn["sites"], orders, number)
    return Chunk(number, settled, drawn["sites"], drawn["contacts"], drawn["consents"], orders, lines, talks, traits)


def chunks(world: World, customers: int = 50_000, size: int = CHUNK) -> Iterator[Chunk]:
    """All chunks, one after the other."""
    for number in range(-(-customers // size)):
        yield chunk(world, number, size, customers)
