"""Background jobs: queued with what causes them, done once, seen by their user."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import procrastinate
import psycopg
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from geocrm import jobs
from geocrm.access import SYSTEM
from geocrm.crm import changes
from geocrm.db import audit, models, queue
from geocrm.db.engine import Database
from geocrm.errors import Invalid
from geocrm.segmentation import analyses, runs, segmentations
from tests.api.conftest import World

Clients = Callable[[str | None], TestClient]
# imports whose files were last touched 8 days ago: status and age of the import in days
BATCHES = {
    "previewed": ("preview", 8),
    "failed": ("failed", 8),
    "done": ("done", 8),
    "undone": ("undone", 8),
    "running": ("running", 8),
    "young": ("preview", 6),
}


def job_of(database: Database, job_id: int) -> models.Job:
    with database.writing() as session:
        found = session.get(models.Job, job_id)
        assert found is not None
        return found


def test_a_job_is_queued_with_its_cause_or_not_at_all(new_database: Callable[[], Database]) -> None:
    database = new_database()
    with database.writing() as session:
        queue.enqueue(session, "clean", {})
        session.rollback()
    assert jobs.run_queued(database) == 0
    with database.writing() as session:
        number = queue.enqueue(session, "clean", {}, user_id=None)
    assert jobs.run_queued(database) == 1
    done = job_of(database, number)
    assert (done.status, done.error) == ("done", None)
    assert done.result["sessions"] == 0
    # killed between its commit and telling the queue: it is not done again
    jobs.run_job(database, "clean", number, {})
    assert job_of(database, number).finished_at == done.finished_at


def test_old_uploads_are_cleaned_unless_an_import_still_needs_them(
    new_database: Callable[[], Database],
) -> None:
    database = new_database()
    uploads = database.settings.uploads
    uploads.mkdir(parents=True, exist_ok=True)
    files = {name: uploads / f"import-{name}-{os.getpid()}" for name in (*BATCHES, "orphan", "fresh", "waiting")}
    with database.writing() as session:
        for name, path in files.items():
            path.write_text("id,name\n1,x\n")
            status, age = BATCHES.get(name, ("queued" if name == "waiting" else "preview", 8))
            if name != "fresh":
                os.utime(path, (time.time() - 8 * 86_400,) * 2)
            if name != "orphan":
                session.execute(
                    text(
                        "INSERT INTO import_batches (kind, source, file_name, file_path, status, created_at) VALUES"
                        " ('customers', 's', 'f.csv', :path, :status, now() - make_interval(days => :age))"
                    ),
                    {"path": path.name, "status": status, "age": age},
                )
    with database.writing() as session:
        number = queue.enqueue(session, "clean", {})
    jobs.run_queued(database)
    assert job_of(database, number).status == "done"
    assert {name for name, path in files.items() if path.exists()} == {"young", "running", "fresh", "waiting"}
    with database.writing() as session:
        assert session.scalar(text("SELECT count(*) FROM import_batches")) == len(files) - 1
    for path in files.values():
        path.unlink(missing_ok=True)


def test_what_a_job_refuses_its_user_reads(client: Clients, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(session: object, args: object) -> None:
        raise Invalid("The draft is empty.", errors=[{"pointer": "/x", "detail": "empty"}])

    monkeypatch.setitem(jobs.HANDLERS, "test.refuse", jobs.Handler("test.refuse", work=refuse))
    with world.database.writing() as session:
        number = queue.enqueue(session, "test.refuse", {}, user_id=world.users["rep"])
    jobs.run_queued(world.database)
    found = client("rep").get(f"/v1/jobs/job_{number}").json()
    assert (found["status"], found["error"]["detail"]) == ("failed", "The draft is empty.")
    assert client("manager").get(f"/v1/jobs/job_{number}").status_code == 200
    assert client("other").get(f"/v1/jobs/job_{number}").status_code == 404
    assert client("administrator").get(f"/v1/jobs/job_{number}").status_code == 200
    assert [job["id"] for job in client("other").get("/v1/jobs").json()["data"]] == []


DEADLOCK = text("DO 'BEGIN RAISE EXCEPTION USING ERRCODE = ''40P01'', MESSAGE = ''deadlock detected''; END'")


def test_a_request_that_ends_in_a_deadlock_is_told_to_try_again(
    client: Clients, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    rep, path = client("rep"), f"/v1/customers/cus_{world.ids['Alpine']}"
    before = rep.get(path).json()
    with monkeypatch.context() as patched:
        patched.setattr(changes, "_follow", lambda session, *_: session.execute(DEADLOCK))
        lost = rep.patch(path, json={"name": "Never"}, headers={"If-Match": "*"})
    assert (lost.status_code, lost.headers["retry-after"]) == (409, "1"), lost.text
    assert lost.headers["content-type"] == "application/problem+json"
    assert lost.json()["type"].endswith("/try-again")
    assert rep.get(path).json() == before
    assert rep.patch(path, json={"name": "Alpine Outfitters 2"}, headers={"If-Match": "*"}).status_code == 200


def test_a_job_that_ends_in_a_deadlock_is_done_again(
    new_database: Callable[[], Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    database, tries = new_database(), []

    def work(session: Session, args: object) -> str:
        tries.append(1)
        if len(tries) == 1:
            session.execute(DEADLOCK)
        return "done"

    monkeypatch.setitem(jobs.HANDLERS, "test.deadlock", jobs.Handler("test.deadlock", work=work))
    with database.writing() as session:
        number = queue.enqueue(session, "test.deadlock", {})
    with pytest.raises(OperationalError) as lost:
        jobs.run_job(database, "test.deadlock", number, {})
    assert job_of(database, number).status == "queued"
    job = procrastinate.jobs.Job(
        id=number, queue="q", lock=None, queueing_lock=None, task_name="test.deadlock", attempts=1
    )
    assert jobs.RETRY.get_retry_decision(exception=lost.value, job=job) is not None  # the queue does it again
    jobs.run_job(database, "test.deadlock", number, {})
    assert job_of(database, number).result == "done"


def test_what_waits_for_a_job_that_is_given_up_has_failed(new_database: Callable[[], Database]) -> None:
    database = new_database()
    with database.writing() as session:
        held = segmentations.create_segmentation(session, actor=SYSTEM, key="rfm", name="RFM", method="rfm")
        run = runs.start(session, held.id, actor=SYSTEM)
        asked = analyses.start(session, "affinity", actor=SYSTEM)
        numbers = [int(one.job_id or 0) for one in (run, asked)]
    for number in numbers:
        jobs.give_up(database, number)
        assert job_of(database, number).status == "failed"
    with database.writing() as session:
        for model, one in ((models.SegmentationRun, run), (models.Analysis, asked)):
            row = session.get_one(model, one.id)
            assert row.status == "failed"
            assert row.error is not None
            assert row.error["title"]
            assert "tried again" in row.error["detail"]
            assert row.finished_at is not None


def test_audit_entries_are_sealed_and_a_change_shows(new_database: Callable[[], Database]) -> None:
    database = new_database()
    with database.writing() as session:
        for number in range(5):
            audit.record(session, "test", actor_id=None, object_id=f"cus_{number + 1}", after={"n": number})
    with database.writing() as session:
        assert audit.seal(session, limit=3) == 3
        assert audit.seal(session) == 2
        assert audit.seal(session) == 0
        assert audit.verify(session) is None
    with database.writing() as session, pytest.raises(Exception, match="permission denied"):
        session.execute(text("UPDATE audit_log SET actor_id = 7"))
    with psycopg.connect(database.conninfo("admin"), autocommit=True) as owner:
        owner.execute("UPDATE audit_log SET action = 'else' WHERE object = 'cus_3'")
    with database.writing() as session:
        assert audit.verify(session) == 3


@pytest.mark.faults
def test_a_killed_worker_s_job_is_done_by_the_next_one(new_database: Callable[[], Database]) -> None:
    """A worker is killed in the middle of a job; the next one finds it and does it."""
    database = new_database()
    program = (
        "import sys, time\n"
        "from geocrm import jobs\n"
        "from geocrm.db import engine\n"
        "from geocrm.db.engine import Database\n"
        "from geocrm.settings import Settings\n"
        "from sqlalchemy import make_url\n"
        "def slow(session, args):\n"
        "    if sys.argv[3] == 'slow':\n"
        "        print('begun', flush=True)\n"
        "        time.sleep(60)\n"
        "    return 'done'\n"
        "jobs.HANDLERS.clear()\n"
        "jobs.HANDLERS['test.slow'] = jobs.Handler('test.slow', work=slow)\n"
        "url = make_url(sys.argv[1])\n"
        "engine.open_database = lambda settings: Database(url, url, make_url(sys.argv[2]))\n"
        "jobs.main()\n"
    )
    with database.writing() as session:
        number = queue.enqueue(session, "test.slow", {})
    urls = [url.render_as_string(hide_password=False) for url in (database.admin_url, database.worker_url)]

    def start(how: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", program, *urls, how],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"GEOCRM_HOME": str(database.settings.home)},
        )

    first = start("slow")
    assert first.stdout is not None
    assert first.stdout.readline() == "begun\n"
    assert job_of(database, number).status == "running"
    first.kill()
    first.wait()
    first.stdout.close()
    second = start("quick")
    assert second.stdout is not None
    try:
        until = time.monotonic() + 60
        while job_of(database, number).status != "done" and time.monotonic() < until:
            time.sleep(0.2)
        assert job_of(database, number).result == "done"
    finally:
        second.send_signal(signal.SIGTERM)
        assert second.wait(30) == 0
        second.stdout.close()
