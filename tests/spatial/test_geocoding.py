"""Placing sites in the database: the queue, re-placing, hands, edits, a geocoder that may be away."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest
from geopy.exc import GeocoderUnavailable
from geopy.location import Location
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import access, errors
from geocrm.db import models
from geocrm.settings import Settings
from geocrm.spatial import geocoding
from tests import makers

DENVER = {"line1": "1701 Wynkoop St", "city": "Denver", "region": "CO", "postal_code": "80202", "country": "US"}
NOWHERE = {"city": "Xyzzyville", "region": "CO", "country": "US"}
ZERO = {
    "location": "SRID=4326;POINT(0 0)",
    "location_precision": "given",
    "precision_m": 25.0,
    "placement": "flagged",
    "flags": ["zero"],
}


def site_of(session: Session, customer: models.Customer) -> models.Site:
    session.expire_all()
    return session.query(models.Site).filter_by(customer_id=customer.id).one()


def point_of(session: Session, site: models.Site) -> tuple[float, float] | None:
    row = session.execute(
        text("SELECT ST_X(location), ST_Y(location) FROM sites WHERE id = :id"), {"id": site.id}
    ).one()
    return None if row[0] is None else (row[0], row[1])


def on_the_map(session: Session, customer: models.Customer) -> bool:
    return bool(session.scalar(text("SELECT count(*) FROM site_lookup WHERE customer_id = :id"), {"id": customer.id}))


def test_pending_sites_are_placed_and_reach_the_map(session: Session) -> None:
    good = makers.make_customer(session, site=DENVER)
    bad = makers.make_customer(session, site=NOWHERE)
    assert not on_the_map(session, good)
    outcome = geocoding.place(session)
    assert (outcome.considered, outcome.placed) == (2, 1)
    assert outcome.by_source == {"us_zip": 1}
    assert outcome.problems == {"not_found": 1}
    assert outcome.customer_ids == (good.id,)
    placed = site_of(session, good)
    assert (placed.placement, placed.location_precision, placed.location_source) == ("placed", "postcode", "us_zip")
    assert placed.precision_m is not None
    assert placed.precision_m < 5_000
    assert point_of(session, placed) == pytest.approx((-104.9946, 39.7491))
    assert on_the_map(session, good)
    waiting = site_of(session, bad)
    assert (waiting.placement, waiting.placing_attempts) == ("pending", 1)
    assert waiting.placing_error == geocoding.PROBLEMS["not_found"]
    assert waiting.placing_next_at is not None
    assert not on_the_map(session, bad)
    # not due again before its time, unless asked for by name
    assert geocoding.place(session).considered == 0
    assert geocoding.place(session, [waiting.id]).considered == 1
    first = waiting.placing_next_at
    assert site_of(session, bad).placing_attempts == 2
    second = site_of(session, bad).placing_next_at
    assert second is not None
    assert second > first  # backed off further


def test_only_the_given_sites_are_placed(session: Session) -> None:
    one, other = makers.make_customer(session, site=DENVER), makers.make_customer(session, site=DENVER)
    assert geocoding.place(session, [site_of(session, one).id]).placed == 1
    assert site_of(session, other).placement == "pending"
    assert geocoding.place(session, []).considered == 0
    assert geocoding.place(session, [10**12]).considered == 0


def test_flagged_sites_are_replaced_on_request_only(session: Session) -> None:
    zero = makers.make_customer(session, site=DENVER | ZERO)
    hopeless = makers.make_customer(session, site=NOWHERE | ZERO)
    swapped = makers.make_customer(
        session, site=DENVER | ZERO | {"flags": ["swapped"], "location": "SRID=4326;POINT(39.7 -80)"}
    )
    assert geocoding.place(session).considered == 0
    outcome = geocoding.replace_flagged(session, flags=["zero"])
    assert (outcome.considered, outcome.placed) == (2, 1)
    assert site_of(session, zero).placement == "placed"
    assert site_of(session, zero).flags == []
    assert on_the_map(session, zero)
    left = site_of(session, hopeless)
    assert (left.placement, left.flags) == ("flagged", ["zero"])
    assert left.placing_error
    assert point_of(session, left) == (0.0, 0.0)  # kept as it was given
    assert site_of(session, swapped).placement == "flagged"
    assert geocoding.replace_flagged(session).placed == 1
    with pytest.raises(errors.Invalid, match="no flag"):
        geocoding.replace_flagged(session, flags=["typo"])


def test_placing_by_hand(session: Session) -> None:
    customer = makers.make_customer(session, site=NOWHERE)
    site = site_of(session, customer)
    with pytest.raises(errors.Invalid, match="exchanged"):
        geocoding.place_by_hand(session, site.id, 39.74, -104.99)
    with pytest.raises(errors.Invalid, match="outside the country"):
        geocoding.place_by_hand(session, site.id, 13.4, 52.5)
    for lon, lat in ((181.0, 0.0), (float("nan"), 1.0), (float("nan"), float("nan")), (float("inf"), 0.0)):
        with pytest.raises(errors.Invalid):
            geocoding.place_by_hand(session, site.id, lon, lat)
    with pytest.raises(errors.Invalid, match="precision_m"):
        geocoding.place_by_hand(session, site.id, -104.99, 39.74, precision_m=0)
    with pytest.raises(errors.NotFound):
        geocoding.place_by_hand(session, 10**12, -104.99, 39.74)
    assert site_of(session, customer).placement == "pending"
    geocoding.place_by_hand(session, site.id, -104.99, 39.74)
    placed = site_of(session, customer)
    assert (placed.placement, placed.location_source, placed.precision_m) == ("placed", "hand", 25.0)
    assert on_the_map(session, customer)
    geocoding.place_by_hand(session, site.id, 13.4, 52.5, confirmed=True)
    assert point_of(session, site_of(session, customer)) == (13.4, 52.5)


def test_give_up_and_retry(session: Session) -> None:
    customer = makers.make_customer(session, site=NOWHERE)
    site = site_of(session, customer)
    assert geocoding.give_up(session, [site.id]) == 1
    assert site_of(session, customer).placement == "failed"
    assert geocoding.give_up(session, [site.id]) == 0
    assert geocoding.place(session).considered == 0  # a failed site is not tried again by itself
    session.execute(text("UPDATE sites SET city = 'Boulder' WHERE id = :id"), {"id": site.id})
    assert geocoding.retry(session, [site.id]).placed == 1
    assert on_the_map(session, customer)


def test_an_address_edit_places_anew(session: Session) -> None:
    customer = makers.make_customer(session, site=DENVER)
    geocoding.place(session)
    site = site_of(session, customer)
    site.postal_code, site.city = "80302", "Boulder"
    outcome = geocoding.readdress(session, [site.id])
    assert outcome.placed == 1
    moved = point_of(session, site_of(session, customer))
    assert moved is not None
    assert moved[1] > 39.9
    # an address that nobody knows takes it off the map, into the queue
    site = site_of(session, customer)
    site.postal_code, site.city = None, "Xyzzyville"
    outcome = geocoding.readdress(session, [site.id])
    assert outcome.placed == 0
    assert outcome.customer_ids == (customer.id,)
    assert site_of(session, customer).placement == "pending"
    assert point_of(session, site_of(session, customer)) is None
    assert not on_the_map(session, customer)


def test_given_coordinates_survive_an_edit_that_fits_them(session: Session) -> None:
    customer = makers.make_customer(session, -104.9997, 39.7527, site=DENVER)
    site = site_of(session, customer)
    site.line1 = "1701 Wynkoop Street"
    geocoding.readdress(session, [site.id])
    kept = site_of(session, customer)
    assert point_of(session, kept) == (-104.9997, 39.7527)
    assert kept.location_precision == "given"
    kept.city, kept.postal_code = "Boston", "02108"
    kept.region = "MA"
    geocoding.readdress(session, [kept.id])
    moved = site_of(session, customer)
    assert moved.location_precision == "postcode"
    point = point_of(session, moved)
    assert point is not None
    assert point[0] > -72


def test_the_queue_shows_the_reader_their_own(session: Session) -> None:
    rep, other = makers.make_user(session), makers.make_user(session)
    mine = makers.make_customer(session, site=NOWHERE, owner_id=rep.id, name="Mine")
    makers.make_customer(session, site=NOWHERE | ZERO, owner_id=other.id, name="Theirs")
    makers.make_customer(session, -104.99, 39.74, owner_id=rep.id)
    geocoding.place(session)
    with access.as_user(session, makers.actor_of(session, rep)):
        queue = geocoding.waiting(session)
        counts = geocoding.waiting_counts(session)
    assert [(row.customer_name, row.placement, row.attempts) for row in queue] == [("Mine", "pending", 1)]
    assert queue[0].why == geocoding.PROBLEMS["not_found"]
    assert queue[0].customer_id == mine.id
    assert counts == [{"placement": "pending", "why": geocoding.PROBLEMS["not_found"], "n": 1}]
    with access.as_user(session, access.SYSTEM):
        whole = geocoding.waiting(session)
        assert len(whole) == 2
        assert geocoding.waiting(session, after=whole[0].site_id) == whole[1:]
        assert [row.flags for row in geocoding.waiting(session, placements=["flagged"])] == [("zero",)]


class FakeProvider:
    """A geocoder whose answers the test chooses."""

    name = "fake"

    def __init__(self, answer: geocoding.Place | None = None, *, away: bool = False) -> None:
        self.answer, self.away, self.asked = answer, away, 0

    def locate(self, address: Mapping[str, str | None]) -> geocoding.Place | None:
        self.asked += 1
        if self.away:
            raise errors.Unavailable("the geocoder is away")
        return self.answer


def test_a_geocoder_refines_what_the_gazetteer_placed(session: Session) -> None:
    customer = makers.make_customer(session, site=DENVER)
    geocoding.place(session)
    outcome = geocoding.refine(session, FakeProvider(geocoding.Place(-104.9999, 39.7530)))
    assert outcome.by_source == {"geocoder:fake": 1}
    site = site_of(session, customer)
    assert (site.location_precision, site.precision_m) == ("street", 150.0)
    assert point_of(session, site) == (-104.9999, 39.7530)
    again = FakeProvider(geocoding.Place(-104.9, 39.7))
    geocoding.refine(session, again)
    assert again.asked == 0  # nothing coarse is left


@pytest.mark.parametrize("answer", [geocoding.Place(13.4, 52.5), geocoding.Place(-105.9, 40.9), None])
def test_an_answer_that_cannot_be_is_not_believed(session: Session, answer: geocoding.Place | None) -> None:
    customer = makers.make_customer(session, site=DENVER)
    geocoding.place(session)
    before = point_of(session, site_of(session, customer))
    geocoding.refine(session, FakeProvider(answer))
    site = site_of(session, customer)
    assert point_of(session, site) == before
    assert (site.location_precision, site.placing_attempts) == ("postcode", 1)
    assert "geocoder" in (site.placing_error or "")


def test_an_outage_is_counted_and_backed_off_and_blocks_nothing(session: Session) -> None:
    customers = [makers.make_customer(session, site=NOWHERE | {"line1": f"{n} Main St"}) for n in range(3)]
    provider = FakeProvider(away=True)
    outcome = geocoding.refine(session, provider)
    assert provider.asked == 1  # one refusal is enough: the others are not sent after it
    assert outcome.problems == {"outage": 3}
    for customer in customers:
        site = site_of(session, customer)
        assert (site.placement, site.placing_attempts, site.placing_error) == ("pending", 1, "the geocoder is away")
    geocoding.refine(session, provider)
    assert provider.asked == 1  # not due
    for _ in range(geocoding.PROVIDER_ATTEMPTS + 2):
        session.execute(text("UPDATE sites SET placing_next_at = now() - interval '1 second'"))
        geocoding.refine(session, provider)
    assert site_of(session, customers[0]).placing_attempts == geocoding.PROVIDER_ATTEMPTS
    assert site_of(session, customers[0]).placement == "pending"


class Geocoder:
    """Stands in for a geopy geocoder: the same call, no network."""

    def __init__(self, fail: bool = False) -> None:
        self.fail, self.queries = fail, list[str]()

    def geocode(self, query: str, *, timeout: float) -> Location | None:
        self.queries.append(query)
        if self.fail:
            raise GeocoderUnavailable("connection refused")
        return Location("somewhere", (39.75, -105.0, 0.0), {}) if "Denver" in query else None


def test_any_geopy_geocoder_serves(session: Session) -> None:
    geocoder = Geocoder()
    provider = geocoding.GeopyProvider(geocoder, "stand-in")
    assert provider.locate(DENVER) == geocoding.Place(-105.0, 39.75, "street", 150.0)
    assert geocoder.queries == ["1701 Wynkoop St, 80202 Denver, CO, US"]
    assert provider.locate(NOWHERE) is None
    with pytest.raises(errors.Unavailable, match="connection refused"):
        geocoding.GeopyProvider(Geocoder(fail=True), "stand-in").locate(DENVER)


def test_the_geocoder_is_off_by_default_and_opened_by_settings() -> None:
    assert geocoding.open_provider(Settings(geocoder=None)) is None
    options = {"domain": "127.0.0.1:9", "scheme": "http", "user_agent": "geocrm tests", "timeout_s": 1}
    provider = geocoding.open_provider(Settings(geocoder="nominatim", geocoder_options=options))
    assert provider is not None
    with pytest.raises(errors.Unavailable, match="nominatim"):
        provider.locate(DENVER)  # nobody listens there
    with pytest.raises(errors.SetupError, match="GEOCRM_GEOCODER"):
        geocoding.open_provider(Settings(geocoder="crystal_ball"))
    with pytest.raises(errors.SetupError, match="GEOCRM_GEOCODER_OPTIONS"):
        geocoding.open_provider(Settings(geocoder="nominatim", geocoder_options={"nonsense": 1}))


def test_the_zero_people_of_adventureworks_are_replaceable(session: Session, shared_data: Path) -> None:
    people = pd.read_csv(shared_data / "adventureworks" / "customers_geo.csv", keep_default_na=False, dtype=str)
    zero = people[(people["lon"].astype(float) == 0) & (people["lat"].astype(float) == 0)]
    session.execute(
        text(
            "WITH made AS (INSERT INTO customers (kind, stage, name) SELECT 'person', 'active', 'Person ' || n "
            "FROM generate_series(1, CAST(:n AS integer)) n RETURNING id), numbered AS "
            "(SELECT id, row_number() OVER (ORDER BY id) AS n FROM made) "
            "INSERT INTO sites (customer_id, line1, city, region, postal_code, country, location, location_precision, "
            "precision_m, placement, flags, is_primary) "
            "SELECT id, line1, city, region, postal_code, country, ST_SetSRID(ST_MakePoint(0, 0), 4326), 'given', 25, "
            "'flagged', '{zero}', true FROM numbered JOIN unnest(CAST(:line1 AS text[]), CAST(:city AS text[]), "
            "CAST(:region AS text[]), CAST(:postal_code AS text[]), CAST(:country AS text[])) WITH ORDINALITY "
            "AS given(line1, city, region, postal_code, country, n) USING (n)"
        ),
        {
            "n": len(zero),
            "line1": zero["line1"].tolist(),
            "city": zero["city"].tolist(),
            "region": zero["state_code"].str.strip().tolist(),
            "postal_code": zero["postal_code"].tolist(),
            "country": zero["country"].tolist(),
        },
    )
    assert session.scalar(text("SELECT count(*) FROM site_lookup")) == 0
    outcome = geocoding.replace_flagged(session)
    assert (outcome.considered, outcome.placed) == (873, 873)
    assert session.scalar(text("SELECT count(*) FROM site_lookup")) == 873
    assert session.scalar(text("SELECT count(*) FROM sites WHERE placement <> 'placed'")) == 0
