"""Draws docs/images/cdnow-tracking.png: repeat purchases of CDNOW's customers week by week beside those expected.

Models are fitted on the first 39 weeks; the data are those of the package lifetimes, a development dependency; Chromium
draws. `.venv/bin/python scripts/cdnow_tracking.py` prints the figures of docs/methods/customer-value.md as well.
"""

from __future__ import annotations

import shutil
from importlib import metadata

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from playwright.sync_api import sync_playwright

from geocrm.segmentation.clv import bg_nbd, gamma_gamma, pareto_nbd
from geocrm.segmentation.clv.counts import collapse, summarise
from geocrm.segmentation.clv.value import expected_purchases
from geocrm.settings import CHECKOUT

PICTURE = CHECKOUT / "docs" / "images" / "cdnow-tracking.png"
CUTOFF, WEEKS, FITTED = np.datetime64("1997-09-30"), 78, 39
START = np.datetime64("1996-12-31")  # weeks are counted from the day before the first purchase
WIDTH, HEIGHT = 720, 360
COLOURS = {"bought": "#202124", "BG/NBD": "#1a6fb0", "Pareto/NBD": "#c2571a"}


def purchases() -> pd.DataFrame:
    """Purchases of the sample: customer, day, amount."""
    found = [path for path in metadata.files("lifetimes") or [] if path.name == "CDNOW_sample.txt"]
    names = ["master", "customer", "day", "discs", "amount"]
    frame = pd.read_csv(str(found[0].locate()), sep=r"\s+", header=None, names=names)
    return frame.assign(day=pd.to_datetime(frame["day"].astype(str)))


def curves() -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    """Cumulative repeat purchases by week, and those each model expects: (78,) each. Prints how far they are apart."""
    bought = purchases()
    day = bought["day"].to_numpy().astype("datetime64[D]")
    visits = pd.DataFrame({"customer": bought["customer"], "day": day}).drop_duplicates()
    first = visits.groupby("customer")["day"].transform("min")
    repeat = visits[visits["day"] > first]
    week = ((repeat["day"].to_numpy().astype("datetime64[D]") - START).astype(int) - 1) // 7
    actual = np.cumsum(np.bincount(week, minlength=WEEKS)[:WEEKS]).astype(float)
    history = summarise(bought["customer"], day, bought["amount"], end=CUTOFF)
    counts = collapse(history.frequency, history.recency_weeks, history.t_weeks)
    begun = (visits.groupby("customer")["day"].min().to_numpy().astype("datetime64[D]") - START).astype(int) / 7
    later = int((repeat["day"] > pd.Timestamp(CUTOFF)).sum())
    expected = {}
    print(f"bought again in the following 39 weeks: {later:,}, in all 78: {len(repeat):,}")
    for name, module in (("BG/NBD", bg_nbd), ("Pareto/NBD", pareto_nbd)):
        estimate = module.fit(counts)
        ends = np.arange(1, WEEKS + 1)[:, None]
        expected[name] = np.array(
            [estimate.model.expected_since_first(np.maximum(end - begun, 0)).sum() for end in ends]
        )
        coming = expected_purchases(
            estimate, history.frequency, history.recency_weeks, history.t_weeks, horizon_weeks=39
        ).totals(np.zeros(len(history.frequency)))
        apart = expected[name][9:] / actual[9:] - 1  # from week 10; few customers had begun before
        error = np.abs(np.diff(expected[name]) - np.diff(actual))[FITTED - 1 :]
        print(f"{name}: {estimate.model}, log-likelihood {estimate.log_likelihood:.1f}")
        print(f"  expected from the histories {coming.total[0]:.0f}, {coming.total[0] / later - 1:+.1%} of what came")
        print(f"  the parameters' uncertainty: {coming.lower[0]:.0f} to {coming.upper[0]:.0f}")
        print(f"  curve at week 39 {apart[29]:+.1%}, at week 78 {apart[-1]:+.1%}")
        print(f"  most apart {apart[np.abs(apart).argmax()]:+.1%} in week {np.abs(apart).argmax() + 10}")
        print(f"  mean absolute error of a later week {error.mean():.1f} of {np.diff(actual)[FITTED - 1 :].mean():.1f}")
    values = gamma_gamma.fit(history.frequency, history.mean_value)
    print(f"{values.model}\n  {values.independence}")
    return actual, expected


def draw(actual: NDArray[np.float64], expected: dict[str, NDArray[np.float64]]) -> str:
    """The picture as SVG."""
    left, right, top, bottom = 64, 24, 16, 44
    most = 5000

    def x(week: float) -> float:
        return left + week / WEEKS * (WIDTH - left - right)

    def y(number: float) -> float:
        return HEIGHT - bottom - number / most * (HEIGHT - top - bottom)

    parts = [f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>']
    for number in range(0, most + 1, 1000):
        parts.append(f'<path d="M{left} {y(number)}H{WIDTH - right}" stroke="#e0e0e0"/>')
        parts.append(f'<text x="{left - 8}" y="{y(number) + 4}" text-anchor="end">{number:,}</text>')
    for week in range(0, WEEKS + 1, 13):
        parts.append(f'<text x="{x(week)}" y="{HEIGHT - bottom + 18}" text-anchor="middle">{week}</text>')
    parts.append(f'<text x="{x(WEEKS / 2)}" y="{HEIGHT - 8}" text-anchor="middle">weeks since January 1997</text>')
    parts.append(f'<path d="M{x(FITTED)} {y(0)}V{top}" stroke="#808080" stroke-dasharray="4 4"/>')
    parts.append(f'<text x="{x(FITTED) - 8}" y="{top + 14}" text-anchor="end">fitted</text>')
    parts.append(f'<text x="{x(FITTED) + 8}" y="{top + 14}">expected</text>')
    lines = {"bought": actual, **expected}
    for place, (name, line) in enumerate(lines.items()):
        points = " ".join(f"{x(week + 1):.1f},{y(number):.1f}" for week, number in enumerate(line))
        dash = "" if name != "Pareto/NBD" else ' stroke-dasharray="6 3"'
        parts.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[name]}" stroke-width="2"{dash}/>')
        down = y(1500) + 22 * place
        parts.append(f'<path d="M{x(54)} {down}h28" stroke="{COLOURS[name]}" stroke-width="2"{dash}/>')
        said = "repeat purchases" if name == "bought" else name
        parts.append(f'<text x="{x(54) + 36}" y="{down + 4}">{said}</text>')
    style = "font: 13px sans-serif; fill: #202124"
    size = f'width="{WIDTH}" height="{HEIGHT}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} style="{style}">{"".join(parts)}</svg>'


def main() -> None:
    """Compute, draw, write."""
    svg = draw(*curves())
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, device_scale_factor=2)
        page.set_content(f'<body style="margin:0">{svg}</body>')
        page.screenshot(path=str(PICTURE))
        browser.close()


if __name__ == "__main__":
    main()
