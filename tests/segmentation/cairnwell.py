"""The demo company as a company with contracts: features at a cutoff, who left in the half year after, and the true
probability of it, from the numbers of geocrm.demo.truth. Only its generator is asked: no method of the package."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geocrm.demo import company
from geocrm.demo.geography import distance_km
from geocrm.segmentation.churn import Labels, at_cutoff, labels_of_contracts
from tests.segmentation.leaving import Column

MONTHS = 6
MONTH_S = int(30.44 * 86_400)
CATEGORIES = ("Hike & Camp", "Climb", "Ride", "Snow", "Clothing & Footwear", "Service & Rental")
DESCRIBED = (
    Column("orders", "orders", "all orders"),
    Column("tenure_days", "days", "since it became a customer"),
    Column("recency_days", "days", "since the last order"),
    Column("basket_value", "money", "mean amount of an order"),
    *(Column(f"category_share.{name}", "share", f"amount in {name}") for name in CATEGORIES),
    Column("web_share", "share", "orders on the web"),
    Column("is_organisation", "0 or 1", "an organisation", "identity"),
    Column("shop_m", "m", "distance to the nearest own shop", "place"),
)


@dataclass(frozen=True, eq=False)
class Contracts:
    """As `leaving.Leaving`."""

    frame: pd.DataFrame
    labels: Labels
    probability: NDArray[np.float64]
    places: pd.DataFrame


@dataclass(frozen=True, eq=False)
class Buyers:
    """Features of customers at the end of the books, their planted group, and the hill of liking they live on (-1: on
    none)."""

    frame: pd.DataFrame
    group: NDArray[np.int64]
    hill: NDArray[np.int64]


@lru_cache(maxsize=1)
def _world(seed: int) -> company.World:
    return company.build_world(seed=seed)


def contracts(seed: int, customers: int, *, number: int = 0, month: int = 24) -> Contracts:
    """Of a chunk of the world. The cutoff is the begin of a month of the hazard, from their first."""
    world = _world(seed)
    made = company.chunk(world, number, size=customers)
    truth, who = made.truth, made.truth["customer_id"].to_numpy()
    steps = (np.arange(48) * 30.44 * 86_400).astype("timedelta64[s]")
    months = np.datetime64(world.start, "s") + steps
    cutoff = months[month]

    groups = world.truth.groups
    of = truth["group_index"].to_numpy()
    season = np.array([np.array(g.leave_season) / np.mean(g.leave_season) for g in groups])
    yearly = np.array([g.leave_per_year for g in groups])[of]
    yearly = yearly * np.exp(-world.truth.pull.leave_far * truth["access"].to_numpy())
    since = truth["since"].to_numpy()
    window = months[month : month + MONTHS]
    tenure = (window[None, :] - since[:, None]) / np.timedelta64(365 * 86_400, "s")
    calendar = window.astype("datetime64[M]").astype(np.int64) % 12
    hazard = yearly[:, None] / 12 * season[of][:, calendar]
    hazard = hazard * np.maximum(tenure, 0.1) ** (world.truth.tenure_shape - 1)
    probability = 1 - np.exp(-hazard.sum(axis=1))

    left_at = truth["left_at"].to_numpy()
    there = (since < cutoff) & ~truth["potential"].to_numpy() & (np.isnat(left_at) | (left_at >= cutoff))
    moment = datetime.fromtimestamp(int(cutoff.astype(np.int64)), UTC)
    ended = pd.Series(left_at, index=pd.Index(who, name="customer_id"))[there]
    labels = labels_of_contracts(
        ended, cutoff=moment, window_days=MONTHS * 30.44, known_until=datetime(2027, 1, 1, tzinfo=UTC)
    )

    sales = made.sales[(made.sales["occurred_at"].to_numpy() < cutoff) & ~made.sales["returned"].to_numpy(dtype=bool)]
    lines = made.lines[made.lines["sale_no"].isin(sales["sale_no"])]
    category = world.products["category"].to_numpy()[lines["product_row"].to_numpy()]
    amounts = pd.crosstab(lines["customer_id"], category, values=lines["amount"].astype(float), aggfunc="sum")
    shares = amounts.reindex(columns=list(CATEGORIES)).fillna(0.0).clip(lower=0)
    shares = shares.div(shares.sum(axis=1).where(lambda s: s > 0), axis=0).add_prefix("category_share.")
    grouped = sales.groupby("customer_id")
    day = np.timedelta64(86_400, "s")
    home = made.sites[made.sites["is_primary"]].set_index("customer_id").reindex(who)
    lon, lat = home["true_lon"].to_numpy(), home["true_lat"].to_numpy()
    shops = world.places[world.places["kind"] == "own"]
    away = distance_km(lon[:, None], lat[:, None], shops["lon"].to_numpy()[None], shops["lat"].to_numpy()[None])
    frame = pd.DataFrame(
        {
            "orders": grouped.size().reindex(who).fillna(0).to_numpy(dtype=float),
            "tenure_days": (cutoff - since) / day,
            "recency_days": (cutoff - grouped["occurred_at"].max().reindex(who).to_numpy()) / day,
            "basket_value": grouped["amount"].mean().reindex(who).to_numpy() / 100,
            "web_share": (sales["channel"] == "web").groupby(sales["customer_id"]).mean().reindex(who).to_numpy(),
            "is_organisation": (made.customers["kind"] == "organisation").to_numpy(dtype=float),
            "shop_m": 1_000 * away.min(axis=1),
        },
        index=pd.Index(who, name="customer_id"),
    ).join(shares)
    x = 111_320 * np.cos(np.radians(39.5)) * (lon + 109)
    places = pd.DataFrame({"x_m": x, "y_m": 111_132 * (lat - 39.5)}, index=frame.index)
    return Contracts(at_cutoff(frame[there], moment), labels, probability[there], places[there])


def buyers(seed: int, customers: int, *, orders: int = 3) -> Buyers:
    """Of the first chunk of the world, those with at least so many orders."""
    world = _world(seed)
    made = company.chunk(world, 0, size=customers)
    truth, who = made.truth, made.truth["customer_id"].to_numpy()
    back = made.sales["returned"].to_numpy(dtype=bool)
    sales = made.sales[~back]
    lines = made.lines[made.lines["sale_no"].isin(sales["sale_no"])]
    category = world.products["category"].to_numpy()[lines["product_row"].to_numpy()]
    amounts = pd.crosstab(lines["customer_id"], category, values=lines["amount"].astype(float), aggfunc="sum")
    channels = pd.crosstab(sales["customer_id"], sales["channel"])
    grouped = sales.groupby("customer_id")
    number = grouped.size().reindex(who).fillna(0).to_numpy(dtype=float)
    first, last = (grouped["occurred_at"].agg(kind).reindex(who).to_numpy() for kind in ("min", "max"))
    day = np.timedelta64(86_400, "s")
    spent, off = grouped["amount"].sum().reindex(who).to_numpy(), grouped["discount"].sum().reindex(who).to_numpy()
    returned = -made.sales[back].groupby("customer_id")["amount"].sum().reindex(who).fillna(0).to_numpy()
    home = made.sites[made.sites["is_primary"]].set_index("customer_id").reindex(who)
    lon, lat = home["true_lon"].to_numpy(), home["true_lat"].to_numpy()
    columns = {
        "recency_days": (np.datetime64(world.until, "s") + 2 * day - last) / day,
        "frequency": number,
        "basket_value": spent / 100 / np.maximum(number, 1),
        "gap_mean_days": np.where(number > 1, (last - first) / day / np.maximum(number - 1, 1), np.nan),
        "returned_share": returned / spent,
        "discount_share": off / (spent + off),
        "is_organisation": (made.customers["kind"] == "organisation").to_numpy(dtype=float),
        "lon": lon,
        "lat": lat,
    }
    for name, kind in (("own_shop_m", "own"), ("competitor_m", "competitor")):
        shops = world.places[world.places["kind"] == kind]
        away = distance_km(lon[:, None], lat[:, None], shops["lon"].to_numpy()[None], shops["lat"].to_numpy()[None])
        columns[name] = 1_000 * away.min(axis=1)
    frame = pd.DataFrame(columns, index=pd.Index(who, name="customer_id"))
    for table, family in ((amounts, "category_share"), (channels, "channel_share")):
        held = table.reindex(who).fillna(0.0).clip(lower=0)
        frame = frame.join(held.div(held.sum(axis=1).where(lambda s: s > 0), axis=0).add_prefix(f"{family}."))
    hill = np.full(len(who), -1, dtype=np.int64)
    for at, bump in enumerate(world.truth.bumps):
        hill[distance_km(lon, lat, np.full(1, bump.lon), np.full(1, bump.lat)) < bump.width_km] = at
    held = number >= orders
    return Buyers(frame[held], truth["group_index"].to_numpy()[held], hill[held])
