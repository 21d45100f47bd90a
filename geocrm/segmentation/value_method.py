"""What customers are worth, as a method of segmentations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geocrm.errors import TooLittleData
from geocrm.segmentation import features
from geocrm.segmentation.clv import bg_nbd, counts, gamma_gamma, value
from geocrm.segmentation.clv.likelihood import Estimate
from geocrm.segmentation.clv.purchases import PurchaseModel
from geocrm.segmentation.methods import (
    MONEY,
    NONE,
    Group,
    Method,
    Outcome,
    Part,
    check_money,
    check_names,
    number_of,
    wrong,
)

TIERS: Final = (
    (0.5, "Half of the worth", "the most valuable customers, who together are half of the expected worth"),
    (0.8, "Next 30 % of the worth", "the next ones, who together are 30 % of the expected worth"),
    (1.0, "Last 20 % of the worth", "all others, who together are 20 % of the expected worth"),
)


class Value(Method):
    """What customers are worth: BG/NBD and Gamma-Gamma; segments by their share of the expected worth.

    Parameters: `horizon_weeks` (52), `discount_a_year` (0.1), `of` ("revenue", or "margin": what is left of it after
    costs and after visits, drives and calls).

    Of margin: worth = revenue × margin rate − cost to serve. The rate of a customer is that of its sales whose cost is
    known and of one more average order at the rate of all: (margin + rate × order) ÷ (sales + order), so that one order
    does not decide. Its cost to serve is that of the last 365 days, for as much of the horizon as P(alive) says. The
    interval is that of the revenue: rate and cost to serve are taken as known."""

    name = "value"
    scores = ("p_alive", "purchases", "worth", "worth_low", "worth_high")
    _COLUMNS: Final = ["repeat_frequency", "recency_weeks", "t_weeks", "mean_repeat_value"]
    _SAMPLE: Final = 500_000
    _COSTS: Final = ["margin", "monetary_value", "cost_known_share", "cost_to_serve_365"]

    @staticmethod
    def check(parameters: Mapping[str, Any]) -> None:
        check_names(parameters, {"horizon_weeks", "discount_a_year", "of", *MONEY})
        check_money(parameters)
        if parameters.get("of", "revenue") not in ("revenue", "margin"):
            raise wrong("of", "expected revenue or margin")
        number_of(parameters, "horizon_weeks", 52, 1, 520)
        number_of(parameters, "discount_a_year", 0.1, 0, 5)

    def parts(self) -> Iterator[Part]:
        horizon = number_of(self.parameters, "horizon_weeks", 52, 1, 520)
        discount = number_of(self.parameters, "discount_a_year", 0.1, 0, 5)
        self.reader.tell("fitting", 0, None)
        histories = features.count_histories(self.reader.session, self.reader.cutoff)
        if histories.empty:
            raise TooLittleData("Customer value needs customers with an order before the cutoff; there are none.")
        held = counts.collapse(
            histories["repeat_frequency"],
            histories["recency_days"] / 7,
            histories["t_days"] / 7,
            histories["customers"],
        )
        self._purchases = cast("Estimate[PurchaseModel]", bg_nbd.fit(held))
        self._values = self._fit_values()
        self._margin = self._margin_of_all() if self.parameters.get("of") == "margin" else None
        self._worth: list[NDArray[np.float64]] = []
        self._slopes: NDArray[np.float64] | None = None
        self._covariance: NDArray[np.float64] | None = None
        self._without = 0
        self._revenue = self._serving = 0.0
        columns = [*self._COLUMNS, *(self._COSTS if self._margin else ())]
        for frame in self.reader.chunks(columns, phase="valuing"):
            yield self._part(frame, horizon, discount)

    def _fit_values(self) -> gamma_gamma.ValueEstimate:
        kept: list[pd.DataFrame] = []
        seen = 0
        generator = np.random.default_rng(self.seed)
        for frame in self.reader.chunks(["repeat_frequency", "mean_repeat_value"], phase="fitting"):
            again = frame[(frame["repeat_frequency"] > 0) & (frame["mean_repeat_value"] > 0)]
            seen += len(again)
            kept.append(again)
            if sum(map(len, kept)) > 2 * self._SAMPLE:  # thin out, all with the same chance
                held = pd.concat(kept)
                kept = [held.iloc[np.sort(generator.choice(len(held), self._SAMPLE, replace=False))]]
        sample = pd.concat(kept)
        self._fitted_on = (len(sample), seen)
        return gamma_gamma.fit(sample["repeat_frequency"], sample["mean_repeat_value"])

    def _margin_of_all(self) -> _Margin:
        """Margin rate and mean order of all sales whose cost is known; raises TooLittleData where none is."""
        margin = sales = known = orders = 0.0
        for frame in self.reader.chunks([*self._COSTS, "frequency"], phase="margins"):
            held = frame[frame["margin"].notna() & (frame["cost_known_share"] > 0)]
            margin += float(held["margin"].sum())
            sales += float((held["monetary_value"] * held["cost_known_share"]).sum())
            orders += float((held["frequency"] * held["cost_known_share"]).sum())
            known += len(held)
        if sales <= 0 or orders <= 0:
            raise TooLittleData(
                "Value by margin needs sales whose cost is known; before the cutoff there are none. Import sales with "
                "costs, or ask for the value of revenue."
            )
        self._known = int(known)
        return _Margin(margin / sales, sales / orders)

    def _part(self, frame: pd.DataFrame, horizon: float, discount: float) -> Part:
        ids = frame.index.to_numpy()
        scores = np.full((len(frame), len(self.scores)), np.nan, dtype=np.float32)
        labels = np.full(len(frame), NONE, dtype=np.int32)
        x, mean = frame["repeat_frequency"].to_numpy(), frame["mean_repeat_value"].to_numpy()
        bought = ~np.isnan(x)
        usable = bought & ((x == 0) | (mean > 0))  # the model of amounts has no answer for a mean of 0 or less
        self._without += int((bought & ~usable).sum())
        rows = np.flatnonzero(usable)
        if len(rows):
            history = x[rows], frame["recency_weeks"].to_numpy()[rows], frame["t_weeks"].to_numpy()[rows]
            coming = value.expected_purchases(self._purchases, *history, horizon_weeks=horizon)
            worth = value.customer_value(
                self._purchases, self._values, *history, mean[rows], horizon_weeks=horizon, discount_a_year=discount
            )
            low, high = worth.interval()
            alive = self._purchases.model.probability_alive(*history)
            rate, serving = np.ones(len(rows)), np.zeros(len(rows))
            if self._margin is not None:
                rate, serving = self._margin.of(frame.iloc[rows], alive, horizon)
            told = [amounts * rate - serving for amounts in (worth.value, low, high)]
            told[1:] = [np.minimum(*told[1:]), np.maximum(*told[1:])]
            scores[rows] = np.column_stack((alive, coming.value, *told))
            self._worth.append(told[0])
            slopes = (worth.slopes * rate[:, None]).sum(axis=0)
            self._revenue += float((worth.value * rate).sum())
            self._serving += float(serving.sum())
            self._slopes = slopes if self._slopes is None else self._slopes + slopes
            self._covariance = worth.log_covariance
            labels[rows] = 0  # the tier is known when all are
        return Part(ids, labels, scores)

    def outcome(self) -> Outcome:
        worth = np.concatenate(self._worth) if self._worth else np.zeros(0)
        order = np.argsort(-worth, kind="stable")
        total = float(worth.sum())
        upto = np.cumsum(worth[order])
        before = upto - worth[order]
        tier = np.zeros(len(worth), dtype=np.int32)
        shares = before / total if total > 0 else np.arange(len(worth)) / max(len(worth), 1)
        tier[order] = np.searchsorted([bound for bound, _, _ in TIERS], shares, side="right").clip(0, len(TIERS) - 1)
        groups = tuple(Group(label, name, words) for label, (_, name, words) in enumerate(TIERS))
        results: dict[str, Any] = {
            "of": self.parameters.get("of", "revenue"),
            "currency": features.get_cutoff(self.reader.session, self.reader.cutoff).currency,
            "purchases": _estimate(self._purchases),
            "values": _estimate(self._values) | {"independence": self._values.independence},
            "worth_by_segment": [
                {"label": group.label, "worth": float(worth[tier == group.label].sum())} for group in groups
            ],
            "notes": [],
        }
        if self._slopes is not None and self._covariance is not None and self._revenue > 0:
            whole = value.Expectations(np.array([self._revenue]), self._slopes[None, :], self._covariance)
            low, high = (float(bound[0]) - self._serving for bound in whole.interval())
            results["total"] = {"worth": total, "low": low, "high": high}
        if self._margin is not None:
            results["margin"] = {"rate": self._margin.rate, "customers": self._known, "cost_to_serve": self._serving}
            results["notes"].append(
                f"By margin: {self._margin.rate:.1%} of sales whose cost is known, of {self._known:,} customers; visits"
                " with their drives and calls are taken off."
            )
        if self._without:
            results["notes"].append(
                f"{self._without:,} customers whose repeat purchases came to nothing or less are in no segment."
            )
        if self._fitted_on[0] < self._fitted_on[1]:
            results["notes"].append(
                f"The model of amounts was fitted on {self._fitted_on[0]:,} of {self._fitted_on[1]:,} customers."
            )
        return Outcome(groups, results, labels=tier)


@dataclass(frozen=True)
class _Margin:
    """The margin rate of all sales whose cost is known, and the mean order."""

    rate: float
    order: float

    def of(
        self, frame: pd.DataFrame, alive: NDArray[np.float64], horizon_weeks: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The margin rate of customers, and what it will cost to serve them within the horizon, (n,) each."""
        margin, share = (frame[name].fillna(0.0).to_numpy() for name in ("margin", "cost_known_share"))
        sales = np.maximum(frame["monetary_value"].to_numpy() * share, 0.0)
        rate = (margin + self.rate * self.order) / (sales + self.order)
        return rate, frame["cost_to_serve_365"].to_numpy() * alive * horizon_weeks * 7 / 365


def _estimate(fitted: Any) -> dict[str, Any]:
    errors = fitted.standard_errors
    return {
        "parameters": [
            {"name": name, "value": float(number), "standard_error": float(errors[name])}
            for name, number in zip(fitted.names, fitted.model.values, strict=True)
        ],
        "log_likelihood": float(fitted.log_likelihood),
        "customers": int(fitted.customers),
    }
