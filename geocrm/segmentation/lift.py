"""Which things go together in baskets more than chance would put them: pure statistics of counts.

Pure. A pair of things is four counts: baskets with `both`, with the `first`, with the `second`, and all `baskets`.
Support, confidence and lift are those of Agrawal, Imieliński & Swami (1993), "Mining association rules between sets of
items in large databases", SIGMOD, and Brin, Motwani, Ullman & Tsur (1997), "Dynamic itemset counting", SIGMOD. The test
is the exact one of Fisher (1934), one-sided: more together than by chance; one test a pair is many tests, so p-values
are adjusted over all pairs that could have been seen together (Benjamini & Hochberg 1995). Lifts of few baskets are
shrunken by the gamma-Poisson model of DuMouchel (1999). Whether a pair differs between regions is asked by the test of
Breslow & Day (1980) with the correction of Tarone (1985).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from geocrm.errors import Invalid, NotConverged, TooLittleData
from geocrm.spatial import intervals
from geocrm.spatial.hotspots import adjust

FEWEST_FOR_PRIOR: Final = 30
"""So many pairs it takes to learn what lifts are usual."""
LEAST_FITTED: Final = 2.0
"""The smallest fitted count that a region takes part in a comparison with."""
_GRID: Final = 20.0  # bins of the logarithm of what is expected, where a prior is fitted to many pairs
_MANY: Final = 5_000

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Association:
    """Pairs, arrays (n,). `support`: share of baskets with both; `confidence`: share with the second among those with
    the first, `confidence_back` the other way round; `expected` baskets with both by chance; `lift`: both ÷ expected,
    above 1 more than by chance. `_low` and `_high` bound each at the level of confidence. `p` one-sided, `p_adjusted`
    over `tests` pairs."""

    support: Floats
    support_low: Floats
    support_high: Floats
    confidence: Floats
    confidence_low: Floats
    confidence_high: Floats
    confidence_back: Floats
    expected: Floats
    lift: Floats
    lift_low: Floats
    lift_high: Floats
    p: Floats
    p_adjusted: Floats
    tests: int


@dataclass(frozen=True)
class Prior:
    """What lifts are usual: a mixture of two gamma distributions, `weight` that of the first, with shapes and rates."""

    weight: float
    shapes: tuple[float, float]
    rates: tuple[float, float]
    loglik: float


@dataclass(frozen=True)
class Shrunken:
    """Lifts drawn to what is usual, (n,): `lift` the geometric mean of what is likely (DuMouchel's EBGM), `low` what it
    exceeds in 95 % of cases (EB05)."""

    lift: Floats
    low: Floats


@dataclass(frozen=True)
class Comparison:
    """Pairs between regions, arrays (n,): `odds_ratio` common to all regions (Mantel & Haenszel 1959), `statistic` of
    Breslow & Day and `corrected` by Tarone, χ² with `regions` − 1 degrees of freedom where all regions are alike, `p`
    of the latter; NaN where fewer than two regions can be compared."""

    odds_ratio: Floats
    statistic: Floats
    corrected: Floats
    regions: NDArray[np.int64]
    p: Floats


def associate(
    both: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    baskets: ArrayLike,
    *,
    tests: int | None = None,
    clumping: ArrayLike = 1.0,
    expected: ArrayLike | None = None,
    level: float = intervals.LEVEL,
) -> Association:
    """Pairs of these counts, which broadcast to (n,). `tests`: pairs of which these were found, those never together
    too, whose p-value is 1. `clumping`: by how much the variance of `both` exceeds that of independent baskets, at
    least 1 (see `clumping_of`); above 1 p is the Poisson tail of the counts divided by it. `expected`: baskets
    with both by chance where it is not first × second ÷ baskets (see `expected_by_size`); p and interval are Poisson's.

    Intervals of shares are exact (Clopper & Pearson 1934); that of the lift is Garwood's (1936) of a Poisson count, on
    counts scaled so that the variance is the one the logarithm of a lift has in n baskets by the delta method, which is
    never more than Poisson's. Raises errors.Invalid for counts that do not fit together."""
    n, a, b, total, clump = _checked(both, first, second, baskets, clumping)
    made = len(n) if tests is None else tests
    if made < len(n):
        raise Invalid(f"{len(n):,} pairs were found, so at least as many were tested, not {made:,}.")
    chance = a * b / total if expected is None else np.broadcast_to(np.asarray(expected, dtype=np.float64), n.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        lift = n / chance
        variance = 1 - n * (1 / a + 1 / b) + n / total * (2 * lift - 1)
    scale = clump.copy()
    if expected is None:
        scale *= np.clip(np.where(np.isfinite(variance), variance, 1.0), 1e-6, 1.0)
    low, high = intervals.of_rate(n / scale, chance / scale, level)
    support = intervals.of_share(n / clump, total / clump, level)
    confidence = intervals.of_share(n / clump, a / clump, level)
    p = np.ones(len(n))
    alone = (clump == 1) & (expected is None)
    p[alone] = upper_tail(n[alone], a[alone], b[alone], total[alone])
    shared = ~alone & (n > 0)
    p[shared] = special.gammainc(n[shared] / clump[shared], chance[shared] / clump[shared])
    with np.errstate(divide="ignore", invalid="ignore"):
        return Association(
            support=n / total,
            support_low=support[0],
            support_high=support[1],
            confidence=n / a,
            confidence_low=confidence[0],
            confidence_high=confidence[1],
            confidence_back=n / b,
            expected=chance,
            lift=lift,
            lift_low=low,
            lift_high=high,
            p=p,
            p_adjusted=adjust_among(p, made),
            tests=made,
        )


def expected_by_size(
    counts: ArrayLike, sizes: ArrayLike, first: NDArray[np.int64], second: NDArray[np.int64]
) -> Floats:
    """Baskets with both items of pairs (n,) by chance, given how many items each basket holds and how often each
    item is in baskets of each size: `counts` (sizes, items), `sizes` (sizes,), first and second positions of items.

    Who buys much has more of everything: taken all together, nearly all pairs go together for that alone. Among baskets
    of one size s a pair is expected in proportion to the product of its items' counts, scaled so that all pairs come to
    the s (s − 1) / 2 that each basket holds."""
    held, size = np.asarray(counts, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
    made = np.zeros(len(first))
    for row, s in zip(held, size, strict=True):
        total = row.sum()
        pairs = total * total - row @ row  # twice the sum over all pairs of products of counts
        if s > 1 and pairs > 0:
            made += row[first] * row[second] * (total * (s - 1) / pairs)
    return made


def adjust_among(p: ArrayLike, tests: int) -> Floats:
    """p-values (n,) after Benjamini & Hochberg, where they are the ones below 1 of so many `tests`."""
    given = np.asarray(p, dtype=np.float64)
    tested = int((~np.isnan(given)).sum())
    return np.minimum(adjust(given) * (tests / tested), 1.0) if tested else given.copy()


def clumping_of(both: ArrayLike, squares: ArrayLike) -> Floats:
    """By how much the variance of counts of baskets exceeds that of independent ones, where baskets come from customers
    who repeat themselves: Σ n² ÷ Σ n over the customers of each pair, that of a compound Poisson count; at least 1."""
    n, square = np.asarray(both, dtype=np.float64), np.asarray(squares, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(n > 0, np.maximum(square / n, 1.0), 1.0)


def upper_tail(both: ArrayLike, first: ArrayLike, second: ArrayLike, baskets: ArrayLike) -> Floats:
    """Probability of at least `both` baskets with both by chance, given the other counts: hypergeometric, the one-sided
    exact test of Fisher (1934). Summed from its largest term, until a term no longer changes the sum."""
    n, a, b, total, _ = _checked(both, first, second, baskets, 1.0)
    least = np.maximum(a + b - total, 0)
    mode = np.floor((a + 1) * (b + 1) / (total + 2))
    up = n > mode
    start = np.where(up, n, n - 1)
    counts = start >= least
    k = np.where(counts, start, least)
    log_first = (
        _log_choose(a, k) + _log_choose(total - a, b - k) - _log_choose(total, b)
    )  # of k among a, b − k among the rest
    term, summed = np.ones(len(n)), np.ones(len(n))
    active = np.flatnonzero(counts)
    while len(active):
        x, y, z, at = a[active], b[active], total[active], k[active]
        rising = (x - at) * (y - at) / ((at + 1) * (z - x - y + at + 1))
        with np.errstate(divide="ignore", invalid="ignore"):
            falling = at * (z - x - y + at) / ((x - at + 1) * (y - at + 1))
        term[active] *= np.where(up[active], rising, falling)
        k[active] += np.where(up[active], 1, -1)
        summed[active] += term[active]
        active = active[term[active] > summed[active] * 1e-17]
    tail = np.where(counts, np.exp(np.minimum(log_first + np.log(summed), 0.0)), 0.0)
    return np.where(up, tail, 1 - tail)


def fit_prior(both: ArrayLike, expected: ArrayLike) -> Prior:
    """The prior of lifts from pairs with both > 0: DuMouchel (1999), "Bayesian data mining in large frequency tables,
    with an application to the FDA spontaneous reporting system", The American Statistician 53, 177–190, equations 2–5;
    by the likelihood given that a pair was seen at all (DuMouchel & Pregibon 2001), since unseen ones are not listed.
    With many pairs, those of one count and nearly one expectation are taken together (squashing).

    Raises errors.TooLittleData, errors.NotConverged."""
    n, e = np.asarray(both, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    seen = (n > 0) & (e > 0)
    n, e = n[seen], e[seen]
    if len(n) < FEWEST_FOR_PRIOR:
        raise TooLittleData(
            f"Shrunken lifts need at least {FEWEST_FOR_PRIOR} pairs that were seen together, to learn what is usual;"
            f" there are {len(n)}."
        )
    weights = np.ones(len(n))
    if len(n) > _MANY:
        rough = np.where(n <= 100, n, np.round(np.exp(np.round(np.log(n) * 50) / 50)))
        groups, at = np.unique(np.column_stack([rough, np.round(np.log(e) * _GRID)]), axis=0, return_inverse=True)
        weights = np.bincount(at.ravel(), minlength=len(groups)).astype(np.float64)
        n, e = groups[:, 0], np.exp(np.bincount(at.ravel(), weights=np.log(e)) / weights)

    def loss(theta: Floats) -> float:
        share = special.expit(theta[0])
        one, two = ((_log_negative_binomial(n, e, np.exp(theta[i]), np.exp(theta[i + 1])), i) for i in (1, 3))
        none = [-np.exp(theta[i]) * np.log1p(e / np.exp(theta[i + 1])) for i in (1, 3)]
        seen_at = np.logaddexp(np.log(share) + one[0], np.log1p(-share) + two[0])
        never = np.logaddexp(np.log(share) + none[0], np.log1p(-share) + none[1])
        return -float(weights @ (seen_at - np.log(-np.expm1(np.minimum(never, -1e-12)))))

    begins = [(0.2, 0.1, 2.0, 4.0, 1 / 3), (5.0, 5.0, 0.5, 0.2, 0.8), (20.0, 20.0, 2.0, 1.0, 0.9)]
    bounds = [(-7.0, 7.0), *[(-5.0, 9.0)] * 4]
    fits = [
        optimize.minimize(
            loss, [special.logit(p), *np.log([a1, b1, a2, b2])], method="L-BFGS-B", bounds=bounds,
            options={"maxiter": 300},
        )
        for a1, b1, a2, b2, p in begins
    ]  # fmt: skip
    best = min(fits, key=lambda fit: float(fit.fun) if np.isfinite(fit.fun) else np.inf)
    if not np.isfinite(best.fun):
        raise NotConverged("No distribution of usual lifts fits these pairs.")
    a1, b1, a2, b2 = (float(v) for v in np.exp(best.x[1:]))
    return Prior(float(special.expit(best.x[0])), (a1, a2), (b1, b2), -float(best.fun))


def shrink(both: ArrayLike, expected: ArrayLike, prior: Prior) -> Shrunken:
    """Lifts (n,) drawn to the prior by how little their counts say: DuMouchel (1999), equations 7–10."""
    n, e = np.atleast_1d(np.asarray(both, dtype=np.float64)), np.atleast_1d(np.asarray(expected, dtype=np.float64))
    if not ((n >= 0).all() and (e > 0).all() and np.isfinite(n).all() and np.isfinite(e).all()):
        raise Invalid("A lift is shrunken by a count of at least 0 and an expectation above 0.")
    logs = [_log_negative_binomial(n, e, a, b) for a, b in zip(prior.shapes, prior.rates, strict=True)]
    with np.errstate(divide="ignore"):
        odds = np.log(prior.weight) - np.log1p(-prior.weight) + logs[0] - logs[1]
    q = special.expit(odds)
    shapes, rates = [a + n for a in prior.shapes], [b + e for b in prior.rates]
    means = [special.psi(a) - np.log(b) for a, b in zip(shapes, rates, strict=True)]
    ends = np.log([special.gammaincinv(a, 0.05) / b + 1e-300 for a, b in zip(shapes, rates, strict=True)])
    low, high = ends.min(axis=0), ends.max(axis=0)
    for _ in range(40):  # halves the way between the 5 % points of the two parts
        middle = (low + high) / 2
        below = q * special.gammainc(shapes[0], rates[0] * np.exp(middle)) + (1 - q) * special.gammainc(
            shapes[1], rates[1] * np.exp(middle)
        )
        low, high = np.where(below < 0.05, middle, low), np.where(below < 0.05, high, middle)
    return Shrunken(np.exp(q * means[0] + (1 - q) * means[1]), np.exp((low + high) / 2))


def compare(
    both: ArrayLike, first: ArrayLike, second: ArrayLike, baskets: ArrayLike, *, clumping: ArrayLike = 1.0
) -> Comparison:
    """Do pairs go together alike in all regions? Counts (n, regions), `clumping` (n,): Breslow & Day (1980),
    "Statistical methods in cancer research I", equation 4.30; Tarone (1985), Biometrika 72, 91–95.

    A region takes part where each of its four cells has a fitted count of at least 2. The odds ratio, not the lift, is
    compared: a lift is bounded by how common both are, so that equal habits would differ where they are commoner."""
    n, a, b, total = np.broadcast_arrays(
        *(np.atleast_2d(np.asarray(x, np.float64)) for x in (both, first, second, baskets))
    )
    n, a, b, total, _ = (x.reshape(n.shape) for x in _checked(n.ravel(), a.ravel(), b.ravel(), total.ravel(), 1.0))
    some = np.where(total > 0, total, 1.0)
    taking = total > 0
    for _ in range(2):  # who takes part follows from the common odds ratio, and it from who takes part
        above = np.where(taking, n * (total - a - b + n) / some, 0.0).sum(axis=1)
        below = np.where(taking, (a - n) * (b - n) / some, 0.0).sum(axis=1)
        known = (above > 0) & (below > 0)
        psi = np.where(known, above / np.where(known, below, 1.0), 1.0)[:, None]
        s = total - a - b + psi * (a + b)
        root = np.sqrt(np.maximum(s * s + 4 * (1 - psi) * psi * a * b, 0.0))
        fitted = 2 * psi * a * b / np.where(s + root > 0, s + root, 1.0)
        cells = np.stack([fitted, a - fitted, b - fitted, total - a - b + fitted])
        taking = (total > 0) & (cells.min(axis=0) >= LEAST_FITTED) & known[:, None]
    variance = np.where(taking, 1 / (1 / np.where(taking, cells, 1.0)).sum(axis=0), 0.0)
    away = np.where(taking, n - fitted, 0.0)
    regions = taking.sum(axis=1)
    clump = np.broadcast_to(np.asarray(clumping, dtype=np.float64), regions.shape)
    enough = regions > 1
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = np.where(taking, away**2 / np.where(taking, variance, 1.0), 0.0).sum(axis=1) / clump
        corrected = np.maximum(statistic - away.sum(axis=1) ** 2 / variance.sum(axis=1) / clump, 0.0)
    p = np.where(enough, special.chdtrc(np.maximum(regions - 1, 1), np.where(enough, corrected, 0.0)), np.nan)
    return Comparison(
        odds_ratio=np.where(known, psi[:, 0], np.nan),
        statistic=np.where(enough, statistic, np.nan),
        corrected=np.where(enough, corrected, np.nan),
        regions=regions.astype(np.int64),
        p=p,
    )


def _log_negative_binomial(n: Floats, e: Floats, shape: float, rate: float) -> Floats:
    """Logarithm of the probability of n where λ is gamma distributed and n Poisson with mean λ e."""
    return np.asarray(
        special.gammaln(shape + n) - special.gammaln(shape) - special.gammaln(n + 1)
        - shape * np.log1p(e / rate) - n * np.log1p(rate / e)
    )  # fmt: skip


def _log_choose(n: Floats, k: Floats) -> Floats:
    return np.asarray(special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1))


def _checked(
    both: ArrayLike, first: ArrayLike, second: ArrayLike, baskets: ArrayLike, clumping: ArrayLike
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    n, a, b, total, clump = np.broadcast_arrays(
        *(np.atleast_1d(np.asarray(x, dtype=np.float64)) for x in (both, first, second, baskets, clumping))
    )
    whole = np.stack([n, a, b, total])
    if not (np.isfinite(whole).all() and (whole == np.floor(whole)).all()):
        raise Invalid("Baskets are counted in whole numbers.")
    fits = (n >= 0) & (n <= a) & (n <= b) & (a <= total) & (b <= total) & (n >= a + b - total) & (clump >= 1)
    if not fits.all():
        raise Invalid("Counts of a pair do not fit together: expected both ≤ first, second ≤ baskets, and the overlap.")
    return n.copy(), a, b, total, clump
