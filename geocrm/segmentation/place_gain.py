"""Does place help: blocks of the map for a sample of customers, and what groups gain by knowing it.

Pure: frames in. The verdicts are those of `validation`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geocrm.segmentation import validation
from geocrm.segmentation.regions import equal_area_km
from geocrm.segmentation.scaling import globe_km

FEWEST: Final = 50
"""Customers with a point without whom there are no blocks of the map."""
BUFFER_M: Final = 1_000.0


@dataclass(frozen=True)
class MapBlocks:
    """Folds by blocks of the map, or at random where there are too few points (then `blocked` is false); `reason` says
    which."""

    folds: validation.Folds
    blocked: bool
    reason: str

    def leaves_both(self, outcome: pd.Series) -> bool:
        """Whether each fold leaves some with the outcome 1 and some with 0 to learn from."""
        happened = outcome.to_numpy()
        return all(len(np.unique(happened[train])) > 1 for train, _ in self.folds.split(outcome.index))

    def at_random(self, customers: pd.Index, *, seed: int) -> MapBlocks:
        """The same customers in folds drawn at random, as these blocks cannot be learnt from."""
        reason = "without a block of the map there is nobody left to learn from; customers were drawn at random"
        return MapBlocks(validation.random_folds(customers, seed=seed), False, reason)


def blocks_of_map(points: pd.DataFrame, residual: pd.Series, *, seed: int) -> MapBlocks:
    """Blocks for customers with `points` (lon, lat in degrees; NaN: not known), as large as the residuals of a model
    without place ask for (`validation.choose_block_size`); `residual` may be of some of the customers."""
    lonlat = points[["lon", "lat"]].to_numpy(dtype=np.float64)
    known = np.isfinite(lonlat).all(axis=1)
    plane = np.full((len(points), 2), np.nan)
    if known.any():
        plane[known] = 1_000 * equal_area_km(lonlat[known], _middle(lonlat[known]))
    places = pd.DataFrame(plane, index=points.index, columns=["x_m", "y_m"])
    held = residual.dropna()
    asked = places.loc[held.index]
    if int(asked.notna().all(axis=1).sum()) < FEWEST:
        reason = f"fewer than {FEWEST} customers have a point of their own; customers were drawn at random"
        return MapBlocks(validation.random_folds(points.index, seed=seed), False, reason)
    size = validation.choose_block_size(asked["x_m"], asked["y_m"], held.to_numpy(), seed=seed)
    buffer_m = min(BUFFER_M, size.size_m / 10)
    folds = validation.make_folds(places, size.size_m, seed=seed, buffer_m=buffer_m)
    return MapBlocks(folds, True, f"blocks of {size.size_m / 1_000:,.1f} km: {size.reason}")


def _middle(lonlat: NDArray[np.float64]) -> tuple[float, float]:
    x, y, z = globe_km(lonlat[:, 0], lonlat[:, 1]).mean(axis=0)
    return float(np.degrees(np.arctan2(y, x))), float(np.degrees(np.arctan2(z, np.hypot(x, y))))


def gain_of_groups(
    points: pd.DataFrame,
    with_: NDArray[np.integer],
    without: NDArray[np.integer],
    amount: pd.Series,
    *,
    seed: int,
) -> validation.Gain | str:
    """Do groups that know the place tell more of an amount than as many groups that do not?

    Each customer of a block of the map gets the mean of its group over the other blocks; the amount enters as
    log(1 + amount / median), so that a few large customers do not decide. A sentence where there are no blocks.

    Args:
        points: lon, lat; index customer_id.
        with_, without: labels of the two groupings (n,); -1 is a group of its own.
        amount: what is to be told, (n,); negative ones count as 0.
    """
    spent = np.maximum(amount.to_numpy(dtype=np.float64), 0.0)
    some = spent[spent > 0]
    told = np.log1p(spent / (np.median(some) if len(some) else 1.0))
    frame = pd.DataFrame({"with": with_, "without": without}, index=points.index)
    residual = told - pd.Series(told, index=points.index).groupby(without).transform("mean")
    blocks = blocks_of_map(points, residual, seed=seed)
    if not blocks.blocked:
        return f"Whether place helps cannot be told: {blocks.reason}."

    def means_of(name: str) -> NDArray[np.float64]:
        def predict(train: pd.DataFrame, outcome: NDArray[np.float64], test: pd.DataFrame) -> NDArray[np.float64]:
            means = pd.Series(outcome, index=train.index).groupby(train[name]).mean()
            return test[name].map(means).fillna(outcome.mean()).to_numpy(dtype=np.float64)

        return validation.out_of_fold(frame, told, blocks.folds, predict)

    return validation.compare(
        told, means_of("without"), means_of("with"), blocks.folds.blocks_of(frame.index), seed=seed, loss="squared"
    )


def gain_as_json(gain: validation.Gain) -> dict[str, Any]:
    """A gain as JSON values."""
    return {
        "verdict": gain.verdict,
        "sentence": gain.sentence,
        "customers": gain.customers,
        "blocks": gain.blocks,
        "level": gain.level,
        "measures": [{("with" if key == "with_" else key): value for key, value in asdict(one).items()}
                     for one in gain.measures],
    }  # fmt: skip
