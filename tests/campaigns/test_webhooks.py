"""Webhooks: signed as the standard has it, at least once, in order for each customer; nothing is lost, nothing private
is reached."""

import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import errors
from geocrm.access import SYSTEM
from geocrm.campaigns import acting, delivering, events, receivers, signing, webhooks
from geocrm.campaigns.delivering import Deliverer
from geocrm.campaigns.events import NewEvent
from geocrm.db.engine import Database
from geocrm.db.queries import named
from tests.makers import make_customer


class Server(ThreadingHTTPServer):
    """Takes many connections at once."""

    daemon_threads = True
    request_queue_size = 128


class Receiver:
    """Listens on this machine, and answers as it is told: a status, or one for each message."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.raw: list[tuple[dict[str, str], bytes]] = []
        self.times: list[float] = []
        self.answer: Callable[[dict[str, Any]], int] = lambda message: 204
        self.delay_s = 0.0
        self.connections = 0
        self._counting = threading.Lock()
        self._open: set[socket.socket] = set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                with outer._counting:
                    outer.connections += 1
                outer._open.add(self.connection)

            def finish(self) -> None:
                outer._open.discard(self.connection)
                super().finish()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                time.sleep(outer.delay_s)
                status = outer.answer(json.loads(body))
                if 200 <= status < 300:
                    outer.messages.append(json.loads(body))
                    outer.raw.append(({name.lower(): value for name, value in self.headers.items()}, body))
                    outer.times.append(time.time())
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._handler = Handler
        self.port = 0
        self.start()

    def start(self) -> None:
        self._server = Server(("127.0.0.1", self.port), self._handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Nobody listens any more, and nobody answers on the connections that are open."""
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def has(self, number: int) -> bool:
        """Whether so many messages were taken."""
        return len(self.messages) >= number

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?a=1"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def hooks_database(new_database: Callable[[], Database]) -> Database:
    """A database of its own, as deliveries commit."""
    made = new_database()
    made.settings.webhook_allow_private = True
    made.settings.webhook_timeout_s = 2.0
    return made


@pytest.fixture
def database(hooks_database: Database) -> Database:
    """The same, empty of webhooks and events."""
    with hooks_database.writing() as session:
        session.execute(text("TRUNCATE webhooks, webhook_deliveries, webhook_attempts, events"))
    return hooks_database


def register(database: Database, url: str, **more: Any) -> dict[str, Any]:
    with database.writing() as session:
        return webhooks.create(session, SYSTEM, url=url, allow_private=True, **more)


def happen(database: Database, *customers: int, type: str = "geofence.entered") -> list[int]:
    with database.writing() as session:
        moment = datetime(2026, 11, 22, 10, tzinfo=UTC)
        return events.record(
            session, [NewEvent(customer, type, moment, {"n": n}) for n, customer in enumerate(customers)]
        )


def deliver(database: Database, rounds: int = 50, until: Callable[[], bool] = lambda: False) -> None:
    deliverer = Deliverer(database, first_pause_s=0.02, longest_pause_s=0.1)
    for _ in range(rounds):
        if deliverer.deliver_due() == 0:
            with database.writing() as session:
                if not session.scalar(text("SELECT count(*) FROM webhook_deliveries WHERE status = 'queued'")):
                    return
            time.sleep(0.03)
        if until():
            return


def test_signatures_are_those_of_the_standard() -> None:
    secret = signing.read_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="  # the standard's own example
    assert signing.sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body) == expected
    made = signing.headers([b"new", secret], "evt_1", 1614265330, body)
    signing.verify(secret, made, body, now=1614265330 + 299)
    with pytest.raises(errors.Invalid, match="too old"):
        signing.verify(secret, made, body, now=1614265330 + 301)
    for change in ({"webhook-id": "evt_2"}, {"webhook-timestamp": "1614265331"}):
        with pytest.raises(errors.Invalid, match="not right"):
            signing.verify(secret, made | change, body, now=1614265330)
    with pytest.raises(errors.Invalid, match="not right"):
        signing.verify(secret, made, body + b" ", now=1614265330)
    assert signing.read_secret(signing.show_secret(secret)) == secret


PRIVATE = [
    "https://127.0.0.1/", "https://127.1/", "https://2130706433/", "https://0x7f000001/", "https://0177.0.0.1/",
    "https://localhost/", "https://localhost./", "https://0.0.0.0/", "https://0/", "https://10.1.2.3/",
    "https://172.16.0.1/", "https://192.168.1.1/", "https://169.254.169.254/latest/meta-data/", "https://100.64.0.1/",
    "https://[::1]/", "https://[::]/", "https://[::ffff:127.0.0.1]/", "https://[::ffff:a9fe:a9fe]/", "https://[fe80::1]/",
    "https://[fc00::1]/", "https://[fec0::1]/", "https://[64:ff9b::7f00:1]/", "https://[2002:7f00:1::]/", "https://224.0.0.1/",
    "https://255.255.255.255/", "https://198.18.0.1/", "https://192.0.2.1/", "https://[fd00:ec2::254]/",
]  # fmt: skip


