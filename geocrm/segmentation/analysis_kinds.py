"""The kinds of analyses: what goes together, a forecast of sales, penetration of areas, the track of purchases.

Each reads what it needs in the worker's session, digests all of it, and answers with JSON. The mathematics stands in
pure files: `lift`, `offers`, `forecast`, `geocrm.spatial.penetration`, `clv`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final, cast, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import ids
from geocrm.access import SYSTEM
from geocrm.db.queries import named
from geocrm.errors import NotConverged, TooLittleData
from geocrm.segmentation import affinity, next_offers, sales_series
from geocrm.segmentation.as_json import as_rows, number, numbers
from geocrm.segmentation.clv import bg_nbd, counts, value
from geocrm.segmentation.clv.likelihood import Estimate
from geocrm.segmentation.clv.purchases import PurchaseModel
from geocrm.segmentation.methods import check_names, check_whole, number_of, read_rule, wrong
from geocrm.spatial import hotspot_data, layers, territories

SQL: Final = "analyses"
MOST_PAIRS: Final = 300
"""So many of the surest pairs stand in the results, and as many regional ones."""

Tell = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class Found:
    """What an analysis found, as JSON, and the SHA-256 of all that it read."""

    results: dict[str, Any]
    data_version: str


@dataclass(frozen=True)
class Asked:
    """How an analysis was asked for."""

    session: Session
    cutoff: datetime
    parameters: Mapping[str, Any]
    seed: int
    tell: Tell


@dataclass(frozen=True)
class Kind:
    """A kind of analysis: `check` raises Invalid with a pointer, `find` does it."""

    name: str
    about: str
    check: Callable[[Mapping[str, Any]], None]
    find: Callable[[Asked], Found]


# ---------------------------------------------------------------- what goes together


def _check_affinity(parameters: Mapping[str, Any]) -> None:
    check_names(parameters, {"window_days", "by", "layer", "fewest", "offers", "days"})
    number_of(parameters, "window_days", 365, 1, 36_525)
    number_of(parameters, "days", 90, 1, 3_650)
    _one_of(parameters, "by", "product", get_args(affinity.Item))
    check_whole(parameters, "fewest", 5, 2, 1_000_000)
    check_whole(parameters, "offers", 5, 1, 50)
    if "layer" in parameters and not isinstance(parameters["layer"], str):
        raise wrong("layer", "expected the key of a layer, or leave it out for the territories")


def _find_affinity(asked: Asked) -> Found:
    given = asked.parameters
    regions: affinity.Regions = None
    if "layer" in given:
        regions = layers.get_layer(asked.session, str(given["layer"]).removeprefix("lay_")).id
    elif asked.session.scalar(text("SELECT EXISTS (SELECT FROM layers WHERE is_primary)")):
        regions = "territory"
    by = cast(affinity.Item, given.get("by", "product"))
    fewest, k = int(given.get("fewest", 5)), int(given.get("offers", 5))
    days, window_days = float(given.get("days", 90)), float(given.get("window_days", 365))
    asked.tell("counting pairs", 0, None)
    found = affinity.find_pairs(
        asked.session, asked.cutoff, window_days=window_days, by=by, regions=regions, fewest=fewest
    )
    results: dict[str, Any] = {
        "by": by,
        "baskets": found.baskets,
        "customers": found.customers,
        "q": found.q,
        "pairs_seen": len(found.pairs),
        "pairs_together": int((found.pairs["p_adjusted"] <= found.q).sum()),
        "pairs": as_rows(found.pairs.head(MOST_PAIRS)),
        "by_region": as_rows(found.by_region[found.by_region["more_here"]].head(MOST_PAIRS))
        if len(found.by_region)
        else [],
        "sentences": found.sentences(),
        "left_out": asdict(found.left_out),
        "offers": None,
        "notes": list(found.notes),
    }
    digest = hashlib.sha256(_digest(found.pairs).encode())
    digest.update(_digest(found.by_region).encode())
    asked.tell("judging offers by what came", 0, None)
    before = asked.cutoff - timedelta(days=days)
    try:
        model = affinity.learn_offers(
            asked.session, before, window_days=window_days, by=by, regions=regions, fewest=fewest
        )
        for part in (model.items, model.popularity, model.similar.data, model.similar.indices, model.by_region):
            digest.update(np.ascontiguousarray(part).tobytes())
        judged = affinity.judge_offers(asked.session, model, seed=asked.seed, days=days, k=k)
        digest.update(np.int64(judged.customers).tobytes())
        results["offers"] = {
            "learnt_before": before.isoformat(), "days": days, "k": judged.k, "customers": judged.customers,
            "sentence": judged.sentence(),
            "methods": [
                {"method": name, "hit_rate": judged.hit_rate[i], "hit_rate_low": judged.hit_rate_low[i],
                 "hit_rate_high": judged.hit_rate_high[i], "recall": judged.recall[i], "gain": judged.gain[i],
                 "gain_low": judged.gain_low[i], "gain_high": judged.gain_high[i]}
                for i, name in enumerate(judged.methods)
            ],
        }  # fmt: skip
    except TooLittleData as why:
        results["notes"].append(f"Offers were not judged. {why.detail}")
    asked.tell("learning what to offer", 0, None)
    try:
        model = affinity.learn_offers(
            asked.session, asked.cutoff, window_days=window_days, by=by, regions=regions, fewest=fewest
        )
        results["model"] = next_offers.kept(model)
        digest.update(json.dumps(results["model"]).encode())
    except TooLittleData as why:
        results["notes"].append(f"Offers cannot be made. {why.detail}")
    return Found(results, digest.hexdigest())


# ---------------------------------------------------------------- forecast


def _check_forecast(parameters: Mapping[str, Any]) -> None:
    check_names(
        parameters,
        {"by", "period", "horizon", "layer", "basis", "segmentation", "currency", "rates", "known_until"},
    )
    by = _one_of(parameters, "by", "region", get_args(sales_series.By))
    _one_of(parameters, "period", "month", get_args(sales_series.Period))
    _one_of(parameters, "basis", "restated", get_args(territories.Basis))
    check_whole(parameters, "horizon", 6, 1, 60)
    if (by == "segment") != ("segmentation" in parameters):
        raise wrong("segmentation", "sales by segment, and no others, need the key of a segmentation")
    for name in ("layer", "segmentation", "currency"):
        if not isinstance(parameters.get(name, ""), str):
            raise wrong(name, "expected a text")
    if "rates" in parameters:
        _rates(parameters["rates"])
    if "known_until" in parameters:
        _moment(parameters["known_until"])


def _find_forecast(asked: Asked) -> Found:
    given = asked.parameters
    by: sales_series.By = given.get("by", "region")
    options: dict[str, Any] = {"by": by, "period": given.get("period", "month")}
    bound: dict[str, Any] = {"cutoff": asked.cutoff}
    if by == "region":
        layer = _layer(asked.session, given.get("layer"))
        options |= {"layer": layer, "basis": given.get("basis", "restated")}
    if by == "segment":
        options["segmentation"] = bound["segmentation"] = given["segmentation"]
    for name, read in (("currency", str), ("rates", _rates), ("known_until", _moment)):
        if name in given:
            options[name] = read(given[name])
    asked.tell("forecasting the past and what comes", 0, None)
    found = sales_series.forecast_sales(asked.session, asked.cutoff, horizon=int(given.get("horizon", 6)), **options)
    series, made = found.series, found.forecasts
    most = dict(zip(series.keys, series.customers.max(axis=1).tolist(), strict=True))
    people = most if by == "region" else _buyers(asked.session, by, bound)
    several = len(series.names) > 1
    in_period = _buyers(asked.session, "periods", bound | {"period": series.period})
    every = np.array([in_period.get(day, 0) for day in series.starts], dtype=np.int64)
    whole = ("whole", None, series.amounts.sum(axis=0), _buyers(asked.session, "nothing", bound)[None], every)
    rows = [whole] + [
        (name, key, series.amounts[i], people.get(key, 0), series.customers[i])
        for i, (name, key) in enumerate(zip(series.names, series.keys, strict=True))
    ]
    digest = hashlib.sha256("\x1f".join(map(str, (*series.keys, *series.starts, series.currency))).encode())
    digest.update(series.amounts.tobytes() + series.sales.tobytes() + series.running_amounts.tobytes())
    digest.update(series.customers.tobytes() + every.tobytes())
    results = {
        "by": by,
        "period": series.period,
        "currency": series.currency,
        "starts": [day.isoformat() for day in series.starts],
        "periods": [day.isoformat() for day in found.periods],
        "levels": list(made.levels),
        "season_length": made.season_length,
        "coherence": made.coherence,
        "counted": series.counted,
        "rows": [
            {
                "name": made.names[i],
                "key": None if i >= len(rows) or rows[i][1] is None else str(rows[i][1]),
                "customers": rows[i][3] if i < len(rows) else None,
                "buyers": rows[i][4].tolist() if i < len(rows) else None,
                "history": numbers(rows[i][2]) if i < len(rows) else None,
                "mean": numbers(made.means[i]),
                "low": [numbers(part[i]) for part in made.low],
                "high": [numbers(part[i]) for part in made.high],
                "method": made.methods[i],
                "reason": made.reasons[i],
                "mase": number(made.mase[i]),
                "naive_mase": number(made.naive_mase[i]),
                "pinball": number(made.pinball[i]),
                "naive_pinball": number(made.naive_pinball[i]),
                "coverage": [number(part[i]) for part in made.coverage],
                "tested": int(made.tested[i]),
            }
            for i in range(len(made.names))
            if i == 0 or several
        ],
        "notes": [*series.notes, *made.notes],
    }
    return Found(results, digest.hexdigest())


def _buyers(session: Session, by: str, bound: Mapping[str, Any]) -> dict[Any, int]:
    """How many different customers bought before the cutoff, by group or period."""
    query = named(SQL, f"customers_of_{by}")
    used = {name: value for name, value in bound.items() if f":{name}" in query}
    return {row.key: row.customers for row in session.execute(text(query), used)}


# ---------------------------------------------------------------- penetration


def _check_penetration(parameters: Mapping[str, Any]) -> None:
    check_names(parameters, {"layer", "population", "peers", "currency", "filter", "level"})
    if not isinstance(parameters.get("layer"), str):
        raise wrong("layer", "expected the key of a layer whose areas have their population as an attribute")
    for name in ("population", "peers", "currency"):
        if not isinstance(parameters.get(name, ""), str):
            raise wrong(name, "expected a text")
    if "filter" in parameters:
        read_rule(parameters["filter"], "/parameters/filter")
    number_of(parameters, "level", 0.95, 0.5, 0.999)


def _find_penetration(asked: Asked) -> Found:
    given = asked.parameters
    asked.tell("counting customers by area", 0, None)
    window = (asked.cutoff - timedelta(days=365), asked.cutoff) if "currency" in given else None
    found = hotspot_data.find_penetration(
        asked.session, SYSTEM, str(given["layer"]).removeprefix("lay_"), seed=asked.seed,
        population=given.get("population", "population"), peers=given.get("peers"), currency=given.get("currency"),
        base=read_rule(given["filter"], "/parameters/filter") if "filter" in given else None, window=window,
        level=number_of(given, "level", 0.95, 0.5, 0.999),
    )  # fmt: skip
    held, share, more = found.counts, found.penetration, found.potential
    digest = hashlib.sha256("\x1f".join(map(str, (*held.area_ids, *held.names))).encode())
    digest.update(held.customers.tobytes() + held.sales.tobytes() + held.buyers.tobytes() + found.population.tobytes())
    if "peers" in given:
        digest.update("\x1f".join(str(one.get(given["peers"])) for one in held.attributes).encode())
    columns: dict[str, NDArray[np.float64]] = {
        "population": found.population, "share": share.share, "low": share.low, "high": share.high,
        "shrunk": share.shrunk, "shrunk_low": share.shrunk_low, "shrunk_high": share.shrunk_high, "sales": held.sales,
        "potential": more.customers, "potential_low": more.low, "potential_high": more.high,
        "potential_sales": more.sales, "potential_sales_low": more.sales_low, "potential_sales_high": more.sales_high,
    }  # fmt: skip
    rows: list[dict[str, Any]] = [
        {
            "area": ids.show("are", int(area)),
            "name": held.names[i],
            "customers": int(held.customers[i]),
            "buyers": int(held.buyers[i]),
        }
        for i, area in enumerate(held.area_ids)
    ]
    for i, row in enumerate(rows):
        row |= {name: number(column[i]) for name, column in columns.items()}
    results = {
        "layer": given["layer"],
        "population": given.get("population", "population"),
        "currency": given.get("currency"),
        "level": share.level,
        "overall": number(share.overall),
        "rows": rows,
        "left_out": asdict(held.left_out),
        "notes": list(dict.fromkeys([*share.notes, *more.notes,
                                     "Customers, places and areas are those of the day the analysis was made."])),
    }  # fmt: skip
    return Found(results, digest.hexdigest())


# ---------------------------------------------------------------- tracking


def _check_tracking(parameters: Mapping[str, Any]) -> None:
    check_names(parameters, {"weeks"})
    check_whole(parameters, "weeks", 26, 4, 260)


def _find_tracking(asked: Asked) -> Found:
    """What BG/NBD, fitted some weeks before the cutoff, expected of these weeks, beside what came."""
    weeks = int(asked.parameters.get("weeks", 26))
    upto = asked.cutoff - timedelta(weeks=weeks)
    # ages are counted to the last day before, as features count them
    bound = {"upto": upto, "upto_day": (upto - timedelta(microseconds=1)).date()}
    asked.tell("reading purchases", 0, None)
    rows = asked.session.execute(text(named(SQL, "histories")), bound).all()
    if not rows:
        raise TooLittleData(f"A track needs customers with an order before {upto:%Y-%m-%d}; there are none.")
    again, recency, t, customers = np.array([tuple(row) for row in rows], dtype=np.float64).T
    counted = asked.session.execute(
        text(named(SQL, "repeats")), {"until": asked.cutoff, "upto": upto, "fit": upto.date()}
    ).all()
    later, buyers = ([row for row in counted if (row.day is None) == weekly] for weekly in (False, True))
    digest = hashlib.sha256(np.stack([again, recency, t, customers]).tobytes())
    digest.update(repr([(row.day.toordinal(), row.purchases) for row in later]).encode())
    digest.update(repr([(row.week, row.customers) for row in buyers]).encode())
    asked.tell("fitting", 0, None)
    fitted = cast("Estimate[PurchaseModel]", bg_nbd.fit(counts.collapse(again, recency / 7, t / 7, customers)))
    expected = value.expected_purchases(fitted, again, recency / 7, t / 7, horizon_weeks=weeks)
    total = value.Expectations(
        np.array([expected.value @ customers]), (expected.slopes * customers[:, None]).sum(axis=0)[None],
        expected.log_covariance,
    )  # fmt: skip
    low, high = total.interval()
    ends, actual, curve = _weekly(fitted.model, t, customers, later, upto.date(), weeks)
    of_week = {row.week: row.customers for row in buyers}
    came = float(actual[-1] - actual[-1 - weeks])
    if not np.isfinite(curve).all():
        raise NotConverged("The curve of expected purchases has no number for some weeks.")
    steps, told = np.diff(actual)[-weeks:], np.diff(curve)[-weeks:]
    results = {
        "fitted_before": upto.isoformat(),
        "weeks": weeks,
        "customers": int(customers.sum()),
        "ends": [day.isoformat() for day in ends],
        "actual": numbers(actual),
        "buyers": [of_week.get(week, 0) for week in range(weeks + 1 - len(ends), weeks)],
        "expected": numbers(curve),
        "came": came,
        "expected_of_histories": float(total.value[0]),
        "low": float(low[0]),
        "high": float(high[0]),
        "error": float(total.value[0] / came - 1) if came else None,
        "weekly_error": float(np.abs(told - steps).mean()),
        "weekly_mean": float(steps.mean()),
        "parameters": [
            {"name": name, "value": float(one), "standard_error": float(fitted.standard_errors[name])}
            for name, one in zip(fitted.names, fitted.model.values, strict=True)
        ],
        "notes": ["The interval owns up to not knowing the parameters exactly, and to nothing else: not to chance, "
                  "season or growth."],
    }  # fmt: skip
    return Found(results, digest.hexdigest())


def _weekly(
    model: Any, t: NDArray[np.float64], customers: NDArray[np.float64], later: Any, upto: date, weeks: int
) -> tuple[list[date], NDArray[np.float64], NDArray[np.float64]]:
    """Ends of weeks, counted from the day of the fit both ways, with repeat purchases until then and those expected of
    customers by when they first bought."""
    back = math.ceil(t.max() / 7)
    offsets = np.arange(-back, weeks + 1) * 7
    begun, at = np.unique(t, return_inverse=True)
    many = np.bincount(at, weights=customers)
    day = np.array([(row.day - upto).days for row in later])
    bought = np.array([row.purchases for row in later], dtype=np.float64)
    order = np.concatenate([[0.0], np.cumsum(bought)])
    actual = order[np.searchsorted(day, offsets, side="left")]  # before that day
    since = np.maximum(offsets[:, None] + begun[None, :], 0.0) / 7
    curve = np.array([model.expected_since_first(one) @ many for one in since])
    return [upto + timedelta(days=int(days)) for days in offsets], actual, curve


KINDS: Final[dict[str, Kind]] = {
    kind.name: kind
    for kind in (
        Kind("affinity", "which products go together, where, and how well offers made of it do", _check_affinity,
             _find_affinity),
        Kind("forecast", "sales to come by region, segment, owner or stage, proven on the past", _check_forecast,
             _find_forecast),
        Kind("penetration", "customers per population of areas, and what areas like them have", _check_penetration,
             _find_penetration),
        Kind("tracking", "what the model of customer value expected of the last weeks, beside what came",
             _check_tracking, _find_tracking),
    )
}  # fmt: skip


# ---------------------------------------------------------------- reading parameters


def _layer(session: Session, key: str | None) -> int:
    """The id of a layer by its key, or of the primary one."""
    if key is not None:
        return layers.get_layer(session, key.removeprefix("lay_")).id
    primary = session.scalar(text("SELECT id FROM layers WHERE is_primary"))
    if primary is None:
        raise TooLittleData("Sales by region need a layer of regions; there is no primary one: name another (layer).")
    return int(primary)


def _one_of(parameters: Mapping[str, Any], name: str, default: str, allowed: tuple[str, ...]) -> str:
    given = parameters.get(name, default)
    if given not in allowed:
        raise wrong(name, f"expected one of {', '.join(allowed)}")
    return str(given)


def _rates(given: Any) -> dict[str, Decimal]:
    try:
        return {str(name): Decimal(str(rate)) for name, rate in given.items()}
    except (AttributeError, InvalidOperation):
        raise wrong("rates", 'expected what one unit of each currency is worth: {"USD": "0.92"}') from None


def _moment(given: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(given)
    except (TypeError, ValueError):
        raise wrong("known_until", "expected a time with its zone: 2026-01-01T00:00:00Z") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _digest(frame: pd.DataFrame) -> str:
    """SHA-256 of the counts of a frame of pairs."""
    counted = [name for name in ("region", "first", "second", "both", "expected", "confidence") if name in frame]
    ordered = frame.sort_values(counted[: 3 if "region" in counted else 2]) if len(frame) else frame
    return hashlib.sha256(b"".join(np.ascontiguousarray(ordered[name]).tobytes() for name in counted)).hexdigest()
