"""`precision_m`: published behaviour of the method, real addresses held out, the stored file against a fresh run."""

import json
from pathlib import Path

import numpy as np
import pytest

from geocrm.spatial import calibration, precision

SEEDS = range(20)


def test_conformal_factor_is_the_stated_order_statistic() -> None:
    # n = 19: ⌈20 × 0.95⌉ = 19th smallest, the largest; n = 39: the 38th of 39
    assert precision.conformal_factor(np.arange(1.0, 20.0), np.ones(19)) == 19.0
    assert precision.conformal_factor(np.arange(1.0, 40.0), np.ones(39)) == 38.0
    assert precision.conformal_factor(np.arange(1.0, 19.0), np.ones(18)) == np.inf  # 18 cannot promise 95 %


def test_factor_scales_with_the_scale() -> None:
    random = np.random.default_rng(1)
    error, scale = random.gamma(2, 100, 500), random.uniform(1, 9, 500)
    assert precision.conformal_factor(error * 3, scale) == pytest.approx(3 * precision.conformal_factor(error, scale))


@pytest.mark.parametrize("bad", [([1.0, np.nan], [1.0, 1.0]), ([1.0], [0.0]), ([1.0, 2.0], [1.0]), ([-1.0], [1.0])])
def test_impossible_input_is_an_error(bad: tuple[list[float], list[float]]) -> None:
    with pytest.raises(ValueError):
        precision.conformal_factor(*bad)


def test_coverage_of_fresh_draws_is_as_promised() -> None:
    """Lei et al. (2018): at least 95 %, at most 95 % + 1/(n + 1), over calibration samples, whatever the errors."""
    covered = []
    for seed in range(300):
        random = np.random.default_rng(seed)
        scale = random.lognormal(8, 1, 600)
        error = scale * random.weibull(0.8, 600) * random.choice([1, 4], 600, p=[0.9, 0.1])
        factor = precision.conformal_factor(error[:300], scale[:300])
        covered.append(precision.coverage(error[300:], factor * scale[300:]))
    assert 0.947 < np.mean(covered) < 0.957


@pytest.fixture(scope="module")
def zips() -> calibration.Truth:
    return calibration.us_zip_truth()


def test_held_out_us_addresses_lie_within_95_percent(zips: calibration.Truth) -> None:
    """Half of 3,850 real addresses calibrate, the other half is covered to 95 ± 2 %, whichever half it is."""
    shares = []
    for seed in SEEDS:
        train = np.random.default_rng(seed).random(len(zips.error_m)) < 0.5
        factor = precision.conformal_factor(zips.error_m[train], zips.scale_m[train])
        shares.append(precision.coverage(zips.error_m[~train], factor * zips.scale_m[~train]))
        assert 0.93 <= shares[-1] <= 0.97, f"seed {seed}: {shares[-1]:.4f}"
    print(f"{len(shares)} seeds: {min(shares):.4f} to {max(shares):.4f}, mean {np.mean(shares):.4f}")


def test_whole_zip_codes_held_out_are_covered_too(zips: calibration.Truth) -> None:
    """Harder: no held-out address shares its ZIP code with a calibrating one. On average 95 ± 2 %."""
    codes, shares = np.unique(zips.group), []
    for seed in SEEDS:
        chosen = np.random.default_rng(seed).choice(codes, len(codes) // 2, replace=False)
        train = np.isin(zips.group, chosen)
        factor = precision.conformal_factor(zips.error_m[train], zips.scale_m[train])
        shares.append(precision.coverage(zips.error_m[~train], factor * zips.scale_m[~train]))
    print(f"{len(shares)} seeds: {min(shares):.4f} to {max(shares):.4f}, mean {np.mean(shares):.4f}")
    assert 0.93 <= np.mean(shares) <= 0.97
    assert min(shares) > 0.90


def test_rural_and_urban_codes_are_covered_alike(zips: calibration.Truth) -> None:
    """What the scale is for: in each quarter of density 95 ± 3 %, where one radius for all gives 82 to 100 %."""
    factor = precision.conformal_factor(zips.error_m, zips.scale_m)
    quarter = np.searchsorted(np.quantile(zips.scale_m, [0.25, 0.5, 0.75]), zips.scale_m)
    scaled = [precision.coverage(zips.error_m[quarter == q], factor * zips.scale_m[quarter == q]) for q in range(4)]
    flat = precision.conformal_factor(zips.error_m, np.ones(len(zips.error_m)))
    constant = [precision.coverage(zips.error_m[quarter == q], np.full((quarter == q).sum(), flat)) for q in range(4)]
    print("scaled", np.round(scaled, 3), "one radius", np.round(constant, 3))
    assert 0.92 < min(scaled) <= max(scaled) < 0.98
    assert min(constant) < 0.85


def test_radius_covers_the_truth_through_the_public_function(zips: calibration.Truth) -> None:
    radii = [precision.radius_m("us_zip", scale) for scale in zips.scale_m]
    assert 0.93 <= precision.coverage(zips.error_m, radii) <= 0.97


def test_radius_is_rounded_up_and_bounded() -> None:
    assert precision.radius_m("us_zip", 0.0) == precision.calibrations()["us_zip"].floor_m
    assert precision.radius_m("us_zip", 1e12) == 2_000_000.0
    factor = precision.calibrations()["us_zip"].factor
    assert precision.radius_m("us_zip", 12_345.0) >= factor * 12_345.0
    assert precision.radius_m("us_zip", 12_345.0) < factor * 12_345.0 * 1.01
    with pytest.raises(KeyError):
        precision.radius_m("crystal ball", 1.0)


@pytest.mark.timeout(300)
def test_the_stored_file_is_what_the_command_makes() -> None:
    text, _ = calibration.stored_text()
    stored = Path(precision.__file__).with_name("precision.json").read_text(encoding="utf-8")
    fresh = json.loads(text)
    kept = json.loads(stored)
    assert kept["sources"].keys() == fresh["sources"].keys()
    for source, rule in fresh["sources"].items():
        factor = rule.pop("factor")
        assert kept["sources"][source].pop("factor") == pytest.approx(factor, rel=2e-3), source
        assert kept["sources"][source] == rule, source
