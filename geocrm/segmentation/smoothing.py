"""Exponential smoothing of many series at once, in state space form with additive errors, and what there is for series
that are mostly zero.

With level l, trend b, season s, parameters α, β, γ, φ and error ε_t = y_t − μ_t (Hyndman, Koehler, Ord and Snyder:
Forecasting with Exponential Smoothing, 2008, table 2.2; Hyndman and Athanasopoulos: Forecasting: Principles and
Practice, 3rd edition, 2021, chapter 8)::

    (A,Ad,A)  μ_t = l + φb + s_{t−m}      l' = l + φb + αε        b' = φb + βε        s' = s_{t−m} + γε
    (A,Ad,M)  μ_t = (l + φb) s_{t−m}      l' = l + φb + αε/s      b' = φb + βε/s      s' = s_{t−m} + γε/(l + φb)

and (A,N,N), (A,Ad,N) without what they lack. α lies in (0, 1), β in (0, α), γ in (0, 1 − α), φ in (0.8, 0.98). The
errors being normal, the likelihood is greatest where their squares sum to the least: Levenberg and Marquardt's method,
for all series side by side, over parameters, first level and first trend. The first season is that of a classical
decomposition and stays (the same, section 2.6.1).

A row is one series; its periods from `starts` to before `ends` are read, the others are not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Season = Literal["none", "additive", "multiplicative"]

PHI_LOW: Final = 0.8
PHI_HIGH: Final = 0.98
_STEPS: Final = 40
_STEPS_QUICK: Final = 12
_GAIN: Final = 1e-8
_GAIN_QUICK: Final = 1e-3
"""Where a step lowers the sum of squares by less than this part of it, it was the last."""
_FARTHEST: Final = 7.0  # of a logit: parameters between 0.001 and 0.999
_STARTS: Final = ((0.3, 0.1, 0.1), (0.05, 0.3, 0.05), (0.6, 0.05, 0.3), (0.9, 0.3, 0.5))
"""α, β/α and γ/(1 − α) that the search begins from; a quick one from the first alone."""
_SIZES: Final = (0.05, 0.1, 0.15, 0.2, 0.3)


@dataclass(frozen=True)
class Smoothed:
    """Series fitted: parameters (n,), NaN where the model has none, and where it ends."""

    alpha: Floats
    beta: Floats
    gamma: Floats
    phi: Floats
    first_level: Floats
    first_trend: Floats
    squares: Floats
    """Sum of the squared errors of one step, (n,)."""
    errors: Floats
    """One step ahead, (n, t); 0 in periods not read."""
    means: Floats
    """Forecasts, (n, horizon)."""


@dataclass(frozen=True)
class _Model:
    """Which parameters there are: α, then (β, φ), then γ, as logits; then the first level, then the first trend."""

    trend: bool
    season: Season

    @property
    def size(self) -> int:
        return 2 + 3 * self.trend + (self.season != "none")

    def first(self, level: Floats, slope: Floats, start: tuple[float, float, float]) -> Floats:
        columns: list[Any] = [logit(start[0])]
        columns += [logit(start[1]), logit(2 / 3)] if self.trend else []
        columns += [logit(start[2])] if self.season != "none" else []
        columns += [level, slope] if self.trend else [level]
        return np.column_stack(np.broadcast_arrays(*columns)).astype(np.float64)

    def natural(self, theta: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats, Floats]:
        """α, β, γ, φ, level, trend from (…, size)."""
        nothing = np.zeros(theta.shape[:-1])
        logits = theta[..., : self.size - 1 - self.trend]
        share = expit(logits)
        alpha = share[..., 0]
        beta = alpha * share[..., 1] if self.trend else nothing
        phi = PHI_LOW + (PHI_HIGH - PHI_LOW) * share[..., 2] if self.trend else nothing
        gamma = (1 - alpha) * share[..., -1] if self.season != "none" else nothing
        level = theta[..., -2] if self.trend else theta[..., -1]
        return alpha, beta, gamma, phi, level, theta[..., -1] if self.trend else nothing

    def bounded(self, theta: Floats) -> Floats:
        logits = self.size - 1 - self.trend
        theta[..., :logits] = np.clip(theta[..., :logits], -_FARTHEST, _FARTHEST)
        return theta


def fit(
    values: Floats,
    starts: Ints,
    ends: Ints,
    *,
    horizon: int,
    trend: bool = False,
    season: Season = "none",
    first_season: Floats | None = None,
    quick: bool = False,
) -> Smoothed:
    """Fit one model to each series and forecast it.

    Args:
        values: (n, t), finite where read.
        starts, ends: (n,), the first period read and the one after the last; at least 3 between them.
        first_season: (n, m), by period modulo m, where the model has a season; multiplicative ones above 0.
        quick: be content with parameters near the likeliest, from one beginning: for the many fits of a backtest.
    """
    model = _Model(trend, season)
    active = (np.arange(values.shape[1]) >= starts[:, None]) & (np.arange(values.shape[1]) < ends[:, None])
    sizes = np.abs(np.where(active, values, 0.0)).sum(axis=1) / active.sum(axis=1)
    unit = np.where(sizes > 0, sizes, 1.0)
    y = np.where(active, values, 0.0) / unit[:, None]
    seasons = np.zeros((len(y), 1)) if first_season is None else np.asarray(first_season, dtype=np.float64)
    if season == "additive":
        seasons = seasons / unit[:, None]
    level, slope = _line(y, active, seasons, season, starts)
    best, least = np.zeros((len(y), model.size)), np.full(len(y), np.inf)
    for start in _STARTS[: 1 if quick else None]:
        theta, squares = _least(model, y, active, seasons, model.first(level, slope, start), quick)
        better = squares < least
        best[better], least[better] = theta[better], squares[better]
    errors, means = _run(model, y, active, seasons, best, ends, horizon)
    alpha, beta, gamma, phi, first_level, first_trend = model.natural(best)
    absent = np.full(len(y), np.nan)
    return Smoothed(
        alpha=alpha,
        beta=beta if trend else absent,
        gamma=gamma if season != "none" else absent,
        phi=phi if trend else absent,
        first_level=first_level * unit,
        first_trend=first_trend * unit if trend else absent,
        squares=(errors**2).sum(axis=1) * unit**2,
        errors=errors * unit[:, None],
        means=means * unit[:, None],
    )


def _line(y: Floats, active: NDArray[np.bool_], seasons: Floats, season: Season, starts: Ints) -> tuple[Floats, Floats]:
    """Level just before, and slope over, the first ten periods read, their season taken out."""
    times = np.arange(y.shape[1])
    repeated = seasons[:, times % seasons.shape[1]]
    plain = y / repeated if season == "multiplicative" else y - repeated
    early = active & (times < starts[:, None] + 10)
    since = np.where(early, times - starts[:, None] + 1.0, 0.0)
    count = early.sum(axis=1)
    middle = since.sum(axis=1) / count
    mean = np.where(early, plain, 0.0).sum(axis=1) / count
    away = np.where(early, since - middle[:, None], 0.0)
    slope = (away * np.where(early, plain, 0.0)).sum(axis=1) / np.maximum((away**2).sum(axis=1), 1e-12)
    return mean - slope * middle, slope


def _least(
    model: _Model, y: Floats, active: NDArray[np.bool_], seasons: Floats, theta: Floats, quick: bool
) -> tuple[Floats, Floats]:
    """Levenberg (1944), Marquardt (1963): parameters (n, p) with the least sum of squared errors, and that sum (n,)."""
    width = model.size
    nudge = 1e-5
    ends = np.zeros(len(y), dtype=np.int64)

    def look(at: Floats, of: Ints) -> tuple[Floats, Floats, Floats]:
        stacked = np.concatenate([at[None], at[None] + nudge * np.eye(width)[:, None, :]])
        errors, _ = _run(model, y[of], active[of], seasons[of], stacked, ends[of], 0)
        slopes = (errors[1:] - errors[0]) / nudge  # (p, n, t)
        gradient = np.einsum("pnt,nt->np", slopes, errors[0])
        curvature = np.einsum("pnt,qnt->npq", slopes, slopes)
        return (errors[0] ** 2).sum(axis=1), gradient, curvature

    squares, gradient, curvature = look(theta, np.arange(len(y)))
    damping = np.full(len(y), 1e-2)
    moving = np.arange(len(y))
    enough = _GAIN_QUICK if quick else _GAIN
    for _ in range(_STEPS_QUICK if quick else _STEPS):
        here, bent = theta[moving], curvature[moving]
        diagonal = np.einsum("npp->np", bent) + 1e-8
        held = bent + np.eye(width) * (damping[moving, None] * diagonal + 1e-12)[:, None, :]
        step = np.linalg.solve(held, gradient[moving][..., None])[..., 0]
        step[:, : width - 1 - model.trend] = np.clip(step[:, : width - 1 - model.trend], -2, 2)
        tried = model.bounded(here - step)
        with np.errstate(over="ignore", invalid="ignore"):
            new_squares, new_gradient, new_curvature = look(tried, moving)
        finite = np.isfinite(new_curvature).all(axis=(1, 2)) & np.isfinite(new_gradient).all(axis=1)
        good = finite & (new_squares < squares[moving])  # False for NaN
        gained = np.where(good, squares[moving] - new_squares, 0.0)
        better = moving[good]
        theta[better], squares[better] = tried[good], new_squares[good]
        gradient[better], curvature[better] = new_gradient[good], new_curvature[good]
        damping[moving] = np.where(good, np.maximum(damping[moving] / 5, 1e-8), damping[moving] * 8)
        moving = moving[(gained > enough * squares[moving]) | (~good & (damping[moving] < (10 if quick else 1e4)))]
        if not len(moving):
            break
    return theta, squares


def _run(
    model: _Model,
    y: Floats,
    active: NDArray[np.bool_],
    seasons: Floats,
    theta: Floats,
    ends: Ints,
    horizon: int,
) -> tuple[Floats, Floats]:
    """Errors (…, n, t) of one step and forecasts (…, n, horizon) for parameters (…, n, p)."""
    alpha, beta, gamma, phi, level, slope = model.natural(theta)
    m = seasons.shape[1]
    state = [np.broadcast_to(seasons[:, j], level.shape).copy() for j in range(m)]
    errors = np.zeros((*level.shape, y.shape[1]))
    everyone = active.all(axis=0)
    for t in range(y.shape[1]):
        read = active[:, t]
        if not read.any():
            continue
        pull = phi * slope
        base = level + pull
        here = state[t % m]
        if model.season == "multiplicative":
            error = y[:, t] - base * here
            moved = error / np.where(np.abs(here) > 1e-3, here, 1e-3)
            turned = here + gamma * error / np.where(np.abs(base) > 1e-3, base, 1e-3)
        else:
            error = moved = y[:, t] - base - here
            turned = here + gamma * error if model.season == "additive" else here
        if everyone[t]:
            errors[..., t], state[t % m] = error, turned
            level, slope = base + alpha * moved, pull + beta * moved
        else:
            errors[..., t] = np.where(read, error, 0.0)
            state[t % m] = np.where(read, turned, here)
            level = np.where(read, base + alpha * moved, level)
            slope = np.where(read, pull + beta * moved, slope)
    means = np.zeros((*level.shape, horizon))
    damped = np.zeros_like(phi)
    whole = np.stack(state, axis=-1)
    for step in range(horizon):
        damped = damped + phi ** (step + 1)
        base = level + damped * slope
        place = np.broadcast_to(((ends + step) % m)[..., None], (*level.shape, 1))
        here = np.take_along_axis(whole, place, axis=-1)[..., 0]
        means[..., step] = base * here if model.season == "multiplicative" else base + here
    return errors, means


def decompose(values: Floats, first: int, m: int, *, multiplicative: bool) -> tuple[Floats, Floats] | None:
    """The season of one series by classical decomposition: means, by period modulo m, of ratios to (differences from)
    the centred moving average over m periods, brought to mean 1 (0); and their sampling variances, NaN where a place of
    the season was seen but once. `first` is the number of the first period. None with fewer than two seasons, or
    where a moving average that ratios need is not above 0."""
    if len(values) < 2 * m:
        return None
    window = np.ones(m) / m if m % 2 else np.concatenate([[0.5], np.ones(m - 1), [0.5]]) / m
    smooth = np.convolve(values, window, mode="valid")
    offset = (len(window) - 1) // 2
    middle = values[offset : offset + len(smooth)]
    if multiplicative and smooth.min() <= 0:
        return None
    apart = middle / smooth if multiplicative else middle - smooth
    places = (first + offset + np.arange(len(apart))) % m
    count = np.bincount(places, minlength=m)
    mean = np.bincount(places, apart, minlength=m) / count
    spread = np.bincount(places, (apart - mean[places]) ** 2, minlength=m).sum() / max(len(apart) - m, 1)
    variances = np.full(m, np.nan) if count.min() < 2 else spread / count
    level = mean.mean()
    if multiplicative:
        if level <= 0:
            return None
        return mean / level, variances / level**2
    return mean - level, variances


def sba(values: Floats, starts: Ints, ends: Ints) -> Floats:
    """Forecasts (n,), the same for each period to come, of series that are mostly zero: sizes and gaps smoothed apart
    (Croston: Forecasting and Stock Control for Intermittent Demands, Operational Research Quarterly 23, 1972), without
    its bias (Syntetos and Boylan: The accuracy of intermittent demand estimates, International Journal of Forecasting
    21, 2005). The constant is that of five with the least squared error of one step. 0 for a series without sales."""
    best, least = np.zeros(len(values)), np.full(len(values), np.inf)
    for alpha in _SIZES:
        size, gap, since = np.zeros(len(values)), np.ones(len(values)), np.ones(len(values))
        begun, squares = np.zeros(len(values), dtype=bool), np.zeros(len(values))
        for t in range(values.shape[1]):
            read = (t >= starts) & (t < ends)
            y = np.where(read, values[:, t], 0.0)
            squares += np.where(read & begun, (y - (1 - alpha / 2) * size / gap) ** 2, 0.0)
            sold = read & (y != 0)
            size = np.where(sold, np.where(begun, size + alpha * (y - size), y), size)
            gap = np.where(sold, np.where(begun, gap + alpha * (since - gap), since), gap)
            since = np.where(sold, 1.0, since + read)
            begun |= sold
        better = squares < least
        best[better], least[better] = ((1 - alpha / 2) * size / gap)[better], squares[better]
    return best


def tsb(values: Floats, starts: Ints, ends: Ints) -> Floats:
    """The same by smoothing the chance of a sale in every period, so that what is not bought any more fades (Teunter,
    Syntetos and Babai: Intermittent demand: linking forecasting to inventory obsolescence, European Journal of
    Operational Research 214, 2011). Both constants are of five each, by least squared error of one step."""
    active = (np.arange(values.shape[1]) >= starts[:, None]) & (np.arange(values.shape[1]) < ends[:, None])
    sold_ever = ((values != 0) & active).sum(axis=1)
    first_chance = sold_ever / np.maximum(active.sum(axis=1), 1)
    first_size = np.where(active, values, 0.0).sum(axis=1) / np.maximum(sold_ever, 1)
    best, least = np.zeros(len(values)), np.full(len(values), np.inf)
    for alpha in _SIZES:
        for beta in _SIZES:
            chance, size, squares = first_chance.copy(), first_size.copy(), np.zeros(len(values))
            for t in range(values.shape[1]):
                read = active[:, t]
                y = np.where(read, values[:, t], 0.0)
                squares += np.where(read, (y - chance * size) ** 2, 0.0)
                sold = read & (y != 0)
                size = np.where(sold, size + alpha * (y - size), size)
                chance = np.where(read, chance + beta * (sold - chance), chance)
            better = squares < least
            best[better], least[better] = (chance * size)[better], squares[better]
    return best
