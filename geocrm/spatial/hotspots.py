"""Where is a value high, or low, among neighbours, more than chance would make it?

Pure. Gi* of Getis & Ord (1992), "The analysis of spatial association by use of distance statistics", Geographical
Analysis 24, 189–206, with the moments of Ord & Getis (1995), "Local spatial autocorrelation statistics", 27, 286–306,
equation 14; local Moran's I of Anselin (1995), "Local indicators of spatial association – LISA", 27, 93–115. For rates
of cells that differ in size both are taken of empirical-Bayes standardised rates (Assunção & Reis 1999, see `rates`).

p-values come from random maps, as the normal approximation is too eager where few large values sit on a map; they are
two-sided, twice the smaller tail. One test a cell is many tests a map: `adjust` keeps the expected share of false ones
among those named hot or cold under q (Benjamini & Hochberg 1995; Benjamini & Yekutieli 2001).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse, stats

from geocrm import errors
from geocrm.spatial import rates
from geocrm.spatial.neighbours import Neighbours
from geocrm.spatial.randomisation import Tails, tails_of_sums

Weights = Literal["binary", "row"]
"""`binary`: every neighbour counts 1. `row`: those of a cell count 1 together."""
Inference = Literal["permutation", "normal"]
RateInference = Literal["simulation", "permutation", "normal"]
FalseDiscoveries = Literal["bh", "by"]

FEWEST_DRAWS: Final = 999
USUAL_DRAWS: Final = 9_999
_NUMBERS: Final = 60_000_000  # random numbers that one map may cost
_CHUNK: Final = 4_000_000


@dataclass(frozen=True)
class LocalStatistics:
    """One answer for each of n cells or areas; arrays are (n,), NaN for islands.

    `statistic` is the method's own (Gi*, Iᵢ), `z` its distance from what is expected without a pattern, in standard
    deviations; `p` two-sided, `p_adjusted` after FDR over all cells but islands; `label` hot, cold or none (Gi*),
    high-high, low-low, high-low, low-high or none (local Moran: own value first), or island. `local` is the mean (rate)
    of the cell with its neighbours, `overall` that of the map. `draws` random maps were made (0: normal
    approximation); no p is below `floor`. `notes` are sentences for the reader."""

    method: str
    inference: str
    statistic: NDArray[np.float64]
    z: NDArray[np.float64]
    p: NDArray[np.float64]
    p_adjusted: NDArray[np.float64]
    label: NDArray[np.str_]
    local: NDArray[np.float64]
    overall: float
    islands: NDArray[np.int64]
    q: float
    draws: int
    notes: tuple[str, ...]

    @property
    def significant(self) -> NDArray[np.bool_]:
        """Which have a p-value of at most q after FDR."""
        return self.p_adjusted <= self.q

    @property
    def floor(self) -> float:
        """The smallest p that so many random maps can give."""
        return 2.0 / (self.draws + 1.0) if self.draws else 0.0

    @property
    def ratio(self) -> NDArray[np.float64]:
        """The effect: `local` as a multiple of `overall`; NaN where the latter is not positive."""
        return self.local / self.overall if self.overall > 0 else np.full(len(self.local), np.nan)


def getis_ord(
    values: ArrayLike,
    neighbours: Neighbours,
    *,
    seed: int,
    weights: Weights = "binary",
    inference: Inference = "permutation",
    draws: int | None = None,
    q: float = 0.05,
    fdr: FalseDiscoveries = "bh",
) -> LocalStatistics:
    """Gi* of values (n,), each counted among its own neighbours.

    `statistic`: Σⱼ wᵢⱼ xⱼ / Σⱼ xⱼ with wᵢᵢ = 1 (Getis & Ord 1992; NaN where the values sum to 0), `z`: Ord & Getis
    (1995), equation 14. `permutation` compares with as many values drawn from the whole map, `normal` takes z for
    standard normal. Each value speaks of an equally large part of the whole: for rates see `getis_ord_rates`.

    Raises errors.Invalid for missing values, errors.TooLittleData where no cell could ever be told from chance."""
    x = _checked(values, neighbours)
    _require_enough(neighbours, q, own=True)
    matrix = _weighted(neighbours, weights, own=True)
    z = _gi_star(x, matrix)
    total = x.sum()
    statistic = np.asarray(matrix @ x) / total if total != 0 else np.full(len(x), np.nan)
    flat = bool((x == x[0]).all())
    tails = None
    if inference == "permutation" and not flat:
        tails = tails_of_sums(x, matrix, draws=_draws(draws, neighbours, q), seed=seed, hold=False)
    return _result(
        "getis_ord", inference, statistic, z, tails, neighbours, _hot_or_cold(z), _mean_around(x, neighbours),
        float(x.mean()), q, fdr, flat=flat,
    )  # fmt: skip


def getis_ord_rates(
    events: ArrayLike,
    exposure: ArrayLike,
    neighbours: Neighbours,
    *,
    seed: int,
    family: rates.Family = "binomial",
    weights: Weights = "binary",
    inference: RateInference = "simulation",
    draws: int | None = None,
    q: float = 0.05,
    fdr: FalseDiscoveries = "bh",
) -> LocalStatistics:
    """Gi* of the standardised rates events / exposure, (n,) each; `statistic` and `z` are equation 14 of these.

    `simulation` compares with maps on which rates differ from cell to cell as much as observed, but not by
    neighbourhood (`rates.random_maps`), each standardised anew; `permutation` exchanges standardised rates, which are
    alike in mean and variance only. Raises as `getis_ord` and `rates.check` do."""
    y, e = rates.check(events, exposure, family)
    _checked(y, neighbours)
    _require_enough(neighbours, q, own=True)
    matrix = _weighted(neighbours, weights, own=True)
    found = rates.moments(y, e, family)
    v = rates.standardised(y, e, found)
    z = _gi_star(v, matrix)
    many = _draws(draws, neighbours, q, maps=inference == "simulation")
    tails = None
    if inference == "permutation":
        tails = tails_of_sums(v, matrix, draws=many, seed=seed, hold=False)
    elif inference == "simulation":
        tails = _simulated(z, y, e, found, many, seed, lambda maps: _gi_star_maps(maps, matrix))
    return _result(
        "getis_ord_rates", inference, z, z, tails, neighbours, _hot_or_cold(z), _rate_around(y, e, neighbours),
        found.mean, q, fdr,
    )  # fmt: skip


def local_moran(
    values: ArrayLike,
    neighbours: Neighbours,
    *,
    seed: int,
    weights: Weights = "row",
    inference: Inference = "permutation",
    draws: int | None = None,
    q: float = 0.05,
    fdr: FalseDiscoveries = "bh",
) -> LocalStatistics:
    """Local Moran's I of values (n,): is a cell like its neighbours, or their opposite?

    `statistic`: (n − 1) zᵢ Σⱼ wᵢⱼ zⱼ / Σⱼ zⱼ² with z = x − x̄, as GeoDa and esda scale it (Anselin 1995, equation 7, has
    n for n − 1). `z` and `permutation` are conditional: the value of i stays, the others are dealt out anew; the
    moments are those of drawing without replacement. `normal` takes z for standard normal. Raises as `getis_ord`."""
    x = _checked(values, neighbours)
    _require_enough(neighbours, q, own=False)
    matrix = _weighted(neighbours, weights, own=False)
    d = x - x.mean()
    flat = bool((x == x[0]).all())
    statistic, z = _moran(d, matrix, flat=flat)
    tails = None
    if inference == "permutation" and not flat:
        tails = tails_of_sums(d, matrix, draws=_draws(draws, neighbours, q), seed=seed, hold=True)
        tails = tails.swapped_where(d < 0)
    return _result(
        "local_moran", inference, statistic, z, tails, neighbours, _quadrant(d, matrix), _mean_around(x, neighbours),
        float(x.mean()), q, fdr, flat=flat,
    )  # fmt: skip


def local_moran_rates(
    events: ArrayLike,
    exposure: ArrayLike,
    neighbours: Neighbours,
    *,
    seed: int,
    family: rates.Family = "binomial",
    weights: Weights = "row",
    inference: RateInference = "simulation",
    draws: int | None = None,
    q: float = 0.05,
    fdr: FalseDiscoveries = "bh",
) -> LocalStatistics:
    """Local Moran's I of the standardised rates events / exposure, (n,) each; inference as in `getis_ord_rates`."""
    y, e = rates.check(events, exposure, family)
    _checked(y, neighbours)
    _require_enough(neighbours, q, own=False)
    matrix = _weighted(neighbours, weights, own=False)
    found = rates.moments(y, e, family)
    d = rates.standardised(y, e, found)
    d = d - d.mean()
    statistic, z = _moran(d, matrix, flat=False)
    many = _draws(draws, neighbours, q, maps=inference == "simulation")
    tails = None
    if inference == "permutation":
        tails = tails_of_sums(d, matrix, draws=many, seed=seed, hold=True).swapped_where(d < 0)
    elif inference == "simulation":
        tails = _simulated(statistic, y, e, found, many, seed, lambda maps: _moran_maps(maps, matrix))
    return _result(
        "local_moran_rates", inference, statistic, z, tails, neighbours, _quadrant(d, matrix),
        _rate_around(y, e, neighbours), found.mean, q, fdr,
    )  # fmt: skip


