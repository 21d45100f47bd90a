"""A valid call of every operation, and what it needs, made afresh for each."""

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi.testclient import TestClient
from sqlalchemy import text

from geocrm import access, ids, jobs
from geocrm.campaigns import automations, entries, offers, redemptions
from geocrm.db import models
from geocrm.segmentation import analyses, runs, segmentations
from tests.api.conftest import ROLES, World, open_session
from tests.api.permitted import A, K, M, R
from tests.makers import make_customer, make_place, make_sale, make_site, make_user

Call = tuple[str, str, dict[str, Any]]
_NUMBER = itertools.count(1)
SQUARE = {
    "type": "Polygon",
    "coordinates": [[[-105.5, 39.5], [-104.5, 39.5], [-104.5, 40.2], [-105.5, 40.2], [-105.5, 39.5]]],
}
CIRCLE = {"center": {"lon": -104.99, "lat": 39.74}, "radius_m": 150}
FENCE_FILE = {
    "files": {"file": ("shops.csv", "id,lon,lat,radius_m\na,-104.99,39.74,150\n", "text/csv")},
    "data": {"tag": "shops"},
}
WALK = {"positions": [{"lon": -104.99, "lat": 39.74, "accuracy_m": 8, "recorded_at": "2026-03-01T12:00:00Z"}]}
ANY = {"If-Match": "*"}
ANY_ID = f"({'|'.join(ids.PREFIXES)})"
BODY = {"name": "Bea"}


