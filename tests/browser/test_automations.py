"""Automations and fences from files in the browser: made, enabled, seen at work; and who may only look."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import text

from geocrm import jobs
from geocrm.access import SYSTEM
from geocrm.campaigns import acting, entries, events, geofences, offers
from geocrm.campaigns.events import NewEvent
from tests.browser.conftest import Opening, Server

SHOPS = "key,lon,lat,radius_m,city\nf-1,-104.99,39.74,150,Denver\nf-2,-104.99,97,150,\n"


@pytest.fixture(scope="module")
def door(server: Server) -> Iterator[dict[str, Any]]:
    """A fence, and the draft of an offer for those who are on a list."""
    with server.database.writing() as session:
        shape = {"center": {"lon": server.lon, "lat": server.lat}, "radius_m": 150}
        fence = geofences.put(session, SYSTEM, "doors", "union", shape | {"name": "The door"})
        listed = {"audience": f"aud_{entries.create(session, SYSTEM, 'At the door')}"}
        ends = datetime.now(UTC) + timedelta(days=9)
        offer = offers.create_offer(
            session, actor=SYSTEM, name="Warm", title="Tea", audience=listed, ends_at=ends, consent_purpose=None
        )
        made = {"fence": fence.fence_id, "offer": offer.id}
    yield made
    with server.database.writing() as session:  # other tests begin without
        offers.end_offer(session, made["offer"], actor=SYSTEM)
        geofences.delete(session, SYSTEM, "doors", "union")
        session.execute(text("DELETE FROM events"))
        session.execute(text("DELETE FROM offers WHERE id = CAST(:offer AS bigint)"), made)


def small_targets(page: Page) -> list[str]:
    """What is smaller than a finger in the panel."""
    found: list[str] = page.evaluate(
        "[...document.querySelectorAll('.panel button, .panel input, .panel select, .panel textarea')]"
        ".filter((e) => e.checkVisibility() && e.className !== 'sheet-handle').filter((e) => { const b ="
        " e.getBoundingClientRect(); return b.width < 43.9 || b.height < 43.9; })"
        ".map((e) => e.outerHTML.slice(0, 120))"
    )
    return found


def test_an_automation_from_its_form_to_its_history(open_screen: Opening, door: dict[str, Any]) -> None:
    screen = open_screen()
    page = screen.page
    screen.sign_in("marketer", query="?panel=offers")
    page.get_by_role("button", name="Automations").click()
    expect(page.get_by_text("No automations yet")).to_be_visible()
    page.get_by_role("button", name="New automation").click()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("Not saved: see Name, What sets it off, What it does.")).to_be_visible()
    screen.axe("faults of an automation")
    page.get_by_label("Name, for you").fill("Welcome")
    screen.menu("Map")  # a look at something else loses nothing
    page.go_back()
    expect(page.get_by_label("Name, for you")).to_have_value("Welcome")
    page.get_by_label("Which fence").select_option(label="The door")
    page.get_by_label("Offer", exact=True).select_option(label="Warm (a draft)")
    page.get_by_label("For so many hours").fill("2")
    page.get_by_label("Consent that").fill("")
    page.get_by_label("Campaign").select_option(label="A new campaign (cam_1)")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("A customer enters doors/union")).to_be_visible()
    expect(page.get_by_text("The offer “Warm”, for 2 hours")).to_be_visible()
    (made,) = screen.ask("/v1/automations")["data"]
    assert made["action"] == made["action"] | {"kind": "offer", "offer_id": f"off_{door['offer']}", "hours": 2}
    assert (made["consent_purpose"], made["cap_days"], made["campaign_id"]) == (None, 7, "cam_1")

    page.get_by_role("button", name="Count").click()
    expect(page.get_by_text("It would act for 0 customers of 0")).to_be_visible()
    page.get_by_role("button", name="Enable").click()
    expect(page.get_by_text("What it does: the offer is not live: set it live first")).to_be_visible()
    with screen.server.database.writing() as session:
        offers.go_live(session, door["offer"], actor=SYSTEM)
    page.get_by_role("button", name="Enable").click()
    expect(page.get_by_role("alertdialog")).to_contain_text("From now on it acts")
    page.keyboard.press("Escape")
    expect(page.get_by_role("alertdialog")).to_have_count(0)
    page.get_by_role("button", name="Enable").click()
    page.get_by_role("button", name="Enable it now").click()
    expect(page.get_by_text("To change it, disable it first.")).to_be_visible()
    customers = screen.ask("/v1/customers?limit=2")["data"]
    with screen.server.database.writing() as session:
        happened = [
            NewEvent(int(one["id"][4:]), "geofence.entered", datetime.now(UTC), {}, "location", door["fence"])
            for one in (customers[0], customers[0], customers[1])
        ]
        events.record(session, happened)
    assert acting.act_due(screen.server.database) == 3
    page.get_by_role("button", name="Ask again").click()
    runs = page.get_by_role("list", name="Runs").get_by_role("listitem")
    expect(runs).to_have_count(3)
    page.get_by_role("button", name="Left aside", exact=True).click()
    expect(runs).to_have_count(1)
    expect(runs).to_contain_text(customers[0]["name"])
    screen.axe("the history of an automation")
    page.get_by_role("button", name="All automations").click()
    row = page.get_by_role("list", name="Automations").get_by_role("listitem")
    expect(row).to_contain_text("2 done, 1 left aside")

    looking = open_screen("phone", "dark")
    looking.sign_in("rep", query="?panel=offers&offer=automations")
    expect(looking.page.get_by_text("Your role looks at them")).to_be_visible()
    expect(looking.page.get_by_role("button", name="New automation")).to_have_count(0)
    looking.page.get_by_role("button", name="Welcome").click()
    expect(looking.page.get_by_text("a marketer or an administrator enables and disables it")).to_be_visible()
    looking.axe("an automation on a phone")
    assert small_targets(looking.page) == []
    assert looking.page.evaluate("document.documentElement.scrollWidth") <= 360

    page.bring_to_front()
    row.get_by_role("button").click()
    page.get_by_role("button", name="Disable").press("Enter")
    expect(page.get_by_role("button", name="Disable it now")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Disable")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name="Delete it").click()
    expect(page.get_by_text("No automations yet")).to_be_visible()


def test_fences_are_tried_and_imported_from_a_file(open_screen: Opening) -> None:
    """What the file lacks, line by line what is wrong, a try that changes nothing, then all of it."""
    screen = open_screen("phone")
    page, database = screen.page, screen.server.database
    screen.sign_in("marketer", query="?panel=offers&offer=fences")
    page.get_by_role("button", name="Import fences").click()
    page.get_by_label("Tag").fill("from-file")

    def choose(content: str) -> None:
        file = {"name": "shops.csv", "mimeType": "text/csv", "buffer": content.encode()}
        page.get_by_label("File", exact=True).set_input_files(file)  # type: ignore[arg-type]

    def answer_to(button: str) -> None:
        with page.expect_response("**/v1/geofences/imports"):
            page.get_by_role("button", name=button).click()
        jobs.run_queued(database)

    choose(SHOPS)
    answer_to("Try it first")
    expect(page.get_by_text("Which column names a fence?")).to_be_visible()
    page.get_by_label("Id", exact=True).select_option("key")
    answer_to("Try it first")
    expect(page.get_by_role("list", name="Lines")).to_have_text("Line 3lat: 97 is out of range")
    screen.axe("lines that cannot be fences")
    assert small_targets(page) == []
    choose(SHOPS.replace("97", "39.741"))
    page.get_by_label("Columns kept as metadata").fill("city")
    answer_to("Try it first")
    expect(page.get_by_text("A try: nothing is written yet")).to_be_visible()
    assert screen.ask("/v1/geofences?tag=from-file")["data"] == []
    answer_to("Import")
    expect(page.get_by_text("Fences “from-file”: 2 new, 0 changed, 0 as they were.")).to_be_visible()
    assert [one["metadata"] for one in screen.ask("/v1/geofences?tag=from-file")["data"]] == [{"city": "Denver"}, {}]

    # an imported fence keeps its hours, metadata and zone through the form
    page.get_by_role("button", name="See the fences").click()
    page.get_by_role("button", name="f-1").click()
    page.get_by_label("Name", exact=True).fill("First")
    page.get_by_role("button", name="Only at certain hours").click()
    page.get_by_label("Time zone").select_option("America/Denver")
    page.get_by_role("button", name="More metadata").click()
    page.get_by_label("Metadata 2: name").fill("floor")
    page.get_by_label("Metadata 2: value").fill("2")
    page.get_by_role("button", name="Save fence").click()
    expect(page.get_by_text("“First” is saved.")).to_be_visible()
    fence = screen.ask("/v1/geofences/from-file/f-1")
    assert fence["hours"] == [{"days": ["mon", "tue", "wed", "thu", "fri"], "from": "09:00", "to": "18:00"}]
    assert (fence["time_zone"], fence["metadata"]) == ("America/Denver", {"city": "Denver", "floor": "2"})
    with database.writing() as session:  # other tests begin without fences
        for external_id in ("f-1", "f-2"):
            geofences.delete(session, SYSTEM, "from-file", external_id)
