"""Offers in the browser: from the list to the test point, on a desk and on a phone, and who may do what."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import expect
from sqlalchemy import text

from geocrm.access import SYSTEM
from geocrm.campaigns import offers
from tests.browser.conftest import Opening, Server


@pytest.fixture(autouse=True, scope="module")
def far(server: Server) -> Iterator[str]:
    """One offer for everybody, and one far away from where the tests look: the name of its area."""
    ends = datetime.now(UTC) + timedelta(days=30)
    with server.database.writing() as session:
        area, name = session.execute(
            text(
                "SELECT a.id, a.name FROM areas a JOIN area_versions v ON v.area_id = a.id WHERE v.geometry IS NOT NULL"
                " ORDER BY v.geometry <-> ST_SetSRID(ST_MakePoint(:lon, :lat), 4326) DESC LIMIT 1"
            ),
            {"lon": server.lon, "lat": server.lat},
        ).one()
        for values in (
            {"name": "Spring coffee", "title": "A coffee on us", "cap_total": 500, "hold_out_share": 0.1},
            {"name": "Far away", "title": "Ten percent off boots", "areas": [{"area_id": area}]},
        ):
            made = offers.create_offer(session, actor=SYSTEM, ends_at=ends, consent_purpose=None, **values)
            offers.go_live(session, made.id, actor=SYSTEM)
    yield name
    with server.database.writing() as session:
        for offer in offers.find_offers(session, limit=500):
            if offer.ended_at is None and offer.live_version is not None:
                offers.end_offer(session, offer.id, actor=SYSTEM)


def test_what_would_this_customer_see_here(open_screen: Opening, far: str) -> None:
    screen = open_screen()
    page = screen.page
    screen.sign_in("rep", query="?panel=offers")
    rows = page.locator(".segmentation")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("0 of 500 redeemed")
    expect(rows.last).to_contain_text(far)
    screen.axe("offers")
    rows.last.click()
    expect(page.get_by_role("heading", name="Far away")).to_be_visible()
    screen.axe("an offer")
    page.get_by_role("button", name="All offers").click()
    page.get_by_role("button", name="What would a customer see?").click()
    someone = screen.ask("/v1/customers?limit=1")["data"][0]
    page.get_by_label("Customer", exact=True).fill(someone["name"])
    page.locator(".option").first.click()
    page.locator(".map-frame").click(position={"x": 300, "y": 300})
    expect(page.get_by_role("heading", name="1 offer here and now")).to_be_visible()
    why = page.get_by_role("list", name="Offers that do not hold").get_by_role("listitem")
    expect(why).to_have_count(1)
    # what is told is what the API says of the point in the address
    query = page.evaluate("Object.fromEntries(new URLSearchParams(location.search))")
    lon, lat = query["spot"].split(",")
    said = screen.ask(f"/v1/offers/eligible?customer={query['who']}&lon={lon}&lat={lat}&explain=true")
    metres = said["others"][0]["reasons"][0]["distance_m"]
    expect(why).to_contain_text(f"outside by {metres / 1000:,.0f} km")
    screen.axe("a test point")