class Maker:
    """Makes what a call needs, afresh for each."""

    def __init__(self, world: World, admin: TestClient) -> None:
        self.world, self.admin = world, admin

    def user_of(self, who: str | None) -> int:
        """The user behind a role or key."""
        return self.world.users[who if who in ROLES else R]  # type: ignore[index]

    def customer(self) -> dict[str, Any]:
        """A customer of the rep, with everything hanging from it."""
        with self.world.database.writing() as session:
            customer = make_customer(session, -104.99, 39.74, owner_id=self.world.users[R])
            place = make_site(session, customer, -105.0, 39.7)
            contact = models.Contact(customer_id=customer.id, name="Ada")
            consent = models.Consent(
                customer_id=customer.id, purpose="marketing", channel="email", granted_at=customer.created_at
            )
            note = models.Interaction(customer_id=customer.id, kind="note", occurred_at=customer.created_at)
            session.add_all([contact, consent, note])
            session.flush()
            sale = make_sale(session, customer)
            queue = models.Contradiction(
                customer_id=customer.id, site_id=place.id, layer_id=self.world.ids["service"], kind="nothing"
            )
            session.add(queue)
            session.flush()
            path = f"/v1/customers/cus_{customer.id}"
            return {
                "id": f"cus_{customer.id}", "path": path, "site": f"{path}/sites/sit_{place.id}",
                "site_id": f"sit_{place.id}", "contact": f"{path}/contacts/con_{contact.id}",
                "sale": f"{path}/sales/sal_{sale.id}", "note": f"{path}/interactions/int_{note.id}",
            }  # fmt: skip

    def place(self) -> str:
        """A place."""
        with self.world.database.writing() as session:
            return f"/v1/places/pla_{make_place(session, -104.9, 39.7).id}"

    def user(self) -> int:
        """A user of the team North."""
        with self.world.database.writing() as session:
            return make_user(session, "rep", team_id=self.world.ids["north"]).id

    def key(self) -> int:
        """An API key."""
        _, digest = access.new_token("gk_")
        with self.world.database.writing() as session:
            key = models.ApiKey(user_id=self.world.users[R], name="k", prefix="gk_", digest=digest, scopes=[])
            session.add(key)
            session.flush()
            return key.id

    def draft(self) -> int:
        """A draft of the layer `service`."""
        answer = self.admin.post("/v1/layers/lay_service/drafts", json={})
        assert answer.status_code == 201, answer.text
        return int(answer.json()["version"])

    def segmentation(self) -> int:
        """A segmentation of sales, run twice and published."""
        if "sgm" not in self.world.ids:
            with self.world.database.writing() as session:
                self.world.ids["sgm"] = segmentations.create_segmentation(
                    session, actor=access.SYSTEM, key="rfm", name="RFM", method="rfm"
                ).id
                for _ in range(2):
                    runs.start(session, self.world.ids["sgm"], actor=access.SYSTEM, then_publish=True)
            jobs.run_queued(self.world.database)
        return self.world.ids["sgm"]

    def waiting_run(self) -> str:
        """A run that waits."""
        with self.world.database.writing() as session:
            made = segmentations.create_segmentation(
                session, actor=access.SYSTEM, key=f"w{next(_NUMBER)}", name="Waiting", method="rfm"
            )
            number = runs.start(session, made.id, actor=access.SYSTEM).number
            return f"/v1/segmentations/sgm_{made.id}/runs/{number}"

    def analysis(self) -> str:
        """An analysis that waits."""
        with self.world.database.writing() as session:
            return f"/v1/analyses/ana_{analyses.start(session, 'tracking', actor=access.SYSTEM).id}"

    def fence(self) -> str:
        """A geofence."""
        path = f"/v1/geofences/shops/f{next(_NUMBER)}"
        made = self.admin.put(path, json=CIRCLE)
        assert made.status_code == 201, made.text
        return path

    def positions(self) -> dict[str, Any]:
        """A position of a customer of the rep who allows it."""
        made = self.customer()
        with self.world.database.writing() as session:
            consent = models.Consent(purpose="location", channel="app", customer_id=int(made["id"][4:]))
            consent.granted_at = datetime.now(UTC) - timedelta(days=1)
            session.add(consent)
        place = {"customer_id": made["id"], "lon": -104.99, "lat": 39.74, "accuracy_m": 10}
        return {"positions": [place | {"recorded_at": datetime.now(UTC).isoformat()}]}

    def webhook(self) -> str:
        """A webhook, the only one: there may be so many and no more."""
        with self.world.database.writing() as session:
            session.execute(text("DELETE FROM webhooks"))
        made = self.admin.post("/v1/webhooks", json={"url": "http://127.0.0.1:9/hook"})
        assert made.status_code == 201, made.text
        return str(made.headers["Location"])

    def delivery(self) -> str:
        """A delivery that waits."""
        path = self.webhook()
        return f"{path}/deliveries/{self.admin.post(f'{path}/test').json()['id']}"

    def segment(self) -> str:
        """A segment with a member."""
        which = self.segmentation()
        with self.world.database.writing() as session:
            run = session.get_one(models.SegmentationRun, segmentations.get_segmentation(session, which).current_run_id)
            return f"/v1/segments/seg_{segmentations.segments_of(session, run)[0][0].id}"

    def offer(self, *, live: bool) -> int:
        """An offer for everybody everywhere."""
        with self.world.database.writing() as session:
            ends = datetime.now(UTC) + timedelta(days=7)
            made = offers.create_offer(
                session, actor=access.SYSTEM, name="Coffee", title="Coffee", ends_at=ends, consent_purpose=None
            )
            if live:
                offers.go_live(session, made.id, actor=access.SYSTEM)
            return made.id

    def redemption(self) -> str:
        """A redemption by a customer of the rep."""
        which, customer = self.offer(live=True), ids.read("cus", self.customer()["id"])
        with self.world.database.writing() as session:
            made = redemptions.redeem(session, which, customer, actor=access.SYSTEM, key="k").redemption
            return f"/v1/offers/off_{which}/redemptions/red_{made.id}"

    def audience(self) -> int:
        """An audience that customers are entered into."""
        with self.world.database.writing() as session:
            return entries.create(session, access.SYSTEM, f"Audience {next(_NUMBER)}")

    def automation(self, *, enabled: bool = False) -> str:
        """An automation of a schedule, so that no event of another test sets it off."""
        trigger = {"kind": "schedule", "at": "09:00", "time_zone": "UTC"}
        action = {"kind": "audience", "audience_id": self.audience()}
        with self.world.database.writing() as session:
            made = automations.create(session, access.SYSTEM, {"name": "New", "trigger": trigger, "action": action})
            if enabled:
                automations.enable(session, access.SYSTEM, made)
            return f"/v1/automations/aut_{made.id}"

    def task(self) -> str:
        """A task for a customer of the rep."""
        customer = int(self.customer()["id"][4:])
        with self.world.database.writing() as session:
            made = models.Task(customer_id=customer, title="Call", assignee_id=self.world.users[R])
            made.due_at = datetime.now(UTC)
            session.add(made)
            session.flush()
            return f"/v1/tasks/tsk_{made.id}"

    def job(self, who: str | None) -> int:
        """A job of that user."""
        number = 10_000_000 + next(_NUMBER)
        key = who.removeprefix("key:") if who is not None and who.startswith("key:") else None
        with self.world.database.writing() as session:
            key_id = session.scalar(text("SELECT id FROM api_keys WHERE name = :name"), {"name": key})
            job = models.Job(id=number, name="test", user_id=self.user_of(who), key_id=key_id, status="done")
            job.result = {"secret": "Canary"}
            session.add(job)
        return number

    def upload(self, who: str | None) -> dict[str, Any]:
        """What that user may upload."""
        number = next(_NUMBER)
        if who == K:
            content, kind = f"external_id,name,kind,lon,lat\np{number},Shop,own,-104.9,39.7\n", "places"
        else:
            content, kind = f"external_id,name,lon,lat\nc{number},Someone,-104.9,39.7\n", "customers"
        return {
            "files": {"file": ("file.csv", content, "text/csv")},
            "data": {"kind": kind, "source": "test"},
        }

    def imported(self, who: str | None, status: str = "preview") -> str:
        """An import of that user, in a status."""
        client = self.world.new_client()
        cookie, csrf = open_session(self.world, who if who in (A, M, K) else A)
        client.cookies["geocrm_session"], client.headers["X-CSRF-Token"] = cookie, csrf
        answer = client.post("/v1/imports", **self.upload(who if who in (A, M, K) else A))
        client.close()
        assert answer.status_code == 202, answer.text
        number = answer.json()["id"].removeprefix("imp_")
        if status != "preview":
            with self.world.database.writing() as session:
                session.execute(
                    text("UPDATE import_batches SET status = :status WHERE id = CAST(:id AS bigint)"),
                    {"status": status, "id": int(number)},
                )
        return f"/v1/imports/imp_{number}"


