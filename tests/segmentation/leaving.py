"""Customers whose true probability to leave is known, and of no fitted model's form.

Like the demo company's: a hazard that depends on a hidden group, the season and the years somebody has been a customer
(to the power -0.25), not on a logistic curve; orders in clumps; neighbours who share more than any feature tells.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geocrm.segmentation.churn import Labels, at_cutoff

CUTOFF = datetime(2025, 1, 1, tzinfo=UTC)
WINDOW_DAYS = 180
SIDE_M = 200_000.0


@dataclass(frozen=True)
class Column:
    """A column as the registry describes it."""

    name: str
    unit: str
    meaning: str
    kind: str = "behaviour"


DESCRIBED = (
    Column("complaints", "complaints", "complaints in the last 365 days"),
    Column("recency_days", "days", "since the last day with an order"),
    Column("discount_share", "share", "discounts over the full price"),
    Column("tenure_days", "days", "since the first day with an order"),
    Column("plan", "word", "plan of the contract", "identity"),
    Column("basket_value", "money", "mean amount of an order"),
    Column("shop_m", "m", "distance to the nearest own shop", "place"),
)
PLACE = ("shop_m",)
DRIVERS = ("complaints", "recency_days", "plan", "discount_share")
"""In the order of their effect, the others are weaker."""


@dataclass(frozen=True, eq=False)
class Leaving:
    """Features at the cutoff, who left in the window, the true probability, places in metres."""

    frame: pd.DataFrame
    labels: Labels
    probability: NDArray[np.float64]
    places: pd.DataFrame

    @property
    def outcome(self) -> NDArray[np.float64]:
        return self.labels.left.to_numpy()


def leave(
    seed: int,
    customers: int,
    *,
    place: float = 0.0,
    field: float = 0.0,
    cutoff: datetime = CUTOFF,
    level: float = 0.0,
) -> Leaving:
    """`place`: log of the hazard per e-fold of the distance to a shop. `field`: sigma of a smooth field over the map
    that makes neighbours alike and no feature tells. `level` moves all log hazards."""
    draw = np.random.default_rng([seed, 4321])
    n = customers
    towns = draw.random((25, 2)) * SIDE_M
    at = towns[draw.choice(25, n, p=draw.dirichlet(np.full(25, 1.5)))]
    xy = at + draw.normal(0, 6_000, (n, 2))
    shops = draw.random((12, 2)) * SIDE_M
    shop_m = np.hypot(*(xy[:, None, :] - shops[None]).transpose(2, 0, 1)).min(axis=1) + 50
    waves = draw.normal(size=(12, 2)) / 25_000
    phases, heights = draw.random(12) * 2 * np.pi, draw.normal(size=12) / np.sqrt(6)
    smooth = (heights * np.cos(xy @ waves.T + phases)).sum(axis=1)

    hidden = draw.choice(3, n, p=[0.5, 0.3, 0.2])  # a group nobody records: shows in recency and basket only
    tenure = draw.gamma(1.6, 700, n) + 30
    recency = np.minimum(draw.lognormal(np.array([3.2, 3.8, 4.6])[hidden], 0.8), tenure)
    complaints = draw.poisson(draw.gamma(0.5, 1.2, n)).astype(float)
    discount = draw.beta(1.2, 6.0, n)
    plan = draw.choice(["basic", "plus", "gold"], n, p=[0.55, 0.3, 0.15])
    basket = draw.lognormal(3.8 + 0.3 * (hidden == 1), 0.7)
    effect = (
        0.75 * np.minimum(complaints, 4) * (1 - 0.3 * (plan == "gold"))
        + 0.8 * np.tanh((np.log(recency) - 3.7) / 0.9)
        + np.select([plan == "basic", plan == "plus"], [0.45, 0.0], -0.8)
        + 2.2 * discount
        + np.array([-0.15, 0.1, 0.3])[hidden]
        + place * (np.log(shop_m) - 9.0)
        + field * smooth
    )
    months = np.arange(6)
    season = np.array([1.6, 1.1, 0.8, 0.7, 0.8, 1.0])
    years = (tenure[:, None] + 30.4 * (months + 0.5)) / 365
    hazard = (0.016 * np.exp(effect + level)[:, None] * season * years**-0.25).sum(axis=1)
    probability = 1 - np.exp(-hazard)
    left = (draw.random(n) < probability).astype(float)
    index = pd.Index(np.arange(1, n + 1), name="customer_id")
    basket[draw.random(n) < 0.06] = np.nan
    frame = pd.DataFrame(
        {"complaints": complaints, "recency_days": recency, "discount_share": discount, "tenure_days": tenure,
         "plan": pd.Categorical(plan), "basket_value": basket, "shop_m": shop_m},
        index=index,
    )  # fmt: skip
    said = "the contract ended in the 180 days after"
    labels = Labels(cutoff, WINDOW_DAYS, said, pd.Series(left, index=index, name="left"))
    places = pd.DataFrame({"x_m": xy[:, 0], "y_m": xy[:, 1]}, index=index)
    return Leaving(at_cutoff(frame, cutoff), labels, probability, places)


def buy(
    seed: int, customers: int, *, cutoffs: tuple[datetime, ...], window_days: float, since: datetime
) -> tuple[list[pd.DataFrame], list[NDArray[np.float64]], pd.DataFrame]:
    """Orders of a shop in clumps, at log-normal rates, by customers who leave quietly at a hazard that falls.

    Histories at each cutoff (of who had bought by then), the true probability of no order in the window after each,
    given who they are and whether they are still there, and all orders. The rate and the moment of leaving are hidden.
    """
    draw = np.random.default_rng([seed, 1234])
    end = max(cutoffs) + timedelta(days=window_days)
    days = (end - since).days
    rate = np.exp(draw.normal(-4.0, 0.9, customers))  # first orders of clumps a day
    start = draw.uniform(0, days, customers)
    stay = 500 * np.exp(draw.normal(0, 0.5, customers)) * draw.weibull(0.8, customers)
    number = draw.poisson(rate * np.minimum(days - start, stay))
    who = np.repeat(np.arange(customers), number)
    when = start[who] + draw.random(len(who)) * np.minimum(days - start, stay)[who]
    first = np.unique(np.concatenate((who, np.arange(customers))))
    who, when = np.concatenate((first, who)), np.concatenate((start[first], when))
    parents, moments = who, when
    again = draw.random(len(who)) < 0.13
    delay = np.where(again, draw.uniform(1, 14, len(who)), np.inf)
    goes = (start + stay)[parents]
    follows = moments + delay <= goes
    who, when = np.concatenate((who, who[follows])), np.concatenate((when, (when + delay)[follows]))
    kept = when < days
    who, when = who[kept], np.floor(when[kept])
    orders = pd.DataFrame({"customer_id": who + 1, "day": when}).drop_duplicates().sort_values(["customer_id", "day"])
    frames, truths = [], []
    for cutoff in cutoffs:
        at = (cutoff - since).days
        past = orders[orders["day"] < at]
        grouped = past.groupby("customer_id")["day"].agg(["min", "max", "count"])
        frame = pd.DataFrame(
            {"repeat_frequency": grouped["count"] - 1.0, "recency_weeks": (grouped["max"] - grouped["min"]) / 7,
             "t_weeks": (at - 1 - grouped["min"]) / 7}
        )  # fmt: skip
        row = frame.index.to_numpy() - 1
        there = np.clip(start[row] + stay[row] - at, 0, window_days)
        frames.append(at_cutoff(frame, cutoff))
        old = at - moments  # orders shortly before the cutoff may still be followed by another
        fresh = (old > 0) & (old < 14) & ~(follows & (delay <= old))
        before, until = np.clip(old[fresh], 1, 14), np.clip((goes - moments)[fresh], 1, 14)
        yet = 0.13 * np.maximum(until - before, 0) / 13
        yet /= 1 - 0.13 * (np.minimum(before, until) - 1) / 13
        none = np.zeros(customers)
        np.add.at(none, parents[fresh], np.log1p(-yet))
        truths.append(np.exp(none[row] - rate[row] * there))
    orders["at"] = pd.Timestamp(since) + pd.to_timedelta(orders["day"] + 0.5, unit="D")
    return frames, truths, orders
