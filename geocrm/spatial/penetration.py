"""How many of an area's people are customers, and how many would be if the area were like its peers?

Pure. The share of each area has an exact interval (Clopper & Pearson 1934, "The use of confidence or fiducial limits",
Biometrika 26, 404–413). Shares of small areas are drawn towards those of all by a hierarchical beta-binomial model
(Gelman, Carlin, Stern, Dunson, Vehtari & Rubin 2013, "Bayesian Data Analysis", section 5.3, with its prior
p(α, β) ∝ (α + β)^(−5/2)), whose two parameters are integrated over on a grid, so that the intervals own up to not
knowing them. Potential is what an area would have with a share drawn from its peers', the area itself left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from geocrm import errors
from geocrm.spatial.intervals import of_share

FEWEST_AREAS: Final = 5
"""Areas that it takes to say how much areas differ."""
_DRAWS: Final = 4_000
_SIDE: Final = 25
_CHUNK: Final = 4_000_000


@dataclass(frozen=True)
class Spread:
    """How the true shares of areas are spread, as far as is known: beta distributions with parameters `alpha`, `beta`
    (m,), and how likely each is, `weight` (m,), given the data."""

    alpha: NDArray[np.float64]
    beta: NDArray[np.float64]
    weight: NDArray[np.float64]


@dataclass(frozen=True)
class Penetration:
    """Arrays (n,) by area; NaN where the population is not known. `share` with its exact interval `low` to `high`;
    `shrunk`, drawn towards the others', with `shrunk_low` to `shrunk_high` (NaN with fewer than 5 areas). `known`: the
    population is known and not below the number of customers. `overall`: customers per population where known."""

    share: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    shrunk: NDArray[np.float64]
    shrunk_low: NDArray[np.float64]
    shrunk_high: NDArray[np.float64]
    known: NDArray[np.bool_]
    overall: float
    level: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Potential:
    """Arrays (n,) by area; NaN where population or peers are lacking. `customers`: expected of an area of this
    population among its peers, less those it has; `low` to `high`: the same for the range that peers of its size have.
    `sales`, `sales_low`, `sales_high` likewise, NaN where no sales were given. Negative: more than peers have."""

    customers: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    sales: NDArray[np.float64]
    sales_low: NDArray[np.float64]
    sales_high: NDArray[np.float64]
    level: float
    notes: tuple[str, ...]


def penetration(customers: ArrayLike, population: ArrayLike, *, seed: int, level: float = 0.95) -> Penetration:
    """Customers per population (people or households, as the caller counts) of areas (n,).

    A population that is missing (NaN) or not positive is said in `notes` and never made up; nor is a share where there
    are more customers than population. Raises errors.Invalid for counts that cannot be, errors.TooLittleData where no
    population is known at all."""
    c, p, known, notes = _checked(customers, population, level)
    n = len(c)
    share, low, high, shrunk, shrunk_low, shrunk_high = (np.full(n, np.nan) for _ in range(6))
    share[known] = c[known] / p[known]
    low[known], high[known] = of_share(c[known], p[known], level)
    overall = float(c[known].sum() / p[known].sum())
    if known.sum() < FEWEST_AREAS:
        notes.append(f"With fewer than {FEWEST_AREAS} areas shares are not drawn towards each other.")
    elif c[known].sum() == 0:
        notes.append("There is no customer in any area of known population.")
    else:
        spread = spread_of(c[known], p[known])
        shrunk[known], shrunk_low[known], shrunk_high[known] = _shrunk(c[known], p[known], spread, seed, level)
    return Penetration(share, low, high, shrunk, shrunk_low, shrunk_high, known, overall, level, tuple(notes))


def potential(
    customers: ArrayLike,
    population: ArrayLike,
    *,
    seed: int,
    peers: ArrayLike | None = None,
    sales: ArrayLike | None = None,
    level: float = 0.95,
) -> Potential:
    """What areas (n,) would have more if they were like their peers: areas of the same label in `peers` (None: all).

    Expected customers are population times the peers' mean share; the interval is that of the number of customers of an
    area of this population whose share is drawn from the spread of the peers', all without the area itself. Expected
    sales are expected customers times the peers' sales per customer; in the interval each number of customers meets the
    sales per customer of a peer drawn by its customers. Areas with fewer than 5 of known population among their peers
    are NaN and said in `notes`. Raises as `penetration`."""
    c, p, known, notes = _checked(customers, population, level)
    n = len(c)
    label = np.zeros(n, dtype=np.int64) if peers is None else np.unique(np.asarray(peers), return_inverse=True)[1]
    s = None if sales is None else np.asarray(sales, dtype=np.float64)
    if label.shape != (n,) or (s is not None and s.shape != (n,)):
        raise errors.Invalid("Peers and sales are one for each area.")
    if s is not None and not np.isfinite(s[known]).all():
        raise errors.Invalid("Sales of some areas are missing: 0 is a number, missing is not.")
    made = np.full((6, n), np.nan)
    rng = np.random.default_rng(seed)
    alone = 0
    for kind in range(int(label.max(initial=-1)) + 1):
        rows = np.flatnonzero(known & (label == kind))
        if len(rows) < FEWEST_AREAS or c[rows].sum() == 0:
            alone += len(rows)
            continue
        spread = spread_of(c[rows], p[rows])
        made[:, rows] = _expected(c[rows], p[rows], None if s is None else s[rows], spread, rng, level)
    if alone:
        notes.append(f"{alone} areas have fewer than {FEWEST_AREAS} peers, or peers without customers: no potential.")
    made[:3] -= c
    if s is not None:
        made[3:] -= s
    return Potential(made[0], made[1], made[2], made[3], made[4], made[5], level, tuple(notes))


def spread_of(successes: NDArray[np.float64], trials: NDArray[np.float64]) -> Spread:
    """The posterior of the shares' distribution, Gelman et al. (2013), equations 5.8–5.10, on a grid in logit of the
    mean and logarithm of α + β that is drawn close around what is likely. (n,) each, at least one success."""
    pooled = float(np.clip(successes.sum() / trials.sum(), 1e-9, 1 - 1e-9))
    middle = float(special.logit(pooled))
    most = float(np.log(max(1e4, 100.0 * trials.max())))  # beyond that, shares do not differ visibly
    box = [(middle - 6.0, middle + 6.0), (np.log(0.01), most)]
    for _ in range(7):
        axes = [np.linspace(start, end, _SIDE) for start, end in box]
        place, size = (part.ravel() for part in np.meshgrid(*axes, indexing="ij"))
        mean, total = special.expit(place), np.exp(size)
        alpha, beta = mean * total, (1 - mean) * total
        value = np.log(alpha) + np.log(beta) - 2.5 * size + _log_likelihood(successes, trials, alpha, beta).sum(axis=0)
        value -= value.max()
        likely = value > -16.0
        steps = [axis[1] - axis[0] for axis in axes]
        box = [
            (place[likely].min() - steps[0], place[likely].max() + steps[0]),
            (max(size[likely].min() - steps[1], np.log(0.01)), min(size[likely].max() + steps[1], most)),
        ]
    weight = np.exp(value)
    kept = weight > 1e-6
    return Spread(alpha[kept], beta[kept], weight[kept] / weight[kept].sum())


def _log_likelihood(
    successes: NDArray[np.float64], trials: NDArray[np.float64], alpha: NDArray[np.float64], beta: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Of each area under each beta-binomial, (areas, parameters), but for a constant of the area."""
    y, n = successes[:, None], trials[:, None]
    return (
        special.gammaln(alpha + y) + special.gammaln(beta + n - y) - special.gammaln(alpha + beta + n)
        - (special.gammaln(alpha) + special.gammaln(beta) - special.gammaln(alpha + beta))
    )  # fmt: skip