def adjust(p: ArrayLike, method: FalseDiscoveries = "bh") -> NDArray[np.float64]:
    """p-values (n,) after FDR: naming those at most q keeps the expected share of false ones among them at most q.

    `bh`: Benjamini & Hochberg (1995), for tests that are independent or positively dependent; `by`: Benjamini &
    Yekutieli (2001), under any dependence, stricter by 1 + 1/2 + … + 1/n. NaN stays NaN and is no test."""
    given = np.asarray(p, dtype=np.float64)
    tested = np.flatnonzero(~np.isnan(given))
    n = len(tested)
    made = np.full(given.shape, np.nan)
    if n == 0:
        return made
    order = tested[np.argsort(given[tested], kind="stable")]
    factor = n / np.arange(1, n + 1)
    if method == "by":
        factor = factor * (1.0 / np.arange(1, n + 1)).sum()
    made[order] = np.minimum(1.0, np.minimum.accumulate((given[order] * factor)[::-1])[::-1])
    return made


def _checked(values: ArrayLike, neighbours: Neighbours) -> NDArray[np.float64]:
    x = np.asarray(values, dtype=np.float64)
    if x.shape != (neighbours.size,):
        raise errors.Invalid(f"{x.size} values do not fit a neighbour structure of {neighbours.size}.")
    missing = int((~np.isfinite(x)).sum())
    if missing:
        raise errors.Invalid(
            f"{missing} of {len(x)} values are missing: leave these cells out before looking for hot spots."
        )
    return x


