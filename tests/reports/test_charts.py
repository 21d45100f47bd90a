"""Pictures of the marketer's report: what a map shows."""

import pytest

from geocrm.reports.charts import View, framed

PLACES = {
    "four states, taller than wide": (-112.5, 31.3, -103.8, 45.0),
    "a valley from east to west": (7.0, 46.5, 12.0, 46.6),
    "a town": (10.0, 50.0, 10.2, 50.1),
    "the whole world": (-180.0, -80.0, 180.0, 80.0),
    "one point with some room": (-0.05, 51.4, 0.05, 51.5),
}


@pytest.mark.parametrize("bounds", PLACES.values(), ids=PLACES)
def test_nothing_is_cut_off_a_map(bounds: tuple[float, float, float, float]) -> None:
    west, south, east, north = bounds
    view = View(framed(bounds))
    assert 0 <= float(view.x(west)) < float(view.x(east)) <= view.width
    assert -1e-6 <= float(view.y(north)) < float(view.y(south)) <= view.height + 1e-6
    assert 0.3 * view.width <= view.height + 1e-6
    assert view.height <= 1.2 * view.width + 1e-6
    tall, flat = float(view.y(south) - view.y(north)), float(view.x(east) - view.x(west))
    assert max(tall / view.height, flat / view.width) == pytest.approx(1), "no more land than is needed"
