"""BG/NBD and Gamma-Gamma for a million customers observed by the week: ours beside lifetimes and pymc-marketing.

All get the same rows, one a customer: frequency, recency, T, mean value of the repeat purchases. Ours is timed from
these rows, collapsing included. A peer's parameters count as equal where their log-likelihood, evaluated by our
function, is that of ours to a relative 1e-6.

* `lifetimes` (`BetaGeoFitter`, `GammaGammaFitter`) as its documentation fits; a further row gives it the rows collapsed
  by ours, through `weights`.
* `pymc-marketing` (`fit(method="map")`), installed into `.venv-peers` from benchmarks/peers/requirements.lock: the
  first fit of a process, as a job runs it, and beside it the second one of the same process.

`GEOCRM_BENCH_VALUE_CUSTOMERS` sets the size (1,000,000).
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import Row, compare
from geocrm.segmentation.clv import bg_nbd, gamma_gamma
from geocrm.segmentation.clv.bg_nbd import BgNbd
from geocrm.segmentation.clv.counts import Counts, collapse
from geocrm.segmentation.clv.gamma_gamma import GammaGamma
from geocrm.settings import CHECKOUT

CUSTOMERS = int(os.environ.get("GEOCRM_BENCH_VALUE_CUSTOMERS", "1000000"))
PEERS = CHECKOUT / "benchmarks" / "peers"
VENV = CHECKOUT / ".venv-peers"
SEED = 11
OUR_RUNS = 5
EQUAL = 1e-6


@dataclass(frozen=True)
class Customers:
    """One row a customer, (n,)."""

    frequency: NDArray[np.int64]
    recency: NDArray[np.float64]
    t: NDArray[np.float64]
    mean_value: NDArray[np.float64]


@dataclass(frozen=True)
class Fitted:
    """Seconds of both fits, and the parameters."""

    seconds: float
    purchases: BgNbd
    values: GammaGamma


def make_customers(number: int, seed: int) -> Customers:
    """Customers of half a year to two years, who buy and leave as BG/NBD says, except that a tenth buys with the
    seasons (not in every second quarter); amounts in cents, of two kinds of customers."""
    rng = np.random.default_rng(seed)
    t = rng.integers(26, 105, number).astype(np.float64)
    rate, leaves = rng.gamma(0.6, 1 / 8, number), rng.beta(0.7, 3.0, number)
    seasonal = rng.random(number) < 0.1
    time_, last = np.zeros(number), np.zeros(number)
    bought = np.zeros(number, dtype=np.int64)
    there = np.arange(number)
    while len(there):
        time_[there] += rng.exponential(1 / rate[there])
        there = there[time_[there] <= t[there]]
        counts = ~(seasonal[there] & (time_[there] // 13 % 2 == 1))
        buying = there[counts]
        bought[buying] += 1
        last[buying] = time_[buying]
        stays = rng.random(len(there)) >= leaves[there]
        there = there[stays | ~counts]
    typical = np.where(rng.random(number) < 0.7, 60.0, 25.0) / rng.gamma(4.0, 1 / 3, number)
    mean = rng.gamma(np.maximum(4.0 * bought, 1e-9)) * typical / np.maximum(4.0 * bought, 1e-9)
    total = np.maximum(np.round(mean * bought, 2), 0.01 * bought)
    return Customers(bought, np.ceil(last), t, np.where(bought > 0, total / np.maximum(bought, 1), 0.0))


def ours(rows: Customers) -> Fitted:
    """Both fits from the rows."""
    began = time.perf_counter()
    purchases = bg_nbd.fit(collapse(rows.frequency, rows.recency, rows.t))
    values = gamma_gamma.fit(rows.frequency, rows.mean_value)
    return Fitted(time.perf_counter() - began, purchases.model, values.model)


def by_lifetimes(rows: Customers, counts: Counts | None = None) -> Fitted:
    """Both fits by lifetimes, BG/NBD from `counts` where given."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lifetimes import BetaGeoFitter, GammaGammaFitter

        repeat = rows.frequency > 0
        began = time.perf_counter()
        if counts is None:
            purchases = BetaGeoFitter().fit(rows.frequency, rows.recency, rows.t)
        else:
            purchases = BetaGeoFitter().fit(
                counts.frequency, counts.recency_weeks, counts.t_weeks, weights=counts.weights
            )
        values = GammaGammaFitter().fit(rows.frequency[repeat], rows.mean_value[repeat])
        seconds = time.perf_counter() - began
    return Fitted(seconds, BgNbd(*purchases.params_), GammaGamma(*values.params_))


