"""Offers in the browser: from the list to the test point, on a desk and on a phone, and who may do what."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Response, expect
from sqlalchemy import text

from geocrm.access import SYSTEM
from geocrm.campaigns import offers
from tests.browser.conftest import Opening, Scheme, Server

SHOWN = "new URLSearchParams(location.search).get('offer')"


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
            if "areas" not in values:  # it was shown to four of five, two months before the last sale
                session.execute(
                    text(
                        "INSERT INTO exposures (customer_id, offer_id, version, first_at, held_out, hold_out_key, unit)"
                        " SELECT id, :offer, 1, (SELECT max(occurred_at) FROM sales) - interval '60 days', id % 5 = 0,"
                        " :key, 'cus_' || id FROM customers"
                    ),
                    {"offer": made.id, "key": f"off_{made.id}"},
                )
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
    expect(rows.last).to_contain_text("0 of 500 redeemed")
    expect(rows.first).to_contain_text(far)  # the newest first
    expect(page.get_by_text("Your role looks at offers")).to_be_visible()
    expect(page.get_by_role("button", name="New offer")).to_have_count(0)
    screen.axe("offers")
    rows.first.click()
    expect(page.get_by_role("heading", name="Far away")).to_be_visible()
    screen.axe("an offer")
    page.get_by_role("button", name="All offers").click()
    page.get_by_role("button", name="What would a customer see?").click()
    someone = screen.ask("/v1/customers?limit=1")["data"][0]
    page.get_by_label("Customer", exact=True).fill(someone["name"])
    page.locator(".option").first.click()
    page.locator(".map-frame").click(position={"x": 300, "y": 300})
    expect(page.get_by_role("heading", name="1 offer here and now")).to_be_visible()
    expect(page.locator("p", has_text=re.compile(r"^(At|[\d.,]+ k?m [a-z-]+ of) "))).to_be_visible()
    why = page.get_by_role("list", name="Offers that do not hold").get_by_role("listitem")
    expect(why).to_have_count(1)
    # what is told is what the API says of the point in the address
    query = page.evaluate("Object.fromEntries(new URLSearchParams(location.search))")
    lon, lat = query["spot"].split(",")
    said = screen.ask(f"/v1/offers/eligible?customer={query['who']}&lon={lon}&lat={lat}&explain=true")
    metres = said["others"][0]["reasons"][0]["distance_m"]
    expect(why).to_contain_text(f"outside by {metres / 1000:,.0f} km")
    screen.axe("a test point")
    page.get_by_text("At another time").click()
    page.get_by_label("On your clock").fill("2020-01-05T12:00")
    page.get_by_label("On your clock").blur()
    expect(page.get_by_role("heading", name="Nothing here on Jan 5, 2020, 12:00")).to_be_visible()


def test_from_a_draft_to_its_end(open_screen: Opening) -> None:
    """Areas by a click, what is missing at its field, two people at once, live, the next version, the end."""
    screen = open_screen()
    page = screen.page
    screen.sign_in("marketer", query="?panel=offers&offer=new")
    page.get_by_label("Name, for you").fill("Boots here")
    page.get_by_label("Title, for the customer").fill("Ten percent off boots")
    page.get_by_label("Areas of").select_option(index=1)
    screen.drawn()
    page.locator(".map-frame").click(position={"x": 300, "y": 300})
    held = page.get_by_role("list", name="Where the offer holds").get_by_role("listitem")
    expect(held).to_have_count(1)
    page.get_by_label("Around", exact=True).select_option("own")
    expect(held).to_have_text([re.compile("."), "300 m around every own shop"])  # at once, no other button
    page.get_by_label("Metres around").fill("250")
    expect(held).to_have_text([re.compile("."), "250 m around every own shop"])
    page.get_by_role("button", name="Only at certain hours").click()
    page.get_by_label("Per cent").fill("150")
    page.get_by_label("Until").fill("2026-01-31T18:00")
    page.get_by_role("button", name="Save draft").click()
    expect(page.get_by_text("Not saved: see Until, Hold-out.")).to_be_visible()
    page.get_by_label("Per cent").fill("10")
    page.get_by_label("Until").fill("")
    page.get_by_role("button", name="Save draft").click()
    expect(page.get_by_text("To go live it still lacks: Until.")).to_be_visible()
    expect(page.locator("#offer-ends-faults")).to_have_text("an offer needs an end")
    screen.axe("the editor")
    page.get_by_label("Code, for the app").fill("BOOTS")
    screen.menu("Map")  # a look at something else loses nothing
    page.go_back()
    expect(page.get_by_label("Code, for the app")).to_have_value("BOOTS")

    # somebody else saves meanwhile: nothing is lost unasked
    offer = screen.ask(f"/v1/offers/{page.evaluate(SHOWN)}")
    assert offer["name"] == "Boots here"
    assert held.first.inner_text().strip() == offer["draft"]["areas"][0]["name"]
    with screen.server.database.writing() as session:
        offers.edit_offer(session, int(offer["id"][4:]), actor=SYSTEM, terms="Theirs")
    page.get_by_label("Until").fill(f"{datetime.now(UTC) + timedelta(days=20):%Y-%m-%dT18:00}")
    page.get_by_role("button", name="Save draft").click()
    expect(page.get_by_text("Not saved: somebody else has changed this offer meanwhile")).to_be_in_viewport(ratio=1)
    page.get_by_role("button", name="Save mine over it").click()
    expect(page.get_by_text("Nothing stands in the way")).to_be_visible()
    assert screen.ask(f"/v1/offers/{offer['id']}")["draft"]["attributes"] == {"code": "BOOTS"}
    page.get_by_role("button", name="Set live").click()  # from the form
    expect(page.get_by_role("alertdialog")).to_contain_text("Nothing changes under a customer’s feet")
    reached = screen.ask('/v1/customers/count?filter={"all":[{"consent":{"purpose":"marketing"}}]}')["customers"]
    expect(page.get_by_role("alertdialog")).to_contain_text(f"{reached:,} customers match now, with the consent.")
    screen.axe("before it goes live")
    page.get_by_role("button", name="Set it live now").click()
    expect(page.get_by_text(re.compile("Customers have it|It opens"))).to_be_visible()  # as the day is
    page.get_by_role("button", name="New version").click()
    page.get_by_label("In all").fill("50")
    page.get_by_role("button", name="Save draft").click()
    page.get_by_role("button", name="Done").click()
    expect(page.get_by_role("heading", name="The draft of version 2")).to_be_visible()
    shown = screen.ask(f"/v1/offers/{offer['id']}")
    assert (shown["live"]["cap_total"], shown["draft"]["cap_total"], shown["live"]["terms"]) == (None, 50, None)
    assert shown["live"]["areas"][1]["radius_m"] == 250
    page.get_by_role("button", name="End it").click()
    page.get_by_role("button", name="End it now").click()
    expect(page.get_by_text("Nobody has it any more.")).to_be_visible()
    page.get_by_role("button", name="Use again").click()
    expect(page.get_by_role("heading", name="Boots here (again)")).to_be_visible()
    again = screen.ask(f"/v1/offers/{page.evaluate(SHOWN)}")
    assert (again["status"], again["draft"]["ends_at"]) == ("draft", None)
    assert again["draft"]["areas"] == shown["live"]["areas"]


@pytest.mark.parametrize("scheme", ["dark", pytest.param("light", marks=pytest.mark.soak)])
def test_an_analyst_on_a_phone_drafts_and_does_not_publish(open_screen: Opening, scheme: Scheme) -> None:
    screen = open_screen("phone", scheme)
    page = screen.page
    screen.sign_in("analyst", query="?panel=offers")
    expect(page.get_by_role("button", name="New offer")).to_be_visible()
    page.locator(".segmentation", has_text="Spring coffee").click()
    expect(page.get_by_role("heading", name="Spring coffee")).to_be_visible()
    page.get_by_role("button", name="Compare with those held out").click()
    offer = page.evaluate(SHOWN)
    told = screen.ask(f"/v1/offers/{offer}/results")
    assert told["held_out"] > 100
    assert told["sales"]["effect"]
    expect(page.get_by_text(told["sales"]["sentence"])).to_be_visible()
    expect(page.get_by_role("img", name="What it brought in all")).to_be_visible()
    screen.axe("results on a phone")
    expect(page.get_by_role("button", name="End it")).to_have_count(0)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.get_by_role("button", name="New version").click()
    screen.axe("the editor on a phone")
    small = page.evaluate(
        "[...document.querySelectorAll('.panel button, .panel input, .panel select, .panel textarea')]"
        ".filter((e) => e.checkVisibility() && e.className !== 'sheet-handle').filter((e) => { const b ="
        " e.getBoundingClientRect(); return b.width < 43.9 || b.height < 43.9; })"
        ".map((e) => e.outerHTML.slice(0, 120))"
    )
    assert small == []


def test_a_fence_is_drawn_and_a_walk_replayed(open_screen: Opening) -> None:
    """A circle, and a walk through it: the page tells what the API says, and nothing is kept."""
    screen = open_screen()
    page = screen.page
    lon, lat = screen.server.lon, screen.server.lat
    screen.sign_in("marketer", query=f"?at={lon},{lat},15&panel=offers&offer=fences")
    expect(page.get_by_text("No fences yet")).to_be_visible()
    page.get_by_role("button", name="New fence").click()
    page.get_by_role("button", name="Save fence").click()
    expect(page.locator("#fence-shape-faults")).to_have_text("choose a point on the map")
    stage = page.locator(".map-frame")
    stage.click(position={"x": 400, "y": 400})
    page.get_by_label("Name").fill("Corner shop")
    page.get_by_label("Minutes after").fill("2")
    screen.drawn()
    screen.axe("a fence")
    page.get_by_role("button", name="Save fence").click()
    expect(page.get_by_role("list", name="Fences")).to_contain_text("150 m around a point · tells who stays 2 min")
    expect(page.get_by_text("“Corner shop” is saved.")).to_be_visible()
    page.reload()  # with its view, which the list leaves as it is
    expect(page.get_by_role("list", name="Fences")).to_contain_text("150 m around a point")
    screen.drawn()
    assert page.evaluate("new URLSearchParams(location.search).get('at')") == f"{lon:.5f},{lat:.5f},15"
    (fence,) = screen.ask("/v1/geofences?tag=shops")["data"]
    assert (fence["external_id"], fence["radius_m"], fence["dwell_s"]) == ("corner-shop", 150, 120)

    page.get_by_role("button", name="Try a walk").click()
    screen.drawn()
    page.get_by_label("Stay at each corner").select_option(label="3 min")
    answers: list[Response] = []
    page.on("response", lambda one: answers.append(one) if one.url.endswith("/v1/geofences/walks") else None)
    for x in (60, 400, 740):  # the view of the address stays: only the third corner leads out of it
        stage.click(position={"x": x, "y": 400})
    events = page.get_by_role("list", name="Events of the walk").get_by_role("listitem")
    expect(events).to_have_count(3)
    told = [one["type"].removeprefix("geofence.") for one in answers[-1].json()["data"]]
    assert told == ["entered", "dwelled", "exited"]
    expect(events).to_contain_text(["1. Entered Corner shop", "2. Stayed in Corner shop", "3. Left Corner shop"])
    events.first.get_by_role("button").click()
    slider = page.get_by_role("slider", name="Time of the walk")
    before = float(slider.input_value())
    assert 0 < before < float(slider.get_attribute("max") or 0)
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("(t) => Number(document.querySelector('.player input').value) > t", arg=before)
    page.get_by_role("button", name="Pause").click()
    screen.axe("a walk")
    assert screen.ask("/v1/events")["data"] == []

    page.get_by_role("button", name="All offers").click()
    page.get_by_role("button", name="Fences", exact=True).click()
    page.get_by_role("button", name="Corner shop").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name="Delete it").click()
    expect(page.get_by_text("No fences yet")).to_be_visible()