def _shrunk(
    c: NDArray[np.float64], p: NDArray[np.float64], spread: Spread, seed: int, level: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    node = _spread_out(spread.weight, rng)
    alpha, beta = spread.alpha[node], spread.beta[node]
    mean, low, high = (np.empty(len(c)) for _ in range(3))
    step = max(1, _CHUNK // _DRAWS)
    for start in range(0, len(c), step):
        part = slice(start, start + step)
        y, n = c[part, None], p[part, None]
        mean[part] = ((spread.alpha + y) / (spread.alpha + spread.beta + n)) @ spread.weight
        drawn = rng.beta(alpha + y, beta + n - y)
        low[part], high[part] = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=1)
    return mean, low, high


def _expected(
    c: NDArray[np.float64],
    p: NDArray[np.float64],
    s: NDArray[np.float64] | None,
    spread: Spread,
    rng: np.random.Generator,
    level: float,
) -> NDArray[np.float64]:
    """Customers and sales of each area as its peers would have them: expected, low, high, (6, n)."""
    made = np.full((6, len(c)), np.nan)
    mean = spread.alpha / (spread.alpha + spread.beta)
    ends = [(1 - level) / 2, (1 + level) / 2]
    bought = np.flatnonzero(c > 0)
    for i in range(len(c)):
        # the posterior without this area: its own likelihood divided out
        own = _log_likelihood(c[i : i + 1], p[i : i + 1], spread.alpha, spread.beta)[0]
        weight = spread.weight * np.exp(own.min() - own)
        weight /= weight.sum()
        node = _spread_out(weight, rng)
        made[0, i] = p[i] * (weight @ mean)
        drawn = rng.binomial(np.int64(p[i]), rng.beta(spread.alpha[node], spread.beta[node]))
        made[1:3, i] = np.quantile(drawn, ends)
        others = bought[bought != i]
        if s is not None and len(others) >= FEWEST_AREAS - 1:
            customers = c[others]
            made[3, i] = made[0, i] * s[others].sum() / customers.sum()
            peer = others[_spread_out(customers / customers.sum(), rng)]
            made[4:6, i] = np.quantile(drawn * s[peer] / c[peer], ends)
    return made


def _spread_out(weight: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Positions drawn by weight, evenly (systematic sampling), in random order, (4,000,)."""
    at = (np.arange(_DRAWS) + rng.random()) / _DRAWS
    chosen = np.minimum(np.searchsorted(np.cumsum(weight), at), len(weight) - 1)
    return np.asarray(rng.permutation(chosen))


def _checked(
    customers: ArrayLike, population: ArrayLike, level: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_], list[str]]:
    c, p = np.asarray(customers, dtype=np.float64), np.asarray(population, dtype=np.float64)
    if c.shape != p.shape or c.ndim != 1:
        raise errors.Invalid("Customers and population differ in number of areas.")
    if not ((c >= 0) & np.isfinite(c) & (c == np.floor(c))).all():
        raise errors.Invalid("Customers by area are whole numbers of at least 0.")
    if not 0 < level < 1:
        raise errors.Invalid("The level of an interval lies between 0 and 1, such as 0.95.")
    given = np.isfinite(p) & (p > 0)
    p = np.where(given, np.floor(np.where(given, p, 1.0)), np.nan)
    given &= p >= 1
    known = given & (c <= np.where(given, p, 0.0))
    notes = []
    if not given.all():
        notes.append(f"The population of {int((~given).sum())} of {len(c)} areas is not known: they have no share.")
    crowded = given & ~known
    if crowded.any():
        notes.append(
            f"{int(crowded.sum())} of {len(c)} areas have more customers than population: look whether both count the "
            "same (people or households); they have no share."
        )
    if not known.any():
        raise errors.TooLittleData(
            "No area has a usable population: penetration needs one, as an attribute of the layer."
        )
    return c, p, known, notes
