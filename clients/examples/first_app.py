"""A loyalty app: who comes to the shop is shown an offer and redeems it, and our server hears of it. GEOCRM is the
address of geocrm, KEY an API key. How to run it: docs/how-to/first-app.md."""

import os
import queue
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

from geocrm_client import Geocrm, Problem, webhooks

told = queue.Queue[str]()


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        told.put(webhooks.read(hook["secret"], self.headers, body)["type"])  # raises where the signature is not right
        self.send_response(204)
        self.end_headers()


def at(hours: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


def move(lon: float, t: str) -> None:  # the phone says where it is, and our server hears what that means
    app.send_positions({"positions": [{"customer_id": ada, "lon": lon, "lat": 40, "accuracy_m": 9, "recorded_at": t}]})
    print("our server was told:", told.get(timeout=30))


server = HTTPServer(("127.0.0.1", 0), Receiver)
threading.Thread(target=server.serve_forever, daemon=True).start()
people, app = Geocrm(os.environ["GEOCRM"]), Geocrm(os.environ["GEOCRM"], key=os.environ["KEY"])
people.sign_in({"email": "admin@demo.example", "password": "demo-geocrm"})  # offers and webhooks are made by people
hook = people.create_webhook({"url": f"http://127.0.0.1:{server.server_port}/"})
offer = people.create_offer({"name": "Coffee", "title": "A coffee on us", "ends_at": at(24), "cap_total": 1})
people.set_offer_live(offer["id"], if_match=offer["version"])

app.put_geofence("shops", "first", {"center": {"lon": -105, "lat": 40}, "radius_m": 150, "dwell_s": 300})
ada = app.create_customer({"kind": "person", "name": "Ada Winter"})["id"]
for what in ("location", "marketing"):
    app.grant_consent(ada, {"purpose": what, "channel": "app", "granted_at": at(-1)})
move(-105, at(-0.4))  # enters
move(-105, at(-0.2))  # is still there
print("here and now:", [found["title"] for found in app.find_eligible_offers(customer=ada, lon=-105, lat=40)["data"]])
app.redeem_offer(offer["id"], {"customer_id": ada}, idempotency_key=f"till-7-{ada}")
try:
    app.redeem_offer(offer["id"], {"customer_id": ada}, idempotency_key=f"till-8-{ada}")
except Problem as problem:
    print("a second one:", problem)
move(-104.9, at(0))  # leaves
people.delete_webhook(hook["id"], if_match=people.get_webhook(hook["id"])["version"])