def _require_enough(neighbours: Neighbours, q: float, *, own: bool) -> None:
    """Raise unless, on a map of so many, the rarest arrangement around some cell is rarer than q."""
    if not 0 < q < 1:
        raise errors.Invalid("q, the share of false hot spots that is accepted: expected more than 0 and less than 1.")
    n = neighbours.size
    counts = neighbours.counts
    sizes = np.unique(counts[counts > 0])
    if not len(sizes):
        raise errors.TooLittleData(
            f"None of the {n} cells has a neighbour, and hot spots need some: choose larger cells or a wider distance."
        )
    pool = n if own else n - 1
    ways = max(_log_choices(pool, int(m) + own) for m in sizes)
    rarest = 2.0 * math.exp(-ways)
    if rarest > q:
        raise errors.TooLittleData(
            f"With {n} cells no hot spot can be told from chance: p cannot fall below {min(rarest, 1.0):.2g}. "
            "Choose smaller cells or a larger region."
        )


def _log_choices(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _weighted(neighbours: Neighbours, weights: Weights, *, own: bool) -> sparse.csr_array:
    """The weights: with `own` each cell is its own neighbour; islands have none."""
    matrix = neighbours.matrix
    counts = neighbours.counts
    if own:
        matrix = sparse.csr_array(matrix + sparse.diags_array((counts > 0).astype(np.float64)))
        matrix.eliminate_zeros()
    if weights == "row":
        share = np.where(counts > 0, 1.0 / np.maximum(counts + own, 1), 0.0)
        matrix = sparse.csr_array(sparse.diags_array(share) @ matrix)
    return sparse.csr_array(matrix)


def _sums(matrix: sparse.csr_array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each row the sum of weights and of their squares."""
    return np.asarray(matrix.sum(axis=1)).ravel(), np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel()


def _gi_star(x: NDArray[np.float64], matrix: sparse.csr_array) -> NDArray[np.float64]:
    return _gi_star_maps(x[None, :], matrix)[0]


def _gi_star_maps(maps: NDArray[np.float64], matrix: sparse.csr_array) -> NDArray[np.float64]:
    """Equation 14 for maps of values (m, n); 0 where all values of a map are the same."""
    n = maps.shape[1]
    total, squares = _sums(matrix)
    centred = maps - maps.mean(axis=1, keepdims=True)
    deviation = centred.std(axis=1, keepdims=True)
    spread = np.sqrt(np.maximum((n * squares - total**2) / (n - 1), 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.asarray(matrix @ centred.T).T / (deviation * spread)
    tiny = deviation[:, 0] <= 1e-13 * np.abs(maps).max(axis=1, initial=0.0)
    z[tiny] = 0.0
    z[:, spread <= 1e-12 * np.maximum(total, 1.0)] = 0.0  # everybody's neighbour: no distance to speak of
    return z


def _moran(
    d: NDArray[np.float64], matrix: sparse.csr_array, *, flat: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Iᵢ and its distance from the conditional expectation, for values less their mean."""
    n = len(d)
    if flat:
        return np.zeros(n), np.zeros(n)
    square = (d**2).sum()
    lag = np.asarray(matrix @ d)
    total, squares = _sums(matrix)
    others = -d / (n - 1)
    variance = (square - d**2) / (n - 1) - others**2
    spread = np.sqrt(np.maximum(variance * (squares - total**2 / (n - 1)) * (n - 1) / (n - 2), 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.sign(d) * (lag - total * others) / spread
    z[~np.isfinite(z)] = 0.0
    return (n - 1) * d * lag / square, z


def _moran_maps(maps: NDArray[np.float64], matrix: sparse.csr_array) -> NDArray[np.float64]:
    centred = maps - maps.mean(axis=1, keepdims=True)
    square = (centred**2).sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        made = (maps.shape[1] - 1) * centred * np.asarray(matrix @ centred.T).T / square
    made[square[:, 0] <= 0] = 0.0
    return made


def _draws(asked: int | None, neighbours: Neighbours, q: float, *, maps: bool = False) -> int:
    """How many random maps: as many as one cell alone needs to pass FDR, within what a map may cost."""
    if asked is not None:
        if asked < FEWEST_DRAWS:
            raise errors.Invalid(f"Random maps: at least {FEWEST_DRAWS}; with fewer no cell could pass FDR.")
        return asked
    cost = neighbours.size if maps else int(neighbours.counts.max(initial=0)) + 1
    return max(FEWEST_DRAWS, min(max(USUAL_DRAWS, math.ceil(2 * neighbours.size / q)), _NUMBERS // cost))


def _simulated(
    observed: NDArray[np.float64],
    events: NDArray[np.float64],
    exposure: NDArray[np.float64],
    found: rates.Moments,
    draws: int,
    seed: int,
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> Tails:
    rng = np.random.default_rng(seed)
    n = len(observed)
    above, below = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    slack = 1e-9 * np.maximum(1.0, np.abs(observed))
    step = max(1, _CHUNK // (4 * n))
    for start in range(0, draws, step):
        maps = rates.random_maps(events, exposure, found, min(step, draws - start), rng)
        made = statistic(rates.standardised_maps(maps, exposure, found.family))
        above += (made >= observed - slack).sum(axis=0)
        below += (made <= observed + slack).sum(axis=0)
    return Tails(above, below, draws)


def _mean_around(x: NDArray[np.float64], neighbours: Neighbours) -> NDArray[np.float64]:
    return (np.asarray(neighbours.matrix @ x) + x) / (neighbours.counts + 1)


def _rate_around(y: NDArray[np.float64], e: NDArray[np.float64], neighbours: Neighbours) -> NDArray[np.float64]:
    return (np.asarray(neighbours.matrix @ y) + y) / (np.asarray(neighbours.matrix @ e) + e)


def _hot_or_cold(z: NDArray[np.float64]) -> NDArray[np.str_]:
    return np.where(z > 0, "hot", "cold")


def _quadrant(d: NDArray[np.float64], matrix: sparse.csr_array) -> NDArray[np.str_]:
    lag = np.asarray(matrix @ d)
    own = np.where(d > 0, "high-", "low-")
    return np.char.add(own, np.where(lag > 0, "high", "low"))


def _result(
    method: str,
    inference: str,
    statistic: NDArray[np.float64],
    z: NDArray[np.float64],
    tails: Tails | None,
    neighbours: Neighbours,
    kind: NDArray[np.str_],
    local: NDArray[np.float64],
    overall: float,
    q: float,
    fdr: FalseDiscoveries,
    *,
    flat: bool = False,
) -> LocalStatistics:
    islands = neighbours.islands
    if flat:
        p = np.ones(len(z))
    elif tails is not None:
        p = tails.two_sided()
    else:
        p = 2.0 * stats.norm.sf(np.abs(z))
    statistic, z, p, local = (np.array(part, dtype=np.float64) for part in (statistic, z, p, local))
    for part in (statistic, z, p):
        part[islands] = np.nan
    p_adjusted = adjust(p, fdr)
    label = np.where(p_adjusted <= q, kind, "none").astype("<U9")
    label[islands] = "island"
    notes = []
    if flat:
        notes.append("All values are the same: there is no hot or cold spot.")
    if len(islands):
        notes.append(f"{len(islands)} of {len(z)} cells have no neighbour and are neither hot nor cold.")
    draws = 0 if tails is None else tails.draws
    tests = len(z) - len(islands)
    if draws and 2.0 / (draws + 1.0) > q / tests:
        together = math.ceil(2.0 / (draws + 1.0) * tests / q)
        notes.append(
            f"{draws:,} random maps were made for {tests:,} cells: fewer than {together} hot or cold cells together "
            "cannot be told from chance; make more of them, or larger cells."
        )
    return LocalStatistics(
        method, inference, statistic, z, p, p_adjusted, label, local, overall, islands, q, draws, tuple(notes)
    )