def test_to_allow_private_addresses_lets_through_this_machine_and_private_networks_alone() -> None:
    for url in ("http://127.0.0.1/", "http://[::1]/", "http://10.1.2.3/", "http://192.168.1.1/", "http://[fc00::1]/",
                "http://[::ffff:127.0.0.1]/"):  # fmt: skip
        assert receivers.resolve(receivers.read_url(url, allow_private=True), allow_private=True)
    for url in ("http://169.254.169.254/latest/meta-data/", "http://[::ffff:a9fe:a9fe]/", "http://[fe80::1]/",
                "http://[fd00:ec2::254]/", "http://0.0.0.0/", "http://[::]/", "http://224.0.0.1/", "http://[fec0::1]/",
                "http://[64:ff9b::7f00:1]/", "http://[2002:a9fe:a9fe::]/", "http://255.255.255.255/"):  # fmt: skip
        with pytest.raises(errors.Invalid, match="never sent there"):
            receivers.resolve(receivers.read_url(url, allow_private=True), allow_private=True)


@pytest.mark.parametrize("url", PRIVATE)
def test_private_addresses_are_refused_however_they_are_written(url: str) -> None:
    with pytest.raises(errors.Invalid) as caught:
        receivers.resolve(receivers.read_url(url, allow_private=False), allow_private=False)
    assert caught.value.errors[0]["pointer"] == "/url"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://example.com/", "https only"), ("ftp://example.com/", "expected an"), ("https://", "expected an"),
        ("https://a:b@example.com/", "user and password"), ("https://example.com:99999/", "no address such as"),
        ("https://exa mple.com/", "blank"), ("https://example.com/\u00e9", "ASCII"),
        ("https://example.com:0/", "port 0"),
    ],
)  # fmt: skip
def test_what_is_no_address_for_a_webhook_is_refused(url: str, said: str) -> None:
    with pytest.raises(errors.Invalid, match=said):
        receivers.read_url(url, allow_private=False)


