"""How far off a placed point may be: `precision_m`, the radius that holds the true point in 95 % of cases.

Pure. The radius is `factor × scale_m`, where the scale belongs to the place itself (what a postal code's neighbours are
apart, how large a town is) so that a rural code gets a larger radius than one in a city, and the factor is a conformal
quantile of error / scale over addresses whose true point is known. Method: split conformal prediction with normalised
scores, Lei, G'Sell, Rinaldo, Tibshirani and Wasserman (2018), "Distribution-free predictive inference for regression",
JASA 113(523), section 5.2. With n exchangeable addresses the coverage of the next one is at least 95 %, and at most
95 % + 1/(n + 1).
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

SHARE = 0.95
GIVEN_M = 25.0
"""Radius of coordinates that came with the data, unless the data say otherwise."""

_STORED = Path(__file__).with_name("precision.json")
_LARGEST_M = 2_000_000.0


@dataclass(frozen=True)
class Calibration:
    """One source's rule. `measured` is False where no truth was to be had and a cautious rule stands in."""

    factor: float
    floor_m: float
    measured: bool
    truth: str
    addresses: int


def conformal_factor(error_m: ArrayLike, scale_m: ArrayLike, share: float = SHARE) -> float:
    """The ⌈(n + 1) × share⌉-th smallest of error / scale, arrays of shape (n,) in metres.

    Infinite where n is too small to promise the share (for 95 %: fewer than 19 addresses).
    """
    error = np.asarray(error_m, dtype=np.float64)
    scale = np.asarray(scale_m, dtype=np.float64)
    if error.shape != scale.shape or error.ndim != 1:
        raise ValueError(f"error and scale must be of one length, not {error.shape} and {scale.shape}")
    if not (np.isfinite(error).all() and np.isfinite(scale).all() and (scale > 0).all() and (error >= 0).all()):
        raise ValueError("errors must be finite and not negative, scales finite and positive")
    rank = math.ceil((len(error) + 1) * share)
    if rank > len(error):
        return math.inf
    return float(np.sort(error / scale)[rank - 1])


def coverage(error_m: ArrayLike, radius_m: ArrayLike) -> float:
    """The share of points whose error is at most their radius, arrays of shape (n,) in metres."""
    return float(np.mean(np.asarray(error_m, dtype=float) <= np.asarray(radius_m, dtype=float)))


@lru_cache(maxsize=1)
def calibrations() -> dict[str, Calibration]:
    """The stored rule of each source; made by `python -m geocrm.spatial.calibration`."""
    stored = json.loads(_STORED.read_text(encoding="utf-8"))
    return {name: Calibration(**values) for name, values in stored["sources"].items()}


def radius_m(source: str, scale_m: float) -> float:
    """`precision_m` of a place from this source whose own scale is `scale_m`, rounded up to three digits."""
    rule = calibrations()[source]
    raw = min(max(rule.factor * scale_m, rule.floor_m), _LARGEST_M)
    step = 10.0 ** (math.floor(math.log10(raw)) - 2)
    return float(math.ceil(raw / step - 1e-9) * step)


def render(sources: dict[str, Calibration], made: dict[str, object]) -> str:
    """The text of the stored file."""
    content = {"made": made, "sources": {name: asdict(rule) for name, rule in sorted(sources.items())}}
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