def peers_python() -> Path:
    """The Python that has pymc-marketing; installed where it is missing or its lock has changed."""
    python, lock, stamp = VENV / "bin" / "python", PEERS / "requirements.lock", VENV / "geocrm-peers"
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return python
    print("   installing pymc-marketing into .venv-peers (some 1 GB)", flush=True)
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(VENV)],
        [str(python), "-m", "pip", "install", "-q", "--require-hashes", "-r", str(lock)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(
                "pymc-marketing could not be installed, its row is missing: it needs the network (package registry) "
                f"and 1 GB. {' '.join(command[:4])} … said: {done.stderr.strip()[-500:]}"
            )
    stamp.write_text(wanted)
    return python


def by_pymc(rows: Customers) -> tuple[list[Fitted], str]:
    """Both fits by pymc-marketing in a process of its own, first and again, and its version."""
    python = peers_python()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "customers.npz"
        np.savez(file, frequency=rows.frequency, recency=rows.recency, T=rows.t, monetary_value=rows.mean_value)
        done = subprocess.run(
            [str(python), str(PEERS / "pymc_map.py"), str(file)], capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise RuntimeError(f"pymc-marketing failed: {done.stderr.strip()[-1000:]}")
    told = json.loads(done.stdout.strip().splitlines()[-1])
    one, two = told["bg_nbd"], told["gamma_gamma"]
    purchases, values = BgNbd(*one["parameters"]), GammaGamma(*two["parameters"])
    seconds = [sum(both) for both in zip(one["seconds"], two["seconds"], strict=True)]
    return [Fitted(each, purchases, values) for each in seconds], str(told["version"])


def measure() -> Iterable[Row]:
    """Seconds for both fits, ours against each peer's."""
    rows = make_customers(CUSTOMERS, SEED)
    counts = collapse(rows.frequency, rows.recency, rows.t)
    scale = (
        f"{CUSTOMERS:,} customers, {int((rows.frequency > 0).sum()):,} with repeat purchases, "
        f"{len(counts.weights):,} different histories"
    )
    print(f"   {scale}", flush=True)

    def likelihoods(fitted: Fitted) -> tuple[float, float]:
        return (
            bg_nbd.log_likelihood(counts, fitted.purchases),
            gamma_gamma.log_likelihood(rows.frequency, rows.mean_value, fitted.values),
        )

    runs = [ours(rows) for _ in range(OUR_RUNS)]
    best = likelihoods(runs[0])

    def against(name: str, peer: str, theirs: Fitted, target: float | None) -> Row:
        runs.extend(ours(rows) for _ in range(2))  # before and after each peer, should the machine change
        found = likelihoods(theirs)
        apart = [abs(a - b) / abs(b) for a, b in zip(found, best, strict=True)]
        print(f"   {peer}: log-likelihoods {found[0]:.2f} and {found[1]:.2f}, ours {best[0]:.2f} and {best[1]:.2f}")
        return compare(
            name, peer, "seconds, BG/NBD and Gamma-Gamma", statistics.median(run.seconds for run in runs),
            theirs.seconds, target=target, scale=scale, equal=max(apart) <= EQUAL, less_is_better=True,
        )  # fmt: skip

    yield against("value", "lifetimes", by_lifetimes(rows), 50)
    yield against("value, lifetimes weighted", "lifetimes, BG/NBD with weights", by_lifetimes(rows, counts), None)
    (first, again), version = by_pymc(rows)
    yield against("value, MAP", f"pymc-marketing {version} MAP, first fit of a process", first, 100)
    yield against("value, MAP again", f"pymc-marketing {version} MAP, second fit of a process", again, None)