def test_a_name_is_resolved_again_at_sending_and_the_connection_goes_where_it_was_checked(
    monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    asked: list[str] = []
    real = socket.getaddrinfo

    def rebinding(host: str, port: int, *args: Any, **more: Any) -> Any:
        asked.append(host)
        given = "93.184.215.14" if len(asked) == 1 else "127.0.0.1"
        return real(given, port, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    url = f"https://rebinding.example:{receiver.port}/"
    assert receivers.resolve(receivers.read_url(url, allow_private=False), allow_private=False) == ["93.184.215.14"]
    with contextlib.closing(receivers.Lane(url, timeout_s=1.0, allow_private=False)) as lane:
        answer = lane.send({}, b"{}")
    assert not answer.good
    assert "private network" in str(answer.error)
    assert len(asked) == 2
    assert receiver.messages == []


def test_messages_are_signed_and_come_once_where_all_goes_well(database: Database, receiver: Receiver) -> None:
    made = register(database, receiver.url, types=["geofence.entered"])
    numbers = happen(database, 1, 2, 1)
    happen(database, 3, type="geofence.exited")  # not asked for
    deliver(database)
    assert sorted(message["id"] for message in receiver.messages) == sorted(f"evt_{number}" for number in numbers)
    assert {message["timestamp"] for message in receiver.messages} == {"2026-11-22T10:00:00Z"}
    secret = signing.read_secret(made["secret"])
    for headers, body in receiver.raw:
        signing.verify(secret, headers, body, now=time.time())
        assert headers["webhook-id"] == json.loads(body)["id"]
        assert headers["content-type"] == "application/json"
    with database.writing() as session:
        hook = int(made["id"].removeprefix("whk_"))
        log = webhooks.find_deliveries(session, hook)
        assert [(one["status"], one["attempts"], one["last_try"]["status"]) for one in log] == [
            ("delivered", 1, 204)
        ] * 3
        shown = webhooks.get(session, hook)
        assert (shown["waiting"], shown["failures"]) == (0, 0)
        assert "secret" not in shown
        fresh = webhooks.change_secret(session, SYSTEM, webhooks.open_for_edit(session, hook))
        webhooks.send_test(session, SYSTEM, webhooks.open_for_edit(session, hook))
        webhooks.resend(session, SYSTEM, webhooks.open_for_edit(session, hook), int(log[0]["id"].removeprefix("dlv_")))
    deliver(database)
    assert [message["type"] for message in receiver.messages[3:]] == ["geofence.entered", "webhook.test"] or [
        message["type"] for message in receiver.messages[3:]
    ] == ["webhook.test", "geofence.entered"]
    again = {message["id"] for message in receiver.messages[3:]}
    assert log[0]["event_id"] in again, "under the id of the event"
    for headers, body in receiver.raw[3:]:
        for one in (secret, signing.read_secret(fresh)):
            signing.verify(one, headers, body, now=time.time())


def test_a_receiver_that_was_dead_gets_everything_in_order(database: Database, receiver: Receiver) -> None:
    register(database, receiver.url)
    receiver.stop()
    sent: dict[int, list[int]] = {}
    for turn in range(6):
        for customer, number in zip((1, 2, 3), happen(database, 1, 2, 3), strict=True):
            sent.setdefault(customer, []).append(number)
        deliver(database, rounds=2)
        assert receiver.messages == [], turn
    with database.writing() as session:
        row = session.execute(text("SELECT failures, next_at > created_at AS later FROM webhooks")).one()
        assert row.failures >= 2
        assert row.later
        said = session.scalars(text("SELECT DISTINCT error FROM webhook_attempts")).all()
        assert said == ["nobody listens there"]
    receiver.start()
    failing = iter([500, 302, 429])
    receiver.answer = lambda message: next(failing, 200)
    deliver(database, rounds=300)
    got: dict[int, list[int]] = {}
    owner = {number: customer for customer, numbers in sent.items() for number in numbers}
    for message in receiver.messages:
        number = int(message["id"].removeprefix("evt_"))
        got.setdefault(owner[number], []).append(number)
    assert got == sent


def test_one_message_that_is_never_taken_stands_in_the_way_of_its_customer_alone(
    database: Database, receiver: Receiver
) -> None:
    register(database, receiver.url)
    poison, *others = happen(database, 1, 2, 3, 1)
    receiver.answer = lambda message: 500 if message["id"] == f"evt_{poison}" else 200
    deliver(database, until=lambda: len(receiver.messages) >= 2)
    assert {message["id"] for message in receiver.messages} == {f"evt_{number}" for number in others[:2]}
    database.settings.webhook_days = 0.0
    try:
        deliver(database, rounds=100)  # it is given up, and what waited behind it goes out
    finally:
        database.settings.webhook_days = 3.0
    assert receiver.messages[-1]["id"] == f"evt_{others[-1]}"
    with database.writing() as session:
        assert session.scalars(text("SELECT event_id FROM webhook_deliveries WHERE status = 'failed'")).all() == [
            poison
        ]


class Impatient(threading.Event):
    def wait(self, timeout: float | None = None) -> bool:
        return self.is_set()


def test_a_fault_of_ours_stops_neither_the_others_nor_what_comes_after(
    database: Database, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(database, receiver.url)
    one, two = happen(database, 1, 2)
    real = delivering.message
    monkeypatch.setattr(delivering, "message", lambda row, now: real(row, now=now / (0 if row.event_id == one else 1)))
    assert Deliverer(database).deliver_due() == 2
    assert [message["id"] for message in receiver.messages] == [f"evt_{two}"]
    with database.writing() as session:
        tried = "SELECT event_id, a.error FROM webhook_attempts a JOIN webhook_deliveries d ON d.id = a.delivery_id"
        found = {row.event_id: row.error for row in session.execute(text(tried))}
    assert found == {one: "it could not be sent; the log of the server says why", two: None}

    for run, owner, name in (
        (Deliverer(database).run, Deliverer, "_turn"),
        (partial(acting.run, database), acting, "act_due"),
    ):
        stop = Impatient()
        rounds: list[int] = []

        def round_(*_: object, stop: Impatient = stop, rounds: list[int] = rounds) -> int:
            rounds.append(1)
            if len(rounds) == 1:
                raise ZeroDivisionError
            stop.set()
            return 1

        monkeypatch.setattr(owner, name, round_)
        run(stop)
        assert len(rounds) == 2


@contextlib.contextmanager
def delivering_all_along(database: Database) -> Iterator[Deliverer]:
    """Within the block a worker delivers."""
    stop = threading.Event()
    deliverer = Deliverer(database, first_pause_s=0.02, longest_pause_s=0.1)
    thread = threading.Thread(target=deliverer.run, args=(stop,), kwargs={"idle_s": 0.02})
    thread.start()
    try:
        yield deliverer
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive()


def wait_for(until: Callable[[], bool], what: str) -> None:
    began = time.monotonic()
    while not until():
        assert time.monotonic() - began < 20, what
        time.sleep(0.01)


def test_a_connection_is_kept_from_round_to_round_and_made_anew_where_it_was_cut(
    database: Database, receiver: Receiver
) -> None:
    register(database, receiver.url)
    with delivering_all_along(database) as deliverer:
        for number in range(1, 6):
            if number == 4:
                receiver.stop()
                receiver.start()
            happen(database, 1)
            wait_for(partial(receiver.has, number), f"message {number} never came")
            assert receiver.connections == (1 if number < 4 else 2)
    assert not deliverer._kept


@pytest.fixture
def hanging() -> Iterator[tuple[Receiver, threading.Event]]:
    """A receiver that does not answer until the event is set."""
    made, let_go = Receiver(), threading.Event()
    made.answer = lambda message: 204 if let_go.wait(20) else 500
    yield made, let_go
    let_go.set()
    made.stop()


def test_what_a_killed_worker_had_taken_is_sent_by_the_next(database: Database, receiver: Receiver) -> None:
    register(database, receiver.url)
    number = happen(database, 1)[0]
    taken = "UPDATE webhook_deliveries SET leased_until = now() + interval '1 hour', leased_by = :number, attempts = 1"
    with database.living(delivering._WORKERS) as other:
        with other.writing() as session:  # claimed, and then nothing
            session.execute(text(taken), {"number": other.number})
        assert Deliverer(database).deliver_due() == 0, "whoever took it lives"
    with delivering_all_along(database):  # and now no more
        wait_for(lambda: len(receiver.messages) == 1, "it was not sent again")
        late = happen(database, 2)[0]
        wait_for(lambda: len(receiver.messages) == 2, "what happened later did not come")
    assert [message["id"] for message in receiver.messages] == [f"evt_{number}", f"evt_{late}"]


def test_what_waits_is_not_compared_with_all_that_waits(database: Database, receiver: Receiver) -> None:
    register(database, receiver.url)
    values = {"most": 400, "lease_s": 90, "worker": 1, "kind": delivering._WORKERS, "busy": []}
    with database.writing() as session:
        plan = "\n".join(session.scalars(text("EXPLAIN " + named("webhooks", "claim")), values))
    assert re.search(r"ix_webhook_deliveries_order.*\n.*Index Cond: .*customer_id <= q\.customer_id", plan), plan


def test_two_workers_send_nothing_twice_and_keep_the_order(
    database: Database, hanging: tuple[Receiver, threading.Event]
) -> None:
    receiver, let_go = hanging
    register(database, receiver.url)
    one, two, three = happen(database, 1, 1, 2)
    with delivering_all_along(database):
        wait_for(lambda: receiver.connections == 1, "the first worker does not send")
        with delivering_all_along(database):
            (four,) = happen(database, 3)
            wait_for(lambda: receiver.connections == 2, "the second worker does not send")
            let_go.set()
            wait_for(lambda: len(receiver.messages) >= 4, "not all came")
    got = [int(message["id"].removeprefix("evt_")) for message in receiver.messages]
    assert sorted(got) == [one, two, three, four]
    assert got.index(one) < got.index(two)
    with database.writing() as session:
        said = session.execute(text("SELECT status, attempts, leased_until FROM webhook_deliveries")).all()
    assert set(said) == {("delivered", 1, None)}


def test_a_receiver_that_hangs_does_not_keep_the_others_waiting(
    database: Database, receiver: Receiver, hanging: tuple[Receiver, threading.Event]
) -> None:
    slow, let_go = hanging
    register(database, slow.url)
    register(database, receiver.url)
    happen(database, *range(100, 300))  # it hangs on all its connections
    database.settings.webhook_timeout_s = 20.0
    sent: list[str] = []
    try:
        with delivering_all_along(database):
            wait_for(lambda: slow.connections == delivering.LANES, "nothing hangs")
            for number in range(3):
                sent.append(f"evt_{happen(database, 1)[0]}")
                wait_for(partial(receiver.has, 201 + number), "it waits for the other one")
            assert slow.messages == []
            let_go.set()
            wait_for(lambda: len(slow.messages) == 203, "what hung did not come")
    finally:
        database.settings.webhook_timeout_s = 2.0
    for one in (slow, receiver):
        assert [message["id"] for message in one.messages if message["id"] in sent] == sent


def test_what_was_sent_while_the_database_was_away_is_written_down_and_not_sent_again(
    database: Database, hanging: tuple[Receiver, threading.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivering, "TROUBLE_S", 0.1)
    receiver, let_go = hanging
    register(database, receiver.url)
    happen(database, 1)
    lost = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND classid = %s"
    with delivering_all_along(database):
        wait_for(lambda: receiver.connections == 1, "nothing is sent")
        with psycopg.connect(database.conninfo("admin")) as admin:
            assert admin.execute(lost, [delivering._WORKERS]).fetchall() == [(True,)]
        happen(database, 2)
        let_go.set()
        wait_for(partial(receiver.has, 2), "what happened later did not come")
    with database.writing() as session:
        found = session.execute(text("SELECT status, attempts FROM webhook_deliveries")).all()
    assert (set(found), len(receiver.messages)) == ({("delivered", 1)}, 2)


def test_a_connection_that_never_gets_secure_is_cut_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"\x16\x03\x03\x10\x00")
                while not stop.wait(0.05):
                    connection.sendall(b"\x02")

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        url = f"https://127.0.0.1:{server.getsockname()[1]}/"
        with contextlib.closing(receivers.Lane(url, timeout_s=0.3, allow_private=True)) as lane:
            answer = lane.send({}, b"{}")
        stop.set()
        thread.join(10)
    assert (answer.status, answer.error) == (None, "no answer in time")
    assert answer.took_ms < 5_000


def test_one_that_is_gone_or_too_slow(database: Database, receiver: Receiver) -> None:
    made = register(database, receiver.url)
    hook = int(made["id"].removeprefix("whk_"))
    database.settings.webhook_timeout_s = 0.3
    happen(database, 1)
    receiver.delay_s = 1.0
    deliver(database, rounds=1)
    receiver.delay_s, receiver.answer = 0.0, lambda message: 410
    with database.writing() as session:
        (slow,) = webhooks.find_deliveries(session, hook)
        assert (slow["status"], slow["last_try"]["error"]) == ("queued", "no answer in time")
    time.sleep(0.1)
    deliver(database, rounds=1)
    database.settings.webhook_timeout_s = 2.0
    with database.writing() as session:
        shown = webhooks.get(session, hook)
        assert (shown["enabled"], shown["disabled_because"]) == (False, "the receiver answered 410: gone")
        with pytest.raises(errors.Conflict, match="enable it first"):
            webhooks.send_test(session, SYSTEM, webhooks.open_for_edit(session, hook))
        webhooks.edit(session, SYSTEM, webhooks.open_for_edit(session, hook), {"enabled": True}, allow_private=True)
    receiver.answer = lambda message: 200
    time.sleep(0.1)
    deliver(database)
    assert len(receiver.messages) == 1


def test_an_address_is_told_an_event_by_one_webhook(session: Session) -> None:
    def make(url: str, *types: str) -> dict[str, Any]:
        return webhooks.create(session, SYSTEM, url=url, types=types, allow_private=True)

    first = make("http://127.0.0.1:9/one", "geofence.entered")
    other = make("http://127.0.0.1:9/one", "geofence.exited")
    make("http://127.0.0.1:9/two")
    for types in ((), ("geofence.dwelled", "geofence.entered")):
        with pytest.raises(errors.Conflict, match=f"{first['id']} sends such events") as caught:
            make("http://127.0.0.1:9/one", *types)
        assert caught.value.extra == {"webhook_id": first["id"]}
    hook = webhooks.open_for_edit(session, int(other["id"][4:]))
    webhooks.edit(session, SYSTEM, hook, {"description": "Exits"}, allow_private=True)
    webhooks.edit(session, SYSTEM, hook, {"types": [], "enabled": False}, allow_private=True)
    with pytest.raises(errors.Conflict, match="would come twice"):
        webhooks.edit(session, SYSTEM, hook, {"enabled": True}, allow_private=True)


def test_an_event_and_its_deliveries_are_of_one_transaction(session: Session) -> None:
    customer = make_customer(session)
    webhooks.create(session, SYSTEM, url="http://127.0.0.1:9/", allow_private=True)
    before = session.scalar(text("SELECT count(*) FROM webhook_deliveries"))
    point = session.begin_nested()
    events.record(session, [NewEvent(customer.id, "geofence.entered", datetime.now(UTC), {})])
    assert session.scalar(text("SELECT count(*) FROM webhook_deliveries")) == (before or 0) + 1
    point.rollback()
    assert session.scalar(text("SELECT count(*) FROM webhook_deliveries")) == before
    with pytest.raises(errors.Invalid, match="no event of type"):
        webhooks.create(session, SYSTEM, url="http://127.0.0.1:9/", types=["nonsense"], allow_private=True)