def _calls() -> dict[str, Callable[[Maker, str | None], Call]]:
    """A valid call of each operation."""

    def get(path: str) -> Callable[[Maker, str | None], Call]:
        return lambda make, who: ("GET", path, {})

    def of_customer(method: str, piece: str, suffix: str = "", **more: Any) -> Callable[[Maker, str | None], Call]:
        return lambda make, who: (method, make.customer()[piece] + suffix, more)

    def of_draft(method: str, suffix: str, area: bool = False, **more: Any) -> Callable[[Maker, str | None], Call]:
        def call(make: Maker, who: str | None) -> Call:
            last = f"/areas/ter_{make.world.ids['denver']}" if area else ""
            return method, f"/v1/layers/lay_service/drafts/{make.draft()}{suffix}{last}", more

        return call

    def sale(make: Maker, who: str | None) -> Call:
        body = {"customer_id": make.customer()["id"], "occurred_at": "2026-01-02T03:04:05Z", "currency": "USD"}
        return "POST", "/v1/sales", {"json": body | {"amount": "12.50"}}

    def interaction(make: Maker, who: str | None) -> Call:
        body = {"customer_id": make.customer()["id"], "occurred_at": "2026-01-02T03:04:05Z", "kind": "call"}
        return "POST", "/v1/interactions", {"json": body}

    def resolve(make: Maker, who: str | None) -> Call:
        made = make.customer()
        entry = {"customer_id": made["id"], "site_id": made["site_id"]}
        body = {"entries": [entry], "action": "dismiss", "reason": "seen"}
        return "POST", "/v1/layers/lay_service/contradictions/resolve", {"json": body}

    def move(make: Maker, who: str | None) -> Call:
        moves = [{"customer_id": make.customer()["id"], "area_id": f"ter_{make.world.ids['denver']}"}]
        return "POST", "/v1/layers/lay_service/moves", {"json": {"moves": moves, "reason": "asked for"}}

    def hand_over(make: Maker, who: str | None) -> Call:
        body = {"from_user_id": f"usr_{make.user()}", "to_user_id": f"usr_{make.user()}", "reason": "left"}
        return "POST", "/v1/hand-over", {"json": body}

    def owner(make: Maker, who: str | None) -> Call:
        body = {"owner_id": f"usr_{make.world.users[R]}", "team_id": f"tea_{make.world.ids['north']}", "reason": "so"}
        return "PUT", f"/v1/areas/ter_{make.world.ids['denver']}/owner", {"json": body}

    def of_import(
        method: str, suffix: str, status: str = "preview", **more: Any
    ) -> Callable[[Maker, str | None], Call]:
        return lambda make, who: (method, make.imported(who, status) + suffix, more)

    def of_segmentation(method: str, suffix: str, **more: Any) -> Callable[[Maker, str | None], Call]:
        return lambda make, who: (method, f"/v1/segmentations/sgm_{make.segmentation()}{suffix}", more)

    def of_offer(method: str, suffix: str = "", live: bool = False, **more: Any) -> Callable[[Maker, str | None], Call]:
        return lambda make, who: (method, f"/v1/offers/off_{make.offer(live=live)}{suffix}", more)

    def redeem(make: Maker, who: str | None) -> Call:
        body, headers = {"customer_id": make.customer()["id"]}, {"Idempotency-Key": f"k{next(_NUMBER)}"}
        return "POST", f"/v1/offers/off_{make.offer(live=True)}/redemptions", {"json": body, "headers": headers}

    def of_automation(
        method: str, suffix: str = "", enabled: bool = False, **more: Any
    ) -> Callable[[Maker, str | None], Call]:
        return lambda make, who: (method, make.automation(enabled=enabled) + suffix, more)

    def of_audience(method: str, suffix: str = "", **more: Any) -> Callable[[Maker, str | None], Call]:
        return lambda make, who: (method, f"/v1/audiences/aud_{make.audience()}{suffix}", more)

    def automation(make: Maker, who: str | None) -> Call:
        task = {"kind": "task", "title": "Call", "due_days": 1}
        trigger = {"kind": "schedule", "at": "09:00", "time_zone": "UTC", "days": ["mon"]}
        return "POST", "/v1/automations", {"json": {"name": "New", "trigger": trigger, "action": task}}

    def of_webhook(method: str, suffix: str, **more: Any) -> Callable[[Maker, str | None], Call]:
        return lambda make, who: (method, make.webhook() + suffix, more)

    number = "/v1/layers/lay_service"
    rule = {"field": "stage", "op": "=", "value": "active"}
    point = {"lon": -104.99, "lat": 39.74}
    return {
        "get_health": get("/health"),
        "get_ready": get("/ready"),
        "sign_in": lambda make, who: (
            "POST", "/v1/sessions", {"json": {"email": make.world.emails[R], "password": "a long enough password"}},
        ),
        "sign_out": lambda make, who: ("DELETE", "/v1/sessions/current", {}),
        "get_me": get("/v1/me"),
        "list_jobs": get("/v1/jobs"),
        "get_job": lambda make, who: ("GET", f"/v1/jobs/job_{make.job(who)}", {}),
        "list_customers": get("/v1/customers?stage=active"),
        "count_customers": get("/v1/customers/count"),
        "get_customer": of_customer("GET", "path"),
        "get_customer_history": of_customer("GET", "path", "/history"),
        "list_customer_sales": of_customer("GET", "path", "/sales"),
        "get_customer_monthly_sales": of_customer("GET", "path", "/sales/monthly"),
        "get_customer_next_offers": of_customer("GET", "path", "/next-offers"),
        "get_sale": of_customer("GET", "sale"),
        "list_customer_interactions": of_customer("GET", "path", "/interactions"),
        "get_interaction": of_customer("GET", "note"),
        "get_customer_territories": of_customer("GET", "path", "/territories"),
        "create_customer": lambda make, who: ("POST", "/v1/customers", {"json": {"kind": "person", "name": "Bea"}}),
        "edit_customer": of_customer("PATCH", "path", json=BODY, headers=ANY),
        "add_site": of_customer("POST", "path", "/sites", json={"location": point}),
        "edit_site": of_customer("PATCH", "site", json={"label": "Depot"}, headers=ANY),
        "delete_site": of_customer("DELETE", "site", headers=ANY),
        "place_site_by_hand": of_customer("POST", "site", "/place", json=point, headers=ANY),
        "place_site_again": of_customer("POST", "site", "/place-again", headers=ANY),
        "add_contact": of_customer("POST", "path", "/contacts", json=BODY),
        "edit_contact": of_customer("PATCH", "contact", json=BODY, headers=ANY),
        "delete_contact": of_customer("DELETE", "contact", headers=ANY),
        "grant_consent": of_customer(
            "POST", "path", "/consents",
            json={"purpose": "service", "channel": "email", "granted_at": "2026-01-02T03:04:05Z"},
        ),
        "withdraw_consent": of_customer(
            "POST", "path", "/consents/withdraw", json={"purpose": "marketing", "channel": "email"}
        ),
        "create_sale": sale,
        "create_interaction": interaction,
        "edit_interaction": of_customer("PATCH", "note", json={"subject": "s"}, headers=ANY),
        "list_places": get("/v1/places?bbox=-106,39,-104,41"),
        "get_place": lambda make, who: ("GET", make.place(), {}),
        "create_place": lambda make, who: (
            "POST", "/v1/places", {"json": {"kind": "own", "name": "Shop", "location": point}},
        ),
        "edit_place": lambda make, who: ("PATCH", make.place(), {"json": BODY, "headers": ANY}),
        "delete_place": lambda make, who: ("DELETE", make.place(), {"headers": ANY}),
        "list_products": get("/v1/products"),
        "list_layers": get("/v1/layers"),
        "get_layer": get(number),
        "list_layer_versions": get(f"{number}/versions"),
        "list_areas": get(f"{number}/areas"),
        "get_area": lambda make, who: ("GET", f"{number}/versions/1/areas/ter_{make.world.ids['denver']}", {}),
        "list_named_accounts": get(f"{number}/versions/1/named-accounts"),
        "get_coverage": get(f"{number}/versions/1/coverage"),
        "list_contradictions": get(f"{number}/contradictions"),
        "count_contradictions": get(f"{number}/contradictions/counts"),
        "report_territory_sales": get(f"{number}/sales?start=2026-01-01&end=2027-01-01"),
        "find_territories_at_points": lambda make, who: ("POST", "/v1/territories/at", {"json": {"points": [point]}}),
        "get_territories_at": get("/v1/territories/at?lon=-104.99&lat=39.74"),
        "create_layer": lambda make, who: (
            "POST", "/v1/layers", {"json": {"key": f"k{next(_NUMBER)}", "name": "New", "kind": "territories"}},
        ),
        "create_draft": lambda make, who: ("POST", f"{number}/drafts", {"json": {"from": "published"}}),
        "discard_draft": of_draft("DELETE", ""),
        "add_area": of_draft("POST", "/areas", json={"name": "North", "geometry": SQUARE}),
        "edit_area": of_draft("PUT", "", area=True, json={"priority": 2}, headers=ANY),
        "delete_area": of_draft("DELETE", "", area=True, headers=ANY),
        "change_named_accounts": of_draft("PUT", "/named-accounts", json={"add": []}),
        "preview_draft": of_draft("POST", "/preview", json={}),
        "publish_draft": of_draft("POST", "/publish", json={"reason": "because"}),
        "undo_layer": lambda make, who: ("POST", f"{number}/undo", {"json": {"reason": "wrong"}}),
        "move_customers": move,
        "resolve_contradictions": resolve,
        "hand_over": hand_over,
        "set_area_owner": owner,
        "list_colleagues": get("/v1/colleagues"),
        "list_teams": get("/v1/teams"),
        "list_users": get("/v1/users"),
        "get_user": lambda make, who: ("GET", f"/v1/users/usr_{make.user()}", {}),
        "create_user": lambda make, who: (
            "POST", "/v1/users", {"json": {"email": f"n{next(_NUMBER)}@example.com", "name": "New", "role": "rep"}},
        ),
        "edit_user": lambda make, who: ("PATCH", f"/v1/users/usr_{make.user()}", {"json": BODY, "headers": ANY}),
        "create_team": lambda make, who: ("POST", "/v1/teams", {"json": {"name": f"Team n{next(_NUMBER)}"}}),
        "edit_team": lambda make, who: (
            "PATCH", f"/v1/teams/tea_{make.world.ids['south']}", {"json": {"name": f"South {next(_NUMBER)}"}},
        ),
        "list_keys": get("/v1/keys"),
        "create_key": lambda make, who: (
            "POST", "/v1/keys",
            {"json": {"name": "app", "user_id": f"usr_{make.user()}", "scopes": ["customers:read"]}},
        ),
        "revoke_key": lambda make, who: ("DELETE", f"/v1/keys/key_{make.key()}", {}),
        "list_key_requests": lambda make, who: ("GET", f"/v1/keys/key_{make.key()}/requests", {}),
        "list_audit_log": get("/v1/audit"),
        "list_segmentations": get("/v1/segmentations"),
        "create_segmentation": lambda make, who: (
            "POST", "/v1/segmentations", {"json": {"key": f"s{next(_NUMBER)}", "name": "New", "method": "rfm"}},
        ),
        "preview_segmentation": lambda make, who: (
            "POST", "/v1/segmentations/preview", {"json": {"method": "rule", "filter": rule}},
        ),
        "get_segmentation": of_segmentation("GET", ""),
        "edit_segmentation": of_segmentation("PATCH", "", json={"name": "RFM"}, headers=ANY),
        "run_segmentation": of_segmentation("POST", "/runs", json={}),
        "list_segmentation_runs": of_segmentation("GET", "/runs"),
        "get_segmentation_run": of_segmentation("GET", "/runs/1"),
        "cancel_segmentation_run": lambda make, who: ("POST", f"{make.waiting_run()}/cancel", {}),
        "publish_segmentation_run": of_segmentation("POST", "/runs/1/publish"),
        "revert_segmentation": of_segmentation("POST", "/revert"),
        "activate_segmentation": of_segmentation("POST", "/activate"),
        "compare_segmentation_runs": of_segmentation("GET", "/moves?from_run=1&to_run=2"),
        "get_segment": lambda make, who: ("GET", make.segment(), {}),
        "rename_segment": lambda make, who: ("PATCH", make.segment(), {"json": {"name": "Best"}, "headers": ANY}),
        "list_segment_members": lambda make, who: ("GET", f"{make.segment()}/members", {}),
        "start_analysis": lambda make, who: ("POST", "/v1/analyses", {"json": {"kind": "affinity"}}),
        "list_analyses": get("/v1/analyses"),
        "get_analysis": lambda make, who: ("GET", make.analysis(), {}),
        "cancel_analysis": lambda make, who: ("POST", f"{make.analysis()}/cancel", {}),
        "list_offers": get("/v1/offers"),
        "create_offer": lambda make, who: ("POST", "/v1/offers", {"json": {"name": "Coffee"}}),
        "get_offer": of_offer("GET"),
        "edit_offer": of_offer("PATCH", json={"title": "Tea"}, headers=ANY),
        "discard_offer_draft": of_offer("DELETE", headers=ANY),
        "list_offer_versions": of_offer("GET", "/versions"),
        "check_offer": of_offer("POST", "/check"),
        "set_offer_live": of_offer("POST", "/live", headers=ANY),
        "end_offer": of_offer("POST", "/end", live=True, headers=ANY),
        "get_offer_results": of_offer("GET", "/results?by=territory", live=True),
        "redeem_offer": redeem,
        "list_redemptions": lambda make, who: ("GET", make.redemption().rpartition("/")[0], {}),
        "get_redemption": lambda make, who: ("GET", make.redemption(), {}),
        "reverse_redemption": lambda make, who: ("POST", f"{make.redemption()}/reverse", {"json": {"reason": "wrong"}}),
        "find_eligible_offers": lambda make, who: (
            "GET", f"/v1/offers/eligible?customer={make.customer()['id']}&lon=-104.99&lat=39.74&limit=5", {},
        ),
        "put_geofence": lambda make, who: ("PUT", f"/v1/geofences/shops/n{next(_NUMBER)}", {"json": CIRCLE}),
        "import_geofences": lambda make, who: ("POST", "/v1/geofences/imports", FENCE_FILE),
        "list_geofences": get("/v1/geofences?tag=shops&bbox=-106,39,-104,41"),
        "get_geofence": lambda make, who: ("GET", make.fence(), {}),
        "find_nearest_geofences": get("/v1/geofences/nearest?lon=-104.99&lat=39.74&limit=5"),
        "replay_walk": lambda make, who: ("POST", "/v1/geofences/walks", {"json": WALK}),
        "delete_geofence": lambda make, who: ("DELETE", make.fence(), {"headers": ANY}),
        "send_positions": lambda make, who: ("POST", "/v1/positions", {"json": make.positions()}),
        "list_events": get("/v1/events?customer=cus_1&type=geofence.entered"),
        "list_automations": get("/v1/automations"),
        "create_automation": automation,
        "get_automation": of_automation("GET"),
        "edit_automation": of_automation("PATCH", json={"cap_days": 3}, headers=ANY),
        "delete_automation": of_automation("DELETE", headers=ANY),
        "check_automation": of_automation("POST", "/check"),
        "preview_automation": of_automation("POST", "/preview"),
        "enable_automation": of_automation("POST", "/enable", headers=ANY),
        "disable_automation": of_automation("POST", "/disable", enabled=True, headers=ANY),
        "list_automation_runs": of_automation("GET", "/runs?status=done"),
        "list_audiences": get("/v1/audiences"),
        "create_audience": lambda make, who: ("POST", "/v1/audiences", {"json": {"name": f"New {next(_NUMBER)}"}}),
        "get_audience": of_audience("GET"),
        "edit_audience": lambda make, who: (
            "PATCH", f"/v1/audiences/aud_{make.audience()}",
            {"json": {"name": f"Other {next(_NUMBER)}"}, "headers": ANY},
        ),
        "delete_audience": of_audience("DELETE", headers=ANY),
        "list_audience_members": of_audience("GET", "/members"),
        "list_tasks": get("/v1/tasks?customer=cus_1&status=open"),
        "get_task": lambda make, who: ("GET", make.task(), {}),
        "finish_task": lambda make, who: ("POST", f"{make.task()}/done", {}),
        "reopen_task": lambda make, who: ("POST", f"{make.task()}/reopen", {}),
        "list_webhooks": get("/v1/webhooks"),
        "create_webhook": lambda make, who: ("POST", "/v1/webhooks", {"json": {"url": "http://127.0.0.1:9/another"}}),
        "get_webhook": of_webhook("GET", ""),
        "edit_webhook": of_webhook("PATCH", "", json={"enabled": False}, headers=ANY),
        "delete_webhook": of_webhook("DELETE", "", headers=ANY),
        "change_webhook_secret": of_webhook("POST", "/secret"),
        "test_webhook": of_webhook("POST", "/test"),
        "list_webhook_deliveries": of_webhook("GET", "/deliveries?status=queued"),
        "get_webhook_delivery": lambda make, who: ("GET", make.delivery(), {}),
        "resend_webhook_delivery": lambda make, who: ("POST", f"{make.delivery()}/resend", {}),
        "list_imports": get("/v1/imports"),
        "create_import": lambda make, who: ("POST", "/v1/imports", make.upload(who)),
        "get_import": of_import("GET", ""),
        "preview_import": of_import("GET", "/preview"),
        "change_import_recipe": of_import("PUT", "/recipe", json={"recipe": {}}),
        "run_import": of_import("POST", "/run", json={}),
        "undo_import": of_import("POST", "/undo", "done", json={}),
        "get_import_rejected": of_import("GET", "/rejected.csv"),
        "follow_import": of_import("GET", "/events"),
        "list_waiting_sites": get("/v1/placing"),
        "count_waiting_sites": get("/v1/placing/counts"),
        "export_customers": get("/v1/exports/customers.csv?stage=active"),
        "export_totals": get("/v1/exports/totals.csv?by=region"),
        "find_customers_nearby": get("/v1/customers/nearby?lon=-104.99&lat=39.74&limit=5"),
        "get_customer_tilejson": get("/tiles/customers.json"),
        "get_customer_tile": get("/tiles/customers/9/106/194.mvt"),
        "get_area_tilejson": get("/tiles/areas/lay_service.json"),
        "get_area_tile": get("/tiles/areas/lay_service/9/106/194.mvt"),
    }  # fmt: skip


CALLS = _calls()
