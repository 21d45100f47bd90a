"""RFM and features as they are made without a database's help: sales read into one frame, lifetimes' own summary of
purchases, and pandas for the rest."""

import warnings
from datetime import datetime

import numpy as np
import pandas as pd
import sqlalchemy as sa

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # lifetimes sets options that pandas no longer has
    from lifetimes.utils import summary_data_from_transaction_data

SALES = """
SELECT customer_id, occurred_at AT TIME ZONE 'UTC' AS occurred_at, CAST(amount AS float8) AS amount,
       CAST(cost AS float8) AS cost, CAST(discount AS float8) AS discount, returned, channel
FROM sales WHERE occurred_at < %(cutoff)s
"""


def features(url: str, cutoff: datetime) -> pd.DataFrame:
    """One row a customer with a sale, columns as ours."""
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        sales = pd.read_sql(SALES, connection, params={"cutoff": cutoff})
    engine.dispose()
    end = pd.Timestamp(cutoff).tz_localize(None)
    last_day = (end - pd.Timedelta(microseconds=1)).normalize()
    sales["channel"] = sales["channel"].astype("category")
    orders = sales[~sales["returned"]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        summary = summary_data_from_transaction_data(
            orders, "customer_id", "occurred_at", "amount", observation_period_end=last_day
        )
    made = pd.DataFrame(index=pd.Index(np.sort(sales["customer_id"].unique()), name="customer_id"))
    made["repeat_frequency"] = summary["frequency"]
    made["recency_weeks"] = summary["recency"] / 7
    made["t_weeks"] = summary["T"] / 7
    made["mean_repeat_value"] = summary["monetary_value"].where(summary["frequency"] > 0)
    made["recency_days"] = summary["T"] - summary["recency"]
    made["tenure_days"] = summary["T"]
    made["gap_mean_days"] = (summary["recency"] / summary["frequency"]).where(summary["frequency"] > 0)

    days = pd.DataFrame({"customer_id": orders["customer_id"], "day": orders["occurred_at"].dt.normalize()})
    days = days.drop_duplicates().sort_values(["customer_id", "day"])
    gap = days["day"].diff().dt.days.where(days["customer_id"].eq(days["customer_id"].shift()))
    squares = (gap**2).groupby(days["customer_id"]).sum() / summary["frequency"]
    variation = np.sqrt((squares / made["gap_mean_days"] ** 2 - 1).clip(lower=0))
    made["gap_variation"] = variation.where(made["repeat_frequency"] > 1)

    ago = {n: end - pd.Timedelta(days=n) for n in (90, 365, 730)}
    recent = {n: sales[sales["occurred_at"] >= ago[n]] for n in (90, 365)}
    before = sales[(sales["occurred_at"] >= ago[730]) & (sales["occurred_at"] < ago[365])]
    made["frequency"] = orders.groupby("customer_id").size()
    made["monetary_value"] = sales.groupby("customer_id")["amount"].sum()
    for n, rows in recent.items():
        made[f"orders_{n}"] = rows[~rows["returned"]].groupby("customer_id").size()
        made[f"sales_{n}"] = rows.groupby("customer_id")["amount"].sum()
    made["sales_year_before"] = before.groupby("customer_id")["amount"].sum()
    sums = orders.groupby("customer_id")[["amount", "discount"]].sum()
    made["basket_value"] = sums["amount"] / made["frequency"]
    made["returned_share"] = (sums["amount"] - made["monetary_value"]) / sums["amount"]
    made["discount_share"] = sums["discount"] / (sums["amount"] + sums["discount"])
    margin = (sales["amount"] - sales["cost"]).groupby(sales["customer_id"])
    made["margin"] = margin.sum(min_count=1)
    channels = orders.groupby(["customer_id", "channel"], observed=True).size().unstack(fill_value=0)
    for name in channels:
        made[f"channel_share.{name}"] = channels[name] / made["frequency"]
    counts = ["frequency", "orders_90", "orders_365", "sales_90", "sales_365", "sales_year_before"]
    made[counts] = made[counts].fillna(0)
    made["growth"] = (made["sales_365"] / made["sales_year_before"] - 1).where(made["sales_year_before"] > 0)

    known = made["recency_days"].notna()
    for score, values in (
        ("r", -made["recency_days"]),
        ("f", made["frequency"]),
        ("m", made["monetary_value"].round(4)),
    ):
        ranks = values[known].rank(method="average")
        made[score] = 1 + (5 * (2 * ranks - 1) // (2 * len(ranks)))
    return made
