"""Forecasts of series and of their whole made to add up. Pure. Part of `forecast`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geocrm.segmentation.backtest import LEAST_ORIGINS, NAIVE, Floats, Judged, Past, judge_errors


def reconcile_weights(errors: Floats) -> Floats:
    """How base forecasts, the whole first, become ones that add up: a matrix (n + 1, n + 1) to multiply them by.

    MinT with shrinkage (Wickramasuriya, Athanasopoulos and Hyndman: Optimal forecast reconciliation for hierarchical
    and grouped time series through trace minimization, Journal of the American Statistical Association 114, 2019, S
    (S′W⁻¹S)⁻¹S′W⁻¹); W from errors (k, n + 1), NaN where not known, its correlations shrunk to none (Schäfer and
    Strimmer: A shrinkage approach to large-scale covariance matrix estimation, 2005)."""
    known = np.isfinite(errors)
    count = np.maximum(known.sum(axis=0), 1)
    variances = np.where(known, errors, 0.0) ** 2
    sizes = variances.sum(axis=0) / count
    sizes = np.maximum(sizes, max(float(sizes.max()), 1e-12) * 1e-6)
    standard = np.where(known, errors, 0.0) / np.sqrt(sizes)
    n = errors.shape[1]
    both = np.maximum(known.astype(float).T @ known, 1)
    correlation = standard.T @ standard / both
    products = standard[:, :, None] * standard[:, None, :]
    noise = ((products - correlation) ** 2 * (known[:, :, None] & known[:, None, :])).sum(axis=0) / both
    noise /= np.maximum(both - 1, 1)
    off = ~np.eye(n, dtype=bool)
    total = float((correlation[off] ** 2).sum())
    shrink = min(1.0, float(noise[off].sum()) / total) if total > 0 else 1.0
    held = np.where(off, (1 - shrink) * correlation, 1.0)
    w = held * np.sqrt(np.outer(sizes, sizes)) + np.eye(n) * sizes * 1e-9
    summing = np.vstack([np.ones(n - 1), np.eye(n - 1)])
    solved = np.linalg.solve(w, summing)
    return np.asarray(summing @ np.linalg.solve(summing.T @ solved, solved.T))


@dataclass(frozen=True)
class Coherent:
    """Forecasts (n, horizon) that add up, how they do; errors of what was chosen, of what would have been chosen
    without them, and of the seasonal naive."""

    means: Floats
    how: str
    judged: Judged
    blind: Judged
    naive: Judged


def add_up(past: Past, base: Floats, blind: Floats, naive: Floats) -> Coherent:
    """Reconciled or bottom-up, whichever has the smaller errors, of those that leave no series worse than its seasonal
    naive; where neither does, of those that leave neither the whole nor the mean of the series worse; else the seasonal
    naive for all."""
    n, k = len(base), len(past.origins)
    rows = np.arange(n, dtype=np.int64)
    actual = past.actual()

    def judge(made: Floats) -> Judged:
        return judge_errors(past, rows, np.where(past.valid[..., None], actual - made[:, :-1], np.nan))

    own = judge(naive)
    if n == 1:
        return Coherent(base[:, -1], "one series", judge(base), judge(blind), own)
    for row, place in zip(*np.nonzero(~past.valid), strict=True):
        # before a series has a history of its own, what a forecaster then would have counted it as
        known = past.values[row, : past.origins[place]]
        filled = known[past.starts[row] :].mean() if len(known) > past.starts[row] else 0.0
        base[row, place] = blind[row, place] = filled

    def summed(made: Floats) -> Floats:
        return np.concatenate([made[1:].sum(axis=0)[None], made[1:]])

    def tied(made: Floats) -> Floats:
        """By weights from the errors of other origins."""
        firsts = np.where(past.valid, (actual - made[:, :-1])[:, :, 0], np.nan)
        found = np.empty_like(made)
        for origin in range(k + 1):
            kept = ~past.near(origin) if origin < k else np.ones(k, dtype=bool)
            known = firsts[:, kept] if kept.sum() >= LEAST_ORIGINS else np.diag(past.scale)
            found[:, origin] = reconcile_weights(known.T) @ made[:, origin]
        return found

    positive = past.values.min(axis=1) >= 0
    options: list[tuple[bool, float, Coherent]] = []
    for how, together in (("reconciled", tied), ("bottom-up", summed)):
        made = together(base)
        judged = judge(made)
        worse = (judged.mase > own.mase + 1e-12) & (judged.squared > own.squared + 1e-12)
        better_together = judged.mase[0] <= own.mase[0] and judged.mase[1:].mean() <= own.mase[1:].mean()
        if (not worse.any() or better_together) and not (made[positive] < -1e-9).any():
            size = float(judged.mase[0] + judged.mase[1:].mean())
            options.append((bool(worse.any()), size, Coherent(made[:, -1], how, judged, judge(together(blind)), own)))
    if not options:
        return Coherent(summed(naive)[:, -1], NAIVE, own, own, own)
    return min(options, key=lambda option: option[:2])[2]
