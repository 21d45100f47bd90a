"""Customers with planted groups: skewed, correlated, of unequal sizes, with outliers, gaps and idle features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geocrm.segmentation.scaling import Feature

MIX = ("mix_hike", "mix_climb", "mix_ride", "mix_snow")
BEHAVIOUR = (
    Feature("orders"),
    Feature("basket"),
    Feature("interval_days"),
    Feature("share_online"),
    Feature("mix", kind="composition", columns=MIX),
    Feature("noise_skewed"),
    Feature("noise_normal"),
    Feature("age"),
)
PLACE = (Feature("shop_m", "place"), Feature("home", "place", "location", ("lon", "lat")))
FEATURES = (*BEHAVIOUR, *PLACE)


@dataclass(frozen=True, eq=False)
class Planted:
    """A frame, the true group of each row, and the true features as the generator makes them, for an oracle."""

    frame: pd.DataFrame
    truth: NDArray[np.int64]
    true_features: NDArray[np.float64]


def plant(seed: int, rows: int, groups: int) -> Planted:
    """Groups differ in behaviour, in the distance to a shop and in where they live; no group is a normal cloud.

    The last two groups behave alike: they differ in place alone. With one group there is no structure.
    """
    draw = np.random.default_rng([seed, 99])
    shares = np.maximum(draw.dirichlet(np.full(groups, 4.0)), 0.07)
    truth = draw.choice(groups, rows, p=shares / shares.sum())
    alike = np.minimum(truth, max(groups - 2, 0))  # the group by behaviour
    busy = draw.normal(size=rows)  # correlates the features within a group

    def level(spread: float, of: NDArray[np.int64]) -> NDArray[np.float64]:
        kinds = int(of.max()) + 1
        steps = draw.permutation(np.linspace(-1.0, 1.0, kinds)) if kinds > 1 else np.zeros(1)
        return spread * steps[of]

    logs = np.column_stack([
        1.2 + level(1.2, alike) + 0.35 * busy + 0.28 * draw.gumbel(size=rows),
        4.0 + level(1.0, alike) - 0.20 * busy + 0.45 * draw.normal(size=rows),
        3.0 + level(1.0, alike) - 0.30 * busy + 0.40 * draw.standard_t(4, size=rows),
    ])  # fmt: skip
    online = 1.0 / (1.0 + np.exp(-level(1.8, alike)))
    online = draw.beta(6.0 * online, 6.0 * (1.0 - online))
    liking = draw.dirichlet(np.full(4, 0.8), size=groups) * 5.0 + 0.25
    mix = np.array([draw.dirichlet(liking[group]) for group in alike])
    shop = 7.5 + level(1.3, truth) + 0.5 * draw.normal(size=rows)
    lon = -106.0 + level(2.0, truth) + 0.3 * draw.standard_t(5, size=rows)
    lat = 39.0 + 0.5 * draw.normal(size=rows)
    frame = pd.DataFrame(
        {
            "orders": np.exp(logs[:, 0]), "basket": np.exp(logs[:, 1]), "interval_days": np.exp(logs[:, 2]),
            "share_online": online, **{name: mix[:, part] for part, name in enumerate(MIX)}, "shop_m": np.exp(shop),
            "lon": lon, "lat": lat, "noise_skewed": draw.exponential(size=rows),
            "noise_normal": draw.normal(size=rows), "age": draw.normal(45.0, 12.0, rows),
        },
        index=pd.Index(np.arange(1, rows + 1), name="customer_id"),
    )  # fmt: skip
    true_features = np.column_stack([logs, np.log((online + 1e-3) / (1.001 - online)), np.sqrt(mix[:, :3]), shop, lon])
    odd = draw.random(rows) < 0.02
    for column in ("orders", "basket", "interval_days"):
        frame.loc[odd, column] *= draw.lognormal(2.0, 1.0, odd.sum())
    frame.loc[draw.random(rows) < 0.03, "age"] = np.nan
    return Planted(frame, truth, true_features)
